package store

import (
	"context"
	"errors"
)

// Peer is one of those who keep a store together.
type Peer struct {
	Name    string
	Address string // of its peer port, host:port
	// Voter says that it counts for a quorum; one that joins does when it has caught up.
	Voter  bool
	Leader bool
	Err    error // it does not answer
}

// Quorum is implemented by a Store whose members keep it together. It answers without a
// quorum, too.
type Quorum interface {
	// Peers are all who keep the store, in order of name.
	Peers(ctx context.Context) []Peer
	// RemovePeer removes a member. An error wraps rota.ErrNotFound, ErrNoQuorum, or
	// ErrNeeded.
	RemovePeer(ctx context.Context, name string) error
}

// Errors of a Quorum.
var (
	// ErrNoQuorum says that no more than half of the members answer.
	ErrNoQuorum = errors.New("the members have no quorum")
	// ErrNeeded says that a member cannot be removed now: it is the last one, or too few
	// would remain.
	ErrNeeded = errors.New("the member is needed")
)

// HaveQuorum reports whether more than half of the voters answer.
func HaveQuorum(peers []Peer) bool {
	voters, answer := 0, 0
	for _, p := range peers {
		if p.Voter {
			voters++
			if p.Err == nil {
				answer++
			}
		}
	}
	return answer > voters/2
}
