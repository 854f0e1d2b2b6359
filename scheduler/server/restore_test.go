package server_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/worker"
)

// TestRestoredFences: after a restore every task is granted under a generation that is
// greater than all before, those among them that the backup does not know, and a worker
// that lived on has no session of before.
func TestRestoredFences(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const lease = 2 * time.Second
	begin := func(data string) (*etcd.Embedded, *etcd.Store) {
		t.Helper()
		e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: data, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		s, err := etcd.Open(t.Context(), etcd.Config{Endpoints: e.Endpoints(), Root: "x/", DialTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return e, s
	}
	grpcL := ports.Listen(t)
	at := grpcL.Addr().String()
	e, st := begin(filepath.Join(dir, "before"))
	s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "s", Lease: lease}, GRPC: grpcL, HTTP: listen(t)})
	if err != nil {
		t.Fatal(err)
	}
	var generation atomic.Uint64
	w, err := worker.New(worker.Config{Name: "w", Schedulers: []string{at}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("k", func(ctx context.Context, a worker.Assigned) error {
		if g := uint64(a.Generation()); g > generation.Load() {
			generation.Store(g)
		} else if g < generation.Load() {
			t.Errorf("generation %d after %d", g, generation.Load())
		}
		<-ctx.Done()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() { _ = w.Stop(context.Background()) })
	declare := func(payload string) {
		t.Helper()
		if _, err := s.Service().ApplyTasks(auth.Inside(t.Context()), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "t", Kind: "k", Payload: payload}}}); err != nil {
			t.Fatal(err)
		}
	}
	after := func(g uint64) uint64 {
		t.Helper()
		for began := time.Now(); generation.Load() <= g; time.Sleep(10 * time.Millisecond) {
			if time.Since(began) > 2*time.Minute {
				t.Fatalf("no generation after %d", g)
			}
		}
		return generation.Load()
	}
	declare("first")
	first := after(0)
	var backup bytes.Buffer
	if err := st.Snapshot(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "backup")
	if err := os.WriteFile(file, backup.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	last := first
	for _, payload := range []string{"second", "third", "fourth"} {
		declare(payload)
		last = after(last)
	}
	old := sessionOf(t, st, "w")
	if err := s.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	_ = st.Close()
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}

	data := filepath.Join(dir, "after")
	if err := etcd.Restore(etcd.RestoreConfig{File: file, DataDir: data}, time.Now()); err != nil {
		t.Fatal(err)
	}
	e, st = begin(data)
	defer func() { _ = e.Stop() }()
	defer func() { _ = st.Close() }()
	if err := scheduler.Fence(t.Context(), st, lease); err != nil {
		t.Fatal(err)
	}
	if left := sessionOf(t, st, "w"); left != 0 {
		t.Errorf("session %d is left", left)
	}
	again, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s, err = server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "s", Lease: lease}, GRPC: again, HTTP: listen(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(context.Background()) }()
	next := after(last)
	if now := sessionOf(t, st, "w"); now <= old {
		t.Errorf("session %d after %d", now, old)
	}
	t.Logf("generations %d and %d, after the restore %d", first, last, next)
}

// sessionOf is the revision at which a worker's session began; 0 for none.
func sessionOf(t *testing.T, st store.Store, name string) int64 {
	t.Helper()
	kv, ok, _, err := st.Get(t.Context(), store.SessionKey(name))
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return 0
	}
	return kv.Create
}
