package kind

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/mailbox"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// Streams are those of workers that take work of a kind, as far as they are here. A
// stream belongs to one session of its worker and ends with it: an order of an earlier
// session could begin what runs elsewhere by now.
type Streams[Up, Down any] struct {
	node Node
	kind *view.Kind
	ctx  context.Context //nolint:containedctx // it is that of all streams
	end  context.CancelFunc

	mu       sync.Mutex
	sessions map[string]*view.Session
	here     map[string]*Stream[Down] // by worker
	moved    chan struct{}            // closed when the standing of workers changes
	closed   bool
}

// Stream is one worker's.
type Stream[Down any] struct {
	Worker      string
	Incarnation string
	Session     int64
	// Gone is closed when it has ended.
	Gone <-chan struct{}

	lease     store.LeaseID
	announced int64 // the revision at which the store has it
	cancel    context.CancelFunc
	out       *mailbox.Box[*Down]
}

// Hello is what a worker says of itself on a new stream.
type Hello struct {
	Name, Incarnation string
	Session           int64 // 0 if it does not say
}

const (
	// helloTimeout is how long a connection may say nothing, and how long a worker's
	// session may take to be known here.
	helloTimeout = 10 * time.Second
	// storeTimeout bounds the write that announces a worker.
	storeTimeout = 5 * time.Second
	// leaveWait is how long the word that a worker leaves may take to come here by way of
	// the store.
	leaveWait = 3 * time.Second
)

// NewStreams returns none. The kind is attached to the picture; the kind passes on what it
// is told by that, see Load and Learn.
func NewStreams[Up, Down any](n Node, k *view.Kind) *Streams[Up, Down] {
	s := &Streams[Up, Down]{node: n, kind: k, sessions: map[string]*view.Session{}, here: map[string]*Stream[Down]{}, moved: make(chan struct{})}
	s.ctx, s.end = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	n.View.Attach(k)
	return s
}

// Say queues an order. It never blocks.
func (s *Stream[Down]) Say(m *Down) { s.out.Put(m) }

// End ends the stream. The worker comes again.
func (s *Stream[Down]) End() { s.cancel() }

// Load takes in the whole view, which stands still.
func (s *Streams[Up, Down]) Load() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, now := range s.node.View.Sessions {
		s.sessions[name] = now
	}
}

// Learn takes in what the view says, which stands still. Who waits for a worker looks
// again: call it first, and with the lock under which the kind takes in the rest.
func (s *Streams[Up, Down]) Learn(d *view.Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range d.Sessions {
		if now := s.node.View.Sessions[c.Name]; now != nil {
			s.sessions[c.Name] = now
		} else {
			delete(s.sessions, c.Name)
		}
		if st := s.here[c.Name]; st != nil && !s.alive(st) {
			st.cancel() // what announced the worker has gone with the session: it comes again
		}
	}
	for _, name := range d.Takers[s.kind] {
		// Somebody deleted what announced a worker that is here: it comes again, and is
		// announced anew. What this stream has not announced yet is no loss.
		if st := s.here[name]; st != nil && s.node.View.Takers[s.kind][name] == nil {
			st.cancel()
		}
	}
	if len(d.Sessions)+len(d.Takers[s.kind]) > 0 {
		s.stir()
	}
}

// stir tells whoever waits for a worker. s.mu is held.
func (s *Streams[Up, Down]) stir() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// alive reports whether the session that a stream belongs to still is. s.mu is held.
func (s *Streams[Up, Down]) alive(st *Stream[Down]) bool {
	now := s.sessions[st.Worker]
	return now != nil && now.ID == st.Session
}

// Of is a worker's stream, nil if it is not here. moved is closed when that may have
// changed, or what is known of the worker.
func (s *Streams[Up, Down]) Of(worker string) (st *Stream[Down], moved <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.here[worker], s.moved
}

// Close ends all streams, and takes no more.
func (s *Streams[Up, Down]) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.end()
}

// Conn is a stream's connection.
type Conn[Up, Down any] interface {
	Context() context.Context
	Send(*Down) error
	Recv() (*Up, error)
}

// Host is what a kind does with the streams of its workers.
type Host[Up, Down any] interface {
	// Hello checks a worker's first message, and who it is.
	Hello(ctx context.Context, m *Up) (Hello, error)
	// Open takes in what the worker says that it runs, before it is announced as one that
	// takes work of the kind: that is to be counted by then. It answers the announcement.
	Open(ctx context.Context, st *Stream[Down], hello *Up) (view.Taker, error)
	// Join is to Put the stream, and to say what the worker should have. The picture is as
	// new as the announcement: by an older one the worker could begin what another
	// scheduler has taken back since.
	Join(st *Stream[Down], hello *Up) error
	// Take takes what the worker says from then on. It must not block.
	Take(ctx context.Context, st *Stream[Down], m *Up)
}

// Serve serves a worker's stream from its hello to its end.
func (s *Streams[Up, Down]) Serve(g Conn[Up, Down], host Host[Up, Down]) error {
	ctx, cancel := context.WithCancel(g.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	silent := time.AfterFunc(helloTimeout, cancel)
	m, err := g.Recv()
	silent.Stop()
	if err != nil {
		return status.Error(codes.DeadlineExceeded, "hello: want it within 10 s")
	}
	h, err := host.Hello(ctx, m)
	if err != nil {
		return err
	}
	st := &Stream[Down]{Worker: h.Name, Incarnation: h.Incarnation, Gone: ctx.Done(), cancel: cancel, out: mailbox.Bounded[*Down](cancel)}
	if err := s.await(ctx, st, h); err != nil {
		return err
	}
	taker, err := host.Open(ctx, st, m)
	if err != nil {
		return err
	}
	if err := s.announce(ctx, st, taker); err != nil {
		return convert.StoreError(err)
	}
	if err := host.Join(st, m); err != nil {
		return err
	}
	defer func() { _ = s.withdraw(g.Context(), st) }() // else the announcement ends with the session
	received := make(chan error, 1)
	go func() {
		for {
			m, err := g.Recv()
			if err != nil {
				received <- nil
				return
			}
			host.Take(ctx, st, m)
		}
	}()
	go func() {
		<-ctx.Done()
		received <- status.Error(codes.Unavailable, "ended here")
	}()
	go func() {
		if st.out.Pump(ctx, nil, g.Send) != nil {
			cancel()
		}
	}()
	return <-received
}

// await waits until the worker's session is known here. A hello of an earlier one, which
// may have been on its way, or waiting here, for as long as a lease lasts, is none.
func (s *Streams[Up, Down]) await(ctx context.Context, st *Stream[Down], h Hello) error {
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	for {
		s.mu.Lock()
		have, moved, closed := s.sessions[st.Worker], s.moved, s.closed
		s.mu.Unlock()
		switch {
		case closed:
			return errClosed
		case have != nil && have.GetIncarnation() == st.Incarnation && h.Session != 0 && h.Session < have.ID:
			return status.Errorf(codes.Unavailable, "worker %s has another session since it said hello", st.Worker)
		case have != nil && have.GetIncarnation() == st.Incarnation && h.Session <= have.ID:
			st.Session, st.lease = have.ID, store.LeaseID(have.GetLease())
			return nil
		}
		select {
		case <-moved:
		case <-timer.C:
			return status.Errorf(codes.FailedPrecondition, "worker %s has no session in this incarnation", st.Worker)
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

var (
	errEnded  = status.Error(codes.Unavailable, "the session has ended")
	errClosed = status.Error(codes.Unavailable, "the scheduler is stopping")
)

// announce tells all schedulers that the worker takes work of the kind. On its return the
// picture is as new as that.
func (s *Streams[Up, Down]) announce(ctx context.Context, st *Stream[Down], taker view.Taker) error {
	value, err := record.Encode(taker)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	ok, rev, err := s.node.Store.Txn(ctx,
		[]store.Cond{{Key: store.SessionKey(st.Worker), By: store.ByCreate, Revision: st.Session}},
		[]store.Op{{Key: s.kind.TakerKey(st.Worker), Value: value, Lease: st.lease}})
	switch {
	case err != nil:
		return err
	case !ok:
		return errEnded
	}
	st.announced = rev
	return s.node.View.Wait(ctx, rev)
}

// Put makes st its worker's stream, unless the session has ended.
func (s *Streams[Up, Down]) Put(st *Stream[Down]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed
	case !s.alive(st):
		return errEnded
	}
	if old := s.here[st.Worker]; old != nil {
		old.cancel()
	}
	s.here[st.Worker] = st
	s.stir()
	return nil
}

// withdraw tells all schedulers that a worker whose stream has ended takes no more work of
// the kind, until it comes again: its process may be dead, and its session lives on for the
// rest of the lease. Where the scheduler stops, its workers come again elsewhere at once.
func (s *Streams[Up, Down]) withdraw(ctx context.Context, st *Stream[Down]) error {
	s.mu.Lock()
	last := s.here[st.Worker] == st
	if last {
		delete(s.here, st.Worker)
	}
	tell := last && !s.closed && s.alive(st)
	s.stir()
	s.mu.Unlock()
	if !tell {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	key := s.kind.TakerKey(st.Worker)
	_, _, err := s.node.Store.Txn(ctx, []store.Cond{{Key: key, By: store.ByMod, Revision: st.announced}}, []store.Op{{Key: key, Delete: true}})
	return err
}

// Left calls f once a worker that begins nothing any more has been sent every order there
// will be: those that were placed before its session said that it leaves. No placement
// is good after that.
func (s *Streams[Up, Down]) Left(ctx context.Context, st *Stream[Down], f func()) {
	timer := time.NewTimer(leaveWait)
	defer timer.Stop()
	for {
		s.mu.Lock()
		session, moved := s.sessions[st.Worker], s.moved
		s.mu.Unlock()
		if session == nil || session.ID != st.Session || session.GetLeaving() {
			f()
			return
		}
		select {
		case <-moved:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
