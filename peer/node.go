package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/worker"
)

// ErrWorkerNumExceedMaximum is returned by Err while the cluster already has
// Config.MaxNumNodes replicas, and by Run after Config.JoinWait.
var ErrWorkerNumExceedMaximum = rota.ErrTooManyWorkers

// sourceName is the name under which the generator's tasks are kept.
const sourceName = "generator"

// Node is one replica. It is safe for concurrent use.
type Node struct {
	cfg    Config
	worker *worker.Worker

	mu     sync.Mutex
	ran    bool
	cancel context.CancelFunc
	ended  chan struct{}
	err    error                // what Run has returned, or why there is no store yet
	sched  *scheduler.Scheduler // nil until the store is open
	store  store.Store
}

// New returns a replica that has not started.
func New(c Config) (*Node, error) {
	c, err := c.normalize()
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: c, ended: make(chan struct{})}
	n.worker, err = worker.New(worker.Config{
		Name: c.Name, Zone: c.Zone, Labels: c.Labels, Capacity: c.Capacity, MaxTasks: c.MaxTasks, Strength: c.Strength,
		Connect: n.connect, RoomWait: cmp.Or(c.JoinWait, -1), Exit: c.Exit, Logger: c.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	return n, nil
}

// connect connects the worker to the scheduler of the same process.
func (n *Node) connect(ctx context.Context, _ []string) (worker.Stream, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sched == nil {
		return nil, errors.New("peer: no scheduler yet")
	}
	return n.sched.Sessions().Dial(ctx), nil
}

// HandleTask registers the function for a kind of task ("" for tasks without a kind). Call
// it before Run; see worker.TaskFunc.
func (n *Node) HandleTask(kind string, f worker.TaskFunc) error { return n.worker.HandleTask(kind, f) }

// WatchTask returns a channel of events, for tasks that are given or taken away, instead of
// HandleTask. Call it once, before Run. A task counts as stopped as soon as its event was
// received; see worker.Worker.Watch.
func (n *Node) WatchTask() (<-chan worker.Event, error) { return n.worker.Watch() }

// WatchTaskUntilDone is WatchTask for tasks that must never run twice at once: each event
// for a task that is taken away must be answered by its Done; see
// worker.Worker.WatchUntilDone.
func (n *Node) WatchTaskUntilDone() (<-chan worker.Event, error) { return n.worker.WatchUntilDone() }

// Run takes part in the cluster until ctx ends or Stop is called, then leaves in order: it
// hands its tasks over first. While etcd is unavailable it keeps trying. It returns nil
// after leaving, or an error that says why it cannot take part: ErrWorkerNumExceedMaximum
// (after Config.JoinWait), rota.ErrNameAlive, a *rota.FieldError, rota.ErrNewerVersion, or
// worker.ErrOutlived (see Config.Exit). It can be called once.
func (n *Node) Run(ctx context.Context) error {
	n.mu.Lock()
	if n.ran {
		n.mu.Unlock()
		return errors.New("peer: Run was called before")
	}
	n.ran = true
	ctx, n.cancel = context.WithCancel(ctx)
	n.mu.Unlock()
	defer n.cancel()
	err := n.run(ctx)
	n.mu.Lock()
	n.err = err
	n.mu.Unlock()
	close(n.ended)
	return err
}

func (n *Node) run(ctx context.Context) (err error) {
	st, closeStore, err := n.open(ctx)
	if err != nil || st == nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore()) }()
	c := n.cfg
	sched, err := scheduler.New(scheduler.Config{
		Store: st, Name: c.Name, Lease: c.TTL, Interval: c.Interval, Timeout: c.Timeout, Debounce: c.ReBalanceWait,
		MaxWorkers: c.MaxNumNodes, BarrierWorkers: c.Gather, BarrierWait: c.GatherWait, Placement: c.Placement,
		Sources: []*source.Source{source.Func(sourceName, c.Generator)}, Hold: cmp.Or(c.Hold, 1), HoldFor: c.HoldFor, Logger: c.Logger,
	})
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	n.mu.Lock()
	n.sched, n.store, n.err = sched, st, nil
	n.mu.Unlock()

	// The scheduler outlives the worker: it is what the worker says farewell to.
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		failed <- sched.Run(context.WithoutCancel(ctx))
		cancel()
	}()
	var worked error
	if sched.Ready(ctx) == nil {
		worked = n.worker.Run(ctx)
	}
	stopped := sched.Stop(context.WithoutCancel(ctx))
	<-failed //nolint:errcheck // Stop has answered it
	return errors.Join(worked, stopped)
}

// open opens the store, and goes on trying while etcd is not there. Without
// store and error, ctx has ended.
func (n *Node) open(ctx context.Context) (st store.Store, closer func() error, err error) {
	if n.cfg.Store != nil {
		return n.cfg.Store, func() error { return nil }, nil
	}
	for {
		s, err := etcd.Open(ctx, n.cfg.Etcd)
		var field *rota.FieldError
		switch {
		case err == nil:
			return s, s.Close, nil
		case ctx.Err() != nil:
			return nil, nil, nil //nolint:nilerr // asked to end, which is no error
		case errors.As(err, &field):
			return nil, nil, fmt.Errorf("peer: %w", err)
		}
		n.cfg.Logger.Error("etcd does not answer; trying again", "error", err)
		n.mu.Lock()
		n.err = fmt.Errorf("peer: %w", err)
		n.mu.Unlock()
	}
}

// Start calls Run in the background; see Err and Done.
func (n *Node) Start() { go func() { _ = n.Run(context.Background()) }() }

// Stop makes the replica leave in order, and waits until it has left or ctx ends. It may be
// called before Start, repeatedly, and concurrently.
func (n *Node) Stop(ctx context.Context) error {
	n.mu.Lock()
	if !n.ran {
		n.ran = true // it will never run
		close(n.ended)
	}
	if n.cancel != nil {
		n.cancel()
	}
	n.mu.Unlock()
	select {
	case <-n.ended:
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.err
	case <-ctx.Done():
		return fmt.Errorf("peer: stop: %w", ctx.Err())
	}
}

// Done is closed when Run has returned.
func (n *Node) Done() <-chan struct{} { return n.ended }

// Err says why the replica does not take part: the error that Run returned or, while Run
// keeps trying, that etcd is unavailable, ErrWorkerNumExceedMaximum, rota.ErrNameAlive or
// worker.ErrLeaseEnded. It is nil while the replica takes part, and after an orderly end.
func (n *Node) Err() error {
	n.mu.Lock()
	err := n.err
	n.mu.Unlock()
	select {
	case <-n.ended:
		return err
	default:
		return cmp.Or(err, n.worker.Err())
	}
}

// NotifySchedule asks the leader, on whichever replica, for a pass, which calls the
// generator at once. The reason is for people.
func (n *Node) NotifySchedule(ctx context.Context, reason string) error {
	n.mu.Lock()
	st := n.store
	n.mu.Unlock()
	if st == nil {
		return errors.New("peer: notify: not running")
	}
	if len(reason) > rota.MaxIDLen {
		return fmt.Errorf("peer: notify: %w", &rota.FieldError{Field: "reason", Value: len(reason), Want: fmt.Sprintf("at most %d bytes", rota.MaxIDLen)})
	}
	if _, _, err := st.Txn(ctx, nil, []store.Op{{Key: store.KickKey, Value: []byte(reason)}}); err != nil {
		return fmt.Errorf("peer: notify: %w", err)
	}
	return nil
}

// Name is the replica's name.
func (n *Node) Name() string { return n.cfg.Name }

// Status returns the replica's state: new, registered, in_barrier, left_barrier, leaving,
// or dead.
func (n *Node) Status() worker.Status { return n.worker.Status() }

// Tasks returns what runs in this replica now.
func (n *Node) Tasks() []worker.Assigned { return n.worker.Tasks() }

// IsAllRunning reports whether every task of the cluster is known to run, on any replica.
func (n *Node) IsAllRunning() bool { return n.worker.AllRunning() }

// TryLeaveBarrier waits, at most d, until every task of the cluster runs, and reports
// whether it does. A rolling update waits for it before it restarts the next replica.
func (n *Node) TryLeaveBarrier(d time.Duration) bool { return n.worker.TryLeaveBarrier(d) }

// ReadyHandler returns a handler for readiness probes. It answers 200 if this replica takes
// part or, with ?scope=cluster, if every task of the cluster runs; otherwise 503.
func (n *Node) ReadyHandler() http.Handler { return n.worker.ReadyHandler() }

// Leads reports whether this replica leads, as far as it knows.
func (n *Node) Leads() (yes bool) {
	n.mu.Lock()
	s := n.sched
	n.mu.Unlock()
	if s == nil {
		return false
	}
	v := s.View()
	v.Read(func() { yes = v.Leader != nil && v.Leader.Name == n.cfg.Name })
	return yes
}
