package worker_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/memo"
	"github.com/rota-project/rota/worker"
)

// TestNobodyAccepts: a worker that reaches no scheduler says which, and why in plain words.
func TestNobodyAccepts(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var log memo.Buffer
	w, err := worker.New(worker.Config{Name: "w", Schedulers: []string{nobody}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("feed", func(context.Context, worker.Assigned) error { return nil }); err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() {
		if err := w.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	for !strings.Contains(log.String(), "no scheduler accepts this worker") {
		if t.Context().Err() != nil {
			t.Fatal("it says nothing")
		}
		time.Sleep(10 * time.Millisecond)
	}
	said := log.String()
	if !strings.Contains(said, nobody+": ") || !strings.Contains(said, "refused") || strings.Contains(said, "rpc error") || strings.Contains(said, "code = ") {
		t.Errorf("it says: %s", said)
	}
}
