package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// TestFunctionsAreTold: how the calls of a function go, which worker may get the next one
// and why another may not, and each attempt of calls that failed, but not who called with
// what. A scheduler without a gateway says so.
func TestFunctionsAreTold(t *testing.T) {
	t.Parallel()
	for _, gateway := range []bool{false, true} {
		t.Run(map[bool]string{false: "no gateway", true: "a gateway"}[gateway], func(t *testing.T) {
			t.Parallel()
			gw, g, h := listen(t), listen(t), listen(t)
			cfg := server.Config{Scheduler: scheduler.Config{Name: "s", Store: memory.New(), Debounce: time.Millisecond}, GRPC: g, HTTP: h}
			if gateway {
				cfg.Gateway = []net.Listener{gw}
			}
			s, err := server.Start(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Stop(context.Background()) })
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			ask := func(address, secret string) (int, string) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Cookie", secret)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = resp.Body.Close() }()
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				return resp.StatusCode, string(b)
			}
			conn, err := grpc.NewClient("passthrough:///"+g.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			api := rotav1.NewFunctionsClient(conn)
			if !gateway {
				_, err := api.ListFunctions(t.Context(), &rotav1.ListFunctionsRequest{})
				_, err2 := api.GetFunction(t.Context(), &rotav1.GetFunctionRequest{Name: "hello"})
				if status.Code(err) != codes.FailedPrecondition || status.Code(err2) != codes.FailedPrecondition {
					t.Errorf("%v, %v", err, err2)
				}
				return
			}
			for _, name := range []string{"w1", "w2"} {
				w, err := worker.New(worker.Config{Name: name, Schedulers: []string{g.Addr().String()}})
				if err != nil {
					t.Fatal(err)
				}
				function := map[string]string{"w1": "hello", "w2": "other"}[name]
				if err := w.HandleFunction(function, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if r.URL.RawQuery != "" {
						panic(http.ErrAbortHandler) // it breaks off
					}
				})); err != nil {
					t.Fatal(err)
				}
				w.Start()
				t.Cleanup(func() { _ = w.Stop(context.Background()) })
			}
			settles(t, "calls of both", func() bool {
				one, _ := ask(gw.Addr().String()+"/run/hello", "")
				other, _ := ask(gw.Addr().String()+"/run/other", "")
				return one == http.StatusOK && other == http.StatusOK
			})
			if code, _ := ask(gw.Addr().String()+"/run/hello?key=hidden", "word=hidden"); code < 500 {
				t.Fatalf("a call that breaks off is answered %d", code)
			}
			var f *rotav1.Function
			settles(t, "the failure", func() bool {
				f, err = api.GetFunction(t.Context(), &rotav1.GetFunctionRequest{Name: "hello"})
				if err != nil {
					t.Fatal(err)
				}
				return len(f.GetFailures()) > 0 && f.GetErrors() > 0 && f.GetCalls() > f.GetErrors() && f.GetP99Ms() > 0
			})
			last := f.GetFailures()[0]
			if len(last.GetAttempts()) == 0 || last.GetAttempts()[0].GetWorker() != "w1" || last.GetBlame() != "worker" || last.GetId() == "" || last.GetTime() == nil {
				t.Errorf("%v", last)
			}
			may := map[string]bool{}
			for _, w := range f.GetWorkers() {
				may[w.GetName()] = w.GetMay()
				if !w.GetMay() && w.GetWhy() == "" {
					t.Errorf("%s may not, and nothing says why", w.GetName())
				}
			}
			if len(may) != 2 || may["w2"] {
				t.Errorf("the workers are %v", f.GetWorkers())
			}
			code, body := ask(h.Addr().String()+"/v1/functions/hello", "")
			if code != http.StatusOK || strings.Contains(body, "hidden") {
				t.Errorf("%d %s", code, body)
			}
			if code, body := ask(h.Addr().String()+"/v1/functions", ""); code != http.StatusOK || !strings.Contains(body, `"other"`) || strings.Contains(body, `"may"`) || strings.Contains(body, `"verdict"`) {
				t.Errorf("%d %s", code, body)
			}
			if code, _ := ask(h.Addr().String()+"/v1/functions/nobody", ""); code != http.StatusNotFound {
				t.Errorf("a function that nobody offers: %d", code)
			}
		})
	}
}
