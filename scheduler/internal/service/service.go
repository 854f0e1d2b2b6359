package service

import (
	"context"
	"log/slog"
	"sync"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/relay"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Config is what a Service needs.
type Config struct {
	Store store.Store
	View  *view.View
	// Scheduler is the name of the scheduler that this is part of.
	Scheduler string
	// Desk is where what tasks have written comes in, and Peers lead to the schedulers
	// that have the sessions of other workers.
	Desk  *relay.Desk
	Peers *relay.Peers
	// ReadLog asks a worker for what an instance of it has written. gone is closed when
	// the connection on which it was asked has ended; ok is false if its session is
	// with another scheduler.
	ReadLog func(worker string, ask *rotav1.ReadLog) (gone <-chan struct{}, ok bool)
	// Capacity is the account of workers' capacity.
	Capacity *capacity.Account
	// Log is what happened; nil: nothing did. Events takes what callers ask for; nil:
	// nobody does.
	Log    *events.Log
	Events *events.Recorder
	// Placement is how the leader places; plans and reasons are asked alike.
	Placement placement.Options
	// Sources are the names of the sources that the leader reads.
	Sources []string
	// LeaseLeft says how long a worker's lease lasts at the least, 0 if unknown.
	LeaseLeft func(worker string) time.Duration
	// Machine says how things are where a worker runs: how far its clock is ahead, and
	// when its certificate ends; ok is false if this scheduler does not hold its
	// session. Nil says nothing.
	Machine func(worker string) (ahead time.Duration, certificateEnds time.Time, ok bool)
	// Moving is the number of moves under way, 0 where this is not the leader.
	Moving func() int64
	// Lease is how long a program lives without a word from its scheduler function.
	Lease time.Duration
	// Age is how old the picture is, and whether that is too old. Nil says nothing.
	Age func() (time.Duration, bool)
	// StoreMembers are the members of the store. Nil says nothing.
	StoreMembers func() []store.Member
	// Version is what the status says of the build.
	Version string
}

// Service implements the services of rota.v1 but those of sessions and jobs.
type Service struct {
	rotav1.UnimplementedTasksServer
	rotav1.UnimplementedWorkersServer
	rotav1.UnimplementedClusterServer
	rotav1.UnimplementedProgramsServer
	rotav1.UnimplementedEventsServer
	cfg   Config
	fence *commit.Fence
	pools func(task string) []*rotav1.WhyPool // nil: there are none

	mu       sync.Mutex
	planner  *placement.Planner // the picture as of plannedAt
	planned  int64              // the change count that planner is of
	changes  int64              // counts what the view said
	changeMu sync.Mutex
	sub      *view.Subscription
	deaf     func()        // ends the account's calls
	scanning chan struct{} // of lists that walk over all tasks
	reading  chan struct{} // of a file of tasks
	readers  map[logReader]int
}

// Pools has Why ask f which pools would help a task that waits. It is called before
// anybody is served.
func (s *Service) Pools(f func(task string) []*rotav1.WhyPool) { s.pools = f }

// New returns a service. Close it.
func New(c Config) *Service {
	if c.Log == nil {
		c.Log = events.NewLog(events.Limits{}, slog.New(slog.DiscardHandler)) // nothing happened
	}
	s := &Service{cfg: c, fence: &commit.Fence{Store: c.Store, Key: store.FenceKey(store.APIFencesPrefix, c.Scheduler)}, planned: -1, scanning: make(chan struct{}, scans), reading: make(chan struct{}, 1)}
	s.sub = c.View.Subscribe(nil, func(d *view.Delta) {
		if len(d.Tasks)+len(d.Grants)+len(d.Sessions)+len(d.Nodes) > 0 || d.Suspects {
			s.changed()
		}
	})
	s.deaf = c.Capacity.Notify(s.changed)
	return s
}

// changed has the next question asked of the picture as it is then.
func (s *Service) changed() {
	s.changeMu.Lock()
	defer s.changeMu.Unlock()
	s.changes++
}

// Close ends the service's interest in the view.
func (s *Service) Close() {
	s.sub.Close()
	s.deaf()
}

// Register adds the services to a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	rotav1.RegisterTasksServer(r, s)
	rotav1.RegisterWorkersServer(r, s)
	rotav1.RegisterClusterServer(r, s)
	rotav1.RegisterProgramsServer(r, s)
	rotav1.RegisterEventsServer(r, s)
}

// longestPause is the longest between two attempts.
const longestPause = 50 * time.Millisecond

// attempts is how often a write is tried against others that write the same.
const attempts = 50

// again runs f until it is done, fails, or was overtaken too often.
func (s *Service) again(ctx context.Context, f func() (done bool, err error)) error {
	pause := backoff.Backoff{First: 2 * time.Millisecond, Most: longestPause, Jitter: true}
	for range attempts {
		done, err := f()
		if err != nil {
			return convert.StoreError(err)
		}
		if done {
			return nil
		}
		// Somebody was faster. The view has it soon.
		if err := pause.Wait(ctx); err != nil {
			return status.FromContextError(err).Err()
		}
	}
	return status.Error(codes.Aborted, "too much contention on the same record; try again")
}

// seenTimeout bounds a wait for the picture to have what the store has: whoever asked
// is told before they go.
const seenTimeout = 10 * time.Second

// catchUp is that of the picture, see view.View, with the answer if it fails. Nothing
// that this scheduler was asked for before can still land then.
func (s *Service) catchUp(ctx context.Context) error {
	if err := s.fence.Settle(ctx); err != nil {
		return convert.ReadError(err)
	}
	return convert.ReadError(s.cfg.View.CatchUp(ctx))
}

// seen returns when the picture has a revision of the store.
func (s *Service) seen(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	return s.cfg.View.Wait(ctx, revision)
}
