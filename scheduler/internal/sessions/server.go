package sessions

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/offer"
	"github.com/rota-project/rota/internal/watchdog"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/relay"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Config is what a Server needs.
type Config struct {
	Store store.Store
	View  *view.View
	// Scheduler is the name of the scheduler that this server is part of.
	Scheduler string
	// Lease is how long a worker is trusted without a renewal. Zero means 5 s.
	Lease time.Duration
	// MaxWorkers is the most living workers. Zero is no limit.
	MaxWorkers int
	// Desk is where workers of this process hand in what was asked for; others do over
	// gRPC. Nil: they cannot.
	Desk *relay.Desk
	// Good says whether the worker at the other end of a stream may still speak: its
	// certificate has not ended. Nil: it may.
	Good func(ctx context.Context) error
	// Events takes what workers say of themselves and their tasks. Nil: nobody does.
	Events *events.Recorder
	Logger *slog.Logger
}

// DefaultLease is the lease of workers and schedulers.
const DefaultLease = 5 * time.Second

// helloTimeout is how long a connection may say nothing.
const helloTimeout = 10 * time.Second

// farewellTimeout is how long the end of a connection waits for its last words.
const farewellTimeout = time.Second

// storeTimeout bounds each attempt to write to the store.
const storeTimeout = 5 * time.Second

// Server serves the sessions of workers.
type Server struct {
	rotav1.UnimplementedSessionsServer
	cfg  Config
	acks *ackWriter
	sub  *view.Subscription

	mu      sync.Mutex
	live    map[string]*session // by worker
	said    facts               // to all of them, when something last changed
	closing bool
	streams sync.WaitGroup
	// opening ends when the server closes: nobody is let in any more.
	opening context.Context
	shut    context.CancelFunc
}

// New returns a server. Close it.
func New(c Config) *Server {
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: c, live: map[string]*session{}}
	s.opening, s.shut = context.WithCancel(context.Background())
	s.acks = newAckWriter(c.Store, c.View, c.Logger)
	s.sub = c.View.Subscribe(nil, s.changed)
	return s
}

// Close says goodbye to all workers, which go on with another scheduler, and
// ends all streams.
func (s *Server) Close() {
	s.mu.Lock()
	s.closing = true
	s.shut()
	for _, c := range s.live {
		c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Goodbye{Goodbye: &rotav1.Goodbye{}}})
		c.end()
	}
	s.mu.Unlock()
	s.streams.Wait()
	s.sub.Close()
	s.acks.close()
}

// Workers lists the workers whose sessions are here.
func (s *Server) Workers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]string, 0, len(s.live))
	for name := range s.live {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// ReadLog asks a worker for what an instance of it has written. gone is closed when the
// connection on which it was asked has ended; ok is false if its session is not here.
func (s *Server) ReadLog(worker string, ask *rotav1.ReadLog) (gone <-chan struct{}, ok bool) {
	s.mu.Lock()
	c := s.live[worker]
	s.mu.Unlock()
	if c == nil {
		return nil, false
	}
	c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Read{Read: ask}})
	return c.gone, true
}

// LeaseLeft is how long a worker's lease lasts at the least; 0 if its session is
// not here.
func (s *Server) LeaseLeft(worker string) time.Duration {
	s.mu.Lock()
	c := s.live[worker]
	s.mu.Unlock()
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(time.Until(c.renewed.Add(c.ttl)), 0)
}

// Connect serves a session over gRPC.
func (s *Server) Connect(stream grpc.BidiStreamingServer[rotav1.FromWorker, rotav1.ToWorker]) error {
	return s.Serve(stream.Context(), stream)
}

// Stream is the scheduler's end of a session's connection.
type Stream interface {
	Send(*rotav1.ToWorker) error
	Recv() (*rotav1.FromWorker, error)
}

// Serve serves one connection of a worker to its end. Recv must fail when ctx ends.
func (s *Server) Serve(ctx context.Context, stream Stream) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return errStopping()
	}
	s.streams.Add(1)
	s.mu.Unlock()
	defer s.streams.Done()
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	letIn := context.AfterFunc(s.opening, cancel)

	in := receive(ctx, stream)
	hello, err := firstHello(ctx, in)
	if err != nil {
		if s.opening.Err() != nil {
			return errStopping()
		}
		return err
	}
	if err := auth.IsWorker(ctx, hello.GetInfo().GetName()); err != nil {
		return err
	}
	info := hello.GetInfo()
	if info != nil {
		if info.Labels, err = offer.Settle(info.GetLabels(), peerOf(ctx)); err != nil {
			s.cfg.Logger.Warn("the worker gets no calls", "worker", info.GetName(), "error", err)
		}
	}
	c := newSession(ctx, s, info, cancel)
	c.note(hello.GetMachine())
	began := time.Now()
	refusal, err := s.bound(ctx, info)
	if refusal == nil && err == nil {
		refusal, err = c.open(ctx, hello)
	}
	if err != nil {
		log := s.cfg.Logger.With("worker", hello.GetInfo().GetName(), "error", err, "after", time.Since(began).Round(time.Millisecond))
		if outer.Err() != nil {
			log.Info("session not opened: the worker has closed its connection")
		} else {
			log.Warn("session not opened")
		}
		refusal = refuse(rotav1.Refused_CODE_UNAVAILABLE, err.Error(), time.Second)
	}
	if refusal != nil {
		_ = stream.Send(refusal)
		return nil
	}
	if !letIn() {
		return errStopping()
	}
	s.register(c)
	defer s.streams.Go(c.bury)
	defer s.unregister(c)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if c.out.Pump(ctx, c.ended, stream.Send) != nil {
			cancel()
		}
	}()
	defer func() {
		// What is queued (a farewell) goes out, if the worker still listens.
		c.end()
		timer := time.NewTimer(farewellTimeout)
		defer timer.Stop()
		select {
		case <-sent:
		case <-timer.C:
		}
	}()
	dog := watchdog.New(standstill, func(place string, standing time.Duration) {
		s.cfg.Logger.Error("a session hangs; the worker goes to another scheduler", "worker", c.name, "at", place, "for", standing)
		cancel()
		c.end()
	})
	defer dog.Stop()
	for {
		dog.Rest()
		select {
		case m, ok := <-in:
			if !ok {
				c.breaks(ctx, outer)
				return nil
			}
			dog.At("processing a message of the worker")
			if done := c.receive(ctx, m); done {
				return nil
			}
		case <-c.ended:
			return nil
		case <-ctx.Done():
			c.breaks(ctx, outer)
			if outer.Err() != nil {
				return status.FromContextError(outer.Err()).Err()
			}
			return status.Error(codes.ResourceExhausted, "the worker does not read")
		}
	}
}

// breaks notes that the connection, whose context is ctx within outer, was ended by
// nobody here: neither by what waits for room, nor because its certificate has ended.
func (c *session) breaks(ctx, outer context.Context) {
	good := c.srv.cfg.Good
	c.broke.Store((ctx.Err() == nil || outer.Err() != nil) && (good == nil || good(outer) == nil))
}

// standstill is when a session that is at one message of its worker is taken for
// hung: whatever it asks of the store has a limit below.
const standstill = 10 * time.Second

func errStopping() error { return status.Error(codes.Unavailable, "scheduler is stopping") }

// receive turns Recv into a channel, closed when the stream ends.
func receive(ctx context.Context, stream Stream) <-chan *rotav1.FromWorker {
	in := make(chan *rotav1.FromWorker)
	go func() {
		defer close(in)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case in <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return in
}

func firstHello(ctx context.Context, in <-chan *rotav1.FromWorker) (*rotav1.Hello, error) {
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	select {
	case m, ok := <-in:
		switch {
		case !ok:
			return nil, status.Error(codes.Canceled, "closed before hello")
		case m.GetHello() == nil:
			return nil, status.Error(codes.InvalidArgument, "hello: want it first")
		}
		return m.GetHello(), nil
	case <-timer.C:
		return nil, status.Error(codes.DeadlineExceeded, "hello: want it within 10 s")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// register makes c the worker's session here and sends it everything that it
// holds, in one step with what follows.
func (s *Server) register(c *session) {
	s.cfg.View.Read(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if old := s.live[c.name]; old != nil {
			old.end()
		}
		s.live[c.name] = c
		lost := s.grantsLost(c.name)
		if !lost {
			c.sendAll(s.cfg.View)
		}
		if lost || s.closing || c.overtaken(s.cfg.View.Sessions[c.name]) {
			c.end()
		}
	})
}

func (s *Server) unregister(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[c.name] == c {
		delete(s.live, c.name)
	}
}

// changed passes on what the view says. It runs while the view stands still.
func (s *Server) changed(d *view.Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Unread {
		for name, c := range s.live {
			if s.grantsLost(name) || s.acksLost(name) {
				s.cfg.Logger.Error("unreadable grants or acknowledgements of a worker; closing its connection", "worker", name)
				c.end()
			}
		}
	}
	for worker, changes := range d.Grants {
		if c := s.live[worker]; c != nil && !s.grantsLost(worker) {
			c.sendChanges(s.cfg.View, changes)
			s.acks.released(c, changes)
		}
	}
	s.tell(d.Acks)
	s.update(d.Tasks)
	for _, change := range d.Sessions {
		c := s.live[change.Name]
		switch {
		case c == nil:
		case change.New != nil:
			if c.overtaken(change.New) {
				c.end()
			}
		case change.Old.ID == c.id && !change.Old.GetLeaving():
			c.say(refuse(rotav1.Refused_CODE_SESSION_LOST, "the lease has ended", 0))
			c.end()
		}
	}
	if now := s.facts(); now != s.said {
		s.said = now
		for _, c := range s.live {
			c.tell(now)
		}
	}
}

// grantsLost reports whether some of a worker's grants cannot be read by anybody: it
// gets no session until its last one has ended, and with it whatever it held. The
// view stands still.
func (s *Server) grantsLost(worker string) bool {
	t := s.cfg.View.Grants[worker]
	return t != nil && t.Lost()
}

// acksLost is the same of what it said: it is to say it again. The view stands still.
func (s *Server) acksLost(worker string) bool {
	t := s.cfg.View.Acks[worker]
	return t != nil && t.Lost()
}

// ReportExit ends the session of a worker whose process is known to be gone.
func (s *Server) ReportExit(ctx context.Context, r *rotav1.ReportExitRequest) (*rotav1.ReportExitResponse, error) {
	if r.GetName() == "" || r.GetIncarnation() == "" {
		return nil, status.Error(codes.InvalidArgument, "name, incarnation: want both")
	}
	if err := auth.IsWorker(ctx, r.GetName()); err != nil {
		return nil, err
	}
	info, kv, _, err := readSession(ctx, s.cfg.Store, r.GetName())
	switch {
	case errors.Is(err, errUnread):
		return nil, convert.Error(err)
	case err != nil:
		return nil, convert.ReadError(err)
	case info == nil || info.GetIncarnation() != r.GetIncarnation():
		return &rotav1.ReportExitResponse{}, nil // it is over already
	}
	s.markDied(ctx, info.GetName(), kv.Mod)
	if err := s.cfg.Store.Revoke(ctx, store.LeaseID(info.GetLease())); err != nil {
		return nil, convert.StoreError(err)
	}
	s.cfg.Logger.Info("worker process ended", "worker", r.GetName(), "incarnation", r.GetIncarnation())
	return &rotav1.ReportExitResponse{}, nil
}

func refuse(code rotav1.Refused_Code, text string, retry time.Duration) *rotav1.ToWorker {
	return &rotav1.ToWorker{Body: &rotav1.ToWorker_Refused{Refused: &rotav1.Refused{
		Code: code, Text: text, RetryAfterMs: retry.Milliseconds(),
	}}}
}

// facts are what all workers are told of the cluster.
type facts struct{ barrier, allRunning bool }

// facts are those of now; the view stands still. That all runs is said of a picture
// that is at most half a lease old: by then no worker has stopped anything because
// it was cut off.
func (s *Server) facts() facts {
	v := s.cfg.View
	return facts{barrier: !v.Cluster.GetStarted(), allRunning: v.AllRunning(max(s.cfg.Lease/2, leastFresh))}
}

// leastFresh is how old a picture may always be: it is confirmed twice a second.
const leastFresh = 800 * time.Millisecond

// timeout bounds a call of the store.
func timeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, storeTimeout)
}

// peerOf is where a stream comes from; within the process it is this machine.
func peerOf(ctx context.Context) netip.Addr {
	if p, ok := peer.FromContext(ctx); ok {
		if tcp, ok := p.Addr.(*net.TCPAddr); ok {
			return tcp.AddrPort().Addr()
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
