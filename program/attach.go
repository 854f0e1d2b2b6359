package program

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/program/internal/lifecycle"
)

// attach holds a program's stream to some scheduler: its tasks and their places,
// its reports, its life.
type attach struct {
	p    *Program
	cfg  ClusterConfig
	host *clusterHost
	id   string // of this run

	mu     sync.Mutex
	truth  map[string]*rotav1.TaskDefinition // what is declared; nil for what was and is not
	news   map[string]bool                   // ids of what was not said on the present stream
	signal chan struct{}
	events []*rotav1.ProgramEvent
	ended  chan struct{} // closed when the cluster has ended the program
	over   chan struct{} // closed when no stream will be opened any more
	heard  time.Time     // when anything was, of the present stream
	known  []string      // schedulers
	ttl    time.Duration
	// farewell is what is said last, once the program is over; nil before.
	farewell []*rotav1.FromProgram
	parted   bool // it was said on the present stream

	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[rotav1.FromProgram, rotav1.ToProgram]
	stop   context.CancelFunc
}

func newAttach(p *Program, cfg ClusterConfig, h *clusterHost) *attach {
	return &attach{
		p: p, cfg: cfg, host: h, id: rand.Text()[:12], truth: map[string]*rotav1.TaskDefinition{}, news: map[string]bool{},
		signal: make(chan struct{}, 1), ended: make(chan struct{}), over: make(chan struct{}), ttl: 5 * time.Second,
	}
}

// change changes what is declared; it never waits.
func (a *attach) change(c *rotav1.ProgramChange) {
	a.mu.Lock()
	for _, d := range c.GetSet() {
		a.truth[d.GetId()] = d
		a.news[d.GetId()] = true
	}
	for _, id := range c.GetDelete() {
		a.truth[id] = nil
		a.news[id] = true
	}
	a.mu.Unlock()
	a.wake()
}

// again has all that is true be said on a new stream: what was said on the old one
// may not have been heard. a.mu is held.
func (a *attach) again() {
	for id := range a.truth {
		a.news[id] = true
	}
	a.parted = false
	a.wake()
}

// maxChange is about how many bytes of definitions go into one message.
const maxChange = 1 << 20

// next are the messages to be said now: what has changed since the last, however
// often, in as few as will do.
func (a *attach) next() (all []*rotav1.FromProgram) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, size := &rotav1.ProgramChange{}, 0
	flush := func() {
		if len(c.GetSet())+len(c.GetDelete()) > 0 {
			all = append(all, &rotav1.FromProgram{Body: &rotav1.FromProgram_Change{Change: c}})
			c, size = &rotav1.ProgramChange{}, 0
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.news)) {
		if d := a.truth[id]; d == nil {
			c.Delete = append(c.Delete, id)
			size += len(id)
		} else {
			c.Set = append(c.Set, d)
			size += proto.Size(d)
		}
		if size > maxChange {
			flush()
		}
	}
	flush()
	clear(a.news)
	if !a.parted && a.farewell != nil {
		a.parted = true
		all = append(all, a.farewell...)
	}
	return all
}

func endMessage(moves bool) *rotav1.FromProgram {
	return &rotav1.FromProgram{Body: &rotav1.FromProgram_End{End: &rotav1.ProgramEnd{Moves: moves}}}
}

func (a *attach) wake() {
	select {
	case a.signal <- struct{}{}:
	default:
	}
}

// first opens the stream for the first time: what is wrong then is told to the
// caller of Run.
func (a *attach) first(ctx context.Context) (*rotav1.ProgramWelcome, error) {
	var errs []error
	for _, address := range a.cfg.Addresses {
		w, err := a.open(ctx, address)
		if err == nil {
			return w, nil
		}
		if errors.Is(err, errStopped) {
			return nil, err
		}
		switch grpcstatus.Code(err) {
		case codes.AlreadyExists:
			return nil, fmt.Errorf("%w: %s", ErrRunning, grpcstatus.Convert(err).Message())
		case codes.InvalidArgument:
			return nil, errors.New(grpcstatus.Convert(err).Message())
		}
		errs = append(errs, fmt.Errorf("scheduler %s: %w", address, err))
	}
	return nil, errors.Join(errs...)
}

// open opens the stream at one scheduler.
func (a *attach) open(ctx context.Context, address string) (_ *rotav1.ProgramWelcome, err error) {
	conn, err := grpc.NewClient("passthrough:///"+address, append(a.cfg.credentials(address),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAttach), grpc.MaxCallSendMsgSize(maxAttach)))...)
	if err != nil {
		return nil, err
	}
	streamCtx, stop := context.WithCancel(a.host.ctx)
	defer func() {
		if err != nil {
			stop()
			_ = conn.Close()
		}
	}()
	defer context.AfterFunc(ctx, stop)()
	patience := time.AfterFunc(attachTimeout, stop)
	defer patience.Stop()
	stream, err := rotav1.NewProgramsClient(conn).AttachProgram(streamCtx)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	err = stream.Send(&rotav1.FromProgram{Body: &rotav1.FromProgram_Hello{Hello: &rotav1.ProgramHello{
		Name: a.p.name, Run: a.id, Policy: string(a.p.cfg.Policy), Host: host, Pid: int64(os.Getpid()), Detached: a.cfg.detached,
		Functions: a.host.functions(),
	}}})
	if err != nil {
		_, err = stream.Recv() // says why
		return nil, err
	}
	m, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	w := m.GetWelcome()
	if m.GetEnded() != nil {
		return nil, errStopped
	}
	if w == nil {
		return nil, errors.New("no welcome")
	}
	a.mu.Lock()
	a.known = w.GetSchedulers()
	a.again()
	if ttl := time.Duration(w.GetTtlMs()) * time.Millisecond; ttl > 0 {
		a.ttl = ttl
	}
	a.mu.Unlock()
	a.conn, a.stream, a.stop = conn, stream, stop
	return w, nil
}

const (
	maxAttach     = 64 << 20
	attachTimeout = 5 * time.Second
)

// run serves one stream after another until ctx ends. A program that cannot
// reach any scheduler for longer than its lease is over.
func (a *attach) run(ctx context.Context) {
	defer close(a.over)
	for n := 0; ctx.Err() == nil; {
		a.serve(ctx)
		a.stop()
		_ = a.conn.Close()
		a.mu.Lock()
		addresses := slices.Concat(a.cfg.Addresses, a.known)
		ttl := a.ttl
		a.mu.Unlock()
		select {
		case <-a.ended:
			return
		case <-ctx.Done():
			return
		default:
		}
		a.host.run.note(Event{Kind: Disconnected, Text: "no connection to a scheduler"})
		deadline := time.Now().Add(ttl)
		for {
			n++
			w, err := a.open(ctx, addresses[n%len(addresses)])
			if err == nil {
				a.host.relays.connect(w.GetSchedulers())
				a.host.run.note(Event{Kind: Reregistered})
				break
			}
			if ctx.Err() != nil {
				return
			}
			if grpcstatus.Code(err) == codes.AlreadyExists || errors.Is(err, errStopped) || time.Now().After(deadline) {
				a.host.run.do(func(m *lifecycle.Machine) {
					m.Stop("cut off from the cluster", fmt.Errorf("%w: cut off for longer than its lease: %w", errEnded, err))
				})
				return
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// serve talks on the present stream until it ends.
func (a *attach) serve(ctx context.Context) {
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		for {
			m, err := a.stream.Recv()
			if err != nil {
				return
			}
			a.hear()
			switch body := m.GetBody().(type) {
			case *rotav1.ToProgram_Places:
				a.host.places(body.Places)
			case *rotav1.ToProgram_Stop:
				a.p.Stop(body.Stop.GetReason())
			case *rotav1.ToProgram_Rejected:
				a.host.rejected(body.Rejected.GetText())
			case *rotav1.ToProgram_Ended:
				close(a.ended)
				return
			}
		}
	}()
	a.mu.Lock()
	every := a.ttl / 4
	a.mu.Unlock()
	renew := time.NewTicker(every)
	defer renew.Stop()
	report := time.NewTicker(reportEvery)
	defer report.Stop()
	var last Status
	var said float64
	flow := &rate{}
	for {
		for _, m := range a.next() {
			if a.stream.Send(m) != nil {
				a.stop()
				<-broken
				return
			}
		}
		select {
		case <-a.signal:
		case <-report.C:
			messages := flow.of(a.host.run.sched.messages(), time.Now())
			if now := a.p.Status(); a.newer(last, now) || messages != said {
				last, said = now, messages
				_ = a.stream.Send(a.report(now, messages)) // if it fails so does Recv
			}
		case <-renew.C:
			_ = a.stream.Send(&rotav1.FromProgram{Body: &rotav1.FromProgram_Renew{Renew: &rotav1.ProgramRenew{}}})
		case <-broken:
			return
		case <-ctx.Done():
			a.stop()
			<-broken
			return
		}
	}
}

// reportEvery is how often the cluster may hear how the program stands.
const reportEvery = 200 * time.Millisecond

// rateEvery is how long messages are counted for one rate. Each that differs from the one
// before is a write to the store.
const rateEvery = 5 * time.Second

// rate is how many messages a second there are, from the number of all.
type rate struct {
	began time.Time
	first uint64
	now   float64
}

// of is the rate over the last whole rateEvery, in two digits: a steady flow gives one rate.
func (r *rate) of(all uint64, at time.Time) float64 {
	took := at.Sub(r.began)
	switch {
	case r.began.IsZero():
	case took < rateEvery:
		return r.now
	default:
		r.now = digits(float64(all-r.first) / took.Seconds())
	}
	r.began, r.first = at, all
	return r.now
}

// digits rounds to two digits.
func digits(f float64) float64 {
	if f <= 0 {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(f))-1)
	if unit < 1 {
		return math.Round(f/unit) / math.Round(1/unit)
	}
	return math.Round(f/unit) * unit
}

// newer reports whether there is something to say since the program stood as last.
func (a *attach) newer(last, now Status) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.events) > 0 || !now.equal(last)
}

// report says how the program stands, and what has happened since the last report.
func (a *attach) report(s Status, messages float64) *rotav1.FromProgram {
	r := &rotav1.ProgramReport{MessagesPerSecond: messages, Phase: string(s.Phase), Missing: s.Missing, NowUnixUs: time.Now().UnixMicro()}
	for _, t := range s.Tasks {
		r.Tasks = append(r.Tasks, &rotav1.ProgramTask{Name: t.Name, State: string(t.State), Generation: t.Generation, Worker: t.Worker, Error: text.Clip(t.Text, textMax)})
	}
	a.mu.Lock()
	r.Events, a.events = a.events, nil
	a.mu.Unlock()
	return &rotav1.FromProgram{Body: &rotav1.FromProgram_Report{Report: r}}
}

// event notes an event for the next report.
func (a *attach) event(e Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.events) == maxEventsReported {
		a.events = a.events[1:]
	}
	a.events = append(a.events, &rotav1.ProgramEvent{
		Time: timestamppb.Now(), Kind: string(e.Kind), Task: e.Task, Generation: e.Generation, Worker: e.Worker,
		Text: text.Clip(e.Text, textMax), Stack: text.Clip(e.Stack, textMax),
	})
}

const maxEventsReported = 100

// finish says that the program is over and waits until its workers have let go of
// its tasks and its name is free; or, if no scheduler says anything for two leases or
// until the worker's ends, until both will be by themselves. It reports whether a
// scheduler has confirmed it.
func (a *attach) finish(moves bool) (confirmed bool) {
	last := a.report(a.p.Status(), 0) // how its tasks ended can be read afterwards
	a.hear()
	a.mu.Lock()
	a.farewell = []*rotav1.FromProgram{last, endMessage(moves)}
	a.mu.Unlock()
	a.wake()
	for {
		a.mu.Lock()
		left := time.Until(a.heard.Add(2 * a.ttl))
		a.mu.Unlock()
		if left <= 0 {
			return false
		}
		t := time.NewTimer(left)
		select {
		case <-a.ended:
		case <-a.over:
		case <-a.cfg.leaseEnds:
		case <-t.C:
			continue
		}
		t.Stop()
		select {
		case <-a.ended:
			return true
		default:
			return false
		}
	}
}

// hear notes that a scheduler has said something.
func (a *attach) hear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = time.Now()
}
