package sessions_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a store, a view of it and a server of sessions, on a fake clock.
type bench struct {
	t   *testing.T
	st  *faulty.Store
	und *memory.Store // what st hands to
	v   *view.View
	srv *sessions.Server

	mu    sync.Mutex
	fault map[faulty.Kind]faulty.Fault // of the next call
	calls map[faulty.Kind]int
	slow  time.Duration // how long the store keeps the answer to a transaction that is done
}

// answers is a store whose answers to transactions take their time.
type answers struct {
	store.Store
	b *bench
}

func (a answers) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	ok, rev, err := a.Store.Txn(ctx, conds, ops)
	a.b.mu.Lock()
	slow := a.b.slow
	a.b.mu.Unlock()
	time.Sleep(slow)
	return ok, rev, err
}

func bubble(t *testing.T, c sessions.Config, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, fault: map[faulty.Kind]faulty.Fault{}, calls: map[faulty.Kind]int{}}
		under := memory.New()
		b.und = under
		b.st = faulty.New(under, func(c faulty.Call) faulty.Fault {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.calls[c.Kind]++
			f := b.fault[c.Kind]
			delete(b.fault, c.Kind)
			return f
		})
		b.v = view.New(b.st, slog.New(slog.DiscardHandler))
		b.v.Attach(&view.Kind{TakerKey: store.JobWorkerKey, Taker: func() view.Taker { return &storepb.JobWorker{} }})
		c.Store, c.View, c.Scheduler = answers{b.st, b}, b.v, "s1"
		ctx, cancel := context.WithCancel(context.Background())
		go func() { _ = b.v.Run(ctx) }()
		b.srv = sessions.New(c)
		synctest.Wait()
		defer func() { // also after Fatal
			b.st.Set(faulty.Up)
			b.srv.Close()
			cancel()
			b.st.Close()
			under.Close()
		}()
		test(b)
	})
}

func (b *bench) next(k faulty.Kind, f faulty.Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault[k] = f
}

func (b *bench) count(k faulty.Kind) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[k]
}

// put writes keys as others would.
func (b *bench) put(ops ...store.Op) {
	b.t.Helper()
	if ok, _, err := b.st.Txn(context.Background(), nil, ops); err != nil || !ok {
		b.t.Fatal(ok, err)
	}
	synctest.Wait()
}

// declare writes tasks, grants those of a session to its worker, and removes the
// grants of others.
func (b *bench) declare(worker string, session int64, gen int, del []string, tasks ...rota.Task) {
	b.t.Helper()
	var units []table.Unit
	b.v.Read(func() {
		var set []record.Task
		var grants []record.Grant
		for _, t := range tasks {
			r := record.NewTask(t, "")
			set = append(set, r)
			grants = append(grants, record.Grant{Grant: ownership.Grant{
				Instance: rota.Instance{Task: t.ID}, Generation: rota.Generation(gen), Session: session, Spec: record.Spec(&r),
			}})
		}
		u, err := b.v.Tasks.Stage(set, nil)
		if err != nil {
			b.t.Fatal(err)
		}
		units = append(units, u...)
		g := b.v.Grants[worker]
		if g == nil {
			g = record.NewGrants(worker)
		}
		if u, err = g.Stage(grants, del); err != nil {
			b.t.Fatal(err)
		}
		units = append(units, u...)
	})
	for _, u := range units {
		b.put(u.Ops...)
	}
}

// ack is what the store has of a worker's task.
func (b *bench) ack(worker, task string) (a record.Ack) {
	b.v.Read(func() {
		if r, ok := b.v.Ack(worker, rota.Instance{Task: task}); ok {
			a = *r
		}
	})
	return a
}

func (b *bench) session(worker string) (s *view.Session) {
	b.v.Read(func() { s = b.v.Sessions[worker] })
	return s
}

// client is a worker's end of a connection, which keeps what it hears.
type client struct {
	b    *bench
	conn *sessions.Conn
	stop context.CancelFunc

	mu    sync.Mutex
	heard []*rotav1.ToWorker
	ended bool
}

func (b *bench) dial() *client {
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{b: b, conn: b.srv.Dial(ctx), stop: cancel}
	b.t.Cleanup(cancel)
	go func() {
		for {
			m, err := c.conn.Recv()
			c.mu.Lock()
			if err != nil {
				c.ended = true
				c.mu.Unlock()
				return
			}
			c.heard = append(c.heard, m)
			c.mu.Unlock()
		}
	}()
	return c
}

func (c *client) say(m *rotav1.FromWorker) {
	_ = c.conn.Send(m)
	synctest.Wait()
}

func (c *client) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// last is the last message that pick takes, and how many it takes.
func last[M any](c *client, pick func(*rotav1.ToWorker) *M) (m *M, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.heard {
		if x := pick(h); x != nil {
			m = x
			n++
		}
	}
	return m, n
}

func info(name string) *rotav1.WorkerInfo {
	return &rotav1.WorkerInfo{Name: name, Incarnation: name + "-1", AnyKind: true}
}

func hello(i *rotav1.WorkerInfo, session int64, held ...*rotav1.Ack) *rotav1.FromWorker {
	return &rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{Info: i, Session: session, Seq: 1, Held: held}}}
}

func renew(seq uint64) *rotav1.FromWorker {
	return &rotav1.FromWorker{Body: &rotav1.FromWorker_Renew{Renew: &rotav1.Renew{Seq: seq}}}
}

func acks(list ...*rotav1.Ack) *rotav1.FromWorker {
	return &rotav1.FromWorker{Body: &rotav1.FromWorker_Acks{Acks: &rotav1.Acks{Acks: list}}}
}

func ack(task string, gen uint64, state ownership.State) *rotav1.Ack {
	return &rotav1.Ack{Task: task, Generation: gen, State: string(state)}
}

func leave(done bool) *rotav1.FromWorker {
	return &rotav1.FromWorker{Body: &rotav1.FromWorker_Leave{Leave: &rotav1.Leave{Done: done}}}
}

// join opens a session.
func (b *bench) join(i *rotav1.WorkerInfo, session int64, held ...*rotav1.Ack) (*client, *rotav1.Welcome) {
	b.t.Helper()
	c := b.dial()
	c.say(hello(i, session, held...))
	w, _ := last(c, (*rotav1.ToWorker).GetWelcome)
	if w == nil {
		b.t.Fatalf("%s is not welcome: %v", i.GetName(), c.heard)
	}
	return c, w
}

// refused is the answer to a hello that is not taken.
func (b *bench) refused(i *rotav1.WorkerInfo, session int64, code rotav1.Refused_Code, text string) *rotav1.Refused {
	b.t.Helper()
	c := b.dial()
	c.say(hello(i, session))
	r, _ := last(c, (*rotav1.ToWorker).GetRefused)
	if r.GetCode() != code || !strings.Contains(r.GetText(), text) || !c.over() {
		b.t.Errorf("refused with %v, want %s %q", r, code, text)
	}
	return r
}

func encode(b *bench, m record.Versioned) []byte {
	out, err := record.Encode(m)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}
