package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rota-project/rota/store"
)

var _ store.Snapshotter = (*Store)(nil)

// Snapshot implements store.Snapshotter, of the whole etcd: other roots are in it, too.
// It is of a member that had heard all that was written before.
func (s *Store) Snapshot(ctx context.Context, to io.Writer) error {
	var errs []error
	for n := range s.members {
		m := s.members[(s.calls.pick(s.members)+n)%len(s.members)]
		client, err := s.current(ctx, m)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.endpoint, err))
			continue
		}
		if err := copySnapshot(ctx, client, to); err != nil {
			return fmt.Errorf("etcd: snapshot of %s: %w", m.endpoint, err)
		}
		return nil
	}
	return fmt.Errorf("%w: %w", store.ErrNoQuorum, errors.Join(errs...))
}

// current is the client of a member that knows all that was written: it takes a quorum
// to know.
func (s *Store) current(ctx context.Context, m *member) (*clientv3.Client, error) {
	client, _, err := m.connection()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err = client.Get(ctx, s.root+store.LeaderKey, clientv3.WithKeysOnly())
	return client, err
}

func copySnapshot(ctx context.Context, client *clientv3.Client, to io.Writer) error {
	r, err := client.Snapshot(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, r)
	return errors.Join(err, r.Close())
}
