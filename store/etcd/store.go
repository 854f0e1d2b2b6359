package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
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
	return fmt.Errorf("etcd: %s: %w", what, cause{err})
}

// cause is an error of etcd's client, without the gRPC status that it may have: that is
// etcd's answer, and is not to be taken for one of the API.
type cause struct{ err error }

func (c cause) Error() string { return c.err.Error() }

// Is implements errors.Is.
func (c cause) Is(target error) bool { return errors.Is(c.err, target) }

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
		resp, err := s.get(ctx, from, opts...)
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

// get reads from a member.
func (s *Store) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return ask(ctx, s, question[*clientv3.GetResponse]{route: &s.calls, do: func(ctx context.Context, c *clientv3.Client, _ renewer) (*clientv3.GetResponse, error) {
		resp, err := c.Get(ctx, key, opts...)
		if err == nil {
			s.hear(resp.Header.Revision)
		}
		return resp, err
	}})
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.KV, bool, int64, error) {
	if key == "" {
		return store.KV{}, false, 0, fmt.Errorf("etcd: get: %w: an empty key", store.ErrInvalid)
	}
	resp, err := s.get(ctx, s.root+key)
	if err != nil {
		return store.KV{}, false, 0, wrap(err, "get %q", key)
	}
	if len(resp.Kvs) == 0 {
		return store.KV{}, false, resp.Header.Revision, nil
	}
	return s.relative(resp.Kvs[0]), true, resp.Header.Revision, nil
}

// Txn implements store.Store. One whose conditions do not hold any more once it is
// done may be asked of several members; others are asked of one only.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	if err := store.CheckTxn(conds, ops); err != nil {
		return false, 0, err
	}
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
	resp, err := ask(ctx, s, question[*clientv3.TxnResponse]{
		route: &s.calls, once: !guarded(conds, ops),
		refused: func(r *clientv3.TxnResponse) bool { return !r.Succeeded },
		do: func(ctx context.Context, c *clientv3.Client, _ renewer) (*clientv3.TxnResponse, error) {
			resp, err := c.Txn(ctx).If(cmps...).Then(then...).Commit()
			if err == nil {
				s.hear(resp.Header.Revision)
			}
			return resp, err
		},
	})
	if err != nil {
		return false, 0, wrap(err, "txn of %d operations", len(ops))
	}
	return resp.Succeeded, resp.Header.Revision, nil
}

// guarded reports whether a transaction can be done once only, however often and
// however late it comes: some condition is of a key that it writes, and what it
// compares never comes back. A modification revision does not. That a key is absent
// may be true again; if the key is bound to a lease it is so when the lease has
// ended, and then the transaction is refused.
func guarded(conds []store.Cond, ops []store.Op) bool {
	for _, c := range conds {
		if c.Final {
			return true
		}
		for _, o := range ops {
			switch {
			case o.Key != c.Key:
			case c.Revision == 0:
				if !o.Delete && o.Lease != 0 {
					return true
				}
			case c.By == store.ByMod || o.Delete:
				return true
			}
		}
	}
	return false
}

// Grant implements store.Store. etcd's leases last whole seconds, and not less
// than some elections. The lease's name is chosen here, so that it is one however
// many members are asked.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, time.Duration, error) {
	seconds := max(int64((ttl+time.Second-1)/time.Second), 1)
	id := rand.Int64N(math.MaxInt64-1) + 1
	ttls, err := ask(ctx, s, question[int64]{route: &s.calls, do: func(ctx context.Context, c *clientv3.Client, _ renewer) (int64, error) {
		resp, err := clientv3.RetryLeaseClient(c).LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{ID: id, TTL: seconds})
		if err == nil {
			return resp.GetTTL(), nil
		}
		if !errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseExist) {
			return 0, rpctypes.Error(err)
		}
		// Another member was late, and has made it all the same.
		have, err := c.TimeToLive(ctx, clientv3.LeaseID(id))
		if err != nil {
			return 0, err
		}
		return have.GrantedTTL, nil
	}})
	if err != nil {
		return 0, 0, wrap(err, "grant a lease of %v", ttl)
	}
	return store.LeaseID(id), time.Duration(ttls) * time.Second, nil
}

// KeepAlive implements store.Store.
func (s *Store) KeepAlive(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	ttl, err := ask(ctx, s, question[int64]{route: &s.renewing, do: func(ctx context.Context, _ *clientv3.Client, r renewer) (int64, error) {
		return r.renew(ctx, int64(id), 2*s.patience)
	}})
	if err != nil {
		return 0, wrap(err, "keep lease %x alive", int64(id))
	}
	return time.Duration(ttl) * time.Second, nil
}

// LeaseLeft implements store.Store. etcd says it in whole seconds.
func (s *Store) LeaseLeft(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	ttl, err := ask(ctx, s, question[int64]{route: &s.calls, do: func(ctx context.Context, c *clientv3.Client, _ renewer) (int64, error) {
		resp, err := c.TimeToLive(ctx, clientv3.LeaseID(id))
		if err != nil {
			return 0, err
		}
		return resp.TTL, nil
	}})
	if err == nil && ttl < 0 {
		err = rpctypes.ErrLeaseNotFound
	}
	if err != nil {
		return 0, wrap(err, "look at lease %x", int64(id))
	}
	return time.Duration(ttl) * time.Second, nil
}

// Revoke implements store.Store.
func (s *Store) Revoke(ctx context.Context, id store.LeaseID) error {
	_, err := ask(ctx, s, question[struct{}]{route: &s.calls, do: func(ctx context.Context, c *clientv3.Client, _ renewer) (struct{}, error) {
		_, err := c.Revoke(ctx, clientv3.LeaseID(id))
		return struct{}{}, err
	}})
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
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
