package sessions_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

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
		b.put(store.Op{Key: store.ClusterKey, Value: encode(b, &storepb.Cluster{Version: 1, Started: true})})
		if s, _ := last(c, (*rotav1.ToWorker).GetCluster); s.GetBarrier() {
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
		for code, want := range map[int64]ownership.Exit{0: {Known: true}, 3: {Known: true, Status: 3}, -1: {}, 1 << 40: {}} {
			c.say(acks(&rotav1.Ack{Task: "a", Generation: 10, State: "running", Error: fmt.Sprint("status ", code), Restarts: 2, ExitCode: &code}))
			if a := b.ack("w", "a"); a.Exit != want {
				b.t.Errorf("exit code %d: %+v", code, a)
			}
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
