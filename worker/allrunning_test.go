package worker_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/worker"
)

// TestAllRunningIsKnown: that all runs is said only while it is known.
func TestAllRunningIsKnown(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(f *fake){
		"the connection ends": func(f *fake) {
			f.set(func() { f.down = true })
			f.cut()
		},
		"nothing is confirmed": func(f *fake) {
			f.set(func() { f.mute = true })
			pass(ttl/2 + ttl/5)
		},
		"the lease ends": func(f *fake) {
			f.set(func() { f.mute = true })
			pass(2 * ttl)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": wait})
				wants := func(all bool) {
					t.Helper()
					rec := httptest.NewRecorder()
					w.ReadyHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz?scope=cluster", http.NoBody))
					if w.AllRunning() != all || w.TryLeaveBarrier(time.Millisecond) != all || (rec.Code == http.StatusOK) != all {
						t.Errorf("all run: %v, in a millisecond %v, readiness %d %s; want %v",
							w.AllRunning(), w.TryLeaveBarrier(0), rec.Code, rec.Body, all)
					}
				}
				wants(false)
				f.say(clusterState(false, true))
				wants(true)
				pass(10 * ttl)
				wants(true) // renewals confirm it
				lose(f)
				wants(false)
				waited := make(chan bool)
				go func() { waited <- w.TryLeaveBarrier(time.Minute) }()
				f.set(func() { f.mute, f.down = false, false })
				pass(ttl)
				f.say(clusterState(false, true)) // as each scheduler does
				if !<-waited {
					t.Error("who waits is not told that all runs again")
				}
				wants(true)
			})
		})
	}
}
