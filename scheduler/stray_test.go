package scheduler_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"

	"google.golang.org/protobuf/proto"
)

// scribbles are values that somebody else writes to a key that says that a worker,
// a scheduler or a program lives.
var scribbles = map[string]func(t *testing.T, key string) []byte{
	"garbage": func(*testing.T, string) []byte { return []byte("garbage") },
	"nothing": func(*testing.T, string) []byte { return nil },
	"a later version": func(t *testing.T, _ string) []byte {
		return encoded(t, &storepb.Session{Version: record.Version + 1, Name: "w1"})
	},
	"a session of another process": func(t *testing.T, key string) []byte {
		return encoded(t, &storepb.Session{Version: record.Version, Name: "w1", Incarnation: "other", AnyKind: true})
	},
	"a session with a lease that is none": func(t *testing.T, key string) []byte {
		return encoded(t, &storepb.Session{Version: record.Version, Name: "w1", Incarnation: "other", AnyKind: true, Lease: 4711})
	},
}

func encoded(t *testing.T, m proto.Message) []byte {
	t.Helper()
	value, err := record.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// scribble writes a value without a lease, as somebody who should not.
func scribble(t *testing.T, st store.Store, key string, value []byte) {
	t.Helper()
	if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: key, Value: value}}); err != nil {
		t.Fatal(err)
	}
}

// TestSessionWithoutLease: what somebody else writes to the session's key of a worker,
// without the worker's lease, takes nobody down: the worker goes on with what it runs,
// and when it dies its tasks run elsewhere as soon as they always do. It is the same if
// whoever leads has never seen what was there.
func TestSessionWithoutLease(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second
	for name, value := range scribbles {
		for _, when := range []string{"lives", "is dead", "dies", "dies with all schedulers"} {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					st := memory.New()
					t.Cleanup(func() { st.Close() })
					g := &graced{t: t, store: st, o: newOwners(t), list: tasks(10)}
					s1, _ := g.scheduler("s1")
					g.via.Store(s1)
					_, die := g.worker("w1")
					w2, _ := g.worker("w2")
					if !w2.TryLeaveBarrier(time.Minute) {
						t.Fatal("not all tasks run")
					}
					synctest.Wait()
					ran := g.o.ran
					key := store.SessionKey("w1")
					switch when {
					case "is dead":
						die()
						time.Sleep(lease / 2) // its lease goes on
						scribble(t, st, key, value(t, key))
					case "dies":
						scribble(t, st, key, value(t, key))
						die() // at once: before anybody can have mended it
					case "dies with all schedulers":
						die()
						g.via.Store(nil)
						if err := s1.Stop(t.Context()); err != nil {
							t.Fatal(err)
						}
						scribble(t, st, key, value(t, key))
						if name == "a later version" {
							// Who starts beside schedulers of a later version refuses to.
							return
						}
						s2, _ := g.scheduler("s2")
						g.via.Store(s2)
						time.Sleep(8 * lease) // nobody knows whose it was: six leases, and what follows
					default:
						scribble(t, st, key, value(t, key))
						time.Sleep(lease)
						kv, ok, _, err := st.Get(t.Context(), key)
						if err != nil || !ok || kv.Lease == 0 {
							t.Errorf("the session's key: %v, %v, %v; want it bound to a lease", kv, ok, err)
						}
						if n := g.o.count(); n["w1"] != 5 || n["w2"] != 5 || g.o.ran != ran {
							t.Errorf("%v run, %d were begun anew", n, g.o.ran-ran)
						}
						die()
					}
					time.Sleep(lease + time.Second)
					if n := g.o.count(); n["w2"] != 10 {
						t.Errorf("when w1 has died: %v", n)
					}
					if _, ok, _, err := st.Get(t.Context(), key); ok || err != nil {
						t.Errorf("its session's key is still there: %v", err)
					}
					g.via.Load().View().Read(func() {
						if u := g.via.Load().View().Unread(); len(u) != 0 {
							t.Errorf("set aside for ever: %v", u)
						}
					})
				})
			})
		}
	}
}

// TestSessionReadLater: a leader that could not read a living worker's session when it
// took office, and can later, gives that worker tasks as any other.
func TestSessionReadLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		g := &graced{t: t, store: st, o: newOwners(t), list: tasks(10)}
		s1, _ := g.scheduler("s1")
		g.via.Store(s1)
		_, die := g.worker("w2")
		g.worker("w1")
		time.Sleep(time.Second)
		g.via.Store(nil)
		if err := s1.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		kv, _, _, err := st.Get(t.Context(), store.SessionKey("w1"))
		if err != nil {
			t.Fatal(err)
		}
		write := func(value []byte) {
			t.Helper()
			if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: kv.Key, Value: value, Lease: kv.Lease}}); err != nil {
				t.Fatal(err)
			}
		}
		write([]byte("garbage"))
		s2, _ := g.scheduler("s2")
		time.Sleep(time.Second)
		write(kv.Value) // as another scheduler does that knows what was there
		time.Sleep(100 * time.Millisecond)
		g.via.Store(s2)
		die()
		time.Sleep(15 * time.Second)
		if n := g.o.count(); n["w1"] != 10 {
			t.Errorf("when the other is dead: %v", n)
		}
	})
}

// TestInventedWithoutLease: keys of workers, schedulers and programs that never were are
// told, hold up nobody, and go, so that the names can be had.
func TestInventedWithoutLease(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		g := &graced{t: t, store: st, o: newOwners(t), list: tasks(4)}
		s1, _ := g.scheduler("s1")
		g.via.Store(s1)
		api := s1.Service("")
		t.Cleanup(api.Close)
		g.worker("w1")
		time.Sleep(time.Second)
		keys := []string{
			store.SessionKey("w2"), store.SchedulerKey("s2"), store.ProgramKey("p"), store.JobWorkerKey("w2"), store.JobWorkerKey("w1"),
		}
		for _, key := range keys {
			scribble(t, st, key, []byte("garbage"))
		}
		scribble(t, st, store.SchedulerKey("s1"), encoded(t, &storepb.Scheduler{Version: record.Version, Name: "s1", Grpc: "elsewhere"}))
		synctest.Wait()
		if s, err := api.GetStatus(t.Context(), &rotav1.GetStatusRequest{}); err != nil || len(s.GetUnread()) == 0 {
			t.Errorf("status %v, %v: does not tell", s, err)
		}
		g.worker("w2") // its name is taken for a while
		time.Sleep(9 * lease)
		for _, key := range keys {
			kv, ok, _, err := st.Get(context.Background(), key)
			if err != nil || ok && key != store.SessionKey("w2") {
				t.Errorf("%s is still there: %v %v", key, kv, err)
			}
		}
		s, err := api.GetStatus(t.Context(), &rotav1.GetStatusRequest{})
		if err != nil || len(s.GetUnread()) != 0 || s.GetLeader() != "s1" || len(s.GetSchedulers()) != 1 || s.GetSchedulers()[0].GetGrpc() == "elsewhere" {
			t.Errorf("status %v, %v", s, err)
		}
		if n := g.o.count(); n["w1"] != 2 || n["w2"] != 2 {
			t.Errorf("%v run; want both workers to", n)
		}
	})
}

// TestOwnKeyDeleted: a scheduler whose key somebody deletes writes it again.
func TestOwnKeyDeleted(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		g := &graced{t: t, store: st, o: newOwners(t), list: tasks(4)}
		s1, _ := g.scheduler("s1")
		g.scheduler("s2")
		time.Sleep(time.Second)
		for _, name := range []string{"s1", "s2"} { // who leads, and who does not
			if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: store.SchedulerKey(name), Delete: true}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(lease)
		for _, name := range []string{"s1", "s2"} {
			kv, ok, _, err := st.Get(t.Context(), store.SchedulerKey(name))
			if err != nil || !ok || kv.Lease == 0 {
				t.Errorf("%s: %v, %v, %v; want its key with a lease", name, kv, ok, err)
			}
		}
		api := s1.Service("")
		t.Cleanup(api.Close)
		if s, err := api.GetStatus(t.Context(), &rotav1.GetStatusRequest{}); err != nil || len(s.GetSchedulers()) != 2 {
			t.Errorf("status %v, %v; want two schedulers", s, err)
		}
	})
}
