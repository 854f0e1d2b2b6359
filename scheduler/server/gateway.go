package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/scheduler/internal/functions"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// startGateway runs the gateway on the cluster's members. Calls wait in the queue of
// its listeners until the first picture of the cluster is whole.
func (s *Server) startGateway(ctx context.Context) error {
	if len(s.cfg.Gateway) == 0 {
		return nil
	}
	s.members = functions.New(s.sched.View())
	cfg := gateway.Config{Members: s.members, Logger: s.cfg.Scheduler.Logger, Hosts: s.cfg.Hosts, WorkerRefusals: s.cfg.WorkerRefusals}
	cfg.TracerProvider, cfg.TraceCallers = s.cfg.TracerProvider, s.cfg.TraceCallers
	cfg.TLS, cfg.MemberTLS, cfg.RequireTLS = s.cfg.GatewayTLS, s.cfg.CallTLS, s.cfg.GatewayTLS != nil
	for _, ln := range s.cfg.Gateway {
		cfg.Listen = append(cfg.Listen, ln.Addr().String())
		// One that only this machine reaches is open to all on it. Where others reach it
		// nobody is let in for coming from this machine: proxies do, for strangers.
		if s.cfg.Authenticator != nil && !auth.Loopback(ln.Addr().String()) {
			cfg.Admit = s.admitCaller
		}
	}
	gw, err := gateway.New(cfg)
	if err != nil {
		return err
	}
	s.gateway = gw
	s.calling.Tell(gw)
	s.sched.Registry().MustRegister(gw.Collector())
	for _, ln := range s.cfg.Gateway {
		go func() {
			if s.sched.Ready(ctx) != nil {
				_ = ln.Close() // asked to end
				return
			}
			gw.Refresh()
			if err := gw.Serve(ln); !errors.Is(err, gateway.ErrClosed) {
				s.failed <- fmt.Errorf("serve calls: %w", err)
			}
		}()
	}
	return nil
}

// admitCaller decides about a call of a function.
func (s *Server) admitCaller(ctx context.Context, from netip.AddrPort, authorization []string) error {
	md := metadata.MD{}
	if len(authorization) > 0 {
		md["authorization"] = authorization
	}
	ctx = peer.NewContext(metadata.NewIncomingContext(ctx, md), &peer.Peer{Addr: net.TCPAddrFromAddrPort(from)})
	_, err := s.guard.AdmitAudited(ctx, CallMethod)
	if err == nil {
		return nil
	}
	return &gateway.CallerError{Status: runtime.HTTPStatusFromCode(status.Code(err)), Text: status.Convert(err).Message()}
}
