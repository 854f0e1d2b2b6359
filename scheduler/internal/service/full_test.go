package service

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// full is a store that takes a number of transactions.
type full struct {
	*memory.Store
	left int
}

func (f *full) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	if f.left--; f.left < 0 {
		return false, 0, fmt.Errorf("etcd: txn: %w", store.ErrNoSpace)
	}
	return f.Store.Txn(ctx, conds, ops)
}

// TestFull: a store that is full refuses a write, and the answer says whether nothing
// was done or a part.
func TestFull(t *testing.T) {
	t.Parallel()
	for left, want := range []string{
		"the store is full; nothing was done (docs/etcd.md says how to make room)",
		"the store is full; the request was done in part: repeat it when there is room (docs/etcd.md)",
	} {
		st := &full{Store: memory.New(), left: 2 * left} // the fence is one
		defer st.Close()
		s := &Service{cfg: Config{Store: st, View: view.New(st, nil)}, fence: &commit.Fence{Store: st, Key: "fence"}}
		var units []table.Unit
		for n := range 2 * store.MaxTxnOps {
			units = append(units, table.Unit{Ops: []store.Op{{Key: fmt.Sprintf("nodes/%d", n), Delete: true}}})
		}
		err := s.again(t.Context(), func() (bool, error) { return s.write(t.Context(), units) })
		if status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != want {
			t.Errorf("after %d transactions: %v, want %s", left, err, want)
		}
	}
}
