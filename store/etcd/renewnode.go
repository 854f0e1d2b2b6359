package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/lease"

	"github.com/rota-project/rota/store"
)

// renewPath is where the member that leads is asked on its peer port to renew leases: a
// list of their numbers in JSON is answered by one of their times in seconds, 0 for a
// lease that has ended.
const renewPath = "/rota/renew"

const (
	// renewGather is the part of its patience for which a renewal waits for others that
	// go with it: a hundredth of a lease.
	renewGather = 20
	// renewAtOnce is how many leases one request renews, and renewRequests how many
	// requests are on their way at a time: one of them may wait for a leader that is gone.
	renewAtOnce, renewRequests = 4096, 8
	// renewAgain is the pause before whoever leads is asked again.
	renewAgain = 25 * time.Millisecond
)

// nodeRenewals renews leases at the node of this process, by no connection. While
// another member leads, the node would pass each on by a request of its own, which
// costs a hundred times as much as the renewal: those that are asked for at about the
// same time are sent to the leader together.
type nodeRenewals struct {
	node   *Embedded
	leader *http.Transport // to it; nil if the node is alone
	ctx    context.Context //nolint:containedctx // the requests' own: they outlive the calls that they are for
	cancel context.CancelFunc
	slots  chan struct{} // one for each request that is on its way

	mu      sync.Mutex
	waiting map[int64][]chan renewed // by lease, until the next request
}

func newNodeRenewals(node *Embedded) *nodeRenewals {
	r := &nodeRenewals{node: node, slots: make(chan struct{}, renewRequests), waiting: map[int64][]chan renewed{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if node.quorum != nil {
		r.leader = node.quorum.dial()
		r.leader.DisableKeepAlives, r.leader.MaxIdleConnsPerHost = false, renewRequests
	}
	return r
}

func (r *nodeRenewals) close() {
	r.cancel()
	if r.leader != nil {
		r.leader.CloseIdleConnections()
	}
}

// renew implements renewer. A request to the leader is given up after patience.
func (r *nodeRenewals) renew(ctx context.Context, id int64, patience time.Duration) (int64, error) {
	if s := r.node.etcd.Server; s.Leader() == s.MemberID() {
		ttls, err := renewHere(ctx, s, []int64{id})
		if err != nil {
			return 0, err
		}
		return ttls[0], endedIf(ttls[0] <= 0)
	}
	answer := make(chan renewed, 1) // whoever gives up waiting is answered all the same
	r.mu.Lock()
	if len(r.waiting) == 0 {
		time.AfterFunc(patience/renewGather, func() { r.send(patience) })
	}
	r.waiting[id] = append(r.waiting[id], answer)
	r.mu.Unlock()
	select {
	case a := <-answer:
		return a.ttl, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// send has all that wait renewed.
func (r *nodeRenewals) send(patience time.Duration) {
	r.slots <- struct{}{} // each of them ends after its patience; more join those that wait
	defer func() { <-r.slots }()
	r.mu.Lock()
	waiting := r.waiting
	r.waiting = map[int64][]chan renewed{}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	for ids := range slices.Chunk(slices.Collect(maps.Keys(waiting)), renewAtOnce) {
		ttls, err := r.ask(ctx, ids)
		for n, id := range ids {
			a := renewed{err: err}
			if err == nil {
				a = renewed{ttls[n], endedIf(ttls[n] <= 0)}
			}
			for _, answer := range waiting[id] {
				answer <- a
			}
		}
	}
}

// ask renews leases at whoever leads, until ctx ends.
func (r *nodeRenewals) ask(ctx context.Context, ids []int64) ([]int64, error) {
	s := r.node.etcd.Server
	for {
		var ttls []int64
		err := errors.New("no member leads")
		if leader := s.Leader(); leader == s.MemberID() {
			ttls, err = renewHere(ctx, s, ids)
		} else if m := s.Cluster().Member(leader); m != nil {
			ttls, err = r.askLeader(ctx, addressOf(m), ids)
			var refusal *peerError
			if errors.As(err, &refusal) && refusal.status == http.StatusNotFound {
				ttls, err = renewHere(ctx, s, ids) // the leader's release is earlier than that question: one by one
			}
		}
		if err == nil {
			return ttls, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("renew leases: %w", err)
		case <-time.After(renewAgain):
		}
	}
}

// askLeader has the member at an address renew leases.
func (r *nodeRenewals) askLeader(ctx context.Context, address string, ids []int64) (ttls []int64, err error) {
	body, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	_, text, err := r.node.quorum.callBy(ctx, r.leader, http.MethodPost, address, renewPath, bytes.NewReader(body))
	if err == nil {
		err = json.Unmarshal(text, &ttls)
	}
	if err == nil && len(ttls) != len(ids) {
		err = fmt.Errorf("%d leases of %d in the answer of %s", len(ttls), len(ids), address)
	}
	return ttls, err
}

// answerRenewal renews the leases that another member asks for.
func answerRenewal(s *etcdserver.EtcdServer, w http.ResponseWriter, r *http.Request) {
	var ids, ttls []int64
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPeerAnswer)).Decode(&ids)
	if err != nil {
		http.Error(w, "no leases in it: "+err.Error(), http.StatusBadRequest)
		return
	}
	if s.Leader() != s.MemberID() {
		err = lease.ErrNotPrimary // it would pass them on one by one
	} else {
		ttls, err = renewHere(r.Context(), s, ids)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answerJSON(w, ttls)
}

// renewHere renews leases at a member, which passes them on one by one if it does not
// lead. It answers their times in seconds, 0 for one that has ended.
func renewHere(ctx context.Context, s *etcdserver.EtcdServer, ids []int64) ([]int64, error) {
	ttls := make([]int64, len(ids))
	for n, id := range ids {
		ttl, err := s.LeaseRenew(ctx, lease.LeaseID(id))
		if err != nil && !errors.Is(err, lease.ErrLeaseNotFound) {
			return nil, err
		}
		if err == nil {
			ttls[n] = ttl
		}
	}
	return ttls, nil
}

// endedIf says that a lease has ended, if it has.
func endedIf(ended bool) error {
	if ended {
		return store.ErrLeaseNotFound
	}
	return nil
}
