package sessions_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/sessions"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/faulty"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"
	"github.com/rota-project/rota/store/table"
	"github.com/rota-project/rota/view"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a store, a view of it and a server of sessions, on a fake clock.
type bench struct {
	t   *testing.T
	st  *faulty.Store
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
		b.st = faulty.New(under, func(c faulty.Call) faulty.Fault {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.calls[c.Kind]++
			f := b.fault[c.Kind]
			delete(b.fault, c.Kind)
			return f
		})
		b.v = view.New(b.st, slog.New(slog.DiscardHandler))
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

func TestHello(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{MaxWorkers: 2}, func(b *bench) {
		b.put(store.Op{Key: store.SchedulerKey("s2"), Value: encode(b, &storepb.Scheduler{Version: 1, Grpc: "10.0.0.2:1"})})
		i := info("w")
		i.Labels, i.Zone, i.MaxTasks = map[string]string{"l": "v"}, "z", 4
		first, w := b.join(i, 0)
		s := b.session("w")
		if s == nil || s.ID != w.GetSession() || s.GetLease() != w.GetLease() || w.GetTtlMs() != 5000 || w.GetSeq() != 1 ||
			s.GetZone() != "z" || s.GetLabels()["l"] != "v" || s.GetMaxTasks() != 4 || s.GetScheduler() != "s1" ||
			fmt.Sprint(w.GetSchedulers()) != "[10.0.0.2:1]" {
			b.t.Fatalf("welcome %v, session %v", w, s)
		}
		if g, n := last(first, (*rotav1.ToWorker).GetGrants); n != 1 || !g.GetFull() || len(g.GetGrant()) != 0 {
			b.t.Errorf("grants %v", g)
		}
		if left := b.srv.LeaseLeft("w"); left != 5*time.Second || b.srv.LeaseLeft("x") != 0 {
			b.t.Errorf("lease left %s", left)
		}

		// The same worker again, by its session or without: it goes on with it, and
		// the old connection ends.
		second, w2 := b.join(i, w.GetSession())
		third, w3 := b.join(i, 0)
		if w2.GetSession() != w.GetSession() || w3.GetLease() != w.GetLease() || !first.over() || !second.over() || third.over() {
			b.t.Errorf("%v, %v, %v", w2, w3, first.over())
		}

		other := info("w")
		other.Incarnation = "w-2"
		if r := b.refused(other, 0, rotav1.Refused_CODE_NAME_ALIVE, "w-1"); r.GetRetryAfterMs() == 0 {
			b.t.Error("it is not told to try again")
		}
		b.refused(info("gone"), 77, rotav1.Refused_CODE_SESSION_LOST, "lease")
		if workers := b.srv.Workers(); fmt.Sprint(workers) != "[w]" {
			b.t.Errorf("workers %v", workers)
		}
		b.join(info("x"), 0)
		b.refused(info("y"), 0, rotav1.Refused_CODE_TOO_MANY_WORKERS, "2")
	})
}

func encode(b *bench, m record.Versioned) []byte {
	out, err := record.Encode(m)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func TestInvalidHello(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*rotav1.WorkerInfo){
		"name":             func(i *rotav1.WorkerInfo) { i.Name = "" },
		"incarnation":      func(i *rotav1.WorkerInfo) { i.Incarnation = "" },
		"restart_grace_ms": func(i *rotav1.WorkerInfo) { i.RestartGraceMs = -1 },
		"max_tasks":        func(i *rotav1.WorkerInfo) { i.MaxTasks = -1 },
		"labels":           func(i *rotav1.WorkerInfo) { i.Labels = map[string]string{"": "x"} },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			bubble(t, sessions.Config{}, func(b *bench) {
				i := info("w")
				change(i)
				b.refused(i, 0, rotav1.Refused_CODE_INVALID, field)
			})
		})
	}
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		bubble(t, sessions.Config{}, func(b *bench) { b.refused(nil, 0, rotav1.Refused_CODE_INVALID, "incarnation") })
	})
}

func TestManyJoinAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{MaxWorkers: 5}, func(b *bench) {
		var clients []*client
		for n := range 20 {
			c := b.dial()
			clients = append(clients, c)
			go func() { _ = c.conn.Send(hello(info(fmt.Sprintf("w%d", n)), 0)) }()
		}
		synctest.Wait()
		welcome := 0
		for _, c := range clients {
			_, n := last(c, (*rotav1.ToWorker).GetWelcome)
			welcome += n
			c.stop()
		}
		kvs, _, err := b.st.Range(b.t.Context(), store.SessionsPrefix)
		if err != nil || welcome != len(kvs) || welcome == 0 || welcome > 5 {
			b.t.Errorf("%d are welcome and %d live, at most 5 may; %v", welcome, len(kvs), err)
		}
	})
}

func TestNotHello(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c := b.dial()
		c.say(renew(1))
		if !c.over() {
			b.t.Error("a connection may begin with anything")
		}
		c = b.dial()
		time.Sleep(time.Minute)
		synctest.Wait()
		if !c.over() {
			b.t.Error("a connection may say nothing")
		}
		c, _ = b.join(info("w"), 0)
		c.say(&rotav1.FromWorker{})
		if !c.over() {
			b.t.Error("an empty message is taken")
		}
	})
}

// TestClose: workers are told goodbye, and one that has not said hello does not
// hold up the end.
func TestClose(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		silent := b.dial()
		c, _ := b.join(info("w"), 0)
		synctest.Wait()
		began := time.Now()
		b.srv.Close()
		synctest.Wait()
		if d := time.Since(began); d != 0 {
			b.t.Errorf("it took %s", d)
		}
		if g, n := last(c, (*rotav1.ToWorker).GetGoodbye); n != 1 || g.GetLeft() || !c.over() || !silent.over() {
			b.t.Errorf("goodbye %v", g)
		}
		late := b.dial()
		synctest.Wait()
		if !late.over() || b.session("w") == nil {
			b.t.Error("the session ended with the server, or a late comer is let in")
		}
		b.srv.Close() // once more does nothing
	})
}

func TestRenewals(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, _ := b.join(info("w"), 0)
		answered := func() uint64 {
			r, _ := last(c, (*rotav1.ToWorker).GetRenewed)
			return r.GetSeq()
		}
		c.say(renew(2))
		if r, _ := last(c, (*rotav1.ToWorker).GetRenewed); r.GetSeq() != 2 || r.GetTtlMs() != 5000 {
			b.t.Errorf("renewed %v", r)
		}
		// What the store does not confirm is not confirmed to the worker.
		b.next(faulty.KeepAlive, faulty.Fault{Lose: true})
		c.say(renew(3))
		if answered() != 2 {
			b.t.Error("a renewal is confirmed that the store did not")
		}
		// Several that come while one is under way are one, and the last is answered,
		// also if the one under way fails.
		for _, f := range []faulty.Fault{{Delay: time.Second}, {Delay: time.Second, Refuse: true}} {
			before, from := b.count(faulty.KeepAlive), answered()+10
			b.next(faulty.KeepAlive, f)
			for n := range uint64(5) {
				c.say(renew(from + n))
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if n := b.count(faulty.KeepAlive) - before; answered() != from+4 || n != 2 {
				b.t.Errorf("%d answered of %d, by %d calls", answered(), from+4, n)
			}
		}
		if left := b.srv.LeaseLeft("w"); left <= 0 || left > 4*time.Second {
			b.t.Errorf("lease left %s", left)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r, _ := last(c, (*rotav1.ToWorker).GetRefused); r.GetCode() != rotav1.Refused_CODE_SESSION_LOST || !c.over() {
			b.t.Errorf("after its lease: %v", r)
		}
		b.refused(info("w"), 1, rotav1.Refused_CODE_SESSION_LOST, "")
	})
}

func TestGrants(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, w := b.join(info("w"), 0)
		task := rota.Task{ID: "a", Kind: "k", Group: "g", Key: "y", Weight: 2, Priority: 3, Payload: []byte("p"), Mode: rota.Available}
		b.declare("w", w.GetSession(), 10, nil, task, rota.Task{ID: "b"})
		g, n := last(c, (*rotav1.ToWorker).GetGrants)
		if n != 2 || g.GetFull() || len(g.GetGrant()) != 2 {
			b.t.Fatalf("%d: %v", n, g)
		}
		s := g.GetGrant()[0]
		if s.GetGeneration() != 10 || s.GetTask().GetKind() != "k" || s.GetTask().GetGroup() != "g" || s.GetTask().GetKey() != "y" ||
			s.GetTask().GetWeight() != 2 || s.GetTask().GetPriority() != 3 || string(s.GetTask().GetPayload()) != "p" || s.GetTask().GetMode() != "available" {
			b.t.Errorf("grant %v", s)
		}
		b.declare("w", 0, 0, []string{"b"})
		if g, _ := last(c, (*rotav1.ToWorker).GetGrants); len(g.GetRevoke()) != 1 || g.GetRevoke()[0].GetTask() != "b" || g.GetRevoke()[0].GetGeneration() != 10 {
			b.t.Errorf("revoked %v", g)
		}
		// Others' grants are none of its business.
		b.declare("other", 1, 11, nil, rota.Task{ID: "c"})
		if _, m := last(c, (*rotav1.ToWorker).GetGrants); m != 3 {
			b.t.Errorf("%d messages", m)
		}
		// A new session is sent available tasks of the last, and no exclusive ones.
		b.declare("w", w.GetSession(), 12, nil, rota.Task{ID: "d"})
		c.stop()
		time.Sleep(10 * time.Second)
		c, w2 := b.join(info("w"), 0)
		if w2.GetSession() == w.GetSession() {
			b.t.Fatal("the session outlived its lease")
		}
		if g, _ := last(c, (*rotav1.ToWorker).GetGrants); !g.GetFull() || len(g.GetGrant()) != 1 || g.GetGrant()[0].GetTask().GetId() != "a" {
			b.t.Errorf("the new session is sent %v", g)
		}
		b.put(store.Op{Key: store.ClusterKey, Value: encode(b, &storepb.Cluster{Version: 1, Started: true, AllRunning: true})})
		if s, _ := last(c, (*rotav1.ToWorker).GetCluster); s.GetBarrier() || !s.GetAllRunning() {
			b.t.Errorf("cluster %v", s)
		}
	})
}

func TestAcks(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, w := b.join(info("w"), 0)
		b.declare("w", w.GetSession(), 10, nil, rota.Task{ID: "a"}, rota.Task{ID: "b"})
		wants := func(task string, state ownership.State) {
			b.t.Helper()
			if a := b.ack("w", task); a.State != state || a.State != "" && a.Generation != 10 {
				b.t.Errorf("%s is %+v, want %s", task, a, state)
			}
		}
		c.say(acks(ack("a", 10, ownership.Running), ack("a", 9, ownership.Stopped)))
		wants("a", "") // the later of the two is of another generation
		c.say(acks(ack("a", 10, ownership.Running)))
		wants("a", ownership.Running)
		since := b.ack("w", "a").Since
		time.Sleep(time.Second)
		c.say(acks(&rotav1.Ack{Task: "a", Generation: 10, State: "running", Error: "once", Restarts: 2}))
		if a := b.ack("w", "a"); a.Since != since || a.Error != "once" || a.Restarts != 2 {
			b.t.Errorf("%+v", a)
		}
		// Lies and nonsense.
		c.say(acks(ack("never", 10, ownership.Running), ack("b", 99, ownership.Running), ack("b", 10, "happy"),
			&rotav1.Ack{Task: "a", Index: -1, Generation: 10, State: "running"}, &rotav1.Ack{}))
		wants("never", "")
		wants("b", "")
		wants("a", ownership.Running)
		// Stopped is final, in one batch and later.
		c.say(acks(ack("b", 10, ownership.Stopped), ack("b", 10, ownership.Running)))
		wants("b", ownership.Stopped)
		c.say(acks(ack("b", 10, ownership.Running)))
		wants("b", ownership.Stopped)

		// While one write is under way all that comes is kept for the next.
		b.next(faulty.Txn, faulty.Fault{Delay: time.Second})
		c.say(acks(ack("a", 10, ownership.Backoff)))
		before := b.count(faulty.Txn)
		for range 50 {
			c.say(acks(ack("a", 10, ownership.Running)))
		}
		c.say(acks(ack("a", 10, ownership.Stopping)))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wants("a", ownership.Stopping)
		if n := b.count(faulty.Txn) - before; n != 1 {
			b.t.Errorf("%d writes", n)
		}
		renewals := uint64(1)
		// An unknown outcome is tried again until it is known, whatever it was.
		for _, f := range []faulty.Fault{{Refuse: true}, {Lose: true}, {Late: time.Second / 2}} {
			b.declare("w", w.GetSession(), 10, nil, rota.Task{ID: "x"})
			renewals++
			c.say(renew(renewals))
			b.next(faulty.Txn, f)
			c.say(acks(ack("x", 10, ownership.Running)))
			time.Sleep(time.Second)
			synctest.Wait()
			wants("x", ownership.Running)
			c.say(acks(ack("x", 10, ownership.Starting)))
			wants("x", ownership.Starting)
		}
		// All is gone with the session, and the next one's is its own.
		b.next(faulty.Txn, faulty.Fault{Refuse: true})
		c.say(acks(ack("a", 10, ownership.Stuck)))
		if err := b.st.Revoke(b.t.Context(), store.LeaseID(w.GetLease())); err != nil {
			b.t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		wants("a", "")
		if kvs, _, _ := b.st.Range(b.t.Context(), store.AcksPrefix); len(kvs) != 0 {
			b.t.Errorf("left behind: %d pages", len(kvs))
		}
		b.join(info("w"), 0, ack("a", 10, ownership.Running))
		wants("a", ownership.Running)
	})
}

// TestGarbage: acknowledgements of grants that are gone are removed with the
// next that are written.
func TestGarbage(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, w := b.join(info("w"), 0)
		var tasks []rota.Task
		var said []*rotav1.Ack
		var ids []string
		for n := range 100 {
			id := fmt.Sprintf("t%03d", n)
			tasks, ids = append(tasks, rota.Task{ID: id}), append(ids, id)
			said = append(said, ack(id, 10, ownership.Running))
		}
		b.declare("w", w.GetSession(), 10, nil, tasks...)
		c.say(acks(said...))
		if b.ack("w", "t099").State != ownership.Running {
			b.t.Fatal("not acknowledged")
		}
		b.declare("w", 0, 0, ids[:10])
		c.say(acks(ack("t099", 10, ownership.Stopping)))
		b.v.Read(func() {
			if n := b.v.Acks["w"].Len(); n != 90 {
				b.t.Errorf("%d acknowledgements, want 90", n)
			}
		})
		b.declare("w", 0, 0, ids[10:90])
		b.v.Read(func() {
			if n := b.v.Acks["w"].Len(); n != 10 {
				b.t.Errorf("%d acknowledgements, want 10", n)
			}
		})
	})
}

func TestLoad(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, w := b.join(info("w"), 0)
		b.declare("w", w.GetSession(), 10, nil, rota.Task{ID: "a"})
		load := func(task string, v float64) {
			c.say(&rotav1.FromWorker{Body: &rotav1.FromWorker_Load{Load: &rotav1.Load{Items: []*rotav1.Load_Item{{Task: task, Load: v}}}}})
		}
		c.say(acks(ack("a", 10, ownership.Running)))
		for _, step := range []struct {
			say  float64
			want float32
		}{{3, 3}, {3.01, 3}, {-1, 3}, {6, 6}, {0, 0}} {
			load("a", step.say)
			if a := b.ack("w", "a"); a.Load != step.want || a.State != ownership.Running {
				b.t.Errorf("after %v: %+v", step.say, a)
			}
		}
		load("b", 3)
		c.say(acks(ack("a", 10, ownership.Stopping)))
		if a := b.ack("w", "a"); a.Load != 0 {
			b.t.Errorf("%+v", a)
		}
	})
}

func TestLeave(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, w := b.join(info("w"), 0)
		c.say(leave(false))
		c.say(leave(false))
		if !b.session("w").GetLeaving() || b.session("w").ID != w.GetSession() {
			b.t.Error("not leaving")
		}
		c, w2 := b.join(info("w"), w.GetSession()) // a new connection does not take it back
		if !b.session("w").GetLeaving() || w2.GetSession() != w.GetSession() {
			b.t.Error("not leaving any more")
		}
		c.say(leave(true))
		if g, n := last(c, (*rotav1.ToWorker).GetGoodbye); n != 1 || !g.GetLeft() || b.session("w") != nil || !c.over() {
			b.t.Errorf("farewell: %v, %v", g, b.session("w"))
		}
		if r, n := last(c, (*rotav1.ToWorker).GetRefused); n != 0 {
			b.t.Errorf("it was told %v", r)
		}
		// One that cannot be written down ends the connection: it is asked for anew.
		c, _ = b.join(info("x"), 0)
		b.next(faulty.Txn, faulty.Fault{Refuse: true})
		c.say(leave(false))
		if !c.over() || b.session("x").GetLeaving() {
			b.t.Error("the worker does not know that it was not heard")
		}
	})
}

func TestReportExit(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, _ := b.join(info("w"), 0)
		report := func(name, incarnation string) error {
			_, err := b.srv.ReportExit(b.t.Context(), &rotav1.ReportExitRequest{Name: name, Incarnation: incarnation})
			synctest.Wait()
			return err
		}
		for _, bad := range [][2]string{{"", "x"}, {"w", ""}} {
			if err := report(bad[0], bad[1]); status.Code(err) != codes.InvalidArgument {
				b.t.Errorf("%v: %v", bad, err)
			}
		}
		for _, other := range [][2]string{{"w", "w-0"}, {"gone", "w-1"}} {
			if err := report(other[0], other[1]); err != nil || b.session("w") == nil {
				b.t.Errorf("%v: %v", other, err)
			}
		}
		b.next(faulty.Revoke, faulty.Fault{Refuse: true})
		if err := report("w", "w-1"); status.Code(err) != codes.Unavailable || b.session("w") == nil {
			b.t.Errorf("the store does not answer: %v", err)
		}
		for range 2 {
			if err := report("w", "w-1"); err != nil || b.session("w") != nil {
				b.t.Errorf("%v, %v", err, b.session("w"))
			}
		}
		if r, _ := last(c, (*rotav1.ToWorker).GetRefused); r.GetCode() != rotav1.Refused_CODE_SESSION_LOST || !c.over() {
			b.t.Errorf("it hears %v", r)
		}
	})
}

// deaf is a worker that says hello and renews, and does not read.
type deaf struct {
	up  chan *rotav1.FromWorker
	ctx context.Context
}

func (d deaf) Send(*rotav1.ToWorker) error { <-d.ctx.Done(); return io.EOF }

func (d deaf) Recv() (*rotav1.FromWorker, error) {
	select {
	case m := <-d.up:
		return m, nil
	case <-d.ctx.Done():
		return nil, io.EOF
	}
}

// TestSlowReader: one that does not read is cut off and holds nobody up.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		ctx, cancel := context.WithCancel(context.Background())
		d := deaf{up: make(chan *rotav1.FromWorker), ctx: ctx}
		ended := make(chan error, 1)
		go func() { ended <- b.srv.Serve(ctx, d) }()
		d.up <- hello(info("w"), 0)
		synctest.Wait()
		c, _ := b.join(info("x"), 0)
		for n := range 11_000 {
			b.put(store.Op{Key: store.ClusterKey, Value: encode(b, &storepb.Cluster{Version: 1, Started: n%2 == 0})})
		}
		if err := <-ended; status.Code(err) != codes.ResourceExhausted {
			b.t.Errorf("it ends with %v", err)
		}
		cancel()
		if _, n := last(c, (*rotav1.ToWorker).GetCluster); n < 11_000 {
			b.t.Errorf("the other heard %d of 11000", n)
		}
		if fmt.Sprint(b.srv.Workers()) != "[x]" {
			b.t.Errorf("workers %v", b.srv.Workers())
		}
	})
}

// TestStoreAway: a hello while the store does not answer is to be said again.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	for _, k := range []faulty.Kind{faulty.Get, faulty.Grant, faulty.Txn} {
		for _, f := range []faulty.Fault{{Refuse: true}, {Lose: true}} {
			t.Run(fmt.Sprint(k, f.Lose), func(t *testing.T) {
				t.Parallel()
				bubble(t, sessions.Config{}, func(b *bench) {
					b.next(k, f)
					if r := b.refused(info("w"), 0, rotav1.Refused_CODE_UNAVAILABLE, "injected"); r.GetRetryAfterMs() == 0 {
						b.t.Error("it is not told to try again")
					}
					b.join(info("w"), 0) // whether the first was done or not
				})
			})
		}
	}
}

// TestRemembered: a worker whose tasks are to wait for its return is known from
// its first moment to any later leader; one that asks for nothing leaves no key.
func TestRemembered(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		node := func() (n *storepb.Node) {
			b.v.Read(func() { n = b.v.Nodes["w"] })
			return n
		}
		end := func() {
			b.t.Helper()
			if _, err := b.srv.ReportExit(b.t.Context(), &rotav1.ReportExitRequest{Name: "w", Incarnation: "w-1"}); err != nil {
				b.t.Fatal(err)
			}
			synctest.Wait()
		}
		b.join(info("w"), 0)
		if node() != nil {
			b.t.Errorf("nothing is to be remembered, and %v is", node())
		}
		end()
		graced := info("w")
		graced.RestartGraceMs = 60_000
		for _, was := range []*storepb.Node{
			nil,
			{Version: record.Version, Name: "w", LostUnixMs: 5},
			{Version: record.Version, Name: "w", LostUnixMs: 5, Draining: true, Cordoned: true, Last: &storepb.Session{}},
		} {
			if was != nil {
				b.put(store.Op{Key: store.NodeKey("w"), Value: encode(b, was)})
			}
			b.join(graced, 0)
			n := node()
			if n.GetLast().GetRestartGraceMs() != 60_000 || n.GetLostUnixMs() != 0 || n.GetDraining() != was.GetDraining() || n.GetCordoned() != was.GetCordoned() {
				b.t.Errorf("after %v: %v", was, n)
			}
			end()
		}
		b.join(info("w"), 0) // back without a grace, and still drained
		if n := node(); n.GetLast() != nil || !n.GetDraining() || n.GetLostUnixMs() != 0 {
			b.t.Errorf("of one without a grace: %v", n)
		}
		end()
		b.put(store.Op{Key: store.NodeKey("w"), Value: encode(b, &storepb.Node{Version: record.Version, Name: "w", LostUnixMs: 5})})
		b.join(info("w"), 0)
		if node() != nil {
			b.t.Errorf("it lives, and is remembered as %v", node())
		}
	})
}

// TestOwnWrites: a connection that sees its own writes of its session before it
// hears that they are done does not take them for another's.
func TestOwnWrites(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, w := b.join(info("w"), 0)
		b.declare("w", w.GetSession(), 7, nil, rota.Task{ID: "a"})
		b.mu.Lock()
		b.slow = 10 * time.Millisecond
		b.mu.Unlock()
		before := b.session("w").Mod
		b.next(faulty.Txn, faulty.Fault{Lose: true})
		c.say(acks(ack("a", 7, ownership.Starting))) // its outcome is unknown: the session is written anew
		c.say(acks(ack("a", 7, ownership.Running)))
		time.Sleep(time.Second)
		if b.session("w").Mod == before {
			b.t.Error("nothing was settled")
		}
		if c.over() || b.ack("w", "a").State != ownership.Running {
			b.t.Errorf("after settling: over %v, the store has %v", c.over(), b.ack("w", "a"))
		}
		c.say(leave(false))
		time.Sleep(time.Second)
		if c.over() || !b.session("w").GetLeaving() {
			b.t.Errorf("after leaving: over %v, %v", c.over(), b.session("w"))
		}
		b.mu.Lock()
		b.slow = 0
		b.mu.Unlock()
		// Another connection still ends it.
		b.join(info("w"), w.GetSession())
		time.Sleep(time.Second)
		if !c.over() {
			b.t.Error("it was overtaken and goes on")
		}
	})
}
