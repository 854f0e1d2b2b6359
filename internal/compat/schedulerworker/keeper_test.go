package schedulerworker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/test/ports"
)

// keeper is what registries share, in memory.
type keeper struct {
	mu      sync.Mutex
	kept    map[string]OldWorker
	decides bool
	fail    error
}

func (k *keeper) Keep(_ context.Context, w OldWorker) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail == nil {
		k.kept[w.ID] = w
	}
	return k.fail
}

func (k *keeper) Forget(_ context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail == nil {
		delete(k.kept, id)
	}
	return k.fail
}

func (k *keeper) Decides(string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.decides
}

func (k *keeper) set(decides bool, fail error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.decides, k.fail = decides, fail
}

func (k *keeper) len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.kept)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-t.Context().Done():
			t.Fatal(what)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestKeeper wants old workers to be kept: a scheduler that starts again has
// them, another may drive them, and one that is gone is forgotten by whom it is
// for, once.
func TestKeeper(t *testing.T) {
	t.Parallel()
	k := &keeper{kept: map[string]OldWorker{}, decides: true}
	start := func() (*Registry, *grpc.ClientConn) {
		r, srv, l := NewRegistry(RegistryConfig{Keeper: k}), grpc.NewServer(), listen(t)
		jobschedulerv1.RegisterSchedulerServer(srv, r)
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() {
			srv.Stop()
			r.Close()
		})
		return r, oldDial(t, l.Addr().String())
	}
	first, conn := start()
	l := ports.Listen(t)
	worker := oldWorkerServer(t, l)
	register := func() (string, error) {
		res, err := oldCall(t.Context(), conn, "Scheduler", "RegisterWorker", map[string]any{"address": l.Addr().String()})
		return field(res, "workerID").(string), err
	}
	k.set(true, errors.New("the store is away"))
	if _, err := register(); err == nil || len(first.List()) != 0 {
		t.Errorf("registered what is not kept: %v", err)
	}
	k.set(true, nil)
	id, err := register()
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if k.len() != 1 {
		t.Fatal("forgotten with the scheduler")
	}

	// Two start, and hear of it from the keeper.
	second, conn := start()
	third, _ := start()
	for _, r := range []*Registry{second, third} {
		for range 2 {
			if err := r.Add(k.kept[id]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Start(t.Context(), id, "bash", "count.sh"); err != nil {
			t.Error(err)
		}
	}

	// It dies. As long as another decides it stays listed; then it goes.
	k.set(false, nil)
	worker.Stop()
	if _, err := second.Query(t.Context(), id, "x"); err == nil {
		t.Error("a dead worker answers")
	}
	if k.len() != 1 || !second.Has(id) {
		t.Error("forgotten by one that does not decide")
	}
	k.set(true, nil)
	until(t, "a dead worker stays listed", func() bool { return !second.Has(id) && !third.Has(id) && k.len() == 0 })

	// It comes back to its address, under its id, and leaves.
	back, err := net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	oldWorkerServer(t, back)
	if again, err := register(); err != nil || again != id {
		t.Errorf("came back as %s, was %s: %v", again, id, err)
	}
	k.set(true, errors.New("the store is away"))
	if _, err := oldCall(t.Context(), conn, "Scheduler", "DeregisterWorker", map[string]any{"workerID": id}); err == nil {
		t.Error("left, and is still kept")
	}
	k.set(true, nil)
	third.Remove(id)
	third.Remove(id)
}

// hasty is a keeper that has a worker removed before it answers that it is forgotten, as
// a store does whose watch is quicker than its answer.
type hasty struct {
	keeper
	r *Registry
}

func (h *hasty) Forget(ctx context.Context, id string) error {
	h.r.Remove(id)
	_ = h.keeper.Forget(ctx, id)
	return ctx.Err()
}

// TestForgottenBeforeTheAnswer wants nobody to be told that a worker could not be
// forgotten that was.
func TestForgottenBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	var said strings.Builder // Close orders it
	h := &hasty{keeper: keeper{kept: map[string]OldWorker{}, decides: true}}
	h.r = NewRegistry(RegistryConfig{Keeper: h, Log: slog.New(slog.NewTextHandler(&said, nil))})
	l := ports.Listen(t)
	worker := oldWorkerServer(t, l)
	res, err := h.r.RegisterWorker(t.Context(), &jobschedulerv1.RegisterReq{Address: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.r.Start(t.Context(), res.GetWorkerID(), "bash", "count.sh"); err != nil {
		t.Fatal(err)
	}
	worker.Stop()
	until(t, "a dead worker stays kept", func() bool { return h.len() == 0 })
	h.r.wg.Wait()
	if said := said.String(); strings.Contains(said, "cannot be forgotten") || !strings.Contains(said, "old worker is gone") {
		t.Errorf("the log says %s", said)
	}
	h.r.Close()
}
