// Package server is a scheduler and everything of it that listens: gRPC for
// workers and the API, HTTP for the API as JSON, the console and the metrics.
//
// rota scheduler and rota dev call it. It decides nothing; it joins packages
// scheduler, sessions, service, api, console and gateway, and starts and stops them in
// order.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/rota-project/rota/api"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/console"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/gateway/cluster"
	"github.com/rota-project/rota/internal/version"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/service"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// Config says where to listen and how to schedule.
type Config struct {
	// Scheduler is how to schedule. Its GRPC and HTTP are filled in.
	Scheduler scheduler.Config
	// GRPC and HTTP are where to listen. Both are closed by Stop.
	GRPC, HTTP net.Listener
	// Gateway are where the gateway listens; without any there is none.
	Gateway []net.Listener
}

// MaxMessage is the largest message that the gRPC API takes, in bytes.
const MaxMessage = 64 << 20

// Server is a running control-plane node.
type Server struct {
	cfg     Config
	sched   *scheduler.Scheduler
	service *service.Service
	grpc    *grpc.Server
	health  *health.Server
	http    *http.Server
	conn    *grpc.ClientConn
	gateway *gateway.Gateway
	members *cluster.Members
	failed  chan error
	cancel  context.CancelFunc
}

// Start starts a node. It serves before it has read the store: calls wait.
func Start(c Config) (*Server, error) {
	c.Scheduler.GRPC, c.Scheduler.HTTP = c.GRPC.Addr().String(), c.HTTP.Addr().String()
	sched, err := scheduler.New(c.Scheduler)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: c, sched: sched, health: health.NewServer(), failed: make(chan error, 3+len(c.Gateway))}
	s.service = sched.Service(version.String())
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	s.service.Register(s.grpc)
	rotav1.RegisterSessionsServer(s.grpc, sched.Sessions())
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)

	s.conn, err = grpc.NewClient("passthrough:///"+c.GRPC.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)))
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	handler, err := s.handler()
	if err != nil {
		_ = s.conn.Close()
		return nil, fmt.Errorf("server: %w", err)
	}
	s.http = api.NewServer(handler)
	go func() {
		if err := s.grpc.Serve(c.GRPC); err != nil {
			s.failed <- fmt.Errorf("serve gRPC: %w", err)
		}
	}()
	go func() {
		if err := s.http.Serve(c.HTTP); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve HTTP: %w", err)
		}
	}()
	go func() {
		if err := sched.Run(context.Background()); err != nil {
			s.failed <- err
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	if err := s.startGateway(); err != nil {
		return nil, errors.Join(fmt.Errorf("server: %w", err), s.Stop(ctx))
	}
	go func() {
		if sched.Ready(ctx) == nil {
			s.health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
		}
	}()
	return s, nil
}

// startGateway runs the gateway on the cluster's members.
func (s *Server) startGateway() error {
	if len(s.cfg.Gateway) == 0 {
		return nil
	}
	s.members = cluster.New(s.sched.View())
	gw, err := gateway.New(gateway.Config{Members: s.members, Logger: s.cfg.Scheduler.Logger})
	if err != nil {
		return err
	}
	s.gateway = gw
	for _, ln := range s.cfg.Gateway {
		go func() {
			if err := gw.Serve(ln); !errors.Is(err, gateway.ErrClosed) {
				s.failed <- fmt.Errorf("serve calls: %w", err)
			}
		}()
	}
	return nil
}

func (s *Server) handler() (http.Handler, error) {
	page, err := console.Handler()
	if err != nil {
		return nil, err
	}
	return api.NewHandler(api.Config{
		Conn: s.conn, Addr: s.cfg.HTTP.Addr().String(), Console: page, Metrics: s.sched.Metrics(), Ready: s.sched.Ready,
	})
}

// Failed gives the error of a node that cannot go on. Stop it then.
func (s *Server) Failed() <-chan error { return s.failed }

// Ready returns when the node has read the store.
func (s *Server) Ready(ctx context.Context) error { return s.sched.Ready(ctx) }

// Scheduler is the node's scheduler.
func (s *Server) Scheduler() *scheduler.Scheduler { return s.sched }

// Service answers the API within the process.
func (s *Server) Service() *service.Service { return s.service }

// Stop ends the node in order: it resigns, workers go to other schedulers, calls
// under way are answered, within the time of ctx.
func (s *Server) Stop(ctx context.Context) error {
	s.cancel()
	s.health.Shutdown()
	if s.gateway != nil {
		_ = s.gateway.Shutdown(ctx) // it has closed by then in any case
		s.members.Close()
	}
	err := s.sched.Stop(ctx)
	if e := s.http.Shutdown(ctx); e != nil {
		_ = s.http.Close() // watches do not end by themselves
	}
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(graceful):
		s.grpc.Stop()
	case <-ctx.Done():
		s.grpc.Stop()
	}
	s.service.Close()
	_ = s.conn.Close()
	return err
}

// graceful is how long calls under way may take to end. Watches never do.
const graceful = 200 * time.Millisecond
