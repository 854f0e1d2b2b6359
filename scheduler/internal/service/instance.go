package service

import (
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// States of an instance that no worker speaks of.
const (
	stateWaiting = "waiting" // no grant, or one of a worker that is away
	stateHeld    = "held"    // its task kills its workers
	stateGranted = "granted" // the worker has not answered yet
)

// stateFailing is the API's word for ownership.Backoff.
const stateFailing = "failing"

// stateOf is the API's word for a state that a worker says.
func stateOf(s ownership.State) string {
	if s == ownership.Backoff {
		return stateFailing
	}
	return string(s)
}

// instance says where an instance is; the view stands still. Of two grants,
// while one worker takes over from another, the one that stays is shown.
func (s *Service) instance(i rota.Instance) *rotav1.Instance {
	t, _ := s.cfg.View.Tasks.Get(i.Task)
	at := s.where(t, i)
	m := &rotav1.Instance{Index: int64(i.Index), State: at.state, Worker: at.worker, Generation: at.generation, Error: at.err, Restarts: at.restarts}
	if at.said {
		m.Since = timestamppb.New(time.UnixMilli(at.since))
	}
	return m
}

// whereabouts are where an instance is.
type whereabouts struct {
	worker, state string
	generation    uint64
	said          bool  // the worker has said what follows
	since         int64 // Unix milliseconds
	err           string
	restarts      uint32
}

// where says where an instance of t, which may be nil, is. It allocates nothing.
func (s *Service) where(t *record.Task, i rota.Instance) (at whereabouts) {
	at.state = stateWaiting
	worker, g := s.cfg.View.Owner(i)
	if g == nil {
		if s.cfg.View.Suspects[i.Task].GetState() == suspectHeld {
			at.state = stateHeld
		}
		return at
	}
	at.worker, at.generation, at.state = worker, uint64(g.Generation), stateGranted
	if t != nil && t.Mode == rota.Exclusive && !s.lives(worker, g) {
		at.state = stateWaiting // for that worker's return, or to be moved
	}
	a, ok := s.cfg.View.Ack(worker, i)
	if ok && a.Generation == g.Generation {
		at.said, at.state, at.err, at.restarts, at.since = true, stateOf(a.State), a.Error, a.Restarts, a.Since
	}
	if g.Revoked && at.state != string(ownership.Stuck) {
		at.state = string(ownership.Stopping)
	}
	return at
}

// lives reports whether a grant is of its worker's living session.
func (s *Service) lives(worker string, g *record.Grant) bool {
	session := s.cfg.View.Sessions[worker]
	return session != nil && session.ID == g.Session
}
