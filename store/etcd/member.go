package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// member is one endpoint, with a connection of its own: a client of all of them
// spreads its calls, and a member that is ill then gets a share of each purpose.
type member struct {
	endpoint string
	config   clientv3.Config
	node     *Embedded // whose endpoint it is; nil if that is in another process

	mu       sync.Mutex
	client   *clientv3.Client // made when it is needed: with a user it takes an answer
	renewals renewer
	borrowed bool // the client is somebody else's to close
	closed   bool

	// ill is whether it was late or failed when it was last asked for something.
	ill atomic.Bool
}

func newMember(cc clientv3.Config, endpoint string) *member {
	cc.Endpoints = []string{endpoint}
	return &member{endpoint: endpoint, config: cc}
}

// endpoints are those that it stands for: its own, or all of a client of somebody else's.
func (m *member) endpoints() []string {
	if m.borrowed {
		return m.client.Endpoints()
	}
	return []string{m.endpoint}
}

// borrow is all members as a client of somebody else's has them.
func borrow(client *clientv3.Client) *member {
	return &member{endpoint: strings.Join(client.Endpoints(), ", "), client: client, renewals: newRenewals(client), borrowed: true}
}

// errClosed says that the store was closed.
var errClosed = errors.New("the store is closed")

// connection is the member's client, and what renews leases there.
func (m *member) connection() (*clientv3.Client, renewer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil, errClosed
	}
	if m.client == nil {
		client, err := clientv3.New(m.config)
		if err != nil {
			return nil, nil, err
		}
		if m.client = client; m.node != nil {
			m.renewals = newNodeRenewals(m.node)
		} else {
			m.renewals = newRenewals(client)
		}
	}
	return m.client, m.renewals, nil
}

func (m *member) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.client == nil {
		return nil
	}
	m.renewals.close()
	if m.borrowed {
		return nil
	}
	if err := m.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("etcd: close %s: %w", m.endpoint, err)
	}
	return nil
}

// route says which member serves one purpose: one at a time, and another after it
// was late or failed, for this purpose or for another.
type route struct {
	mu sync.Mutex
	at int // an index of members
}

// pick is the member to ask first: the one of before, while it is well.
func (r *route) pick(members []*member) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range members {
		if at := (r.at + n) % len(members); !members[at].ill.Load() {
			r.at = at
			return at
		}
	}
	return r.at
}

// leave goes on to another member, unless somebody else has.
func (r *route) leave(at int, members []*member) {
	members[at].ill.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == at {
		r.at = (at + 1) % len(members)
	}
}

// question is how a call is asked of members.
type question[T any] struct {
	route *route
	// once has it asked of one member only: done twice, it would not be the same.
	once bool
	// refused reports whether an answer could be that of a call which the same call
	// at another member was faster than. Nil is never.
	refused func(T) bool
	do      func(context.Context, *clientv3.Client, renewer) (T, error)
}

type answer[T any] struct {
	value   T
	err     error
	attempt int
}

// ask asks the member of the route, and the next one, too, whenever that fails or
// is late by the store's patience: what a member has passed on to a leader that is
// gone gets no answer there. The first good answer counts. An error says of each
// attempt what came of it.
func ask[T any](ctx context.Context, s *Store, q question[T]) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel() // whoever is still at it, is so for nothing
	ctx = clientv3.WithRequireLeader(ctx)
	first := q.route.pick(s.members)
	answers := make(chan answer[T], maxAttempts)
	asked, failed := 0, 0
	waiting := map[int]bool{} // attempts
	at := func(attempt int) int { return (first + attempt) % len(s.members) }
	next := func() {
		attempt := asked
		asked++
		waiting[attempt] = true
		go func() {
			a := answer[T]{attempt: attempt}
			client, renewals, err := s.members[at(attempt)].connection()
			if err == nil {
				a.value, err = q.do(ctx, client, renewals)
			}
			a.err = err
			answers <- a
		}()
	}
	more := func() bool {
		return !q.once && asked < maxAttempts && (len(s.members) > 1 || s.again) && ctx.Err() == nil
	}
	var zero T
	var refusal *T
	var errs []error
	unknown := false // some member may have done it, and has not said so
	late := time.NewTimer(s.patience)
	defer late.Stop()
	next()
	for len(waiting) > 0 {
		select {
		case a := <-answers:
			delete(waiting, a.attempt)
			m := s.members[at(a.attempt)]
			if a.err == nil {
				m.ill.Store(false)
			}
			switch {
			case a.err == nil && q.refused != nil && q.refused(a.value):
				refusal = &a.value
				late.Reset(s.patience)
			case a.err == nil:
				return a.value, nil
			case !unsettled(a.err):
				return zero, a.err
			default:
				q.route.leave(at(a.attempt), s.members)
				errs = append(errs, fmt.Errorf("%s: %w", m.endpoint, a.err))
				unknown = unknown || !errors.Is(a.err, rpctypes.ErrNoLeader)
				if failed++; failed < len(s.members) && refusal == nil && more() {
					next()
					late.Reset(s.patience)
				}
			}
		case <-late.C:
			if refusal != nil { // nobody says that it was done
				cancel()
				continue
			}
			q.route.leave(at(asked-1), s.members)
			if more() {
				next()
				late.Reset(s.patience * time.Duration(2+asked/len(s.members)) / 2)
			}
		case <-ctx.Done():
			for _, attempt := range slices.Sorted(maps.Keys(waiting)) {
				errs = append(errs, fmt.Errorf("%s: no answer: %w", s.members[at(attempt)].endpoint, ctx.Err()))
			}
			clear(waiting)
			unknown = true
		}
	}
	if refusal != nil && !unknown {
		return *refusal, nil
	}
	if refusal != nil {
		errs = append(errs, errors.New("refused by one member after another may have executed it"))
	}
	return zero, errors.Join(errs...)
}

// maxAttempts bounds how often one call is asked.
const maxAttempts = 8

// unsettled reports whether another member may have a better answer.
func unsettled(err error) bool {
	for _, t := range typed {
		if errors.Is(err, t.from) {
			return false
		}
	}
	if errors.Is(err, errClosed) {
		return false
	}
	code := status.Code(err)
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		code = e.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal, codes.ResourceExhausted, codes.Aborted:
		return true
	default:
		return false
	}
}

// hear notes a revision that a member has told of.
func (s *Store) hear(revision int64) {
	for {
		have := s.heard.Load()
		if revision <= have || s.heard.CompareAndSwap(have, revision) {
			return
		}
	}
}
