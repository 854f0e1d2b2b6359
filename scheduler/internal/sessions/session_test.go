package sessions_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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
		// It says so at once: before what has stopped meanwhile is written down, which is
		// no reason to give it to another.
		again := hello(info("x"), b.session("x").ID)
		again.GetHello().Leaving = true
		c = b.dial()
		c.say(again)
		if w, _ := last(c, (*rotav1.ToWorker).GetWelcome); w == nil || !b.session("x").GetLeaving() {
			b.t.Errorf("welcome %v, leaving %v", w, b.session("x").GetLeaving())
		}
	})
}

func TestReportExit(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, _ := b.join(info("w"), 0)
		report := func(name, incarnation string) error {
			_, err := b.srv.ReportExit(auth.Inside(b.t.Context()), &rotav1.ReportExitRequest{Name: name, Incarnation: incarnation})
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
		if _, _, err := b.und.Txn(b.t.Context(), nil, []store.Op{{Key: store.SessionKey("x"), Value: []byte("garbage")}}); err != nil {
			b.t.Fatal(err)
		}
		if err := report("x", "x-1"); status.Code(err) != codes.Internal {
			b.t.Errorf("a session that cannot be read: %v", err)
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
			if _, err := b.srv.ReportExit(auth.Inside(b.t.Context()), &rotav1.ReportExitRequest{Name: "w", Incarnation: "w-1"}); err != nil {
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

// TestSessionOfSomebodyElse: a value that somebody else wrote to a session's key never
// has a worker told that its lease has ended: it would let go of all that it runs, and
// be given it again under the same generations.
func TestSessionOfSomebodyElse(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]*storepb.Session{
		"no lease named":  {Version: record.Version, Name: "w", Incarnation: "w-1"},
		"a lease named":   {Version: record.Version, Name: "w", Incarnation: "w-1", Lease: 4711},
		"another process": {Version: record.Version, Name: "w", Incarnation: "other"},
		"nobody":          {Version: record.Version},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, sessions.Config{}, func(b *bench) {
				_, w := b.join(info("w"), 0)
				b.put(store.Op{Key: store.SessionKey("w"), Value: encode(b, value)})
				_, again := b.join(info("w"), w.GetSession())
				if again.GetSession() != w.GetSession() {
					b.t.Errorf("session %d after %d", again.GetSession(), w.GetSession())
				}
			})
		})
	}
}
