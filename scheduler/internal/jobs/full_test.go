package jobs_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/jobs"
	"github.com/rota-project/rota/store"
)

// quota is a store that refuses to write while it is full.
type quota struct {
	store.Store
	full atomic.Bool
}

func (q *quota) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	if q.full.Load() {
		return false, 0, store.ErrNoSpace
	}
	return q.Store.Txn(ctx, conds, ops)
}

// TestFullStore: whatever is asked of jobs while the store is full is refused as that,
// and nothing was done.
func TestFullStore(t *testing.T) {
	t.Parallel()
	st := &quota{Store: newStore(t)}
	n := newNode(t, "s", st, jobs.Config{})
	id := n.run(t, command("x")) // waits: no worker takes it
	st.full.Store(true)
	for what, err := range map[string]error{
		"run":  errOf(n.jobs.RunJob(t.Context(), &rotav1.RunJobRequest{Job: command("y")})),
		"stop": errOf(n.jobs.StopJob(t.Context(), &rotav1.StopJobRequest{Id: id})),
	} {
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), "full; nothing was done") {
			t.Errorf("%s: %v", what, err)
		}
	}
	st.full.Store(false)
	if j := n.state(t, id, "queued"); j.GetStopAsked() {
		t.Errorf("it is %v", j)
	}
	n.run(t, command("y"))
}
