package members_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/members"
	"github.com/rota-project/rota/store"
)

// peers is a quorum that says what it was told to say.
type peers struct {
	list []store.Peer
	err  error
}

func (p *peers) Peers(context.Context) []store.Peer              { return p.list }
func (p *peers) RemovePeer(_ context.Context, name string) error { return p.err }

var errSilent = errors.New("silent")

func TestListMembers(t *testing.T) {
	t.Parallel()
	all := []store.Peer{{Name: "a", Address: "a:1", Voter: true, Leader: true}, {Name: "b", Address: "b:1", Voter: true}, {Name: "c", Address: "c:1", Voter: true, Err: errSilent}, {Name: "d", Address: "d:1"}}
	for name, x := range map[string]struct {
		peers []store.Peer
		want  string
	}{
		"a quorum":     {all, "a@a:1 leader, b@b:1 member, c@c:1 silent (silent), d@d:1 joining, quorum true"},
		"half of four": {append(all[:3:3], store.Peer{Name: "e", Address: "e:1", Voter: true, Err: errSilent}), "a@a:1 member, b@b:1 member, c@c:1 silent (silent), e@e:1 silent (silent), quorum false"},
		"one":          {all[:1], "a@a:1 leader, quorum true"},
	} {
		r, err := members.New(&peers{list: x.peers}, nil).ListMembers(t.Context(), &rotav1.ListMembersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range r.GetMembers() {
			text := m.GetName() + "@" + m.GetAddress() + " " + m.GetState()
			if m.GetError() != "" {
				text += " (" + m.GetError() + ")"
			}
			got = append(got, text)
		}
		if text := strings.Join(append(got, fmt.Sprint("quorum ", r.GetQuorum())), ", "); text != x.want {
			t.Errorf("%s: %s, want %s", name, text, x.want)
		}
	}
}

func TestRemoveMember(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		quorum store.Quorum
		remove string
		want   codes.Code
	}{
		"done":           {&peers{}, "a", codes.OK},
		"nobody":         {&peers{}, "", codes.InvalidArgument},
		"not a member":   {&peers{err: fmt.Errorf("member a: %w", rota.ErrNotFound)}, "a", codes.NotFound},
		"needed":         {&peers{err: fmt.Errorf("%w: the last", store.ErrNeeded)}, "a", codes.FailedPrecondition},
		"no quorum":      {&peers{err: store.ErrNoQuorum}, "a", codes.FailedPrecondition},
		"not in time":    {&peers{err: context.DeadlineExceeded}, "a", codes.DeadlineExceeded},
		"it fails":       {&peers{err: errSilent}, "a", codes.Unavailable},
		"keeps it alone": {nil, "a", codes.FailedPrecondition},
	} {
		s := members.New(x.quorum, nil)
		if _, err := s.RemoveMember(t.Context(), &rotav1.RemoveMemberRequest{Name: x.remove}); status.Code(err) != x.want {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
	if _, err := members.New(nil, nil).ListMembers(t.Context(), &rotav1.ListMembersRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("alone: %v", err)
	}
}
