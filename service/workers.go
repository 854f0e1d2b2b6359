package service

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota/api/convert"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// States of a worker.
const (
	workerReady    = "ready"
	workerCordoned = "cordoned"
	workerDraining = "draining"
	workerLost     = "lost"
)

// ListWorkers lists the living workers and those lost lately, by name.
func (s *Service) ListWorkers(ctx context.Context, _ *rotav1.ListWorkersRequest) (*rotav1.ListWorkersResponse, error) {
	out := &rotav1.ListWorkersResponse{}
	left := s.leasesElsewhere(ctx)
	s.cfg.View.Read(func() {
		for _, name := range s.workerNames() {
			if w := s.worker(name); w != nil {
				if w.GetLeaseLeftMs() == 0 {
					w.LeaseLeftMs = left[name].Milliseconds()
				}
				out.Workers = append(out.Workers, w)
			}
		}
	})
	return out, nil
}

// leasesElsewhere asks the store how long the leases of workers last whose
// sessions other schedulers hold.
func (s *Service) leasesElsewhere(ctx context.Context) map[string]time.Duration {
	leases := map[string]store.LeaseID{}
	s.cfg.View.Read(func() {
		for name, session := range s.cfg.View.Sessions {
			if s.cfg.LeaseLeft == nil || s.cfg.LeaseLeft(name) == 0 {
				leases[name] = store.LeaseID(session.GetLease())
			}
		}
	})
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	var (
		mu   sync.Mutex
		left = make(map[string]time.Duration, len(leases))
		all  sync.WaitGroup
		room = make(chan struct{}, leasesAtOnce)
	)
	for name, id := range leases {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			d, err := s.cfg.Store.LeaseLeft(ctx, id)
			if err != nil {
				return // unknown is 0
			}
			mu.Lock()
			left[name] = d
			mu.Unlock()
		})
	}
	all.Wait()
	return left
}

// Asking after leases must not hold up a list.
const (
	leaseTimeout = time.Second
	leasesAtOnce = 32
)

// GetWorker answers one worker.
func (s *Service) GetWorker(_ context.Context, r *rotav1.GetWorkerRequest) (*rotav1.Worker, error) {
	return s.getWorker(r.GetName())
}

func (s *Service) getWorker(name string) (w *rotav1.Worker, err error) {
	s.cfg.View.Read(func() { w = s.worker(name) })
	if w == nil {
		return nil, noWorker(name)
	}
	return w, nil
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
		switch {
		case node.GetDraining() || session.GetLeaving():
			m.State = workerDraining
		case node.GetCordoned():
			m.State = workerCordoned
		}
	case node != nil:
		facts = node.GetLast()
		m.State = workerLost
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
		for r := range g.All() {
			if t, ok := v.Tasks.Get(r.Instance.Task); ok {
				m.Weight += t.Weight
			}
		}
	}
	return m
}

// CordonWorker gives the worker nothing new.
func (s *Service) CordonWorker(ctx context.Context, r *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return s.setNode(ctx, r.GetName(), func(n *storepb.Node) { n.Cordoned = true })
}

// DrainWorker also empties it.
func (s *Service) DrainWorker(ctx context.Context, r *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return s.setNode(ctx, r.GetName(), func(n *storepb.Node) { n.Draining = true })
}

// UndrainWorker ends both.
func (s *Service) UndrainWorker(ctx context.Context, r *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return s.setNode(ctx, r.GetName(), func(n *storepb.Node) { n.Cordoned, n.Draining = false, false })
}

// GetStoppable says whether workers may all be stopped now.
func (s *Service) GetStoppable(_ context.Context, r *rotav1.GetStoppableRequest) (*rotav1.Stoppable, error) {
	if len(r.GetNames()) == 0 {
		return nil, convert.FieldStatus("names", "want at least one worker")
	}
	for _, name := range r.GetNames() {
		if _, err := s.getWorker(name); err != nil {
			return nil, err
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
	return &rotav1.Stoppable{Stoppable: verdict.OK, Reasons: verdict.Reasons, Moves: int64(verdict.Moves)}, nil
}

// setNode changes what is remembered of a worker.
func (s *Service) setNode(ctx context.Context, name string, change func(*storepb.Node)) (*rotav1.Worker, error) {
	if _, err := s.getWorker(name); err != nil {
		return nil, err
	}
	key := store.NodeKey(name)
	err := s.again(ctx, func() (bool, error) {
		kv, ok, _, err := s.cfg.Store.Get(ctx, key)
		if err != nil {
			return false, err
		}
		n := &storepb.Node{Name: name}
		if ok {
			if err := record.Decode(kv.Value, n); err != nil {
				return false, status.Error(codes.Internal, err.Error())
			}
		}
		change(n)
		n.Version = record.Version
		op := store.Op{Key: key}
		if op.Delete = !n.GetCordoned() && !n.GetDraining() && n.GetLostUnixMs() == 0 && n.GetLast() == nil; !op.Delete {
			if op.Value, err = record.Encode(n); err != nil {
				return false, err
			}
		}
		done, rev, err := s.cfg.Store.Txn(ctx, []store.Cond{{Key: key, By: store.ByMod, Revision: kv.Mod}}, []store.Op{op})
		if err != nil || !done {
			return false, err
		}
		if op.Delete && !ok {
			return true, nil // nothing was there and nothing is: no event will come
		}
		return true, s.cfg.View.Wait(ctx, rev)
	})
	if err != nil {
		return nil, err
	}
	return s.getWorker(name)
}
