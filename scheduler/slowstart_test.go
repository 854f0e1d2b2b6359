package scheduler_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// TestSlowStart: a worker that joins gets its share step by step, one that was
// there gets no less than its own, and one that is back within its grace has
// its tasks at once.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		o := newOwners(t)
		list := tasks(120)
		sc := newScheduler(t, "s1", st, scheduler.Config{
			SlowStart: 50 * time.Second, BarrierWorkers: 2, BarrierWait: time.Minute, Interval: time.Hour,
			Sources: []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) { return list, nil })},
		})
		var cut atomic.Bool
		var line atomic.Value
		w0 := newWorker(t, "w0", o, worker.Config{
			RestartGrace: 30 * time.Second,
			Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
				if cut.Load() {
					return nil, errors.New("cut off")
				}
				ctx, cancel := context.WithCancel(ctx)
				line.Store(cancel)
				return sc.Sessions().Dial(ctx), nil
			},
		})
		newWorker(t, "w1", o, worker.Config{}, sc)
		if !w0.TryLeaveBarrier(time.Minute) {
			t.Fatal("not all tasks run")
		}
		time.Sleep(100 * time.Second)
		if n := o.count(); n["w0"] != 60 || n["w1"] != 60 {
			t.Fatalf("at first: %v", n)
		}

		newWorker(t, "w2", o, worker.Config{}, sc)
		var shares []int
		for range 200 {
			time.Sleep(time.Second)
			if n := o.count()["w2"]; len(shares) == 0 || n != shares[len(shares)-1] {
				shares = append(shares, n)
			}
		}
		// A fifth of the strength beside two whole ones, and so on.
		want := []float64{120 * .2 / 2.2, 120 * .4 / 2.4, 120 * .6 / 2.6, 120 * .8 / 2.8, 40}
		if len(shares) != len(want) {
			t.Fatalf("it had %v, want about %v", shares, want)
		}
		for k, n := range shares {
			if d := float64(n) - want[k]; d > 1 || d < -1 {
				t.Errorf("it had %v, want about %v", shares, want)
			}
		}

		// w0 is cut off for longer than its lease, and back within its grace.
		cut.Store(true)
		line.Load().(context.CancelFunc)()
		time.Sleep(10 * time.Second)
		if n := o.count(); n["w0"] != 0 || n["w1"]+n["w2"] != 80 {
			t.Fatalf("cut off: %v", n)
		}
		cut.Store(false)
		for range 100 {
			time.Sleep(time.Second)
			if n := o.count(); n["w1"] != 40 || n["w2"] != 40 {
				t.Fatalf("its tasks went elsewhere: %v", n)
			}
		}
		if n := o.count(); n["w0"] != 40 {
			t.Errorf("back again: %v", n)
		}
	})
}
