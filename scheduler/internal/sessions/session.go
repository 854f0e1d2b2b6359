package sessions

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/mailbox"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// session is one worker's connection and the lease behind it.
type session struct {
	srv    *Server
	info   *rotav1.WorkerInfo
	name   string
	id     int64 // the session's key's revision of creation
	lease  store.LeaseID
	ttl    time.Duration
	opened int64 // the revision that made this connection the worker's
	cancel context.CancelFunc
	gone   <-chan struct{} // closed when the connection has ended

	ended   chan struct{}
	endOnce sync.Once

	rewriting chan struct{} // has room for one: who writes the session's key

	spoke atomic.Bool // the worker has said something on this connection since it was welcomed
	broke atomic.Bool // this connection has ended by itself: nobody here has closed it

	mu              sync.Mutex
	renewSeq        uint64          // the latest asked for
	renewing        bool            // a renewal is under way; it looks again when it is done
	mod             int64           // the revision that wrote the session's key last, on this connection
	writing         bool            // a write of that key is under way
	seen            int64           // the latest revision of it that was seen meanwhile
	renewed         time.Time       // when the last confirmed renewal was asked of the store
	told            *facts          // nil before the first time
	aheads          []time.Duration // of the worker's clock, the latest last, at most manyAheads
	certificateEnds time.Time

	out *mailbox.Box[*rotav1.ToWorker]
}

func newSession(ctx context.Context, s *Server, info *rotav1.WorkerInfo, cancel context.CancelFunc) *session {
	return &session{
		srv: s, info: info, name: info.GetName(), cancel: cancel, gone: ctx.Done(),
		ended: make(chan struct{}), out: mailbox.Bounded[*rotav1.ToWorker](cancel), rewriting: make(chan struct{}, 1),
	}
}

// end asks the connection to end after what is queued has been sent.
func (c *session) end() { c.endOnce.Do(func() { close(c.ended) }) }

// say queues a message. It never blocks.
func (c *session) say(m *rotav1.ToWorker) { c.out.Put(m) }

// receive handles what the worker says; done ends the connection.
func (c *session) receive(ctx context.Context, m *rotav1.FromWorker) (done bool) {
	c.spoke.Store(true)
	switch b := m.GetBody().(type) {
	case *rotav1.FromWorker_Renew:
		c.note(b.Renew.GetMachine())
		c.mu.Lock()
		c.renewSeq = max(c.renewSeq, b.Renew.GetSeq())
		begin := !c.renewing
		c.renewing = true
		c.mu.Unlock()
		if begin {
			// Beside the loop, so that nothing else the worker says waits for the store.
			c.srv.streams.Go(func() { c.renew(ctx) })
		}
	case *rotav1.FromWorker_Acks:
		c.srv.acks.add(c, b.Acks.GetAcks())
	case *rotav1.FromWorker_Load:
		c.srv.acks.load(c, b.Load.GetItems())
	case *rotav1.FromWorker_Leave:
		if b.Leave.GetDone() {
			return c.farewell(ctx)
		}
		if err := c.leave(ctx); err != nil {
			c.srv.cfg.Logger.Warn("leave not written", "worker", c.name, "error", err)
			return true // the worker asks again at its next connection
		}
		c.srv.cfg.Events.Record(events.Event{Kind: events.WorkerLeaving, Subject: events.Subject{Worker: c.name}, Text: "it hands over its tasks in order"})
	default:
		c.srv.cfg.Logger.Warn("unexpected message", "worker", c.name)
		return true
	}
	return false
}

// renew renews the lease for the latest renewal that was asked for, until none is
// left. One whose outcome is unknown is not tried again: the worker asks for more.
func (c *session) renew(ctx context.Context) {
	for tried := uint64(0); ; {
		c.mu.Lock()
		seq := c.renewSeq
		if seq <= tried || ctx.Err() != nil {
			c.renewing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		tried = seq
		one, cancel := context.WithTimeout(ctx, c.ttl)
		asked := time.Now()
		ttl, err := c.srv.cfg.Store.KeepAlive(one, c.lease)
		cancel()
		switch {
		case errors.Is(err, store.ErrLeaseNotFound):
			c.fenced()
			c.say(refuse(rotav1.Refused_CODE_SESSION_LOST, "the lease has ended", 0))
			c.end()
			return
		case err != nil:
			continue // not confirmed: the worker's trust runs on as it was
		}
		c.mu.Lock()
		c.renewed = asked // before the worker is told: bury counts from here
		c.mu.Unlock()
		c.srv.cfg.View.Read(func() { c.tell(c.srv.facts()) }) // the picture may have grown old
		c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Renewed{Renewed: &rotav1.Renewed{Seq: seq, TtlMs: ttl.Milliseconds()}}})
	}
}

// leave writes down that the worker wants to go, and waits until the view has it: what
// the worker says next, that it has stopped, is in the view as soon as it is written,
// and would tell the leader that it gives up what it is to find again.
func (c *session) leave(ctx context.Context) error {
	ctx, cancel := timeout(ctx)
	defer cancel()
	return c.settle(ctx, true)
}

// settle writes the session's key anew, as leaving if the worker asked for it, after
// which no write of this connection that is still under way can land, and waits until
// the view has all that did.
func (c *session) settle(ctx context.Context, leaving bool) error {
	if err := c.rewrite(ctx, leaving); err != nil {
		return err
	}
	return c.srv.cfg.View.Wait(ctx, c.written())
}

// errOvertaken says that the session is another connection's now, or over.
var errOvertaken = errors.New("another writer changed the session")

// rewrite writes the session's key anew, as leaving if the worker asked for it.
func (c *session) rewrite(ctx context.Context, leaving bool) error {
	ctx, cancel := timeout(ctx)
	defer cancel()
	select {
	case c.rewriting <- struct{}{}:
		defer func() { <-c.rewriting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	have, kv, _, err := readSession(ctx, c.srv.cfg.Store, c.name)
	switch {
	case err != nil:
		return err
	case have == nil || kv.Create != c.id:
		return errOvertaken
	case leaving && have.GetLeaving():
		return nil
	}
	have.Leaving = have.GetLeaving() || leaving
	value, err := record.Encode(have)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.writing = true
	c.mu.Unlock()
	ok, rev, err := c.srv.cfg.Store.Txn(ctx,
		[]store.Cond{{Key: kv.Key, By: store.ByMod, Revision: c.written()}},
		[]store.Op{{Key: kv.Key, Value: value, Lease: store.LeaseID(have.GetLease())}})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	if err == nil && ok {
		c.mod = max(c.mod, rev)
	}
	if c.seen > c.mod {
		c.end() // overtaken, or this very write, of which nobody knows for sure
	}
	switch {
	case err != nil:
		return err
	case !ok:
		return errOvertaken
	}
	return nil
}

// overtaken reports whether another connection has taken the session over. The
// worker may not know of it: its hello of long ago was answered late. It is to
// connect anew, for what it says here is not written down any more. While this
// connection writes the session's key itself, rewrite finds it out.
func (c *session) overtaken(now *view.Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now == nil || now.ID != c.id || now.Mod <= c.mod || now.GetDied() { // or about to end
		return false
	}
	if c.writing {
		c.seen = now.Mod
		return false
	}
	return true
}

// written is the revision at which this connection wrote the session's key last.
func (c *session) written() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mod
}

func ackOf(a *rotav1.Ack) ownership.Ack {
	exit := ownership.Exit{}
	if a.ExitCode != nil {
		exit = ownership.ExitOf(a.GetExitCode())
	}
	return ownership.Ack{
		Instance:   rota.Instance{Task: a.GetTask(), Index: int(a.GetIndex())},
		Generation: rota.Generation(a.GetGeneration()), State: ownership.State(a.GetState()),
		Error: a.GetError(), Exit: exit, Restarts: a.GetRestarts(),
	}
}

// addresses are where all schedulers listen.
func (s *Server) addresses() []string {
	var out []string
	s.cfg.View.Read(func() {
		for _, sc := range s.cfg.View.Schedulers {
			if sc.GetGrpc() != "" {
				out = append(out, sc.GetGrpc())
			}
		}
	})
	return out
}
