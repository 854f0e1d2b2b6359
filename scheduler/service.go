package scheduler

import "github.com/rota-project/rota/service"

// Service answers the API from this scheduler's picture. Close it.
func (s *Scheduler) Service(version string) *service.Service {
	names := make([]string, len(s.cfg.Sources))
	for n, src := range s.cfg.Sources {
		names[n] = src.Name
	}
	return service.New(service.Config{
		Store: s.cfg.Store, View: s.view, Placement: s.cfg.Placement, Sources: names,
		LeaseLeft: s.sessions.LeaseLeft, Moving: s.stats.moving.Load, Version: version, Lease: s.cfg.Lease, Age: s.Age,
	})
}
