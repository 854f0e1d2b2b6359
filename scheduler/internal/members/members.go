// Package members answers the API about those who keep the store together: which there
// are, that one of them shall not any more, and what all of them keep, as a backup.
//
// A scheduler's server registers it. It decides nothing: the store knows who is needed.
package members

import (
	"bufio"
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/store"
)

// Service implements the service Members of rota.v1.
type Service struct {
	rotav1.UnimplementedMembersServer
	quorum store.Quorum
	store  store.Store
}

// New returns the service of a scheduler on a store. quorum is nil where the store is
// kept by one scheduler, or by an etcd of the user's.
func New(quorum store.Quorum, st store.Store) *Service { return &Service{quorum: quorum, store: st} }

// States of a member.
const (
	leader  = "leader"
	member  = "member"
	joining = "joining"
	silent  = "silent"
)

// errNone says that there are no members.
var errNone = status.Error(codes.FailedPrecondition,
	"this scheduler has no members beside it: it keeps the store alone, or in an etcd of yours (etcdctl member list); see --cluster")

// ListMembers implements rotav1.MembersServer.
func (s *Service) ListMembers(ctx context.Context, _ *rotav1.ListMembersRequest) (*rotav1.ListMembersResponse, error) {
	if s.quorum == nil {
		return nil, errNone
	}
	peers := s.quorum.Peers(ctx)
	out := &rotav1.ListMembersResponse{Quorum: store.HaveQuorum(peers)}
	for _, p := range peers {
		m := &rotav1.Member{Name: p.Name, Address: p.Address, State: member}
		switch {
		case p.Err != nil:
			m.State, m.Error = silent, convert.Shown(p.Err)
		case !p.Voter:
			m.State = joining
		case p.Leader && out.GetQuorum():
			m.State = leader
		}
		out.Members = append(out.Members, m)
	}
	return out, nil
}

// RemoveMember implements rotav1.MembersServer.
func (s *Service) RemoveMember(ctx context.Context, r *rotav1.RemoveMemberRequest) (*rotav1.RemoveMemberResponse, error) {
	if s.quorum == nil {
		return nil, errNone
	}
	if r.GetName() == "" {
		return nil, convert.FieldStatus("name", "name: want the name of a member")
	}
	err := s.quorum.RemovePeer(ctx, r.GetName())
	switch {
	case err == nil:
		return &rotav1.RemoveMemberResponse{}, nil
	case errors.Is(err, store.ErrNoQuorum), errors.Is(err, store.ErrNeeded):
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, rota.ErrNotFound):
		return nil, convert.Error(err)
	}
	return nil, convert.StoreError(err)
}

// Backup implements rotav1.MembersServer.
func (s *Service) Backup(_ *rotav1.BackupRequest, to rotav1.Members_BackupServer) error {
	from, ok := s.store.(store.Snapshotter)
	if !ok {
		return status.Error(codes.FailedPrecondition, "this store cannot be copied")
	}
	w := bufio.NewWriterSize(pieces{to}, pieceBytes)
	err := from.Snapshot(to.Context(), w)
	if err == nil {
		err = w.Flush()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNoQuorum):
		return status.Error(codes.Unavailable, "the store has no leader, so that nobody knows what is in it; there is no backup; ask again when more members are back (rota doctor says what is wrong)")
	}
	return convert.ReadError(err)
}

// pieceBytes is how long a piece of a backup is.
const pieceBytes = 256 << 10

// pieces sends what is written.
type pieces struct{ to rotav1.Members_BackupServer }

func (p pieces) Write(b []byte) (int, error) {
	if err := p.to.Send(&rotav1.BackupPiece{Data: b}); err != nil {
		return 0, err
	}
	return len(b), nil
}
