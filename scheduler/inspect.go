package scheduler

import (
	"context"
	"time"

	"github.com/rota-project/rota/store"
)

// inspectEvery is how often the members of the store are asked how they are, and
// inspectPause the least time between two times that they are asked.
const inspectEvery, inspectPause = 15 * time.Second, time.Second

// inspect asks the members of the store again and again, and at once when the store is
// full. It says at ERROR when one raises an alarm.
func (s *Scheduler) inspect(ctx context.Context) {
	st, ok := s.cfg.Store.(store.Inspector)
	if !ok {
		return
	}
	for ctx.Err() == nil {
		members := st.Inspect(ctx)
		if ctx.Err() != nil {
			return
		}
		had := map[string]bool{}
		for _, m := range s.StoreMembers() {
			for _, a := range m.Alarms {
				had[m.Endpoint+a] = true
			}
		}
		for _, m := range members {
			for _, a := range m.Alarms {
				if !had[m.Endpoint+a] {
					s.log.Error("a member of etcd has raised an alarm; rota doctor shows the remedy", "endpoint", m.Endpoint, "alarm", a)
				}
			}
		}
		s.members.Store(&members)
		sleep(ctx, inspectPause)
		select {
		case <-s.full:
		case <-ctx.Done():
		case <-time.After(inspectEvery - inspectPause):
		}
	}
}

// StoreMembers are the members of the store as they were when they were asked last;
// none if the store has no members.
func (s *Scheduler) StoreMembers() []store.Member {
	if m := s.members.Load(); m != nil {
		return *m
	}
	return nil
}
