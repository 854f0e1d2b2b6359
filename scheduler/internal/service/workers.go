package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// States of a worker.
const (
	workerReady    = "ready"
	workerCordoned = "cordoned"
	workerDraining = "draining"
	workerLost     = "lost"
	workerAway     = "away" // it left in order, and is waited for
)

// ListWorkers lists the living workers and those lost lately, by name.
func (s *Service) ListWorkers(ctx context.Context, r *rotav1.ListWorkersRequest) (*rotav1.ListWorkersResponse, error) {
	var all []*rotav1.Worker
	s.cfg.View.Read(func() {
		for _, name := range s.workerNames() {
			all = append(all, s.worker(name))
		}
		for _, id := range slices.Sorted(maps.Keys(s.cfg.View.OldWorkers)) {
			all = append(all, s.oldWorker(id))
		}
	})
	out, err := pageOfWorkers(r, all)
	if err != nil {
		return nil, err
	}
	s.askLeases(ctx, out.GetWorkers())
	return out, nil
}

// askLeases asks the store how long the leases of workers last whose sessions
// other schedulers hold. Unknown is 0.
func (s *Service) askLeases(ctx context.Context, workers []*rotav1.Worker) {
	leases := make([]store.LeaseID, len(workers))
	s.cfg.View.Read(func() {
		for n, w := range workers {
			if session := s.cfg.View.Sessions[w.GetName()]; session != nil && w.GetLeaseLeftMs() == 0 {
				leases[n] = store.LeaseID(session.GetLease())
			}
		}
	})
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	var all sync.WaitGroup
	room := make(chan struct{}, leasesAtOnce)
	for n, id := range leases {
		if id == 0 {
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			if d, err := s.cfg.Store.LeaseLeft(ctx, id); err == nil {
				workers[n].LeaseLeftMs = d.Milliseconds()
			}
		})
	}
	all.Wait()
}

// Asking after leases must not hold up a list.
const (
	leaseTimeout = time.Second
	leasesAtOnce = 32
)

// GetWorker answers one worker.
func (s *Service) GetWorker(ctx context.Context, r *rotav1.GetWorkerRequest) (*rotav1.Worker, error) {
	return s.getWorker(ctx, r.GetName())
}

func (s *Service) getWorker(ctx context.Context, name string) (w *rotav1.Worker, err error) {
	s.cfg.View.Read(func() {
		if w = s.worker(name); w == nil {
			w = s.oldWorker(name)
		}
	})
	if w == nil {
		return nil, noWorker(name)
	}
	s.askLeases(ctx, []*rotav1.Worker{w})
	return w, nil
}

// oldProtocol is the label of workers that have no session: they speak the
// protocol jobscheduler, take jobs by /start only, and are named by their id.
var oldProtocol = map[string]string{"protocol": "jobscheduler"}

// oldWorker is a worker of the old protocol as the API shows it, nil if it is
// not known; the view stands still.
func (s *Service) oldWorker(id string) *rotav1.Worker {
	w := s.cfg.View.OldWorkers[id]
	if w == nil {
		return nil
	}
	return &rotav1.Worker{Name: id, State: workerReady, Host: w.GetAddress(), Scheduler: w.GetScheduler(), Labels: oldProtocol}
}

// known reports whether anything is known of a worker.
func (s *Service) known(name string) (yes bool) {
	v := s.cfg.View
	v.Read(func() { yes = v.Sessions[name] != nil || v.Nodes[name] != nil })
	return yes
}

func noWorker(name string) error { return status.Errorf(codes.NotFound, "worker %q: not found", name) }

func (s *Service) workerNames() []string {
	v := s.cfg.View
	names := slices.AppendSeq(make([]string, 0, len(v.Sessions)+len(v.Nodes)), maps.Keys(v.Sessions))
	for name := range v.Nodes {
		if v.Sessions[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// worker is a worker as the API shows it, nil if nothing is known of it; the
// view stands still.
func (s *Service) worker(name string) *rotav1.Worker {
	v := s.cfg.View
	session, node := v.Sessions[name], v.Nodes[name]
	var facts *storepb.Session
	m := &rotav1.Worker{Name: name, State: workerReady}
	switch {
	case session != nil:
		facts = session.Session
		if s.cfg.LeaseLeft != nil {
			m.LeaseLeftMs = s.cfg.LeaseLeft(name).Milliseconds()
		}
		if s.cfg.Machine != nil {
			if ahead, ends, ok := s.cfg.Machine(name); ok {
				m.ClockAheadMs, m.CertificateEnds = proto.Int64(ahead.Milliseconds()), timeOf(ends)
			}
		}
		switch {
		case node.GetDraining() || session.GetLeaving():
			m.State = workerDraining
		case node.GetCordoned():
			m.State = workerCordoned
		}
	case node != nil:
		facts = node.GetLast()
		if m.State = workerLost; facts.GetLeaving() {
			m.State = workerAway
		}
	default:
		return nil
	}
	m.Incarnation, m.Pid, m.Host, m.Zone, m.Labels = facts.GetIncarnation(), facts.GetPid(), facts.GetHost(), facts.GetZone(), facts.GetLabels()
	m.Kinds, m.Capacity, m.MaxTasks = facts.GetKinds(), facts.GetCapacity(), facts.GetMaxTasks()
	m.Strength, m.Version, m.Scheduler = facts.GetStrength(), facts.GetBuild(), facts.GetScheduler()
	if m.GetStrength() == 0 {
		m.Strength = 1
	}
	if g := v.Grants[name]; g != nil {
		m.Instances = int64(g.Len())
	}
	m.Weight = v.Weight(name)
	return m
}

// CordonWorker gives the worker nothing new.
func (s *Service) CordonWorker(ctx context.Context, r *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return s.setNode(ctx, r.GetName(), events.WorkerCordoned, func(n *storepb.Node) { n.Cordoned = true })
}

// DrainWorker also empties it.
func (s *Service) DrainWorker(ctx context.Context, r *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return s.setNode(ctx, r.GetName(), events.WorkerDraining, func(n *storepb.Node) { n.Draining = true })
}

// UndrainWorker ends both.
func (s *Service) UndrainWorker(ctx context.Context, r *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return s.setNode(ctx, r.GetName(), events.WorkerUncordoned, func(n *storepb.Node) { n.Cordoned, n.Draining = false, false })
}

// ForgetWorker has a worker that is lost or away, and holds nothing, be in no list any
// more, and answers what it was.
func (s *Service) ForgetWorker(ctx context.Context, r *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	name := r.GetName()
	var was *rotav1.Worker
	err := s.changeNode(ctx, name, events.WorkerForgotten, func(n *storepb.Node) error {
		s.cfg.View.Read(func() { was = s.worker(name) })
		switch was.GetState() {
		case workerLost, workerAway:
		case "":
			return noWorker(name)
		default:
			return status.Errorf(codes.FailedPrecondition, "worker %q is %s: only one that is lost or away can be forgotten", name, was.GetState())
		}
		if held := was.GetInstances(); held > 0 {
			return status.Errorf(codes.FailedPrecondition, "worker %q may come back to %s within its grace", name, text.Count(held, "instance", "instances"))
		}
		proto.Reset(n)
		return nil
	}, store.Cond{Key: store.SessionKey(name), By: store.ByCreate})
	return was, err
}

// GetStoppable says whether workers may all be stopped now.
func (s *Service) GetStoppable(_ context.Context, r *rotav1.GetStoppableRequest) (*rotav1.Stoppable, error) {
	if len(r.GetNames()) == 0 {
		return nil, convert.FieldStatus("names", "names: want at least one worker")
	}
	for _, name := range r.GetNames() {
		if !s.known(name) {
			return nil, noWorker(name)
		}
	}
	var verdict placement.Verdict
	err := s.ask(func(p *placement.Planner) error {
		verdict = p.Stoppable(r.GetNames()...)
		return nil
	})
	if err != nil {
		return nil, convert.Error(err)
	}
	reasons := append(s.doubts(), verdict.Reasons...)
	return &rotav1.Stoppable{Stoppable: verdict.OK && len(reasons) == 0, Reasons: reasons, Moves: int64(verdict.Moves)}, nil
}

// doubts are why nothing can be promised of the whole cluster now.
func (s *Service) doubts() (out []string) {
	if s.cfg.Age != nil {
		if age, stale := s.cfg.Age(); stale {
			out = append(out, fmt.Sprintf("the store last answered %v ago: this may be out of date", age.Round(100*time.Millisecond)))
		}
	}
	v := s.cfg.View
	v.Read(func() {
		if v.Leader == nil {
			out = append(out, "no scheduler leads: nobody would move the tasks to other workers")
		}
	})
	return out
}

// setNode changes what is remembered of a worker, and answers the worker.
func (s *Service) setNode(ctx context.Context, name, kind string, change func(*storepb.Node)) (*rotav1.Worker, error) {
	err := s.changeNode(ctx, name, kind, func(n *storepb.Node) error {
		change(n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.getWorker(ctx, name)
}

// changeNode changes what is remembered of a worker, on conditions, and tells of it as an
// event.
func (s *Service) changeNode(ctx context.Context, name, kind string, change func(*storepb.Node) error, conds ...store.Cond) error {
	if !s.known(name) { // it may have joined at another scheduler this very moment
		if err := s.catchUp(ctx); err != nil {
			return err
		}
		if !s.known(name) {
			return noWorker(name)
		}
	}
	key := store.NodeKey(name)
	err := s.again(ctx, func() (bool, error) {
		kv, ok, _, err := s.cfg.Store.Get(ctx, key)
		if err != nil {
			return false, convert.ReadError(err)
		}
		n := &storepb.Node{Name: name}
		if ok {
			if err := record.Decode(kv.Value, n); err != nil {
				return false, status.Error(codes.Internal, err.Error())
			}
		}
		if err := change(n); err != nil {
			return false, err
		}
		n.Version = record.Version
		op := store.Op{Key: key}
		if op.Delete = !n.GetCordoned() && !n.GetDraining() && n.GetLostUnixMs() == 0 && n.GetLast() == nil; !op.Delete {
			if op.Value, err = record.Encode(n); err != nil {
				return false, err
			}
		}
		done, rev, err := s.fence.Txn(ctx, append(conds, store.Cond{Key: key, By: store.ByMod, Revision: kv.Mod}), []store.Op{op})
		if err != nil || !done {
			return false, err
		}
		if op.Delete && !ok {
			return true, nil // nothing was there and nothing is: no event will come
		}
		return true, convert.UnseenError(s.seen(ctx, rev))
	})
	if err != nil {
		return err
	}
	s.record(ctx, kind, events.Subject{Worker: name}, "")
	return nil
}
