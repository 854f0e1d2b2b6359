package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/worker"
)

// TestCutOff: exclusive tasks end before the lease does, available ones go on,
// and both are said at the next hello.
func TestCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.full = []*rotav1.GrantItem{grant("ex", 1, rota.Exclusive, ""), grant("av", 1, rota.Available, "")}
		var ended time.Time
		w := start(t, f, worker.Config{Exit: func(int) { t.Error("it died") }}, map[string]worker.TaskFunc{
			"k": func(ctx context.Context, a worker.Assigned) error {
				<-ctx.Done()
				if a.ID() == "ex" {
					ended = time.Now()
				}
				return nil
			},
		})
		f.set(func() { f.down = true })
		from := time.Now()
		f.cut()
		pass(10 * ttl)
		if d := ended.Sub(from); d <= 0 || d >= ttl {
			t.Errorf("it stopped after %s of a lease of %s", d, ttl)
		}
		if list := w.Tasks(); len(list) != 1 || list[0].ID() != "av" {
			t.Errorf("still running: %v", list)
		}
		f.set(func() { f.down, f.session = false, 200 })
		pass(5 * time.Second)
		h := f.hellos[1]
		if h.GetSession() != 100 || h.GetLease() != 101 || len(h.GetHeld()) == 0 {
			t.Errorf("the second hello: %v", h)
		}
		f.wants("av", "running")
		f.wants("ex", "running") // granted again by the full list
	})
}

// TestFenced: a function that ignores the end of its context takes the process
// down at the end of the lease, and not before.
func TestFenced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.full = []*rotav1.GrantItem{grant("a", 1, rota.Exclusive, "")}
		free := make(chan struct{})
		var code atomic.Int64
		var died time.Time
		start(t, f, worker.Config{Exit: func(c int) {
			if code.Swap(int64(c)) == 0 {
				died = time.Now()
				close(free)
			}
		}}, map[string]worker.TaskFunc{"k": func(context.Context, worker.Assigned) error {
			<-free
			return nil
		}})
		f.set(func() { f.mute = true }) // a network that swallows everything
		from := time.Now()
		pass(2 * ttl)
		if d := died.Sub(from); code.Load() != worker.ExitFenced || d > ttl || d < ttl/2 {
			t.Errorf("status %d after %s", code.Load(), d)
		}
		f.set(func() { f.mute = false })
	})
}

// TestOutlived: where Exit returns, Run does so, too, says why, and leaves alone what
// does not end.
func TestOutlived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.full = []*rotav1.GrantItem{grant("a", 1, rota.Exclusive, ""), grant("b", 1, rota.Exclusive, "")}
		w, err := worker.New(worker.Config{Name: "w", Connect: f.connect, Exit: func(int) {}})
		if err != nil {
			t.Fatal(err)
		}
		free := make(chan struct{})
		if err := w.HandleTask("k", func(context.Context, worker.Assigned) error {
			<-free
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- w.Run(context.Background()) }()
		synctest.Wait()
		if err := w.Err(); err != nil {
			t.Errorf("while all is well: %v", err)
		}
		f.set(func() { f.mute = true })
		err = <-ended
		if !errors.Is(err, worker.ErrOutlived) || !errors.Is(w.Err(), worker.ErrOutlived) || w.Status() != worker.StatusDead {
			t.Errorf("Run: %v, Err: %v, %s", err, w.Err(), w.Status())
		}
		if err := w.Stop(t.Context()); !errors.Is(err, worker.ErrOutlived) {
			t.Errorf("Stop: %v", err)
		}
		close(free)
		synctest.Wait()
	})
}

// stuckHandler is a log that takes nothing once it is stuck.
type stuckHandler struct {
	slog.Handler
	stuck *atomic.Bool
	letGo chan struct{}
}

func (h stuckHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h stuckHandler) Handle(context.Context, slog.Record) error {
	if h.stuck.Load() {
		<-h.letGo
	}
	return nil
}

func (h stuckHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// TestHungLoop: a worker whose own loop hangs, here in a log line, is ended
// before its lease is over, if it runs something exclusive.
func TestHungLoop(t *testing.T) {
	t.Parallel()
	for mode, dies := range map[rota.Mode]bool{rota.Exclusive: true, rota.Available: false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.full = []*rotav1.GrantItem{grant("a", 1, mode, "")}
			log := stuckHandler{stuck: &atomic.Bool{}, letGo: make(chan struct{})}
			var died, from atomic.Int64
			start(t, f, worker.Config{Logger: slog.New(log), Exit: func(code int) {
				if code == worker.ExitFenced {
					died.Store(time.Now().UnixNano() - from.Load())
				}
			}}, map[string]worker.TaskFunc{"k": wait})
			pass(ttl)
			log.stuck.Store(true)
			from.Store(time.Now().UnixNano())
			f.set(func() { f.mute = true })
			f.cut()
			pass(2 * ttl)
			if d := time.Duration(died.Load()); (d > 0) != dies || d >= ttl {
				t.Errorf("%s: it died after %s", mode, d)
			}
			log.stuck.Store(false)
			close(log.letGo)
			f.set(func() { f.mute = false })
		})
	}
}

func TestSessionLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.full = []*rotav1.GrantItem{grant("ex", 1, rota.Exclusive, ""), grant("av", 1, rota.Available, "")}
		w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": wait})
		f.set(func() { f.session, f.full, f.down = 200, []*rotav1.GrantItem{grant("av", 5, rota.Available, "")}, true })
		f.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Refused{Refused: &rotav1.Refused{Code: rotav1.Refused_CODE_SESSION_LOST}}})
		if list := w.Tasks(); len(list) != 1 || w.Status() != worker.StatusNew {
			t.Errorf("%s with %v", w.Status(), list)
		}
		f.set(func() { f.down = false })
		pass(5 * time.Second)
		if h := f.hellos[len(f.hellos)-1]; h.GetSession() != 0 {
			t.Errorf("it asks for session %d", h.GetSession())
		}
		if a := f.state("av"); a.GetGeneration() != 5 || a.GetState() != "running" || w.Status() != worker.StatusLeftBarrier {
			t.Errorf("%s: %v", w.Status(), a)
		}
		f.wants("ex", "stopped")
	})
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refusal *rotav1.Refused
		want    error
		after   time.Duration
	}{
		"too many":   {&rotav1.Refused{Code: rotav1.Refused_CODE_TOO_MANY_WORKERS, Text: "at most 3"}, rota.ErrTooManyWorkers, 30 * time.Second},
		"invalid":    {&rotav1.Refused{Code: rotav1.Refused_CODE_INVALID, Text: "zone: bad"}, nil, 0},
		"name alive": {&rotav1.Refused{Code: rotav1.Refused_CODE_NAME_ALIVE, Text: "pid 7", RetryAfterMs: 500}, rota.ErrNameAlive, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.refusal = c.refusal
				w, err := worker.New(worker.Config{Name: "w", Connect: f.connect, NameWait: 20 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				if err := w.HandleTask("k", wait); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				err = w.Run(t.Context())
				if err == nil || !strings.Contains(err.Error(), c.refusal.GetText()) || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("it ends with %v", err)
				}
				if d := time.Since(began); d < c.after || d > c.after+2*time.Second {
					t.Errorf("it ends after %s", d)
				}
				if e := w.Stop(t.Context()); !errors.Is(e, err) {
					t.Errorf("Stop says %v", e)
				}
			})
		})
	}
}

// TestRoom: where the cluster has its most workers it waits, says why, and joins when
// there is room; for ever, if it is to.
func TestRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.refusal = &rotav1.Refused{Code: rotav1.Refused_CODE_TOO_MANY_WORKERS, Text: "at most 3", RetryAfterMs: 500}
		w := start(t, f, worker.Config{RoomWait: -1}, map[string]worker.TaskFunc{"k": wait})
		for range 3 {
			pass(time.Hour)
			if err := w.Err(); !errors.Is(err, rota.ErrTooManyWorkers) || w.Status() != worker.StatusNew {
				t.Fatalf("%s: %v", w.Status(), err)
			}
		}
		f.set(func() { f.refusal = nil })
		pass(time.Second)
		if err := w.Err(); err != nil || w.Status() != worker.StatusLeftBarrier {
			t.Errorf("with room: %s, %v", w.Status(), err)
		}
		// Asked to end while it waits, it does so in order.
		f.set(func() { f.refusal, f.down = &rotav1.Refused{Code: rotav1.Refused_CODE_TOO_MANY_WORKERS}, true })
		f.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Refused{Refused: &rotav1.Refused{Code: rotav1.Refused_CODE_SESSION_LOST}}})
		f.set(func() { f.down = false })
		pass(time.Minute)
		if err := w.Err(); !errors.Is(err, rota.ErrTooManyWorkers) {
			t.Errorf("refused again: %v", err)
		}
		if err := w.Stop(t.Context()); err != nil || w.Err() != nil {
			t.Errorf("Stop: %v, %v", err, w.Err())
		}
	})
}

// TestNameFree: it waits for its predecessor, and then joins.
func TestNameFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.refusal = &rotav1.Refused{Code: rotav1.Refused_CODE_NAME_ALIVE, RetryAfterMs: 500}
		w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": wait})
		pass(10 * time.Second)
		if n := len(f.hellos); n < 8 || n > 40 || w.Status() != worker.StatusNew {
			t.Errorf("%d hellos, %s", n, w.Status())
		}
		f.set(func() { f.refusal = nil })
		pass(time.Second)
		if w.Status() != worker.StatusLeftBarrier {
			t.Errorf("status %s", w.Status())
		}
	})
}

// TestSilence: a scheduler that never answers a hello is left for another.
func TestSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.mute = true
		w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": wait})
		pass(10 * time.Second)
		if n := len(f.hellos); n < 3 || n > 6 {
			t.Errorf("%d hellos in 10 s", n)
		}
		f.set(func() { f.mute = false })
		pass(5 * time.Second)
		if w.Status() != worker.StatusLeftBarrier {
			t.Errorf("status %s", w.Status())
		}
		n := len(f.hellos)
		f.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Goodbye{Goodbye: &rotav1.Goodbye{}}})
		pass(time.Second)
		if len(f.hellos) != n+1 || f.hellos[n].GetSession() != f.session {
			t.Errorf("after a goodbye: %d hellos", len(f.hellos)-n)
		}
	})
}
