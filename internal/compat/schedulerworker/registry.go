package schedulerworker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/uuid"
)

// Limits of a Registry.
const (
	// maxWorkers is the most old workers.
	maxWorkers = 1000
	// answerTimeout is how long a worker may take to be reached when it
	// registers, or when its connection broke.
	answerTimeout = 10 * time.Second
	// callTimeout bounds a call of a worker that the caller has not bounded.
	callTimeout = 30 * time.Second
)

// ErrNoWorker is the answer to a worker id that is not, or no longer, there. Its
// text is part of the old API.
var ErrNoWorker = errors.New("worker not found")

// RegistryConfig of a Registry. The zero value is useful.
type RegistryConfig struct {
	// Credentials to dial workers with. Nil means no TLS.
	Credentials credentials.TransportCredentials
	// Keeper remembers the workers. Nil: they are forgotten with the Registry.
	Keeper Keeper
	// Log hears of workers that come and go. Nil: nobody does.
	Log *slog.Logger
}

// Keeper remembers the workers of registries that share it: those of all
// schedulers of a cluster. Whoever has it tells each Registry of what the others
// did, by Add and Remove.
type Keeper interface {
	// Keep remembers a worker that has registered here.
	Keep(ctx context.Context, w OldWorker) error
	// Forget forgets a worker.
	Forget(ctx context.Context, id string) error
	// Decides reports whether this registry is to forget the worker when the
	// connection to it has died.
	Decides(id string) bool
}

// OldWorker is a worker of the old kind.
type OldWorker struct {
	ID      string
	Address string
	Since   time.Time
}

// Registry keeps the old workers that have registered. One sends no heartbeat:
// it is there as long as the connection to it stands. After a restart of the
// scheduler those that the Keeper remembers are given a while to be reached.
type Registry struct {
	jobschedulerv1.UnimplementedSchedulerServer
	cfg RegistryConfig

	mu      sync.Mutex
	closed  bool
	workers map[string]*oldWorker
	wg      sync.WaitGroup
}

type oldWorker struct {
	OldWorker
	conn    *grpc.ClientConn
	cancel  context.CancelFunc
	reached bool // once at least; only watch uses it
}

// NewRegistry returns an empty one. Close it.
func NewRegistry(c RegistryConfig) *Registry {
	if c.Credentials == nil {
		c.Credentials = insecure.NewCredentials()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{cfg: c, workers: map[string]*oldWorker{}}
}

// RegisterWorker takes a worker in. The same address gets the same id again.
func (r *Registry) RegisterWorker(ctx context.Context, req *jobschedulerv1.RegisterReq) (*jobschedulerv1.RegisterRes, error) {
	addr, err := dialAddress(ctx, req.GetAddress())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	w := OldWorker{ID: uuid.Of(addr), Address: addr, Since: time.Now()}
	if r.full(w.ID) {
		return nil, status.Errorf(codes.ResourceExhausted, "no more than %d workers", maxWorkers)
	}
	if r.cfg.Keeper != nil {
		if err := r.cfg.Keeper.Keep(ctx, w); err != nil {
			return nil, keeperError(err)
		}
	}
	r.Remove(w.ID) // a new connection to the same address: the worker may be a new process
	if err := r.Add(w); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "address %q: %v", addr, err)
	}
	r.cfg.Log.Info("old worker registered", "worker", w.ID, "address", addr)
	return &jobschedulerv1.RegisterRes{Success: true, WorkerID: w.ID}, nil
}

func (r *Registry) full(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed || r.workers[id] == nil && len(r.workers) >= maxWorkers
}

// Add takes in a worker that has registered, here or elsewhere. One that is
// there already stays as it is.
func (r *Registry) Add(known OldWorker) error {
	conn, err := grpc.NewClient("passthrough:///"+known.Address,
		grpc.WithTransportCredentials(r.cfg.Credentials),
		grpc.WithIdleTimeout(0), // the connection is the sign of life
		grpc.WithAuthority(known.Address),
		grpc.WithContextDialer(dial),
	)
	if err != nil {
		return fmt.Errorf("jobscheduler: %w", err)
	}
	watch, cancel := context.WithCancel(context.Background())
	w := &oldWorker{OldWorker: known, conn: conn, cancel: cancel}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.workers[w.ID] != nil {
		w.end()
		return nil
	}
	r.workers[w.ID] = w
	r.wg.Go(func() { r.watch(watch, w) })
	return nil
}

// Remove lets go of a worker, if it is there: it was forgotten elsewhere.
func (r *Registry) Remove(id string) {
	r.mu.Lock()
	w := r.workers[id]
	delete(r.workers, id)
	r.mu.Unlock()
	if w != nil {
		w.end()
	}
}

// DeregisterWorker lets a worker go. One that is not there is gone already.
func (r *Registry) DeregisterWorker(ctx context.Context, req *jobschedulerv1.DeregisterReq) (*jobschedulerv1.DeregisterRes, error) {
	id := req.GetWorkerID()
	if r.cfg.Keeper != nil && uuid.Valid(id) {
		if err := r.cfg.Keeper.Forget(ctx, id); err != nil {
			return nil, keeperError(err)
		}
	}
	r.Remove(id)
	return &jobschedulerv1.DeregisterRes{Success: true}, nil
}

// keeperError is what is answered to an error of the Keeper; what has a status keeps it.
func keeperError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unavailable, err.Error())
}

// dialAddress is where the worker says it is; if it names no host, where it
// calls from.
func dialAddress(ctx context.Context, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
		return "", fmt.Errorf("address %q: want host:port", text.Clip(address, text.Short))
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		p, ok := peer.FromContext(ctx)
		if !ok {
			return "", fmt.Errorf("address %q: want a host", text.Clip(address, text.Short))
		}
		if host, _, err = net.SplitHostPort(p.Addr.String()); err != nil {
			return "", fmt.Errorf("address %q: want a host", text.Clip(address, text.Short))
		}
	}
	return net.JoinHostPort(host, port), nil
}

// dial notices a machine that is gone without a word by the kernel's own
// probes: an old server would answer gRPC's with an end of the connection.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	return d.DialContext(ctx, "tcp", addr)
}

func (w *oldWorker) end() {
	w.cancel()
	_ = w.conn.Close()
}

// watch drops the worker when its connection dies and does not come back. While
// another scheduler is to decide that, or the decision cannot be kept, it goes on.
func (r *Registry) watch(ctx context.Context, w *oldWorker) {
	for ctx.Err() == nil {
		for r.reach(ctx, w) {
			for s := connectivity.Ready; s == connectivity.Ready; s = w.conn.GetState() {
				if !w.conn.WaitForStateChange(ctx, s) {
					return
				}
			}
		}
		if ctx.Err() == nil && r.drop(ctx, w) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// drop forgets a worker that is gone, if that is for this registry to say.
func (r *Registry) drop(ctx context.Context, w *oldWorker) bool {
	if k := r.cfg.Keeper; k != nil {
		if !k.Decides(w.ID) {
			return false
		}
		// A Keeper may have it Removed before it answers, and that ends ctx.
		if err := k.Forget(ctx, w.ID); err != nil && ctx.Err() == nil {
			r.cfg.Log.Warn("old worker is gone, and cannot be forgotten", "worker", w.ID, "error", err)
			return false
		}
	}
	r.mu.Lock()
	closed := r.closed
	if r.workers[w.ID] == w {
		delete(r.workers, w.ID)
	}
	r.mu.Unlock()
	if closed {
		return true
	}
	w.end()
	r.cfg.Log.Warn("old worker is gone", "worker", w.ID, "address", w.Address)
	return true
}

// reach connects. Who was reached before and now refuses is gone; who was not
// gets a while, for a worker may register before it listens.
func (r *Registry) reach(ctx context.Context, w *oldWorker) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for {
		s := w.conn.GetState()
		switch s {
		case connectivity.Ready:
			w.reached = true
			return true
		case connectivity.Shutdown:
			return false
		case connectivity.TransientFailure:
			if w.reached {
				return false
			}
		case connectivity.Idle:
			w.conn.Connect()
		case connectivity.Connecting:
		}
		if !w.conn.WaitForStateChange(ctx, s) {
			return false
		}
	}
}

// List is the workers that are there, oldest first.
func (r *Registry) List() []OldWorker {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]OldWorker, 0, len(r.workers))
	for _, w := range r.workers {
		out = append(out, w.OldWorker)
	}
	slices.SortFunc(out, func(a, b OldWorker) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID)) })
	return out
}

// Close lets all workers go.
func (r *Registry) Close() {
	r.mu.Lock()
	r.closed = true
	for _, w := range r.workers {
		w.end()
	}
	clear(r.workers)
	r.mu.Unlock()
	r.wg.Wait()
}

// Has reports whether the worker is there.
func (r *Registry) Has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.workers[id] != nil
}

// call calls a worker, with no lock held.
func (r *Registry) call(ctx context.Context, id string, fn func(context.Context, jobschedulerv1.WorkerClient) error) error {
	r.mu.Lock()
	w := r.workers[id]
	r.mu.Unlock()
	if w == nil {
		return ErrNoWorker
	}
	return fn(ctx, jobschedulerv1.NewWorkerClient(w.conn))
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, callTimeout)
}

// Start runs a command on an old worker.
func (r *Registry) Start(ctx context.Context, workerID, command, path string) (jobID string, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = r.call(ctx, workerID, func(ctx context.Context, c jobschedulerv1.WorkerClient) error {
		res, err := c.StartJob(ctx, &jobschedulerv1.StartJobReq{Command: command, Path: path})
		jobID = res.GetJobID()
		return err
	})
	return jobID, err
}

// Stop ends a job on an old worker. An old worker finds fault with the stop of a
// job that has ended; that is no error here.
func (r *Registry) Stop(ctx context.Context, workerID, jobID string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return r.call(ctx, workerID, func(ctx context.Context, c jobschedulerv1.WorkerClient) error {
		_, err := c.StopJob(ctx, &jobschedulerv1.StopJobReq{JobID: jobID})
		if err == nil {
			return nil
		}
		if res, e := c.QueryJob(ctx, &jobschedulerv1.QueryJobReq{JobID: jobID}); e == nil && res.GetDone() {
			return nil
		}
		return err
	})
}

// Query asks an old worker for a job.
func (r *Registry) Query(ctx context.Context, workerID, jobID string) (a Answer, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = r.call(ctx, workerID, func(ctx context.Context, c jobschedulerv1.WorkerClient) error {
		res, err := c.QueryJob(ctx, &jobschedulerv1.QueryJobReq{JobID: jobID})
		a = Answer{Done: res.GetDone(), Error: res.GetError(), ErrorText: res.GetErrorText()}
		return err
	})
	return a, err
}

// Stream hands the job's output to out as it comes, until it ends.
func (r *Registry) Stream(ctx context.Context, workerID, jobID string, out func([]byte) error) error {
	return r.call(ctx, workerID, func(ctx context.Context, c jobschedulerv1.WorkerClient) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s, err := c.StreamJob(ctx, &jobschedulerv1.StreamJobReq{Path: jobID})
		if err != nil {
			return err
		}
		for {
			res, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := out([]byte(res.GetOutput())); err != nil {
				return err
			}
		}
	})
}
