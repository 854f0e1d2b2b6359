package program

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/auth/devcluster"
	"github.com/rota-project/rota/internal/program/build"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/program/internal/lifecycle"
)

// Cluster runs programs on the workers of a rota cluster. Addresses are the schedulers'
// gRPC addresses, host:port; one that answers is enough. The scheduler function runs in
// this process, attached: when the process ends, or is cut off for longer than the
// cluster's lease, the program ends too.
//
// Tasks run on workers that offer their function (worker.RegisterTaskFunc). They are
// cluster tasks named NAME/elevator-0 and so on, of kind program/elevator, so `rota why`
// explains where they are and why.
//
// A `rota dev` cluster of the same user needs no credentials. For other clusters, the token
// in ROTA_TOKEN_FILE or ROTA_TOKEN is used if there is one.
func Cluster(addresses ...string) Place {
	if len(addresses) > 0 {
		if found, ok := devcluster.Find(os.LookupEnv, addresses[0]); ok {
			src, err := found.Source()
			if err != nil {
				return &cluster{err: err}
			}
			return &cluster{cfg: ClusterConfig{Addresses: addresses, TLS: src.Client(""), Token: found.Token.Reveal()}}
		}
	}
	token, err := auth.ClientToken("", os.LookupEnv)
	return &cluster{cfg: ClusterConfig{Addresses: addresses, Token: token.Reveal()}, err: err}
}

// ClusterConfig configures a connection to a cluster.
type ClusterConfig struct {
	// Addresses are the gRPC addresses of the schedulers, host:port. At least one is
	// required.
	Addresses []string
	// TLS configures the connections. Nil means cleartext, which is only for loopback
	// addresses.
	TLS *tls.Config
	// Token is a token of the role submitter, for schedulers that require one. It is sent
	// only over TLS or to this machine.
	Token string

	// detached is set where the scheduler function is a task of the cluster;
	// leaseEnds then says when its worker's lease can be trusted no longer.
	detached  bool
	leaseEnds <-chan time.Time
}

// ClusterWith is Cluster with all options.
func ClusterWith(c ClusterConfig) Place { return &cluster{cfg: c} }

type cluster struct {
	cfg    ClusterConfig
	err    error
	opened bool // the cluster has taken the program up
	ended  bool // and has said that it is over, without it going on elsewhere
}

func (c *ClusterConfig) check() error {
	if len(c.Addresses) == 0 {
		return &rota.FieldError{Field: "addresses", Value: "", Want: "at least one scheduler"}
	}
	for _, a := range c.Addresses {
		if h, p, err := net.SplitHostPort(a); err != nil || h == "" || p == "" {
			return &rota.FieldError{Field: "addresses", Value: a, Want: "host:port"}
		}
		if c.Token != "" && c.TLS == nil && !auth.Loopback(a) {
			return fmt.Errorf("scheduler %s: %w", a, auth.ErrNoTLS)
		}
	}
	return nil
}

// credentials are those of gRPC connections to an address.
func (c *ClusterConfig) credentials(address string) []grpc.DialOption {
	creds := insecure.NewCredentials()
	if c.TLS != nil {
		creds = pki.ClientCredentials(func() *tls.Config { return c.TLS })
	}
	opts := []grpc.DialOption{grpc.WithTransportCredentials(creds)}
	if c.Token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(auth.PerRPC(auth.Secret(c.Token), c.TLS != nil || auth.Loopback(address))))
	}
	return opts
}

// TaskKind returns the kind of the cluster tasks that run a program's function.
func TaskKind(function string) string { return rota.ProgramKind + function }

func (c *cluster) open(ctx context.Context, r *run) (host, error) {
	if c.err != nil {
		return nil, c.err
	}
	if err := c.cfg.check(); err != nil {
		return nil, err
	}
	h := &clusterHost{
		in: c, run: r, wants: map[string]*peer{}, at: map[string]*rotav1.ProgramPlace{}, changed: make(chan struct{}),
		began: map[string]build.Build{},
	}
	_, _ = rand.Read(h.key[:]) // never fails
	h.ctx, h.cancel = context.WithCancel(context.Background())
	node := link.NewNode(link.NodeConfig{Credentials: []byte(c.cfg.Token)})
	h.relays = newRelays(node, dialer(func() *tls.Config { return c.cfg.TLS }, c.cfg.Token != ""))
	h.end = node.Bind(h.key.addr(schedEnd, 0), r.sched.inbox, r.sched.reply)
	h.attach = newAttach(r.p, c.cfg, h)
	welcome, err := h.attach.first(ctx)
	if err != nil {
		h.cancel()
		h.relays.close()
		return nil, err
	}
	h.relays.connect(slices.Concat(c.cfg.Addresses, welcome.GetSchedulers()))
	for _, e := range welcome.GetHistory() {
		r.events.push(Event{
			Kind: Kind(e.GetKind()), Task: e.GetTask(), Generation: e.GetGeneration(), Worker: e.GetWorker(),
			Text: e.GetText(), Stack: e.GetStack(),
		})
	}
	if len(welcome.GetHistory()) > 0 {
		r.note(Event{Kind: Reregistered, Text: "another process ran the scheduler function before; what it was told is above, and all tasks start again"})
	}
	h.wg.Go(func() { h.attach.run(h.ctx) })
	c.opened = true
	return h, nil
}

// dialer connects links to an address. A node that shows a token does so over
// TLS, or to this machine, and nowhere else.
func dialer(conf func() *tls.Config, token bool) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, link.DefaultIdle)
		defer cancel()
		if c := conf(); c != nil {
			c = c.Clone()
			c.NextProtos = []string{"h2"} // the port is gRPC's, see link.Credentials
			k, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", address)
			if conn, ok := k.(*tls.Conn); ok && err == nil {
				k = pki.Watch(conn, c)
			}
			return k, err
		}
		if token && !auth.Loopback(address) {
			return nil, auth.ErrNoTLS
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
}

// clusterHost is a cluster while it runs a program.
type clusterHost struct {
	in     *cluster
	run    *run
	key    secret
	relays *relays
	end    *link.End
	attach *attach
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	wants   map[string]*peer // declared tasks by id
	at      map[string]*rotav1.ProgramPlace
	missing string
	offers  map[string][]build.Offer // of each function; nil until the first are heard
	began   map[string]build.Build   // in which the tasks of a function run
	changed chan struct{}            // closed when any of them is new
	stuck   error                    // a change was rejected
	lost    int                      // workers, since the start
}

func (h *clusterHost) id(p *peer) string { return h.run.p.name + "/" + p.name }

func (h *clusterHost) wire(p *peer) (link.Outlet, error) {
	return h.end.Open(h.key.addr(p.name, p.generation), p, h.run.window), nil
}

// write makes a peer's order. It is the same for as long as it is this generation:
// another would be another grant.
func (h *clusterHost) write(p *peer) error {
	o := p.order(h.key, h.run)
	o.Relays = h.relays.addresses()
	payload, err := json.Marshal(o) //nolint:gosec // the order is for the worker, and needs the secret
	if err != nil {
		return fmt.Errorf("writing the order of %s: %w", p.name, err)
	}
	if len(payload) > rota.MaxPayload {
		return &rota.FieldError{
			Field: p.spec.Name + ".args, env", Value: fmt.Sprintf("%d bytes", len(payload)),
			Want: fmt.Sprintf("at most %d bytes together", rota.MaxPayload),
		}
	}
	p.payload = payload
	return nil
}

// declare has peers be tasks of the cluster. Where they are not placed yet they are
// a gang; afterwards each stays where it is until the program decides.
func (h *clusterHost) declare(peers []*peer, gang string, pinned func(*peer) string) {
	change := &rotav1.ProgramChange{}
	for _, p := range peers {
		change.Set = append(change.Set, &rotav1.TaskDefinition{
			Id: h.id(p), Kind: TaskKind(p.spec.Name), Group: "program/" + h.run.p.name, Payload: string(p.payload),
			Resources: p.spec.Resources.Map(), Gang: gang, Pinned: pinned(p), Require: p.require,
		})
	}
	h.attach.change(change)
}

func (h *clusterHost) place(ctx context.Context, peers []*peer, missing func(string)) ([]string, error) {
	gang := ""
	if len(peers) > 1 {
		gang = fmt.Sprintf("program/%s/%d", h.run.p.name, peers[0].generation)
	}
	for _, p := range peers {
		if err := h.write(p); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	for _, p := range peers {
		h.wants[h.id(p)] = p
		delete(h.at, h.id(p)) // it is of an earlier generation
	}
	h.mu.Unlock()
	// First they get a place, all together; then each is held to it, so that the
	// cluster does not move it for balance. In between it may have been moved, or
	// a worker lost: then it is not settled, and nothing has begun.
	pins := map[*peer]string{}
	lost := -1
	for {
		h.mu.Lock()
		at, why, changed, stuck, lostNow := h.placed(peers), h.missing, h.changed, h.stuck, h.lost
		h.mu.Unlock()
		if stuck != nil {
			return nil, stuck
		}
		if at == nil || lost != lostNow {
			lacking, anew, ok := h.choose(peers)
			switch {
			case !ok:
				at, why = nil, lacking
			case anew || lost != lostNow:
				lost = lostNow
				clear(pins)
				h.declare(peers, gang, func(*peer) string { return "" })
			}
		}
		switch {
		case at != nil && len(pins) == 0:
			for i, p := range peers {
				pins[p] = at[i].GetWorker()
			}
			h.declare(peers, "", func(p *peer) string { return pins[p] })
		case at != nil && settled(at):
			missing("")
			workers := make([]string, len(peers))
			for i, p := range peers {
				p.grant.Store(at[i].GetGeneration())
				workers[i] = at[i].GetWorker()
			}
			return workers, nil
		case at == nil && why != "":
			missing(why)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// placed answers where peers are if all have a place. h.mu is held.
func (h *clusterHost) placed(peers []*peer) []*rotav1.ProgramPlace {
	var all []*rotav1.ProgramPlace
	for _, p := range peers {
		at := h.at[h.id(p)]
		if at == nil || !at.GetCurrent() || at.GetPayload() != digest(p.payload) {
			return nil
		}
		all = append(all, at)
	}
	return all
}

// settled reports whether all are held to where they are.
func settled(all []*rotav1.ProgramPlace) bool {
	return !slices.ContainsFunc(all, func(at *rotav1.ProgramPlace) bool { return at.GetPinned() != at.GetWorker() })
}

// digest tells the payloads of a task's generations apart, see ProgramPlace.
func digest(payload []byte) uint64 {
	f := fnv.New64a()
	_, _ = f.Write(payload) // never fails
	return f.Sum64()
}

func (h *clusterHost) start(p *peer) error { return p.out.Reply(h.ctx, kindStatus, nil) }

func (h *clusterHost) ended(p *peer) {
	h.mu.Lock()
	id := h.id(p)
	ours := h.wants[id] == p
	if ours {
		delete(h.wants, id)
	}
	h.mu.Unlock()
	if ours {
		h.attach.change(&rotav1.ProgramChange{Delete: []string{id}})
	}
}

// places takes what a scheduler says of where the tasks are.
func (h *clusterHost) places(m *rotav1.ProgramPlaces) {
	type gone struct {
		p    *peer
		text string
	}
	var lost []gone
	h.mu.Lock()
	h.missing = m.GetMissing()
	h.offers = offersOf(m.GetOffers())
	h.lost += len(m.GetLostWorkers())
	at := map[string]*rotav1.ProgramPlace{}
	for _, p := range m.GetPlaces() {
		at[p.GetId()] = p
	}
	for id, p := range h.wants {
		now := at[id]
		if grant := p.grant.Load(); grant != 0 && (now == nil || now.GetGeneration() != grant || !now.GetCurrent()) {
			lost = append(lost, gone{p, "its grant was withdrawn"})
		}
	}
	h.at = at
	close(h.changed)
	h.changed = make(chan struct{})
	h.mu.Unlock()
	for _, w := range m.GetLostWorkers() {
		h.run.do(func(m *lifecycle.Machine) { m.WorkerLost(w, "its lease has ended") })
	}
	for _, g := range lost {
		h.run.do(func(m *lifecycle.Machine) { m.Withdrawn(g.p.task, g.p.generation) })
		h.run.do(func(m *lifecycle.Machine) {
			m.Ended(g.p.task, g.p.generation, lifecycle.Ending{State: lifecycle.Lost, Text: g.text})
		})
	}
}

// rejected takes that a change was wrong.
func (h *clusterHost) rejected(text string) {
	err := fmt.Errorf("the cluster refuses the program's tasks: %s", text)
	h.mu.Lock()
	h.stuck = err
	close(h.changed)
	h.changed = make(chan struct{})
	h.mu.Unlock()
	h.run.do(func(m *lifecycle.Machine) { m.Stop(err.Error(), err) })
}

func (h *clusterHost) event(e Event) { h.attach.event(e) }

// close has the cluster forget the program, unless it goes on elsewhere. One that had
// come to an end of its own before the grant of its scheduler function ended is over.
func (h *clusterHost) close(err error) {
	moves := errors.Is(err, errMoves)
	h.in.ended = h.attach.finish(moves) && !moves
	h.cancel()
	h.wg.Wait()
	h.relays.close()
}

// errMoves is the cause of a context that ends because the worker may no longer
// run the scheduler function.
var errMoves = errors.New("program: its scheduler function moves to another worker")

var errEnded = errors.New("program: the cluster has ended the program")

// errStopped says that it was stopped before it was lost, and does not begin again.
var errStopped = errors.New("program: it was stopped")
