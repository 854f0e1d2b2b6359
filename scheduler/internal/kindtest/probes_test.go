// Package kindtest is a kind of work that is none of rota's: the worked example of how one
// is attached, and the proof that it can be from outside. A probe runs a function of some
// worker until it is deleted, and tells what that found. All of it is in this folder.
package kindtest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// message is what its methods take and answer: JSON. A real kind has a proto of its own.
type message = wrapperspb.StringValue

// probe is one probe, as it is in the store, asked for and answered.
type probe struct {
	Name      string
	Resources map[string]float64 `json:",omitempty"`
	// Where it is placed, if it is: for which session, and the how manieth place it is.
	Worker     string `json:",omitempty"`
	Session    int64  `json:",omitempty"`
	Generation int64
	// Found is what the function told of last, for this place.
	Found string `json:",omitempty"`
	// Why says why it is placed nowhere. It is not in the store.
	Why string `json:",omitempty"`
}

const prefix = "probes/"

// keys are those of probes.
var keys = &view.Kind{
	Records:  []string{prefix},
	TakerKey: func(worker string) string { return "probeworkers/" + url.PathEscape(worker) },
	Taker:    func() view.Taker { return &storepb.JobWorker{} },
}

// probes is the kind of work.
func probes() kind.Kind {
	see, change := auth.Rule{Role: auth.Viewer}, auth.Rule{Role: auth.Operator, Writes: true, Kind: "probe"}
	return kind.Kind{
		Policy: auth.Policy{method("Get"): see, method("Set"): change, method("Delete"): change, "/" + workService + "/Connect": {Worker: true}},
		Attach: func(n kind.Node) kind.Attached { return newControl(n) },
	}
}

// entry is a probe of the picture.
type entry struct {
	probe
	mod int64
}

// control is the probes of one scheduler.
type control struct {
	node    kind.Node
	streams *kind.Streams[message, message]
	claims  capacity.Claims
	sub     *view.Subscription
	deaf    func()

	mu       sync.Mutex
	all      map[string]*entry
	sessions map[string]*view.Session
	nodes    map[string]*storepb.Node
	takers   map[string]view.Taker
	epoch    int64 // of this scheduler's term; 0 while another leads

	signal chan struct{}
	ctx    context.Context //nolint:containedctx // the loop's
	cancel context.CancelFunc
	ended  chan struct{}
}

func newControl(n kind.Node) *control {
	c := &control{node: n, claims: n.Capacity.Of("probe"), all: map[string]*entry{}, signal: make(chan struct{}, 1), ended: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.streams = kind.NewStreams[message, message](n, keys)
	c.deaf = n.Capacity.Notify(c.wake)
	c.sub = n.View.Subscribe(c.streams.Load, c.learn)
	go c.run()
	return c
}

func (c *control) Close() {
	c.sub.Close()
	c.deaf()
	c.streams.Close()
	c.cancel()
	<-c.ended
}

func (c *control) Active(worker string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.all {
		if e.Worker == worker {
			n++
		}
	}
	return n
}

func (c *control) wake() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// learn takes in what the picture says, which stands still.
func (c *control) learn(d *view.Delta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams.Learn(d)
	v := c.node.View
	c.sessions, c.nodes, c.takers = maps.Clone(v.Sessions), maps.Clone(v.Nodes), maps.Clone(v.Takers[keys])
	c.epoch = 0
	if l := v.Leader; l != nil && l.Name == c.node.Scheduler {
		c.epoch = l.Epoch
	}
	seen := map[string]bool{}
	for _, e := range d.Records[keys] {
		seen[e.Key] = true
		c.take(e)
	}
	for name, e := range c.all {
		if d.Reset > e.mod && !seen[prefix+name] {
			c.set(name, nil)
		}
	}
	c.wake()
}

func (c *control) take(e store.Event) {
	name, _ := store.NameIn(prefix, e.Key)
	switch have := c.all[name]; {
	case have != nil && have.mod >= e.Mod:
	case e.Deleted:
		c.set(name, nil)
	default:
		next := &entry{mod: e.Mod}
		if err := json.Unmarshal(e.Value, &next.probe); err != nil {
			c.node.Logger.Error("probe cannot be read", "probe", name, "error", err)
			return
		}
		c.set(name, next)
	}
}

// set replaces a probe, nil for none: it is counted, and workers are told. c.mu is held.
func (c *control) set(name string, next *entry) {
	old := c.all[name]
	now := probe{}
	if next == nil {
		delete(c.all, name)
	} else {
		c.all[name], now = next, next.probe
	}
	c.claims.Take(name, now.Worker, now.Resources)
	c.claims.Settle(name)
	if old != nil && old.Worker != "" && (old.Worker != now.Worker || old.Generation != now.Generation) {
		c.say(old.probe, stop)
	}
	if now.Worker != "" && (old == nil || old.Generation != now.Generation) {
		c.say(now, start)
	}
}

// run places what waits, and what has lost its worker, where this scheduler leads.
func (c *control) run() {
	defer close(c.ended)
	for {
		for _, change := range c.decide() {
			if !c.write(change) {
				c.wake()
			}
		}
		select {
		case <-c.signal:
		case <-c.ctx.Done():
			return
		}
	}
}

// change is what is to become of a probe, if conds hold.
type change struct {
	next  *entry // its mod is that of what it replaces
	conds []store.Cond
}

func (c *control) decide() (out []change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.all)) {
		e := c.all[name]
		if s := c.sessions[e.Worker]; e.Worker != "" && (s == nil || s.ID != e.Session || c.avoids(s)) {
			next := &entry{probe: e.probe, mod: e.mod}
			next.Worker, next.Session, next.Found = "", 0, ""
			out = append(out, change{next: next})
			continue
		}
		if e.Worker != "" {
			continue
		}
		w, s, _ := c.choose(e, c.epoch)
		if w == "" || !c.claims.Promise(name, w, s.GetCapacity(), e.Resources, c.epoch) {
			continue
		}
		next := &entry{probe: e.probe, mod: e.mod}
		next.Worker, next.Session, next.Generation = w, s.ID, e.Generation+1
		// While this very session lives and takes work, and this leader leads.
		out = append(out, change{next, []store.Cond{
			{Key: store.SessionKey(w), By: store.ByMod, Revision: s.Mod}, {Key: store.LeaderKey, By: store.ByCreate, Revision: c.epoch},
		}})
	}
	return out
}

// avoids reports whether a worker gives up what it has.
func (c *control) avoids(s *view.Session) bool {
	return s.GetLeaving() || s.Placeable(c.nodes[s.GetName()]).Draining
}

// choose finds a worker for a probe, or what speaks against each. c.mu is held.
func (c *control) choose(e *entry, leader int64) (worker string, s *view.Session, against []placement.Obstacle) {
	for _, name := range slices.Sorted(maps.Keys(c.takers)) {
		s := c.sessions[name]
		if s == nil || s.GetIncarnation() != c.takers[name].GetIncarnation() || c.avoids(s) {
			continue
		}
		if s.Placeable(c.nodes[name]).Cordoned {
			against = append(against, placement.Obstacle{Code: placement.Cordoned})
		} else if o, lacks := c.claims.Lacks(e.Name, name, s.GetCapacity(), e.Resources, leader); lacks {
			against = append(against, o)
		} else {
			return name, s, nil
		}
	}
	return "", nil, against
}

// write writes what becomes of a probe. It reports whether that is known.
func (c *control) write(ch change) bool {
	value, err := json.Marshal(ch.next.probe)
	if err != nil {
		panic(err) // there is nothing in it that could not be said
	}
	key, name := prefix+url.PathEscape(ch.next.Name), ch.next.Name
	w := commit.Writer{Txn: c.node.Store.Txn, Timeout: 5 * time.Second}
	r := w.Together(c.ctx, table.Unit{
		Conds: append(ch.conds, store.Cond{Key: key, By: store.ByMod, Revision: ch.next.mod}),
		Ops:   []store.Op{{Key: key, Value: value}},
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	switch have := c.all[name]; {
	case r.OK && (have == nil || have.mod < r.Revision):
		c.set(name, &entry{probe: ch.next.probe, mod: r.Revision})
	case r.Err == nil && !r.OK && ch.next.Worker != "":
		c.claims.Withdraw(name, ch.next.Worker)
	}
	return r.OK || r.Err == nil // else what was promised stays promised until it is tried again
}

// What a caller asks for.

func (c *control) get(_ context.Context, name string) (probe, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[name]
	if e == nil {
		return probe{}, status.Errorf(codes.NotFound, "probe %s: not found", name)
	}
	p := e.probe
	if p.Worker == "" {
		_, _, against := c.choose(e, c.epoch)
		if p.Why = placement.Summary(against); len(against) == 0 {
			p.Why = "no worker takes probes"
		}
	}
	return p, nil
}

func (c *control) change(ctx context.Context, name string, op store.Op, conds ...store.Cond) error {
	op.Key = prefix + url.PathEscape(name)
	ok, rev, err := c.node.Store.Txn(ctx, conds, []store.Op{op})
	switch {
	case err != nil:
		return convert.StoreError(err)
	case !ok:
		return status.Errorf(codes.AlreadyExists, "probe %s: there is one", name)
	}
	return convert.UnseenError(c.node.View.Wait(ctx, rev))
}

func (c *control) declare(ctx context.Context, p probe) error {
	value, err := json.Marshal(probe{Name: p.Name, Resources: p.Resources})
	if err != nil || p.Name == "" {
		return status.Error(codes.InvalidArgument, "name: want one")
	}
	return c.change(ctx, p.Name, store.Op{Value: value}, store.Cond{Key: prefix + url.PathEscape(p.Name), By: store.ByMod, Revision: 0})
}

func (c *control) forget(ctx context.Context, name string) error {
	return c.change(ctx, name, store.Op{Delete: true})
}

// What workers say, and are told.

// order is what a worker is told: to start or to stop a probe; report is what it says. The
// first report of a stream says who the worker is, and what it runs.
type order struct {
	Do string
	probe
}

const start, stop = "start", "stop"

type report struct {
	Name, Incarnation string
	Session           int64
	Held              []probe
}

// say tells a worker whose stream is here what to do.
func (c *control) say(p probe, do string) {
	if st, _ := c.streams.Of(p.Worker); st != nil && st.Session == p.Session {
		st.Say(packed(order{do, p}))
	}
}

// host is what probes do with the streams of workers.
type host struct{ c *control }

func (host) Hello(ctx context.Context, m *message) (kind.Hello, error) {
	var r report
	if err := unpacked(m, &r); err != nil {
		return kind.Hello{}, err
	}
	return kind.Hello{Name: r.Name, Incarnation: r.Incarnation, Session: r.Session}, auth.IsWorker(ctx, r.Name)
}

// Open has nothing to count: a probe ends with its lease.
func (o host) Open(_ context.Context, st *kind.Stream[message], _ *message) (view.Taker, error) {
	return &storepb.JobWorker{Version: record.Version, Name: st.Worker, Incarnation: st.Incarnation, Scheduler: o.c.node.Scheduler}, nil
}

func (o host) Join(st *kind.Stream[message], hello *message) error {
	c := o.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.streams.Put(st); err != nil {
		return err
	}
	for _, e := range c.all {
		if e.Worker == st.Worker {
			c.say(e.probe, start) // one that runs already is asked for in vain
		}
	}
	go o.Take(c.ctx, st, hello)
	return nil
}

func (o host) Take(_ context.Context, st *kind.Stream[message], m *message) {
	var r report
	if unpacked(m, &r) != nil {
		st.End()
		return
	}
	for _, held := range r.Held {
		go o.c.found(st, held)
	}
}

// found notes what a worker tells of a probe, or has it stop what it should not run.
func (c *control) found(st *kind.Stream[message], held probe) {
	for known := false; !known; {
		c.mu.Lock()
		e := c.all[held.Name]
		var next *entry
		if e != nil && e.Worker == st.Worker && e.Session == st.Session && e.Generation == held.Generation {
			next = &entry{probe: e.probe, mod: e.mod}
			next.Found = held.Found
		}
		c.mu.Unlock()
		switch {
		case next == nil:
			st.Say(packed(order{stop, held}))
			return
		case next.Found == e.Found:
			return
		}
		known = c.write(change{next: next}) && c.current(next)
		if errors.Is(c.ctx.Err(), context.Canceled) {
			return
		}
	}
}

// current reports whether a probe is as it was to be.
func (c *control) current(next *entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[next.Name]
	return e == nil || e.Found == next.Found || e.Generation != next.Generation
}

func packed(v any) *message {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return wrapperspb.String(string(b))
}

func unpacked(m *message, v any) error {
	if err := json.Unmarshal([]byte(m.GetValue()), v); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

// The services, as protoc would make them.

const apiService, workService = "rota.test.Probes", "rota.test.ProbeWork"

func method(name string) string { return "/" + apiService + "/" + name }

func (c *control) RegisterAPI(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{ServiceName: apiService, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		unary("Get", func(ctx context.Context, p probe) (probe, error) { return c.get(ctx, p.Name) }),
		unary("Set", func(ctx context.Context, p probe) (probe, error) { return p, c.declare(ctx, p) }),
		unary("Delete", func(ctx context.Context, p probe) (probe, error) { return p, c.forget(ctx, p.Name) }),
		unary("Unlisted", func(_ context.Context, p probe) (probe, error) { return p, nil }), // the policy lacks it
	}}, c)
}

func (c *control) RegisterWork(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{ServiceName: workService, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{connectDesc}}, c)
}

var connectDesc = grpc.StreamDesc{StreamName: "Connect", ServerStreams: true, ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
	c := srv.(*control)
	return c.streams.Serve(&grpc.GenericServerStream[message, message]{ServerStream: s}, host{c})
}}

func unary(name string, f func(context.Context, probe) (probe, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, receive func(any) error, by grpc.UnaryServerInterceptor) (any, error) {
		in := &message{}
		if err := receive(in); err != nil {
			return nil, err
		}
		return by(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: method(name)}, func(ctx context.Context, in any) (any, error) {
			var p probe
			if err := unpacked(in.(*message), &p); err != nil {
				return nil, err
			}
			p, err := f(ctx, p)
			return packed(p), err
		})
	}}
}
