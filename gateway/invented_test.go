package gateway_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// Names that callers invent share one label and little memory, whether workers answer
// them or not; functions that are listed, or were answered first, keep theirs.
func TestInventedNamesAreBounded(t *testing.T) {
	t.Parallel()
	for how, answer := range map[string]int{"answered": http.StatusOK, "not found": http.StatusNotFound} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			up := backend(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, "/real") {
					w.WriteHeader(answer)
				}
			})
			g, addr := start(t, simple(up))
			get(t, addr, "/run/real")
			size := func() int {
				_, metrics := get(t, addr, "/metrics")
				return len(metrics)
			}
			small := size()
			c := dial(t, addr)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			const names = 2000
			for i := range names {
				_ = c.SetDeadline(time.Now().Add(patience)) // of this call, not of all
				c.send(fmt.Sprintf("GET /run/invented-%s-%d HTTP/1.1\r\nHost: a\r\n\r\n", strings.Repeat("x", i%200), i))
				c.response("GET")
			}
			eventually(t, "all are counted", func() bool { return idle(g) })
			_, metrics := get(t, addr, "/metrics")
			if !strings.Contains(metrics, `rota_gateway_calls_total{class="2xx",function="real"} 1`) {
				t.Error("the one that was answered first has lost its label")
			}
			if n := strings.Count(metrics, "rota_gateway_call_seconds_count"); n > 103 {
				t.Errorf("%d functions have labels", n)
			}
			if n := len(g.Routes()); n > 1001 {
				t.Errorf("%d functions are kept", n)
			}
			counted := 0
			for _, line := range strings.Split(metrics, "\n") {
				if rest, ok := strings.CutPrefix(line, "rota_gateway_call_seconds_count{function="); ok {
					var n int
					_, v, _ := strings.Cut(rest, "} ")
					_, _ = fmt.Sscan(v, &n)
					counted += n
				}
			}
			if counted != names+1 {
				t.Errorf("%d calls are counted, there were %d", counted, names+1)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			t.Logf("metrics %d B, then %d B; heap %d KiB, then %d KiB", small, len(metrics), before.HeapAlloc>>10, after.HeapAlloc>>10)
		})
	}
}

// Counts never go down when a name gets a label, or is forgotten.
func TestCountsOfInventedNamesNeverFall(t *testing.T) {
	t.Parallel()
	var good atomic.Bool
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		if !good.Load() {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	_, addr := start(t, simple(up))
	get(t, addr, "/run/f")
	get(t, addr, "/run/f")
	good.Store(true)
	get(t, addr, "/run/f")
	_, metrics := get(t, addr, "/metrics")
	for _, want := range []string{`rota_gateway_calls_total{class="4xx",function="_other"} 2`, `rota_gateway_calls_total{class="2xx",function="f"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// Functions of routes are known by their names like those that are listed: whatever else
// callers invent, they are guarded, counted and told of.
func TestFunctionsOfRoutesAreNotInvented(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long", 60)
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			cfg := simple(named(t, "a"))
			for _, name := range []string{"routed", long} {
				cfg.Routes = append(cfg.Routes, gateway.Route{Prefix: "/" + name, Function: name, Rules: gateway.Rules{Guard: keyed("", "alice")}})
			}
			g, addr := serve(t, cfg)
			for i := range 1100 {
				if i%2 == 0 && i < 200 { // those of which there are too many, and those that are too long
					get(t, addr, fmt.Sprintf("/run/%s-%d", strings.Repeat("x", 128), i))
				}
				get(t, addr, fmt.Sprintf("/run/invented-%d", i))
			}
			for _, name := range []string{"routed", long} {
				for _, path := range []string{"/run/" + name, "/run/" + name + "/x", "/runLambda/" + name} {
					if status, body := get(t, addr, path); status != http.StatusForbidden {
						t.Errorf("%s: %d %q", path, status, body)
					}
				}
				if status, body := get(t, addr, "/"+name); status != http.StatusUnauthorized {
					t.Errorf("/%s: %d %q", name, status, body)
				}
				if r, ok := g.Route(name); !ok || len(r.Paths) != 1 {
					t.Errorf("%s: %v %q", name, ok, r.Paths)
				}
			}
		})
	}
}
