package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// renewStreams is how many streams renewals are spread over. A member answers
// those of one stream one by one; a stream of its own for each renewal, as the
// client's KeepAliveOnce has, costs ten times as much as the renewal.
const renewStreams = 4

// renewer renews leases at one member.
type renewer interface {
	// renew answers the lease's new time in seconds. What answers nobody for patience
	// is given up: its member may have asked a leader that is gone, and answers nobody
	// else meanwhile.
	renew(ctx context.Context, id int64, patience time.Duration) (ttl int64, err error)
	close()
}

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
	spoke   time.Time                // when it was opened, or answered last
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

// renew implements renewer.
func (r *renewals) renew(ctx context.Context, id int64, patience time.Duration) (ttl int64, err error) {
	s := &r.all[uint64(id)%renewStreams]
	answer := make(chan renewed, 1) // whoever gives up waiting is answered all the same
	go s.ask(r, id, answer)         // which may have to wait for a connection
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case a := <-answer:
			return a.ttl, a.err
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-late.C:
			late.Reset(s.giveUp(patience))
		}
	}
}

// giveUp gives the stream up if it has answered nobody for patience, and says when
// to look again.
func (s *renewStream) giveUp(patience time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	quiet := time.Since(s.spoke)
	if s.stream != nil && quiet >= patience {
		s.broken(fmt.Errorf("%w: no answer for %v", errStreamBroken, quiet.Round(time.Millisecond)))
		return patience
	}
	return max(patience-quiet, time.Millisecond)
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
		s.stream, s.cancel, s.waiting, s.spoke = stream, cancel, map[int64][]chan renewed{}, time.Now()
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
		s.spoke = time.Now()
		if q := s.waiting[m.GetID()]; len(q) > 0 {
			q[0] <- renewed{m.GetTTL(), endedIf(m.GetTTL() <= 0)}
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
