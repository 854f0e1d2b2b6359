package worker_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/worker"
)

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
		wants("", 503, "lease has ended")
	})
}

// TestReadyWithoutLease: a worker whose lease has ended is not ready, though it has
// nothing that could not run, and is again with the next one.
func TestReadyWithoutLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": wait})
		wants := func(code int) {
			t.Helper()
			rec := httptest.NewRecorder()
			w.ReadyHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody))
			if rec.Code != code {
				t.Errorf("%d %s, want %d", rec.Code, rec.Body, code)
			}
		}
		errIs := func(want error) {
			t.Helper()
			if err := w.Err(); !errors.Is(err, want) {
				t.Errorf("Err: %v, want %v", err, want)
			}
		}
		wants(200)
		errIs(nil)
		f.set(func() { f.down = true })
		f.cut()
		errIs(nil) // a short break is none
		pass(2 * ttl)
		wants(503)
		errIs(worker.ErrLeaseEnded)
		f.set(func() { f.down = false })
		pass(2 * ttl)
		wants(200)
		errIs(nil)
	})
}
