package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/api/convert"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/placement"
)

// GetStatus answers the whole cluster in a few numbers.
func (s *Service) GetStatus(context.Context, *rotav1.GetStatusRequest) (*rotav1.Status, error) {
	out := &rotav1.Status{
		Workers: &rotav1.WorkerCounts{}, Tasks: &rotav1.TaskCounts{}, Version: s.cfg.Version, Revision: s.cfg.View.Revision(),
	}
	if s.cfg.Moving != nil {
		out.Moving = s.cfg.Moving()
	}
	if s.cfg.Age != nil {
		age, stale := s.cfg.Age()
		out.AgeMs, out.Stale = age.Milliseconds(), stale
	}
	v := s.cfg.View
	v.Read(func() {
		if v.Leader != nil {
			out.Leader, out.Epoch = v.Leader.Name, v.Leader.Epoch
		}
		for _, name := range slices.Sorted(maps.Keys(v.Schedulers)) {
			sc := v.Schedulers[name]
			out.Schedulers = append(out.Schedulers, &rotav1.Scheduler{
				Name: name, Grpc: sc.GetGrpc(), Http: sc.GetHttp(), Leader: name == out.GetLeader(),
			})
		}
		for _, name := range slices.Sorted(maps.Keys(v.Sources)) {
			src := v.Sources[name]
			out.Sources = append(out.Sources, &rotav1.Source{Name: name, Tasks: src.GetTasks(), Error: src.GetError()})
		}
		out.Barrier = !v.Cluster.GetStarted()
		out.Tasks.Declared = int64(v.Tasks.Len())
		var loads []float64
		for _, name := range s.workerNames() {
			w := s.worker(name)
			switch w.GetState() {
			case workerLost, workerAway:
				out.Workers.Lost++
			case workerDraining:
				out.Workers.Draining++
			default:
				out.Workers.Ready++
				loads = append(loads, w.GetWeight()/w.GetStrength())
			}
		}
		out.Tasks.Running = int64(v.Running())
		out.Tasks.Waiting = int64(max(v.Instances()-v.Running(), 0))
		out.Imbalance = imbalance(loads)
	})
	return out, nil
}

// imbalance is the fullest over the mean; 1 is even, and so is nothing.
func imbalance(loads []float64) float64 {
	var sum, most float64
	for _, l := range loads {
		sum += l
		most = max(most, l)
	}
	if sum == 0 {
		return 1
	}
	return most / (sum / float64(len(loads)))
}

// ask calls f with a planner that has the picture as it is. f must leave it so,
// or work on a clone.
func (s *Service) ask(f func(*placement.Planner) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changeMu.Lock()
	now := s.changes
	s.changeMu.Unlock()
	if s.planner == nil || s.planned != now {
		p, err := placement.New(s.cfg.Placement)
		if err != nil {
			return err
		}
		v := s.cfg.View
		v.Read(func() { err = fill(p, s) })
		if err != nil {
			return err
		}
		s.planner, s.planned = p, now
	}
	return f(s.planner)
}

// fill gives a planner the picture; the view stands still.
func fill(p *placement.Planner, s *Service) error {
	v := s.cfg.View
	p.Reserve(v.Tasks.Len())
	for t := range v.Tasks.All() {
		if err := p.SetTask(t.Task()); err != nil {
			return fmt.Errorf("task %q: %w", t.ID, err)
		}
	}
	now := time.Now()
	for _, name := range s.workerNames() {
		w, ok := v.Placeable(name, v.Grace(name, now) > 0)
		if !ok {
			continue
		}
		if err := p.SetWorker(w); err != nil {
			return fmt.Errorf("worker %q: %w", name, err)
		}
		grants := v.Grants[name]
		if grants == nil {
			continue
		}
		for g := range grants.All() {
			if owner, _ := v.Owner(g.Instance); owner == name && !g.Revoked { // if not, another takes over
				_ = p.Assign(g.Instance, name) // what may not be there is in the plan
			}
		}
		if acks := v.Acks[name]; acks != nil {
			for a := range acks.All() {
				if a.Load >= 0 {
					p.SetLoad(a.Instance, name, float64(a.Load))
				}
			}
		}
	}
	return nil
}

// maxMoves is how many moves a plan lists unless all are asked for.
const maxMoves = 1000

// GetPlan answers what the next pass would do, as things are or as if.
func (s *Service) GetPlan(_ context.Context, r *rotav1.GetPlanRequest) (*rotav1.Plan, error) {
	if r.GetWith() < 0 || r.GetWith() > 100_000 {
		return nil, convert.FieldStatus("with", fmt.Sprintf("%d: want 0 to 100000", r.GetWith()))
	}
	tasks, err := convert.TasksFromProto(r.GetTasks())
	if err != nil {
		return nil, convert.Error(err)
	}
	var plan rota.Plan
	err = s.ask(func(p *placement.Planner) error {
		if len(r.GetWithout()) > 0 || r.GetWith() > 0 || len(tasks) > 0 {
			p = p.Clone()
		}
		for _, name := range r.GetWithout() {
			known := false
			s.cfg.View.Read(func() { known = s.cfg.View.Sessions[name] != nil })
			if !known {
				return noWorker(name)
			}
			p.RemoveWorker(name)
		}
		for n, added := 1, int64(0); added < r.GetWith(); n++ {
			name := fmt.Sprintf("new-%d", n)
			known := false
			s.cfg.View.Read(func() { known = s.cfg.View.Sessions[name] != nil })
			if known {
				continue // a worker of the cluster is no new one
			}
			if err := p.SetWorker(rota.Worker{Name: name}); err != nil {
				return err
			}
			added++
		}
		for _, t := range tasks {
			if err := p.SetTask(t); err != nil {
				return err
			}
		}
		plan = p.Plan()
		return nil
	})
	if err != nil {
		return nil, convert.Error(err)
	}
	out := convert.PlanToProto(plan)
	if !r.GetAll() {
		out.Moves = out.GetMoves()[:min(len(out.GetMoves()), maxMoves)]
		out.Waiting = out.GetWaiting()[:min(len(out.GetWaiting()), maxMoves)]
	}
	return out, nil
}

// Why says why a task is where it is, or why it waits.
func (s *Service) Why(_ context.Context, r *rotav1.WhyRequest) (*rotav1.WhyResponse, error) {
	var e placement.Explanation
	err := s.ask(func(p *placement.Planner) error {
		e = p.Why(r.GetId())
		return nil
	})
	if err != nil {
		return nil, convert.Error(err)
	}
	if !e.Known {
		return nil, noTask(r.GetId())
	}
	out := &rotav1.WhyResponse{Id: r.GetId()}
	s.cfg.View.Read(func() {
		for _, i := range e.Instances {
			m := &rotav1.WhyInstance{Instance: s.instance(i.Instance)}
			worker, g := s.cfg.View.Owner(i.Instance)
			if g != nil && g.Reason != "" {
				m.Reasons = append(m.Reasons, "came there because "+g.Reason)
			}
			if left := s.cfg.View.Grace(worker, time.Now()); g != nil && left > 0 {
				m.Reasons = append(m.Reasons, fmt.Sprintf("%s is away, and waited for %v more", worker, left.Round(time.Second)))
			} else if i.Reason != "" { // the plan only takes the worker for one that gets nothing new
				m.Reasons = append(m.Reasons, i.Reason)
			}
			for _, rule := range i.Rules {
				for _, w := range rule.Workers {
					m.Workers = append(m.Workers, &rotav1.WhyWorker{Worker: w, Fits: rule.Rule == "", Reason: rule.Rule})
				}
			}
			slices.SortFunc(m.GetWorkers(), func(a, b *rotav1.WhyWorker) int {
				if a.GetWorker() < b.GetWorker() {
					return -1
				}
				return 1
			})
			out.Instances = append(out.Instances, m)
		}
	})
	return out, nil
}
