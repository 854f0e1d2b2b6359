package scheduler

import (
	"time"

	"github.com/rota-project/rota/scheduler/internal/service"
)

// Service answers the API from this scheduler's picture. Close it.
func (s *Scheduler) Service(version string) *service.Service {
	names := make([]string, len(s.cfg.Sources))
	for n, src := range s.cfg.Sources {
		names[n] = src.Name
	}
	return service.New(service.Config{
		Store: s.cfg.Store, View: s.view, Capacity: s.capacity, Scheduler: s.cfg.Name, Desk: s.desk, Peers: s.peers, ReadLog: s.sessions.ReadLog,
		Log: s.happened, Events: s.events, Placement: s.cfg.Placement, Sources: names,
		Machine: func(worker string) (ahead time.Duration, certificateEnds time.Time, ok bool) {
			m, ok := s.sessions.Machine(worker)
			return m.ClockAhead, m.CertificateEnds, ok
		},
		LeaseLeft: s.sessions.LeaseLeft, Moving: s.stats.moving.Load, Version: version, Lease: s.cfg.Lease, Age: s.Age, StoreMembers: s.StoreMembers,
	})
}
