package service

import (
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store/record"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// States of an instance that no worker speaks of.
const (
	stateWaiting = "waiting" // no grant, or one of a worker that is away
	stateGranted = "granted" // the worker has not answered yet
)

// instance says where an instance is; the view stands still. Of two grants,
// while one worker takes over from another, the one that stays is shown.
func (s *Service) instance(i rota.Instance) *rotav1.Instance {
	m := &rotav1.Instance{Index: int64(i.Index), State: stateWaiting}
	worker, g := s.cfg.View.Owner(i)
	if g == nil {
		return m
	}
	m.Worker, m.Generation, m.State = worker, uint64(g.Generation), stateGranted
	if t, ok := s.cfg.View.Tasks.Get(i.Task); ok && t.Mode == rota.Exclusive && !s.lives(worker, g) {
		m.State = stateWaiting // for that worker's return, or to be moved
	}
	a, ok := s.cfg.View.Ack(worker, i)
	if ok && a.Generation == g.Generation {
		m.State, m.Error, m.Restarts = string(a.State), a.Error, a.Restarts
		m.Since = timestamppb.New(time.UnixMilli(a.Since))
	}
	if g.Revoked && m.GetState() != string(ownership.Stuck) {
		m.State = string(ownership.Stopping)
	}
	return m
}

// lives reports whether a grant is of its worker's living session.
func (s *Service) lives(worker string, g *record.Grant) bool {
	session := s.cfg.View.Sessions[worker]
	return session != nil && session.ID == g.Session
}
