package worker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/worker"
)

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
