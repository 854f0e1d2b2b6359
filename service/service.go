package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/view"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Config is what a Service needs.
type Config struct {
	Store store.Store
	View  *view.View
	// Placement is how the leader places; plans and reasons are asked alike.
	Placement placement.Options
	// Sources are the names of the sources that the leader reads.
	Sources []string
	// LeaseLeft says how long a worker's lease lasts at the least, 0 if unknown.
	LeaseLeft func(worker string) time.Duration
	// Moving is the number of moves under way, 0 where this is not the leader.
	Moving func() int64
	// Lease is how long a program lives without a word from its scheduler function.
	Lease time.Duration
	// Age is how old the picture is, and whether that is too old. Nil says nothing.
	Age func() (time.Duration, bool)
	// Version is what the status says of the build.
	Version string
}

// Service implements the three services of rota.v1.
type Service struct {
	rotav1.UnimplementedTasksServer
	rotav1.UnimplementedWorkersServer
	rotav1.UnimplementedClusterServer
	rotav1.UnimplementedProgramsServer
	cfg Config

	mu       sync.Mutex
	planner  *placement.Planner // the picture as of plannedAt
	planned  int64              // the change count that planner is of
	changes  int64              // counts what the view said
	changeMu sync.Mutex
	sub      *view.Subscription
}

// New returns a service. Close it.
func New(c Config) *Service {
	s := &Service{cfg: c, planned: -1}
	s.sub = c.View.Subscribe(nil, func(d *view.Delta) {
		if len(d.Tasks)+len(d.Grants)+len(d.Sessions)+len(d.Nodes) > 0 {
			s.changeMu.Lock()
			s.changes++
			s.changeMu.Unlock()
		}
	})
	return s
}

// Close ends the service's interest in the view.
func (s *Service) Close() { s.sub.Close() }

// Register adds the services to a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	rotav1.RegisterTasksServer(r, s)
	rotav1.RegisterWorkersServer(r, s)
	rotav1.RegisterClusterServer(r, s)
	rotav1.RegisterProgramsServer(r, s)
}

// longestPause is the longest between two attempts.
const longestPause = 50 * time.Millisecond

// attempts is how often a write is tried against others that write the same.
const attempts = 50

// again runs f until it is done, fails, or was overtaken too often.
func (s *Service) again(ctx context.Context, f func() (done bool, err error)) error {
	pause := 2 * time.Millisecond
	for range attempts {
		done, err := f()
		if err != nil {
			return unavailable(err)
		}
		if done {
			return nil
		}
		// Somebody was faster. The view has it soon.
		select {
		case <-time.After(pause/2 + rand.N(pause)):
			pause = min(2*pause, longestPause)
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	return status.Error(codes.Aborted, "others write the same all the time; try again")
}

// unavailable is what the API answers to an error of the store; what has a
// status keeps it.
func unavailable(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the store did not answer in time; what was asked may be done or not, ask again")
	case errors.Is(err, store.ErrNoSpace):
		return status.Error(codes.ResourceExhausted, "the store is full; nothing was done (docs/etcd.md says how to make room)")
	case errors.Is(err, store.ErrTooLarge):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return status.Error(codes.Unavailable, fmt.Sprintf("store: %v; what was asked may be done or not, ask again", err))
}
