package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rota-project/rota/store"
)

// renewStreams is how many streams renewals are spread over. A member answers
// those of one stream one by one; a stream of its own for each renewal, as the
// client's KeepAliveOnce has, costs ten times as much as the renewal.
const renewStreams = 4

// renewals renews leases over streams that stay open.
type renewals struct {
	leases etcdserverpb.LeaseClient
	ctx    context.Context //nolint:containedctx // the streams' own: they outlive calls
	cancel context.CancelFunc
	all    [renewStreams]renewStream
}

// renewStream is one stream. It is opened by the first renewal and, when it has
// broken, by the next one.
type renewStream struct {
	mu      sync.Mutex
	stream  etcdserverpb.Lease_LeaseKeepAliveClient
	cancel  context.CancelFunc
	waiting map[int64][]chan renewed // by lease, in the order of asking
}

type renewed struct {
	ttl int64
	err error
}

func newRenewals(client *clientv3.Client) *renewals {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(client.Ctx()))
	return &renewals{leases: clientv3.RetryLeaseClient(client), ctx: ctx, cancel: cancel}
}

func (r *renewals) close() { r.cancel() }

// errStreamBroken says that a renewal's answer will not come.
var errStreamBroken = errors.New("stream of renewals broken")

// renew answers the lease's new time in seconds.
func (r *renewals) renew(ctx context.Context, id int64) (ttl int64, err error) {
	s := &r.all[uint64(id)%renewStreams]
	answer := make(chan renewed, 1) // whoever gives up waiting is answered all the same
	go s.ask(r, id, answer)         // which may have to wait for a connection
	select {
	case a := <-answer:
		return a.ttl, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// ask sends a renewal and has answer told of what comes of it.
func (s *renewStream) ask(r *renewals, id int64, answer chan renewed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream == nil {
		ctx, cancel := context.WithCancel(r.ctx)
		stream, err := r.leases.LeaseKeepAlive(ctx)
		if err != nil {
			cancel()
			answer <- renewed{err: fmt.Errorf("open a stream of renewals: %w", err)}
			return
		}
		s.stream, s.cancel, s.waiting = stream, cancel, map[int64][]chan renewed{}
		go s.receive(stream)
	}
	s.waiting[id] = append(s.waiting[id], answer)
	if err := s.stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: id}); err != nil {
		s.broken(errStreamBroken)
	}
}

// receive passes answers on until the stream breaks.
func (s *renewStream) receive(stream etcdserverpb.Lease_LeaseKeepAliveClient) {
	for {
		m, err := stream.Recv()
		s.mu.Lock()
		if s.stream != stream {
			s.mu.Unlock()
			return // it was given up
		}
		if err != nil {
			s.broken(fmt.Errorf("%w: %w", errStreamBroken, err))
			s.mu.Unlock()
			return
		}
		if q := s.waiting[m.GetID()]; len(q) > 0 {
			a := renewed{ttl: m.GetTTL()}
			if a.ttl <= 0 {
				a.err = store.ErrLeaseNotFound
			}
			q[0] <- a
			if len(q) == 1 {
				delete(s.waiting, m.GetID())
			} else {
				s.waiting[m.GetID()] = q[1:]
			}
		}
		s.mu.Unlock()
	}
}

// broken gives the stream up; s.mu is held.
func (s *renewStream) broken(err error) {
	s.cancel()
	for _, q := range s.waiting {
		for _, answer := range q {
			answer <- renewed{err: err}
		}
	}
	s.stream, s.cancel, s.waiting = nil, nil, nil
}
