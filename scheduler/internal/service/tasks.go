package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Declared is what the API calls the source of tasks that it declared itself.
const Declared = "declared"

// GetTask answers one task with all that is known of it.
func (s *Service) GetTask(_ context.Context, r *rotav1.GetTaskRequest) (*rotav1.TaskDetail, error) {
	var out *rotav1.TaskDetail
	v := s.cfg.View
	v.Read(func() {
		if t, ok := v.Tasks.Get(r.GetId()); ok {
			out = &rotav1.TaskDetail{Task: convert.TaskToProto(t.Task()), Source: source(t), Instances: s.task(t).GetInstances(), Suspect: suspectOf(v.Suspects[t.ID])}
		}
	})
	if out == nil {
		return nil, noTask(r.GetId())
	}
	return out, nil
}

// owned reports whether a task comes from a source that is still read. What a
// source left behind that is no longer there can be changed by anybody.
func (s *Service) owned(t *record.Task) bool {
	return t.Source != "" && slices.Contains(s.cfg.Sources, t.Source)
}

func source(t *record.Task) string {
	if t.Source == "" {
		return Declared
	}
	return t.Source
}

func noTask(id string) error { return status.Errorf(codes.NotFound, "task %q: not found", id) }

// task is a task as lists show it; the view stands still.
func (s *Service) task(t *record.Task) *rotav1.Task {
	m := &rotav1.Task{
		Id: t.ID, Group: t.Group, Key: t.Key, Weight: t.Weight, Priority: t.Priority, Kind: t.Kind,
		Instances: make([]*rotav1.Instance, max(t.Replicas, 1)),
	}
	for n := range m.GetInstances() {
		m.Instances[n] = s.instance(rota.Instance{Task: t.ID, Index: n})
	}
	return m
}

// ApplyTasks declares tasks or changes them.
func (s *Service) ApplyTasks(ctx context.Context, r *rotav1.ApplyTasksRequest) (*rotav1.ApplyTasksResponse, error) {
	tasks, err := convert.TasksFromProto(r.GetTasks())
	if err != nil {
		return nil, convert.Error(err)
	}
	set := make([]record.Task, len(tasks))
	for n, t := range tasks {
		if err := placement.CheckTask(t); err != nil {
			return nil, convert.FieldStatus(fmt.Sprintf("tasks[%d]", n), fmt.Sprintf("task %q: %v", t.ID, err))
		}
		if err := auth.MayDeclare(ctx, t.Kind); err != nil {
			return nil, err
		}
		set[n] = record.NewTask(t, "")
	}
	out := &rotav1.ApplyTasksResponse{}
	counted, current := false, false
	var declared, redeclared told
	err = s.again(ctx, func() (bool, error) {
		var units []table.Unit
		var err error
		var created, changed, unchanged int64
		v := s.cfg.View
		v.Read(func() {
			var news, anew told
			for n := range set {
				t, ok := v.Tasks.Get(set[n].ID)
				if ok {
					if err = auth.MayDeclare(ctx, t.Kind); err != nil {
						return
					}
				}
				switch {
				case !ok:
					created++
					news.add(set[n].ID)
				case s.owned(t):
					err = convert.FieldStatus(fmt.Sprintf("tasks[%d].id", n),
						fmt.Sprintf("task %q comes from source %s: change it there", t.ID, t.Source))
					return
				case t.Source == "" && t.Task().Equal(set[n].Task()):
					unchanged++
				default:
					changed++
					anew.add(set[n].ID)
				}
			}
			if unchanged > 0 && !current {
				return // it is not written: it is to be so now
			}
			if !counted { // a second look sees what the first has done
				counted = true
				out.Created, out.Changed, out.Unchanged = created, changed, unchanged
				declared, redeclared = news, anew
			}
			units, err = v.Tasks.Stage(set, nil)
		})
		if (unchanged > 0 || err != nil) && !current {
			current = true
			return false, s.catchUp(ctx)
		}
		if err != nil || len(units) == 0 || r.GetDryRun() {
			return true, err
		}
		return s.write(ctx, units)
	})
	if err == nil && !r.GetDryRun() {
		s.tell(ctx, events.TaskDeclared, declared)
		s.tell(ctx, events.TaskChanged, redeclared)
	}
	return out, err
}

// DeleteTasks removes declared tasks: all of them, or none if one is not there.
func (s *Service) DeleteTasks(ctx context.Context, r *rotav1.DeleteTasksRequest) (*rotav1.DeleteTasksResponse, error) {
	if len(r.GetIds()) == 0 {
		return nil, convert.FieldStatus("ids", "ids: want at least one")
	}
	ids := slices.Compact(slices.Sorted(slices.Values(r.GetIds())))
	err := s.deleteTasks(ctx, ids, func(t *record.Task) error { return auth.MayDeclare(ctx, t.Kind) })
	if err == nil {
		var gone told
		for _, id := range ids {
			gone.add(id)
		}
		s.tell(ctx, events.TaskGone, gone)
	}
	return &rotav1.DeleteTasksResponse{Deleted: int64(len(ids))}, err
}

// deleteTasks removes declared tasks that may be: all of them, or none.
func (s *Service) deleteTasks(ctx context.Context, ids []string, may func(*record.Task) error) error {
	begun, current := false, false
	return s.again(ctx, func() (done bool, err error) {
		done, err = s.tryDelete(ctx, ids, begun, may)
		if status.Code(err) == codes.NotFound && !current {
			current = true // it may have been declared at another scheduler this very moment
			return false, s.catchUp(ctx)
		}
		begun = true
		return done, err
	})
}

// tryDelete is one attempt at deleteTasks, if the guards hold. Where it has begun some
// may be gone already. What was kept of submitted programs goes with their tasks.
func (s *Service) tryDelete(ctx context.Context, ids []string, begun bool, may func(*record.Task) error, guards ...store.Cond) (done bool, err error) {
	var units []table.Unit
	v := s.cfg.View
	v.Read(func() {
		for _, id := range ids {
			t, ok := v.Tasks.Get(id)
			switch {
			case !ok && !begun:
				err = noTask(id)
				return
			case !ok:
				continue
			case s.owned(t):
				err = status.Errorf(codes.FailedPrecondition, "task %q comes from source %s: remove it there", id, t.Source)
				return
			}
			if err = may(t); err != nil {
				return
			}
		}
		units, err = v.Tasks.Stage(nil, ids)
	})
	if err != nil || len(units) == 0 {
		return true, err
	}
	units[0].Conds = append(units[0].Conds, guards...)
	for _, id := range ids {
		if name, ok := strings.CutPrefix(id, record.Submitted+"/"); ok {
			units = append(units, table.Unit{Ops: []store.Op{{Key: store.HistoryKey(name), Delete: true}}})
		}
	}
	return s.write(ctx, units)
}

// write does units; done is false if others wrote the same pages, or if there
// is more to stage.
func (s *Service) write(ctx context.Context, units []table.Unit) (done bool, err error) {
	w := commit.Writer{Txn: s.fence.Txn, Reserve: 1, Done: s.cfg.View.Applied}
	for r := range w.Write(ctx, units) {
		if errors.Is(r.Err, store.ErrNoSpace) && r.From > 0 {
			return false, status.Error(codes.ResourceExhausted,
				"the store is full; the request was done in part: repeat it when there is room (docs/etcd.md)")
		}
		if !r.OK {
			return false, r.Err
		}
	}
	return !slices.ContainsFunc(units, func(u table.Unit) bool { return u.Partial }), nil
}

// NotifySchedule asks the leader for a pass.
func (s *Service) NotifySchedule(ctx context.Context, r *rotav1.NotifyScheduleRequest) (*rotav1.NotifyScheduleResponse, error) {
	if len(r.GetReason()) > rota.MaxIDLen {
		return nil, convert.FieldStatus("reason", fmt.Sprintf("reason: want at most %d bytes", rota.MaxIDLen))
	}
	_, _, err := s.cfg.Store.Txn(ctx, nil, []store.Op{{Key: store.KickKey, Value: []byte(r.GetReason())}})
	if err != nil {
		return nil, convert.StoreError(err)
	}
	s.record(ctx, events.PassAsked, events.Subject{}, r.GetReason())
	return &rotav1.NotifyScheduleResponse{}, nil
}
