package etcd

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rota-project/rota/store"
)

var _ store.Compactor = (*Store)(nil)

// Compact implements store.Compactor. It is of the whole etcd, other roots included.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	_, err := ask(ctx, s, question[struct{}]{route: &s.calls, do: func(ctx context.Context, c *clientv3.Client, _ renewer) (struct{}, error) {
		_, err := c.Compact(ctx, revision)
		return struct{}{}, err
	}})
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) { // somebody was faster
		return wrap(err, "compact up to revision %d", revision)
	}
	return nil
}
