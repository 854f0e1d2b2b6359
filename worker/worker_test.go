package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/worker"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStopBeforeStartAndTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		w, err := worker.New(worker.Config{Name: "w", Connect: f.connect})
		if err != nil {
			t.Fatal(err)
		}
		events, err := w.Watch()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := w.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.Start() // nothing happens
		synctest.Wait()
		if _, open := <-events; open || len(f.hellos) != 0 || w.Status() != worker.StatusDead {
			t.Errorf("it began: %s", w.Status())
		}
	})
}

func TestLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.barrier = true
		f.full = []*rotav1.GrantItem{grant("a", 7, rota.Exclusive, "hi")}
		var got worker.Assigned
		w := start(t, f, worker.Config{Zone: "z", Labels: map[string]string{"l": "v"}, MaxTasks: 9}, map[string]worker.TaskFunc{
			"k": func(ctx context.Context, a worker.Assigned) error {
				got = a
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), worker.ErrRevoked) {
					t.Errorf("ended because %v", context.Cause(ctx))
				}
				return nil
			},
		})
		info := f.hellos[0].GetInfo()
		if info.GetName() != "w" || info.GetZone() != "z" || info.GetLabels()["l"] != "v" || info.GetMaxTasks() != 9 ||
			!slices.Equal(info.GetKinds(), []string{"k"}) || info.GetAnyKind() || info.GetIncarnation() != w.Incarnation() {
			t.Errorf("hello says %v", info)
		}
		f.wants("a", "running")
		if got.ID() != "a" || got.Generation() != 7 || string(got.Task.Payload) != "hi" || got.Instance() != (rota.Instance{Task: "a"}) {
			t.Errorf("it was given %+v", got)
		}
		if w.Status() != worker.StatusInBarrier {
			t.Errorf("status %s", w.Status())
		}
		all := make(chan bool)
		go func() { all <- w.TryLeaveBarrier(time.Minute) }()
		synctest.Wait()
		f.say(clusterState(false, true))
		if !<-all || w.Status() != worker.StatusLeftBarrier || !w.AllRunning() {
			t.Errorf("status %s", w.Status())
		}
		if list := w.Tasks(); len(list) != 1 || list[0].ID() != "a" {
			t.Errorf("tasks %v", list)
		}
		pass(20 * ttl) // renewals keep it
		f.wants("a", "running")
		f.grants(revoke("a", 7))
		f.wants("a", "stopped")
		f.grants(revoke("never", 9))
		f.wants("never", "stopped")
		if err := w.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f.leaves != 1 || f.farewell != 1 || w.Status() != worker.StatusDead {
			t.Errorf("left %d times, farewell %d, %s", f.leaves, f.farewell, w.Status())
		}
	})
}

// TestLeaving: exclusive tasks stop at once, available ones when another has
// them, or when nobody took them for long.
func TestLeaving(t *testing.T) {
	t.Parallel()
	for _, taken := range []bool{true, false} {
		t.Run(fmt.Sprint(taken), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.full = []*rotav1.GrantItem{grant("ex", 1, rota.Exclusive, ""), grant("av", 1, rota.Available, "")}
				w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": wait})
				stopped := make(chan error, 1)
				go func() { stopped <- w.Stop(context.Background()) }()
				synctest.Wait()
				f.wants("ex", "stopped")
				f.wants("av", "running")
				if w.Status() != worker.StatusLeaving || f.leaves != 1 {
					t.Errorf("%s, said %d times", w.Status(), f.leaves)
				}
				f.grants(give(grant("new", 2, rota.Exclusive, "")))
				f.wants("new", "stopped")
				if taken {
					f.grants(revoke("av", 1))
				}
				begun := time.Now()
				if err := <-stopped; err != nil || f.farewell != 1 {
					t.Errorf("%v, farewell %d", err, f.farewell)
				}
				if d := time.Since(begun); taken && d != 0 || !taken && d < time.Second {
					t.Errorf("it took %s", d)
				}
			})
		})
	}
}

// TestLeaveAfter: what else runs under the session keeps it: the farewell waits.
func TestLeaveAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.full = []*rotav1.GrantItem{grant("ex", 1, rota.Exclusive, "")}
		others := make(chan struct{})
		w := start(t, f, worker.Config{LeaveAfter: others}, map[string]worker.TaskFunc{"k": wait})
		stopped := make(chan error, 1)
		go func() { stopped <- w.Stop(context.Background()) }()
		synctest.Wait()
		f.wants("ex", "stopped")
		said := func() (renewals, farewell int) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.renewals, f.farewell
		}
		before, _ := said()
		pass(time.Minute)
		if renewals, farewell := said(); farewell != 0 || renewals-before < 30 {
			t.Errorf("farewell %d, %d renewals in a minute", farewell, renewals-before)
		}
		f.cut() // whoever was told that it leaves may not have written it down
		pass(time.Minute)
		f.set(func() {
			if n := len(f.hellos); n < 2 || f.hellos[0].GetLeaving() || !f.hellos[n-1].GetLeaving() {
				t.Errorf("its hellos: %v", f.hellos)
			}
		})
		close(others)
		err := <-stopped
		if _, farewell := said(); err != nil || farewell != 1 {
			t.Errorf("%v, farewell %d", err, farewell)
		}
	})
}

// TestLeavingEarly: a worker that is asked to end before the answer to its hello
// waits for that, so that no session is left; but not for ever.
func TestLeavingEarly(t *testing.T) {
	t.Parallel()
	for name, answered := range map[string]bool{"answered": true, "never answered": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.mute = true
				w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": wait})
				stopped := make(chan error, 1)
				go func() { stopped <- w.Stop(context.Background()) }()
				pass(time.Second)
				f.set(func() { f.mute = !answered })
				if answered {
					f.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Welcome{Welcome: &rotav1.Welcome{
						Session: 100, Lease: 101, TtlMs: ttl.Milliseconds(), Seq: f.hellos[0].GetSeq(),
					}}})
				}
				began := time.Now()
				if err := <-stopped; err != nil || (f.farewell == 1) != answered || time.Since(began) > 5*time.Second {
					t.Errorf("%v, farewell %d after %v", err, f.farewell, time.Since(began))
				}
			})
		})
	}
}

// TestLeavingAlone: without a scheduler it leaves all the same.
func TestLeavingAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.full = []*rotav1.GrantItem{grant("ex", 1, rota.Exclusive, ""), grant("av", 1, rota.Available, "")}
		w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": wait})
		f.set(func() { f.down = true })
		f.cut()
		if err := w.Stop(t.Context()); err != nil || len(w.Tasks()) != 0 {
			t.Errorf("%v, %v", err, w.Tasks())
		}
	})
}
