package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/offer"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// A function that a worker offers is called through the scheduler's gateway, and
// calls of a task go to the worker that owns it, with its generation.
func TestCallsReachTheWorkersOfTheCluster(t *testing.T) {
	t.Parallel()
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	gw, grpcL := listen(), listen()
	s, err := server.Start(server.Config{
		Scheduler: scheduler.Config{Name: "s", Store: memory.New(), Lease: 5 * time.Second, Debounce: time.Millisecond},
		GRPC:      grpcL, HTTP: listen(), Gateway: []net.Listener{gw},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"w1", "w2"} {
		w, err := worker.New(worker.Config{Name: name, Schedulers: []string{grpcL.Addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := w.HandleFunction("hello", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "hello from "+name) })); err != nil {
			t.Fatal(err)
		}
		if err := w.HandleCalls(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(rw, "%s %s %s", name, r.URL.Path, r.Header.Get("Rota-Generation"))
		})); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				t.Errorf("worker %s: %v", name, err)
			}
		})
	}
	if _, err := s.Service().ApplyTasks(auth.Inside(t.Context()), &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto([]rota.Task{{ID: "feed"}})}); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + gw.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	until := func(path string, right func(int, string) bool) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			status, body := get(path)
			if right(status, body) {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("%s: %d %q", path, status, body)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	until("/run/hello", func(status int, body string) bool { return status == 200 && strings.HasPrefix(body, "hello from w") })
	until("/t/feed/a", func(status int, body string) bool {
		var name, path string
		var generation uint64
		n, _ := fmt.Sscanf(body, "%s %s %d", &name, &path, &generation)
		return status == 200 && n == 3 && path == "/a" && generation > 0
	})
}

// late is a store that cannot be listed before it is let.
type late struct {
	store.Store
	let chan struct{}
}

func (l late) Range(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	select {
	case <-l.let:
		return l.Store.Range(ctx, prefix)
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// Calls that come before the first picture of the cluster is whole wait for it.
func TestCallsWaitForTheFirstPicture(t *testing.T) {
	t.Parallel()
	backend := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "here") }))
	t.Cleanup(backend.Close)
	st := late{memory.New(), make(chan struct{})}
	value, err := record.Encode(&storepb.Session{
		Version: record.Version, Name: "w", Incarnation: "1", Labels: offer.Labels(nil, backend.URL, map[string][]string{"hello": nil}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: store.SessionKey("w"), Value: value}}); err != nil {
		t.Fatal(err)
	}
	var ls []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ls = append(ls, l)
	}
	s, err := server.Start(server.Config{
		Scheduler: scheduler.Config{Name: "s", Store: st}, GRPC: ls[0], HTTP: ls[1], Gateway: ls[2:],
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	answers := make(chan string, 20)
	for range cap(answers) {
		go func() {
			r, err := http.Get("http://" + ls[2].Addr().String() + "/run/hello")
			if err != nil {
				answers <- err.Error()
				return
			}
			body, _ := io.ReadAll(r.Body)
			_ = r.Body.Close()
			answers <- fmt.Sprint(r.StatusCode, " ", string(body))
		}()
	}
	select {
	case a := <-answers:
		t.Fatalf("answered before anything is known: %s", a)
	case <-time.After(200 * time.Millisecond):
	}
	close(st.let)
	for range cap(answers) {
		if a := <-answers; a != "200 here" {
			t.Fatalf("answered %q", a)
		}
	}
}
