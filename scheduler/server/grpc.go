package server

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/bound"
	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/scheduler/internal/members"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// certificateGood asks whether the certificate of the other end of a stream is still
// good, as every connection is asked while it lasts.
func certificateGood(conf *tls.Config) func(context.Context) error {
	if conf == nil || conf.VerifyConnection == nil {
		return nil
	}
	return func(ctx context.Context) error {
		p, ok := peer.FromContext(ctx)
		if !ok {
			return nil
		}
		info, ok := p.AuthInfo.(credentials.TLSInfo)
		if !ok {
			return nil
		}
		return conf.VerifyConnection(info.State)
	}
}

// newOuter is a server for others, behind a front.
func (s *Server) newOuter(creds credentials.TransportCredentials, most int) *grpc.Server {
	f := &front{guard: s.guard, door: s.door}
	srv := s.newGRPC(append(f.options(most), grpc.Creds(creds))...)
	in := guarded{srv, f}
	s.register(in)
	rotav1.RegisterSessionsServer(in, s.sched.Sessions())
	for _, k := range s.kinds {
		k.RegisterWork(in)
	}
	s.pools.RegisterJoin(in)
	jobschedulerv1.RegisterSchedulerServer(in, s.old)
	reflection.Register(registrar{in, srv})
	return srv
}

// meter has what comes over a connection of the cluster paid for as it comes.
func (s *Server) meter(c net.Conn, info credentials.AuthInfo) (net.Conn, error) {
	pass, err := s.guard.Connected(peer.NewContext(context.Background(), &peer.Peer{Addr: c.RemoteAddr(), AuthInfo: info}))
	if err != nil {
		return nil, err
	}
	return newMeter(c, pass, bound.MaxAnswer, func(err error) {
		s.log.Warn("connection closed: no room for what it sends", "name", pass.Who().Name, "from", c.RemoteAddr().String(), "error", status.Convert(err).Message())
	}), nil
}

// registrar is where reflection registers itself, and what it tells about.
type registrar struct {
	grpc.ServiceRegistrar
	reflection.ServiceInfoProvider
}

func (s *Server) newGRPC(opts ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts,
		grpc.ChainUnaryInterceptor(s.calls.UnaryServerInterceptor(), s.wholeUnary, s.dated),
		grpc.ChainStreamInterceptor(s.calls.StreamServerInterceptor(), s.wholeStream, s.datedStream),
		grpc.ConnectionTimeout(s.cfg.Patience), grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, MaxConnectionIdle: idleTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)...)
}

// register has a server answer the API.
func (s *Server) register(srv grpc.ServiceRegistrar) {
	s.service.Register(srv)
	rotav1.RegisterSignInsServer(srv, s.signin)
	s.pools.Register(srv)
	rotav1.RegisterFunctionsServer(srv, &s.calling)
	for _, k := range s.kinds {
		k.RegisterAPI(srv)
	}
	rotav1.RegisterMembersServer(srv, members.New(s.cfg.Quorum, s.cfg.Scheduler.Store))
	healthv1.RegisterHealthServer(srv, s.health)
}

const (
	// idleTimeout is how long one may stay that asks nothing.
	idleTimeout = 15 * time.Minute
	// maxStreams is how many calls one connection may have under way.
	maxStreams = 10_000
)

// peerConn connects to another scheduler.
func peerConn(address string, creds credentials.TransportCredentials) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(bound.MaxAnswer), grpc.MaxCallSendMsgSize(bound.MaxMessage)))
}

// admitLink decides about a connection for the messages of programs, by the same
// rules as about a call: its credentials are a bearer, or those of its TLS. It is one
// of the calls at once of whoever shows them, and what waits in it is paid for.
func (s *Server) admitLink(ctx context.Context, c net.Conn, bearer []byte) (context.Context, link.Budget, error) {
	md := metadata.MD{}
	if len(bearer) > 0 {
		md.Set("authorization", "Bearer "+string(bearer))
	}
	ctx = metadata.NewIncomingContext(ctx, md)
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: c.RemoteAddr(), AuthInfo: link.AuthInfo(c)})
	ctx, pass, err := s.guard.Enter(ctx, LinkMethod)
	if err != nil {
		return ctx, nil, err
	}
	s.door.Known(c.RemoteAddr().String())
	who := pass.Who()
	context.AfterFunc(ctx, pass.End)
	if who.Kind == auth.Local {
		return ctx, nil, nil // who is trusted with everything
	}
	waiting := s.guard.Waiting(ctx, who)
	context.AfterFunc(ctx, waiting.End)
	return s.guard.Hold(ctx, who), waiting, nil
}

// Methods lists the full names of all methods that are served, in order.
func (s *Server) Methods() []string {
	var out []string
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			out = append(out, "/"+service+"/"+m.Name)
		}
	}
	slices.Sort(out)
	return out
}
