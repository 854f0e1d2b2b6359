package sessions_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// TestBuried: the session of a worker that is not heard of any more ends when the
// worker cannot trust its lease any more, though the store lets the lease live on;
// that of a worker that may go on elsewhere does not.
func TestBuried(t *testing.T) {
	t.Parallel()
	const lease, renewedAt, keptAt = 5 * time.Second, 2200 * time.Millisecond, 4200 * time.Millisecond
	for name, c := range map[string]struct {
		silent bool           // says nothing after its welcome
		before func(b *bench) // when the connection has ended
		endsAt time.Duration  // from the start on
	}{
		"gone":        {endsAt: renewedAt + lease},
		"never spoke": {silent: true, endsAt: keptAt + lease},
		"the store was away": {before: func(b *bench) {
			b.st.Set(faulty.Down)
			time.AfterFunc(3900*time.Millisecond, func() { b.st.Set(faulty.Up) })
		}, endsAt: keptAt + lease},
		"resumed": {before: func(b *bench) { b.join(info("w"), b.session("w").ID) }, endsAt: keptAt + lease},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, sessions.Config{}, func(b *bench) {
				start := time.Now()
				k, w := b.join(info("w"), 0)
				time.Sleep(renewedAt)
				if !c.silent {
					k.say(renew(2))
				}
				time.Sleep(time.Second)
				k.stop()
				if synctest.Wait(); c.before != nil {
					c.before(b)
				}
				time.Sleep(time.Second)
				// As etcd does for all when another member is elected.
				if _, err := b.und.KeepAlive(b.t.Context(), store.LeaseID(w.GetLease())); err != nil {
					b.t.Fatal(err)
				}
				time.Sleep(time.Until(start.Add(c.endsAt - 100*time.Millisecond)))
				if synctest.Wait(); b.session("w") == nil {
					b.t.Error("it ends too early")
				}
				time.Sleep(200 * time.Millisecond)
				if synctest.Wait(); b.session("w") != nil {
					b.t.Error("it goes on")
				}
			})
		})
	}
}

// TestBuriedTakesNoJobs: when a session has ended so, its worker is not announced as one
// that takes jobs any more, whatever becomes of its lease: the same process may be back
// with another session, and run what nobody counts.
func TestBuriedTakesNoJobs(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		k, w := b.join(info("w"), 0)
		k.say(renew(2))
		b.put(store.Op{
			Key: store.JobWorkerKey("w"), Lease: store.LeaseID(w.GetLease()),
			Value: encode(b, &storepb.JobWorker{Version: record.Version, Name: "w", Incarnation: "w-1"}),
		})
		k.stop()
		time.Sleep(time.Second)
		b.next(faulty.Revoke, faulty.Fault{Refuse: true})
		if _, err := b.und.KeepAlive(b.t.Context(), store.LeaseID(w.GetLease())); err != nil {
			b.t.Fatal(err)
		}
		time.Sleep(4500 * time.Millisecond)
		if synctest.Wait(); b.session("w") != nil {
			b.t.Fatal("the session goes on")
		}
		if _, ok, _, err := b.und.Get(b.t.Context(), store.JobWorkerKey("w")); ok || err != nil {
			b.t.Errorf("announced still: %v, %v", ok, err)
		}
	})
}

// TestHeldAboveTheStore: what a worker holds is proof that the store went back, and
// it is not let in.
func TestHeldAboveTheStore(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		b.put(store.Op{Key: "a"}, store.Op{Key: "b"})
		at := uint64(b.und.Revision())
		for _, gen := range []uint64{at + 2, 1 << 63} {
			c := b.dial()
			c.say(hello(info("w"), 0, ack("t", gen, ownership.Running)))
			r, _ := last(c, (*rotav1.ToWorker).GetRefused)
			if r.GetCode() != rotav1.Refused_CODE_UNAVAILABLE || !strings.Contains(r.GetText(), "--bump-revision") || b.session("w") != nil {
				b.t.Errorf("generation %d at revision %d: %v", gen, at, r)
			}
		}
		b.join(info("w"), 0, ack("t", at+1, ownership.Running))
	})
}
