package sessions_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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
		go func() { ended <- b.srv.Serve(auth.Inside(ctx), d) }()
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
