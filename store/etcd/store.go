package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rota-project/rota/store"
)

// rangeLimit is how many keys are read at a time. Values are pages of some KiB.
const rangeLimit = 500

// rangeTries is how often a listing begins anew because its revision was compacted.
const rangeTries = 3

// typed are the errors by which a caller decides. All of them mean that nothing
// was done.
var typed = []struct{ from, to error }{
	{rpctypes.ErrCompacted, store.ErrCompacted},
	{rpctypes.ErrLeaseNotFound, store.ErrLeaseNotFound},
	{store.ErrLeaseNotFound, store.ErrLeaseNotFound},
	{rpctypes.ErrTooManyOps, store.ErrTooLarge},
	{rpctypes.ErrRequestTooLarge, store.ErrTooLarge},
	{rpctypes.ErrDuplicateKey, store.ErrInvalid},
	{rpctypes.ErrEmptyKey, store.ErrInvalid},
	{rpctypes.ErrNoSpace, store.ErrNoSpace},
}

// wrap says what was being done, and makes errors typed.
func wrap(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	for _, t := range typed {
		if errors.Is(err, t.from) {
			return fmt.Errorf("etcd: %s: %w", what, t.to)
		}
	}
	return fmt.Errorf("etcd: %s: %w", what, err)
}

func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// Range implements store.Store. A long listing is read in parts, all at one
// revision.
func (s *Store) Range(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	var err error
	for range rangeTries {
		var kvs []store.KV
		var revision int64
		if kvs, revision, err = s.list(ctx, s.root+prefix); err == nil {
			return kvs, revision, nil
		}
		if !errors.Is(err, rpctypes.ErrCompacted) {
			break
		}
	}
	return nil, 0, wrap(err, "range %q", prefix)
}

func (s *Store) list(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	end := clientv3.GetPrefixRangeEnd(prefix)
	from := prefix
	if from == "" {
		from, end = "\x00", "\x00" // all keys
	}
	var kvs []store.KV
	var revision int64
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(rangeLimit)}
		if revision != 0 {
			opts = append(opts, clientv3.WithRev(revision))
		}
		call, cancel := s.bound(ctx)
		resp, err := s.client.Get(call, from, opts...)
		cancel()
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
			kvs = make([]store.KV, 0, resp.Count)
		}
		for _, kv := range resp.Kvs {
			kvs = append(kvs, s.relative(kv))
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return kvs, revision, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.KV, bool, int64, error) {
	if key == "" {
		return store.KV{}, false, 0, fmt.Errorf("etcd: get: %w: an empty key", store.ErrInvalid)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	resp, err := s.client.Get(ctx, s.root+key)
	if err != nil {
		return store.KV{}, false, 0, wrap(err, "get %q", key)
	}
	if len(resp.Kvs) == 0 {
		return store.KV{}, false, resp.Header.Revision, nil
	}
	return s.relative(resp.Kvs[0]), true, resp.Header.Revision, nil
}

// Txn implements store.Store.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	if err := store.CheckTxn(conds, ops); err != nil {
		return false, 0, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmps := make([]clientv3.Cmp, len(conds))
	for i, c := range conds {
		if c.By == store.ByCreate {
			cmps[i] = clientv3.Compare(clientv3.CreateRevision(s.root+c.Key), "=", c.Revision)
		} else {
			cmps[i] = clientv3.Compare(clientv3.ModRevision(s.root+c.Key), "=", c.Revision)
		}
	}
	then := make([]clientv3.Op, len(ops))
	for i, o := range ops {
		if o.Delete {
			then[i] = clientv3.OpDelete(s.root + o.Key)
		} else {
			then[i] = clientv3.OpPut(s.root+o.Key, string(o.Value), clientv3.WithLease(clientv3.LeaseID(o.Lease)))
		}
	}
	resp, err := s.client.Txn(ctx).If(cmps...).Then(then...).Commit()
	if err != nil {
		return false, 0, wrap(err, "txn of %d operations", len(ops))
	}
	return resp.Succeeded, resp.Header.Revision, nil
}

// Grant implements store.Store. etcd's leases last whole seconds, and not less
// than some elections.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, time.Duration, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	seconds := max(int64((ttl+time.Second-1)/time.Second), 1)
	resp, err := s.client.Grant(ctx, seconds)
	if err != nil {
		return 0, 0, wrap(err, "grant a lease of %v", ttl)
	}
	return store.LeaseID(resp.ID), time.Duration(resp.TTL) * time.Second, nil
}

// KeepAlive implements store.Store.
func (s *Store) KeepAlive(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	ttl, err := s.renewals.renew(ctx, int64(id))
	if err != nil {
		return 0, wrap(err, "keep lease %x alive", int64(id))
	}
	return time.Duration(ttl) * time.Second, nil
}

// LeaseLeft implements store.Store. etcd says it in whole seconds.
func (s *Store) LeaseLeft(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return 0, wrap(err, "look at lease %x", int64(id))
	}
	if resp.TTL < 0 {
		return 0, wrap(rpctypes.ErrLeaseNotFound, "look at lease %x", int64(id))
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

// Revoke implements store.Store.
func (s *Store) Revoke(ctx context.Context, id store.LeaseID) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if _, err := s.client.Revoke(ctx, clientv3.LeaseID(id)); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return wrap(err, "revoke lease %x", int64(id))
	}
	return nil
}

// relative is kv as it is seen from the root.
func (s *Store) relative(kv *mvccpb.KeyValue) store.KV {
	return store.KV{
		Key: string(kv.Key[len(s.root):]), Value: kv.Value,
		Create: kv.CreateRevision, Mod: kv.ModRevision, Lease: store.LeaseID(kv.Lease),
	}
}
