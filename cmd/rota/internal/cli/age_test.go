package cli_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/cmd/rota/internal/cli"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
)

// TestStale: while a scheduler does not hear of its store, all answers say so, the
// exit status does, and it is not ready; when it hears of it again, that is over.
func TestStale(t *testing.T) {
	t.Parallel()
	under := memory.New()
	defer under.Close()
	st := faulty.New(under, func(faulty.Call) faulty.Fault { return faulty.Fault{} })
	defer st.Close()
	var ls []net.Listener
	for range 2 {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ls = append(ls, l)
	}
	s, err := server.Start(server.Config{Scheduler: scheduler.Config{Name: "s", Store: st, Lease: 2 * time.Second}, GRPC: ls[0], HTTP: ls[1]})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(context.Background()) }()
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (status int, out, errs string) {
		var o, e bytes.Buffer
		status = cli.Run(t.Context(), append([]string{"--server", ls[0].Addr().String()}, args...), cli.Env{Stdout: &o, Stderr: &e})
		return status, o.String(), e.String()
	}
	get := func(path string) (int, http.Header, string) {
		r, err := http.Get("http://" + ls[1].Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		body, _ := io.ReadAll(r.Body)
		return r.StatusCode, r.Header, string(body)
	}
	// until is what the cluster says when it is as it should be.
	until := func(stale bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if _, is := s.Scheduler().Age(); is == stale {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("stale is %v", is)
			}
		}
	}
	check := func(stale bool) {
		t.Helper()
		for _, args := range [][]string{{"status"}, {"task", "list"}, {"worker", "list"}, {"plan"}} {
			status, out, errs := run(args...)
			if want := map[bool]int{true: cli.ExitStale}[stale]; status != want {
				t.Errorf("%v: exit status %d, want %d: %s%s", args, status, want, out, errs)
			}
			if says := strings.Contains(errs, "heard nothing from its store for"); says != stale {
				t.Errorf("%v: standard error is %q", args, errs)
			}
		}
		if _, out, _ := run("status"); strings.Contains(out, "no word from the store since then") != stale || !strings.Contains(out, "as of") {
			t.Errorf("status: %s", out)
		}
		if code, _, body := get("/readyz"); (code != http.StatusOK) != stale {
			t.Errorf("/readyz: %d %s", code, body)
		}
		if _, header, body := get("/v1/status"); (header.Get("Rota-Stale") == "true") != stale || header.Get("Rota-Age-Ms") == "" ||
			strings.Contains(body, `"stale":true`) != stale {
			t.Errorf("/v1/status: %v %s", header, body)
		}
	}
	until(false)
	check(false)
	st.Set(faulty.Down)
	until(true)
	check(true)
	st.Set(faulty.Up)
	until(false)
	check(false)
}
