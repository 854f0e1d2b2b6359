package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/api/convert"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/table"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	defaultPage = 1000
	maxPage     = 10_000
	// Declared is what the API calls the source of tasks that it declared itself.
	Declared = "declared"
)

// ListTasks lists tasks in order of id.
func (s *Service) ListTasks(_ context.Context, r *rotav1.ListTasksRequest) (*rotav1.ListTasksResponse, error) {
	size := int(r.GetPageSize())
	switch {
	case size < 0 || size > maxPage:
		return nil, convert.FieldStatus("page_size", fmt.Sprintf("%d: want 0 to %d", size, maxPage))
	case size == 0:
		size = defaultPage
	}
	out := &rotav1.ListTasksResponse{}
	v := s.cfg.View
	v.Read(func() {
		from := max(r.GetIdPrefix(), r.GetPageToken())
		for t := range v.Tasks.From(from) {
			if !strings.HasPrefix(t.ID, r.GetIdPrefix()) {
				break
			}
			if r.GetGroup() != "" && t.Group != r.GetGroup() {
				continue
			}
			m := s.task(t)
			if r.GetWorker() != "" && !slices.ContainsFunc(m.GetInstances(), func(i *rotav1.Instance) bool { return i.GetWorker() == r.GetWorker() }) ||
				r.GetState() != "" && !slices.ContainsFunc(m.GetInstances(), func(i *rotav1.Instance) bool { return i.GetState() == r.GetState() }) {
				continue
			}
			if len(out.GetTasks()) == size {
				out.NextPageToken = t.ID
				break
			}
			out.Tasks = append(out.Tasks, m)
		}
	})
	return out, nil
}

// GetTask answers one task with all that is known of it.
func (s *Service) GetTask(_ context.Context, r *rotav1.GetTaskRequest) (*rotav1.TaskDetail, error) {
	var out *rotav1.TaskDetail
	v := s.cfg.View
	v.Read(func() {
		if t, ok := v.Tasks.Get(r.GetId()); ok {
			out = &rotav1.TaskDetail{Task: convert.TaskToProto(t.Task()), Source: source(t), Instances: s.task(t).GetInstances()}
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
	counted := false
	return out, s.again(ctx, func() (bool, error) {
		var units []table.Unit
		var err error
		v := s.cfg.View
		v.Read(func() {
			var created, changed, unchanged int64
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
				case s.owned(t):
					err = convert.FieldStatus(fmt.Sprintf("tasks[%d].id", n),
						fmt.Sprintf("task %q comes from source %s: change it there", t.ID, t.Source))
					return
				case t.Source == "" && t.Task().Equal(set[n].Task()):
					unchanged++
				default:
					changed++
				}
			}
			if !counted { // a second look sees what the first has done
				counted = true
				out.Created, out.Changed, out.Unchanged = created, changed, unchanged
			}
			units, err = v.Tasks.Stage(set, nil)
		})
		if err != nil || len(units) == 0 || r.GetDryRun() {
			return true, err
		}
		return s.write(ctx, units)
	})
}

// DeleteTasks removes declared tasks: all of them, or none if one is not there.
func (s *Service) DeleteTasks(ctx context.Context, r *rotav1.DeleteTasksRequest) (*rotav1.DeleteTasksResponse, error) {
	if len(r.GetIds()) == 0 {
		return nil, convert.FieldStatus("ids", "want at least one")
	}
	ids := slices.Compact(slices.Sorted(slices.Values(r.GetIds())))
	return &rotav1.DeleteTasksResponse{Deleted: int64(len(ids))}, s.deleteTasks(ctx, ids, func(t *record.Task) error {
		return auth.MayDeclare(ctx, t.Kind)
	})
}

// deleteTasks removes declared tasks that may be: all of them, or none.
func (s *Service) deleteTasks(ctx context.Context, ids []string, may func(*record.Task) error) error {
	begun := false
	return s.again(ctx, func() (bool, error) {
		var units []table.Unit
		var err error
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
			begun = true
			units, err = v.Tasks.Stage(nil, ids)
		})
		if err != nil || len(units) == 0 {
			return true, err
		}
		return s.write(ctx, units)
	})
}

// write does units; done is false if others wrote the same pages, or if there
// is more to stage.
func (s *Service) write(ctx context.Context, units []table.Unit) (done bool, err error) {
	done = true
	for _, packed := range table.Pack(units, 0) {
		conds, ops := table.Join(packed)
		ok, rev, err := s.cfg.Store.Txn(ctx, conds, ops)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, nil
		}
		if err := s.cfg.View.Applied(packed, rev); err != nil {
			return false, err
		}
		for _, u := range packed {
			done = done && !u.Partial
		}
	}
	return done, nil
}

// NotifySchedule asks the leader for a pass.
func (s *Service) NotifySchedule(ctx context.Context, r *rotav1.NotifyScheduleRequest) (*rotav1.NotifyScheduleResponse, error) {
	if len(r.GetReason()) > rota.MaxIDLen {
		return nil, convert.FieldStatus("reason", fmt.Sprintf("want at most %d bytes", rota.MaxIDLen))
	}
	_, _, err := s.cfg.Store.Txn(ctx, nil, []store.Op{{Key: store.KickKey, Value: []byte(r.GetReason())}})
	if err != nil {
		return nil, unavailable(err)
	}
	return &rotav1.NotifyScheduleResponse{}, nil
}
