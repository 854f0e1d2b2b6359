package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// States of a task that is suspected of killing its workers, as package blame has them.
const (
	suspectTrial = "trial"
	suspectHeld  = "held"
)

// withheld reports whether a task must not run now, because workers died with it; the
// view stands still.
func (s *Service) withheld(id string) bool {
	x := s.cfg.View.Suspects[id]
	return x != nil && x.GetState() != suspectTrial
}

func suspectOf(x *storepb.Suspect) *rotav1.Suspect {
	if x == nil {
		return nil
	}
	return &rotav1.Suspect{
		Task: x.GetTask(), State: x.GetState(), Deaths: x.GetDeaths(), Workers: x.GetWorkers(),
		Since: timestamppb.New(time.UnixMilli(x.GetSinceUnixMs())),
	}
}

// maxSuspects is how many suspects the status lists.
const maxSuspects = 100

// suspects lists them, those that are held first; the view stands still.
func (s *Service) suspects() (out []*rotav1.Suspect) {
	all := s.cfg.View.Suspects
	for _, held := range []bool{true, false} {
		for _, id := range slices.Sorted(maps.Keys(all)) {
			if (all[id].GetState() == suspectHeld) == held && len(out) < maxSuspects {
				out = append(out, suspectOf(all[id]))
			}
		}
	}
	return out
}

// accusation says what is held against a task, and what becomes of it.
func accusation(x *storepb.Suspect) string {
	died := fmt.Sprintf("%s died while running it (%s)", text.Count(x.GetDeaths(), "worker", "workers"), strings.Join(x.GetWorkers(), ", "))
	switch x.GetState() {
	case suspectHeld:
		return "held: " + died + ", the last one with no other suspect; rota task release lets it run, and so does a change of the task"
	case suspectTrial:
		return "on trial: " + died + "; it is kept apart from other suspects until it has run for a while"
	}
	return "waits before it is tried again: " + died
}

// whyWithheld explains the placement that a task would have if it could run.
func (s *Service) whyWithheld(p *placement.Planner, id string, workers int) placement.Explanation {
	var t rota.Task
	v := s.cfg.View
	v.Read(func() {
		if r, ok := v.Tasks.Get(id); ok && s.withheld(id) {
			t = r.Task()
		}
	})
	e := placement.Explanation{Task: id}
	if t.ID == "" {
		return e
	}
	p = p.Clone()
	if p.SetTask(t) != nil {
		return e
	}
	e = p.Why(id, workers)
	for n := range e.Instances {
		e.Instances[n].Reason = ""
	}
	return e
}

// ReleaseTask ends the suspicion against a task.
func (s *Service) ReleaseTask(ctx context.Context, r *rotav1.ReleaseTaskRequest) (*rotav1.TaskDetail, error) {
	v := s.cfg.View
	cond := store.Cond{Key: store.SuspectsKey, By: store.ByMod}
	begun := false
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	err := s.again(ctx, func() (bool, error) {
		m := &storepb.Suspects{Version: record.Version}
		var err error
		v.Read(func() {
			t, ok := v.Tasks.Get(r.GetId())
			if !ok {
				err = noTask(r.GetId())
				return
			}
			if err = auth.MayDeclare(ctx, t.Kind); err != nil {
				return
			}
			if v.Suspects[r.GetId()] == nil && !begun {
				err = status.Errorf(codes.FailedPrecondition, "task %q: not suspected of killing its workers", r.GetId())
				return
			}
			cond.Revision = v.Mod(store.SuspectsKey)
			for _, id := range slices.Sorted(maps.Keys(v.Suspects)) {
				if id != r.GetId() {
					m.Suspects = append(m.Suspects, v.Suspects[id])
				}
			}
		})
		if err != nil {
			return false, err
		}
		begun = true
		value, err := record.Encode(m)
		if err != nil {
			return false, err
		}
		done, rev, err := s.fence.Txn(ctx, []store.Cond{cond}, []store.Op{{Key: cond.Key, Value: value}})
		if err != nil || !done {
			return false, err
		}
		return true, v.Wait(ctx, rev)
	})
	if err != nil {
		return nil, err
	}
	s.record(ctx, events.TaskReleased, events.Subject{Task: r.GetId()}, "")
	return s.GetTask(ctx, &rotav1.GetTaskRequest{Id: r.GetId()})
}
