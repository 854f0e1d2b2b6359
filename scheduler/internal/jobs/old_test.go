package jobs_test

import (
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/scheduler/internal/jobs"
)

// TestOldBackend has the old calls run jobs on a worker of this cluster.
func TestOldBackend(t *testing.T) {
	t.Parallel()
	n := newNode(t, "s", newStore(t), jobs.Config{})
	newHost(t, "w", runner.Config{Allow: runner.Allow{Commands: []runner.Command{{Argv: []string{"echo", "{n:int}"}}, {Argv: []string{"sleep", "{n:int}"}}}}}, nil, n)
	n.state(t, n.run(t, command("echo", "1")), "succeeded") // it takes jobs
	old := n.control.Old()
	if !old.Has("w") || !old.Has(uuid.Of("w")) || old.Has("x") || old.Has("") {
		t.Error("has the wrong workers")
	}
	id, err := old.Start(t.Context(), uuid.Of("w"), "echo", "42")
	if err != nil {
		t.Fatal(err)
	}
	n.state(t, id, "succeeded")
	var out strings.Builder
	if err := old.Stream(t.Context(), "w", id, func(p []byte) error { out.Write(p); return nil }); err != nil || out.String() != "42\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if a, err := old.Query(t.Context(), "w", id); err != nil || !a.Done || a.Error {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := old.Start(t.Context(), "w", "echo", "x"); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("what its template does not take: %v", err)
	}
	if _, err := old.Start(t.Context(), "w", "ls", ""); err == nil {
		t.Error("what it does not list")
	}
	for _, call := range []func(string, string) error{
		func(w, j string) error { return old.Stop(t.Context(), w, j) },
		func(w, j string) error { _, err := old.Query(t.Context(), w, j); return err },
		func(w, j string) error { return old.Stream(t.Context(), w, j, func([]byte) error { return nil }) },
	} {
		if err := call("x", id); err == nil || !strings.Contains(err.Error(), "worker not found") {
			t.Errorf("of no worker: %v", err)
		}
		if err := call("w", "x"); err == nil || !strings.Contains(err.Error(), "job not found") {
			t.Errorf("of no job: %v", err)
		}
	}
	long, err := old.Start(t.Context(), "w", "sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Stop(t.Context(), "w", long); err != nil {
		t.Fatal(err)
	}
	n.state(t, long, "stopped")
	for _, ended := range []string{id, long} {
		if err := old.Stop(t.Context(), "w", ended); err != nil {
			t.Errorf("stop of an ended job: %v", err)
		}
	}
	if a, err := old.Query(t.Context(), "w", long); err != nil || a.ErrorText != "signal: killed" {
		t.Errorf("%+v, %v", a, err)
	}
}
