package service

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/placement"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// GetStatus answers the whole cluster in a few numbers.
func (s *Service) GetStatus(ctx context.Context, _ *rotav1.GetStatusRequest) (*rotav1.Status, error) {
	out := &rotav1.Status{
		Workers: &rotav1.WorkerCounts{}, Tasks: &rotav1.TaskCounts{}, Version: s.cfg.Version, Revision: s.cfg.View.Revision(),
		Time: timestamppb.Now(), Caller: callerOf(ctx),
	}
	if s.cfg.Moving != nil {
		out.Moving = s.cfg.Moving()
	}
	if s.cfg.Age != nil {
		age, stale := s.cfg.Age()
		out.AgeMs, out.Stale = age.Milliseconds(), stale
	}
	if s.cfg.StoreMembers != nil {
		out.Store = convert.MembersToProto(s.cfg.StoreMembers())
	}
	v := s.cfg.View
	v.Read(func() {
		for _, u := range v.Unread() {
			out.Unread = append(out.Unread, &rotav1.UnreadValue{
				Key: strings.ToValidUTF8(u.Key, "?"), Revision: u.Revision, Error: convert.Shown(u.Err), Lost: u.Lost,
			})
		}
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
			out.Sources = append(out.Sources, sourceOf(v.Sources[name]))
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
		out.Suspects = s.suspects()
		out.Tasks.Running = int64(v.Running())
		out.Tasks.Waiting = int64(max(v.Instances()-v.Running(), 0))
		out.Tasks.Failing = int64(v.Failing())
		out.Imbalance = imbalance(loads)
	})
	return out, nil
}

// callerOf is who asks.
func callerOf(ctx context.Context) *rotav1.Caller {
	who := auth.From(ctx)
	out := &rotav1.Caller{Name: strings.ToValidUTF8(who.Name, "?"), Kind: string(who.Kind), Ends: timeOf(who.Expires)}
	if who.Role != auth.Nobody {
		out.Role = who.Role.String()
	}
	return out
}

// timeOf is a time as the API shows it; nil if it is zero.
func timeOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
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
		if s.withheld(t.ID) {
			continue
		}
		if err := p.SetTask(t.Task()); err != nil {
			return fmt.Errorf("task %q: %w", t.ID, err)
		}
	}
	now := time.Now()
	moving := map[rota.Instance]string{} // where they are to begin once they have stopped
	for _, name := range s.workerNames() {
		p.Claim(name, s.cfg.Capacity.Beside(name))
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
			owner, _ := v.Owner(g.Instance)
			switch {
			case owner != name || s.withheld(g.Instance.Task): // another takes over
			case !g.Revoked:
				_ = p.Assign(g.Instance, name) // what may not be there is in the plan
			case g.To != "":
				moving[g.Instance] = g.To
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
	for i, to := range moving {
		_ = p.Assign(i, to) // one that is gone by now gets it no more
	}
	return nil
}

// maxMoves is how many moves a plan lists unless all are asked for.
const maxMoves = 1000

// GetPlan answers what the next pass would do, as things are or as if.
func (s *Service) GetPlan(_ context.Context, r *rotav1.GetPlanRequest) (*rotav1.Plan, error) {
	if r.GetWith() < 0 || r.GetWith() > 100_000 {
		return nil, convert.FieldStatus("with", fmt.Sprintf("with: %d: want 0 to 100000", r.GetWith()))
	}
	tasks, err := convert.TasksFromProto(r.GetTasks())
	if err != nil {
		return nil, convert.Error(err)
	}
	var plan, asIs rota.Plan
	asIf := len(r.GetWithout()) > 0 || r.GetWith() > 0 || len(tasks) > 0
	err = s.ask(func(p *placement.Planner) error {
		if asIf {
			asIs = p.Plan()
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
	if !asIf {
		asIs = plan
	}
	already := waitingBy(asIs)
	for _, m := range plan.Moves {
		if m.To == "" && !asIf {
			delete(already, m.Instance) // it runs until the plan stops it
		}
	}
	slices.SortStableFunc(plan.Waiting, func(a, b rota.Waiting) int { return order(already[a.Instance], already[b.Instance]) })
	out := convert.PlanToProto(plan, already)
	if !r.GetAll() {
		out.Moves = out.GetMoves()[:min(len(out.GetMoves()), maxMoves)]
		out.Waiting = out.GetWaiting()[:min(len(out.GetWaiting()), maxMoves)]
	}
	return out, nil
}

// waitingBy is what waits by a plan.
func waitingBy(plan rota.Plan) map[rota.Instance]bool {
	out := make(map[rota.Instance]bool, len(plan.Waiting))
	for _, w := range plan.Waiting {
		out[w.Instance] = true
	}
	return out
}

// order has false before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// reasons says in a line why a task waits, if it is known.
func (s *Service) reasons(ctx context.Context, id string) string {
	why, err := s.Why(ctx, &rotav1.WhyRequest{Id: id})
	if err != nil || len(why.GetInstances()) == 0 {
		return ""
	}
	return strings.Join(why.GetInstances()[0].GetReasons(), "; ")
}

// How many workers of each instance Why answers, unless it is asked for more, and at most.
const (
	whyWorkers    = 100
	maxWhyWorkers = placement.MaxRows
)

// Why says why a task is where it is, or why it waits.
func (s *Service) Why(_ context.Context, r *rotav1.WhyRequest) (*rotav1.WhyResponse, error) {
	if n := r.GetWorkers(); n < 0 || n > maxWhyWorkers {
		return nil, convert.Error(&rota.FieldError{Field: "workers", Value: n, Want: fmt.Sprintf("a number from 0 to %d", maxWhyWorkers)})
	}
	most := int(cmp.Or(r.GetWorkers(), whyWorkers))
	var e placement.Explanation
	err := s.ask(func(p *placement.Planner) error {
		if e = p.Why(r.GetId(), most); !e.Known {
			e = s.whyWithheld(p, r.GetId(), most)
		}
		return nil
	})
	if err != nil {
		return nil, convert.Error(err)
	}
	if !e.Known {
		return nil, noTask(r.GetId())
	}
	out := &rotav1.WhyResponse{Id: r.GetId()}
	var waits []*rotav1.WhyInstance
	s.cfg.View.Read(func() {
		for _, i := range e.Instances {
			m := &rotav1.WhyInstance{Instance: s.instance(i.Instance), AllWorkers: int64(i.All), FittingWorkers: int64(i.Fit)}
			if x := s.cfg.View.Suspects[r.GetId()]; x != nil {
				m.Reasons = append(m.Reasons, accusation(x))
			}
			worker, g := s.cfg.View.Owner(i.Instance)
			if g != nil && g.Reason != "" {
				m.Reasons = append(m.Reasons, "came there because "+g.Reason)
			}
			moves := g != nil && g.Revoked && g.To != "" && g.To == i.Worker
			if moves {
				m.Reasons = append(m.Reasons, fmt.Sprintf("moves to %s, and starts there when %s has stopped it", g.To, worker))
			}
			if left := s.cfg.View.Grace(worker, time.Now()); g != nil && left > 0 {
				m.Reasons = append(m.Reasons, fmt.Sprintf("%s is away; it is awaited for %v more", worker, left.Round(time.Second)))
			} else if i.Reason != "" && !moves { // the plan only takes the worker for one that gets nothing new
				m.Reasons = append(m.Reasons, i.Reason)
			}
			for _, w := range i.Workers {
				m.Workers = append(m.Workers, convert.WhyRowToProto(w))
			}
			if g == nil {
				waits = append(waits, m)
			}
			out.Instances = append(out.Instances, m)
		}
	})
	if len(waits) > 0 && s.pools != nil {
		pools := s.pools(r.GetId())
		for _, m := range waits {
			m.Pools = pools
		}
	}
	moves := s.lastMoves(r.GetId())
	for _, m := range out.GetInstances() {
		m.Moves = moves[m.GetInstance().GetIndex()]
	}
	return out, nil
}
