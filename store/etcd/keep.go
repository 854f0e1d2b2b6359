package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store"
)

var _ store.Quorum = (*Embedded)(nil)

// Peers implements store.Quorum: it asks each other member, all at once. A node that is
// alone has none.
func (e *Embedded) Peers(ctx context.Context) []store.Peer {
	if e.quorum == nil {
		return nil
	}
	s := e.etcd.Server
	members := s.Cluster().Members()
	answers := e.quorum.askAll(ctx, e.quorum.current(s))
	out := make([]store.Peer, 0, len(members))
	for _, m := range members {
		p := store.Peer{Name: m.Name, Address: addressOf(m), Voter: !m.IsLearner, Leader: m.ID == s.Leader()}
		if m.ID != s.MemberID() {
			switch a := answers[m.Name]; {
			case a.err != nil:
				p.Err = a.err
			case a.cluster != s.Cluster().ID():
				p.Err = fmt.Errorf("it belongs to another cluster, %s", a.cluster)
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b store.Peer) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// RemovePeer implements store.Quorum.
func (e *Embedded) RemovePeer(ctx context.Context, name string) error {
	peers := e.Peers(ctx)
	n := slices.IndexFunc(peers, func(p store.Peer) bool { return p.Name == name })
	if n < 0 {
		return fmt.Errorf("member %s: %w", name, rota.ErrNotFound)
	}
	if !store.HaveQuorum(peers) {
		return fmt.Errorf("%w: no member can be removed until more of them answer", store.ErrNoQuorum)
	}
	if peers[n].Voter {
		if err := stayable(slices.Delete(slices.Clone(peers), n, n+1), name); err != nil {
			return err
		}
	}
	s := e.etcd.Server
	i := slices.IndexFunc(s.Cluster().Members(), func(m *membership.Member) bool { return m.Name == name })
	if i < 0 {
		return fmt.Errorf("member %s: %w", name, rota.ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultRequestTimeout)
	defer cancel()
	_, err := s.RemoveMember(ctx, uint64(s.Cluster().Members()[i].ID))
	switch {
	case errors.Is(err, etcderrors.ErrUnhealthy), errors.Is(err, etcderrors.ErrNotEnoughStartedMembers):
		return fmt.Errorf("%w: not all others have been connected for five seconds; try again", store.ErrNeeded)
	case err != nil:
		return fmt.Errorf("remove member %s: %w", name, err)
	}
	e.quorum.log.Info("a member was removed from the cluster", "member", name)
	return nil
}

// stayable says why those that stay could not go on without one.
func stayable(stay []store.Peer, without string) error {
	voters, answer := 0, 0
	for _, p := range stay {
		if p.Voter {
			voters++
			if p.Err == nil {
				answer++
			}
		}
	}
	switch {
	case voters == 0:
		return fmt.Errorf("%w: %s is the last member", store.ErrNeeded, without)
	case answer <= voters/2:
		return fmt.Errorf("%w: without %s there are %d members, of which %d answers: no quorum; first bring another member back, or let one join", store.ErrNeeded, without, voters, answer)
	}
	return nil
}

// Yield has another member lead, if this one does and another one answers: whoever
// leads the schedulers had better not lead the members, too, as the loss of both at
// once takes longer to get over than one after the other.
func (e *Embedded) Yield(ctx context.Context) error {
	if e.quorum == nil || e.etcd.Server.Leader() != e.etcd.Server.MemberID() {
		return nil
	}
	for _, p := range e.Peers(ctx) {
		if p.Leader || !p.Voter || p.Err != nil {
			continue
		}
		for _, m := range e.etcd.Server.Cluster().Members() {
			if m.Name != p.Name {
				continue
			}
			ctx, cancel := context.WithTimeout(ctx, DefaultRequestTimeout)
			defer cancel()
			return e.etcd.Server.MoveLeader(ctx, uint64(e.etcd.Server.MemberID()), uint64(m.ID))
		}
	}
	return nil
}
