package worker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/worker"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfig(t *testing.T) {
	t.Parallel()
	ok := worker.Config{Name: "w", Schedulers: []string{"127.0.0.1:1"}}
	for field, change := range map[string]func(*worker.Config){
		"":              func(*worker.Config) {},
		"name":          func(c *worker.Config) { c.Name = "" },
		"schedulers":    func(c *worker.Config) { c.Schedulers = nil },
		"restart_grace": func(c *worker.Config) { c.RestartGrace = -1 },
		"max_tasks":     func(c *worker.Config) { c.MaxTasks = -1 },
		"strength":      func(c *worker.Config) { c.Strength = -1 },
	} {
		c := ok
		change(&c)
		w, err := worker.New(c)
		var fe *rota.FieldError
		switch {
		case field == "" && (err != nil || w.Incarnation() == "" || w.Name() != "w"):
			t.Errorf("a good config: %v", err)
		case field != "" && (!errors.As(err, &fe) || fe.Field != field):
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fresh := func() *worker.Worker {
			w, err := worker.New(worker.Config{Name: "w", Connect: newFake(t).connect})
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		wants := func(err error, text string) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("error %v, want %q", err, text)
			}
		}
		w := fresh()
		wants(w.HandleTask("k", nil), "function")
		if err := w.HandleTask("k", wait); err != nil {
			t.Fatal(err)
		}
		wants(w.HandleTask("k", wait), "kind")
		_, err := w.Watch()
		wants(err, "instead of HandleTask")
		w.Start()
		synctest.Wait()
		wants(w.Run(t.Context()), "before")
		wants(w.HandleTask("l", wait), "after Run")
		if err := w.Stop(t.Context()); err != nil {
			t.Error(err)
		}

		w = fresh()
		if _, err := w.Watch(); err != nil {
			t.Fatal(err)
		}
		_, err = w.Watch()
		wants(err, "once")
		wants(w.HandleTask("k", wait), "beside Watch")

		// One that can do nothing ends, and so does a Stop of it.
		w = fresh()
		wants(w.Run(t.Context()), "kinds")
		wants(w.Stop(t.Context()), "kinds")
		if w.Status() != worker.StatusDead || w.TryLeaveBarrier(time.Hour) {
			t.Errorf("it is %s", w.Status())
		}
	})
}

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

func TestErrorsAreShownAndTriedAgain(t *testing.T) {
	t.Parallel()
	ends := map[string]struct {
		f    worker.TaskFunc
		text string
	}{
		"error":  {func(context.Context, worker.Assigned) error { return errors.New("no luck") }, "no luck"},
		"nil":    {func(context.Context, worker.Assigned) error { return nil }, "returned before its grant ended"},
		"panic":  {func(context.Context, worker.Assigned) error { panic("oh") }, "panic: oh"},
		"goexit": {func(context.Context, worker.Assigned) error { runtime.Goexit(); return nil }, "ended its goroutine"},
		"bytes":  {func(context.Context, worker.Assigned) error { return errors.New("a\xff\xfeb") }, "a\uFFFDb"},
		"long": {func(context.Context, worker.Assigned) error {
			return errors.New("x" + strings.Repeat("é", 5000)) // the cut falls into a rune
		}, "xéé"},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.full = []*rotav1.GrantItem{grant("a", 1, rota.Exclusive, "")}
				var calls []time.Time
				w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": func(ctx context.Context, a worker.Assigned) error {
					calls = append(calls, time.Now())
					if len(calls) == 4 {
						<-ctx.Done()
						return nil
					}
					return end.f(ctx, a)
				}})
				f.wants("a", "backoff")
				if text := f.state("a").GetError(); !strings.Contains(text, end.text) || !utf8.ValidString(text) || len(text) > 3<<10 {
					t.Errorf("error text %q", text)
				}
				rec := httptest.NewRecorder()
				w.ReadyHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody))
				if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "1 of 1") {
					t.Errorf("readiness %d %s", rec.Code, rec.Body)
				}
				pass(time.Minute)
				f.wants("a", "running")
				if a := f.state("a"); a.GetRestarts() != 3 || !strings.Contains(a.GetError(), end.text) {
					t.Errorf("it says %v", a)
				}
				for n := 2; n < len(calls); n++ {
					if calls[n].Sub(calls[n-1]) <= calls[n-1].Sub(calls[n-2]) {
						t.Errorf("pauses do not grow: %v", calls)
					}
				}
			})
		})
	}
}

func TestUnknownKind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		start(t, f, worker.Config{}, map[string]worker.TaskFunc{"other": wait})
		f.grants(give(grant("a", 1, rota.Exclusive, "")))
		f.wants("a", "backoff")
		if text := f.state("a").GetError(); !strings.Contains(text, `"k"`) {
			t.Errorf("error text %q", text)
		}
	})
}

// TestAdopt: a call of an available task goes on under a new grant, unless the
// grant is of something else to run.
func TestAdopt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		var mu sync.Mutex
		var calls []string
		var last worker.Assigned
		start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": func(ctx context.Context, a worker.Assigned) error {
			mu.Lock()
			calls, last = append(calls, string(a.Task.Payload)), a
			mu.Unlock()
			return wait(ctx, a)
		}})
		f.grants(give(grant("a", 1, rota.Available, "one")))
		f.grants(give(grant("b", 1, rota.Exclusive, "b")))
		f.grants(give(grant("a", 2, rota.Available, "one")))
		if a := f.state("a"); a.GetGeneration() != 2 || a.GetState() != "running" {
			t.Errorf("adopted: %v", a)
		}
		f.grants(give(grant("a", 1, rota.Available, "old"))) // of the past
		if fmt.Sprint(calls) != "[one b]" {
			t.Errorf("calls %v", calls)
		}
		f.grants(give(grant("a", 3, rota.Available, "two")))
		if a := f.state("a"); a.GetGeneration() != 3 || a.GetState() != "running" || last.Generation() != 3 {
			t.Errorf("changed: %v", a)
		}
		f.grants(give(grant("b", 4, rota.Exclusive, "b")))
		if fmt.Sprint(calls) != "[one b two b]" || last.Generation() != 4 {
			t.Errorf("calls %v", calls)
		}
	})
}

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

func TestStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.full = []*rotav1.GrantItem{grant("a", 1, rota.Exclusive, "")}
		free := make(chan struct{})
		start(t, f, worker.Config{Exit: func(int) { t.Error("it died") }}, map[string]worker.TaskFunc{
			"k": func(context.Context, worker.Assigned) error { <-free; return nil },
		})
		f.grants(revoke("a", 1))
		f.wants("a", "stopping")
		pass(time.Minute)
		f.wants("a", "stuck")
		close(free)
		synctest.Wait()
		f.wants("a", "stopped")
	})
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
		"too many":   {&rotav1.Refused{Code: rotav1.Refused_CODE_TOO_MANY_WORKERS, Text: "at most 3"}, rota.ErrTooManyWorkers, 0},
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

func TestWatch(t *testing.T) {
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
		w.Start()
		synctest.Wait()
		if !f.hellos[0].GetInfo().GetAnyKind() {
			t.Error("it does not offer every kind")
		}
		f.grants(give(grant("a", 1, rota.Exclusive, "p"), grant("b", 1, rota.Exclusive, "p")))
		for range 2 {
			e := <-events
			if !e.Given || string(e.Task.Payload) != "p" {
				t.Errorf("event %+v", e)
			}
			e.Done() // says nothing of a given one
		}
		f.grants(revoke("a", 1))
		e := <-events
		if e.Given || e.ID() != "a" {
			t.Errorf("event %+v", e)
		}
		synctest.Wait()
		f.wants("a", "stopping")
		e.Done()
		e.Done()
		synctest.Wait()
		f.wants("a", "stopped")
		f.wants("b", "running")
		// Given and taken before the receiver looked: it hears nothing of it.
		f.grants(give(grant("c", 2, rota.Exclusive, "")))
		f.grants(revoke("c", 2))
		f.wants("c", "stopped")
		done := make(chan error, 1)
		go func() { done <- w.Stop(context.Background()) }()
		for e := range events { // closed at the end
			if e.Given || e.ID() != "b" {
				t.Errorf("event %+v", e)
			}
			e.Done()
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.barrier = true
		w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": wait})
		wants := func(query string, code int, text string) {
			t.Helper()
			rec := httptest.NewRecorder()
			w.ReadyHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz"+query, http.NoBody))
			if rec.Code != code || !strings.Contains(rec.Body.String(), text) {
				t.Errorf("%s: %d %s, want %d %s", query, rec.Code, rec.Body, code, text)
			}
		}
		wants("", 503, "in_barrier")
		wants("?scope=galaxy", 400, "scope")
		f.say(clusterState(false, false))
		f.grants(give(grant("a", 1, rota.Exclusive, "")))
		wants("", 200, "1 instances")
		wants("?scope=worker", 200, "")
		wants("?scope=cluster", 503, "not every task")
		f.say(clusterState(false, true))
		wants("?scope=cluster", 200, "")
		f.set(func() { f.down = true })
		f.cut()
		wants("", 200, "") // a short break is none
		pass(2 * ttl)
		wants("", 503, "do not run")
	})
}

func TestLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.full = []*rotav1.GrantItem{grant("a", 1, rota.Exclusive, "")}
		start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": func(ctx context.Context, a worker.Assigned) error {
			a.ReportLoad(3)
			a.ReportLoad(4)
			return wait(ctx, a)
		}})
		pass(10 * time.Second)
		if f.loads["a"] != 4 {
			t.Errorf("loads %v", f.loads)
		}
	})
}
