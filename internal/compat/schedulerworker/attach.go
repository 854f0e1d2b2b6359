package schedulerworker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/door"
)

// AttachConfig says how a rota worker offers itself to an old scheduler.
type AttachConfig struct {
	Runner Runner
	// Listener is where the worker's own server listens; Attach closes it.
	Listener net.Listener
	// Address is what the scheduler is told. Empty means the listener's.
	Address string
	// ServerCredentials of the worker's own server. Nil means no TLS.
	ServerCredentials credentials.TransportCredentials
	// Scheduler is the old scheduler's gRPC address.
	Scheduler string
	// SchedulerCredentials to dial it with. Nil means no TLS.
	SchedulerCredentials credentials.TransportCredentials
	// Log hears of registrations. Nil: nobody does.
	Log *slog.Logger
}

// retryEvery is how long Attach waits before it asks a scheduler again.
const retryEvery = time.Second

// Attach serves the worker's calls and stays registered with the old scheduler
// until ctx ends; then it deregisters. A scheduler that restarts has forgotten
// its workers, so the worker registers again whenever the connection was made anew.
func Attach(ctx context.Context, c AttachConfig) error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Address == "" {
		c.Address = c.Listener.Addr().String()
	}
	if c.SchedulerCredentials == nil {
		c.SchedulerCredentials = insecure.NewCredentials()
	}
	ln := door.New(c.Listener, strangers)
	opts := behind(ln)
	if c.ServerCredentials != nil {
		opts = append(opts, grpc.Creds(c.ServerCredentials))
	}
	srv := grpc.NewServer(opts...)
	jobschedulerv1.RegisterWorkerServer(srv, newWorker(c.Runner))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer srv.Stop()
	if c.Scheduler == "" {
		select {
		case err := <-served:
			return fmt.Errorf("jobscheduler: %w", err)
		case <-ctx.Done():
			return nil
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Scheduler, grpc.WithTransportCredentials(c.SchedulerCredentials),
		grpc.WithIdleTimeout(0), grpc.WithAuthority(c.Scheduler), grpc.WithContextDialer(dial))
	if err != nil {
		return fmt.Errorf("jobscheduler: %w", err)
	}
	defer func() { _ = conn.Close() }()
	client := jobschedulerv1.NewSchedulerClient(conn)
	registered := ""
	for {
		id, err := register(ctx, client, c.Address)
		if err == nil {
			registered = id
			c.Log.Info("registered with the old scheduler", "scheduler", c.Scheduler, "worker", id)
			for s := conn.GetState(); s == connectivity.Ready; s = conn.GetState() {
				if !conn.WaitForStateChange(ctx, s) {
					break
				}
			}
		} else if ctx.Err() == nil {
			c.Log.Warn("the old scheduler does not register this worker", "scheduler", c.Scheduler, "error", err)
		}
		select {
		case <-ctx.Done():
			return leave(client, registered)
		case err := <-served:
			return errors.Join(fmt.Errorf("jobscheduler: %w", err), leave(client, registered))
		case <-time.After(retryEvery):
		}
	}
}

func register(ctx context.Context, client jobschedulerv1.SchedulerClient, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	res, err := client.RegisterWorker(ctx, &jobschedulerv1.RegisterReq{Address: address})
	if err != nil {
		return "", err
	}
	if res.GetWorkerID() == "" { // the old scheduler never sets success
		return "", errors.New("refused: no worker id")
	}
	return res.GetWorkerID(), nil
}

func leave(client jobschedulerv1.SchedulerClient, id string) error {
	if id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), retryEvery)
	defer cancel()
	if _, err := client.DeregisterWorker(ctx, &jobschedulerv1.DeregisterReq{WorkerID: id}); err != nil {
		return fmt.Errorf("jobscheduler: deregister: %w", err)
	}
	return nil
}
