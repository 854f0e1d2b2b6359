// Package server is a scheduler and everything of it that listens: gRPC for
// workers and the API, HTTP for the API as JSON, the console and the metrics.
//
// rota scheduler and rota dev call it. It decides nothing; it joins packages
// scheduler, sessions, service, api, console and gateway, and starts and stops them in
// order.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota/api"
	"github.com/rota-project/rota/api/bound"
	jobschedulerv1 "github.com/rota-project/rota/api/jobscheduler/v1"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/console"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/gateway/cluster"
	"github.com/rota-project/rota/internal/door"
	"github.com/rota-project/rota/internal/version"
	"github.com/rota-project/rota/job/control"
	"github.com/rota-project/rota/jobscheduler"
	"github.com/rota-project/rota/pki"
	"github.com/rota-project/rota/program/link"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/service"
	"github.com/rota-project/rota/view"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// Config says where to listen and how to schedule.
type Config struct {
	// Scheduler is how to schedule. Its GRPC and HTTP are filled in.
	Scheduler scheduler.Config
	// GRPC and HTTP are where to listen. Both are closed by Stop.
	GRPC, HTTP net.Listener
	// Gateway are where the gateway listens; without any there is none.
	Gateway []net.Listener
	// AdvertiseGRPC and AdvertiseHTTP are where others reach them. Empty means
	// where they listen.
	AdvertiseGRPC, AdvertiseHTTP string
	// TLS secures GRPC, HTTPTLS HTTP. Nil is none, which only loopback is for.
	TLS, HTTPTLS *tls.Config
	// GatewayTLS secures Gateway; off loopback it takes nothing else. CallTLS secures
	// its calls to the worker of a name. Nil is none, which only loopback is for.
	GatewayTLS *tls.Config
	CallTLS    func(worker string) *tls.Config
	// Authenticator finds out who calls. Nil takes everybody on this machine for
	// an admin, which only loopback is for.
	Authenticator *auth.Authenticator
	// Hosts are other names under which the HTTP API may be asked for.
	Hosts []string
	// Namespace is the one that this cluster is. Empty means auth.DefaultNamespace.
	Namespace string
	// Limits are those of each caller, Door those of connections, of each port.
	Limits auth.Limits
	Door   door.Limits
	// Patience is how long a connection may take to say its first words: its
	// handshake and the header of a request together. Zero means DefaultPatience.
	Patience time.Duration
	// Dial secures the connections to other schedulers and to old workers. Nil
	// is none.
	Dial credentials.TransportCredentials
	// Jobs bounds jobs. Its Store, View, Scheduler, Peer and Logger are filled in.
	Jobs control.Config
}

// DefaultPatience is how long a connection may take to say its first words.
const DefaultPatience = 10 * time.Second

// Server is a running control-plane node.
type Server struct {
	cfg      Config
	sched    *scheduler.Scheduler
	service  *service.Service
	jobs     *control.Control
	old      *jobscheduler.Registry
	oldSub   *view.Subscription
	guard    *auth.Guard
	door     *door.Listener // of gRPC
	httpDoor *door.Listener
	grpc     *grpc.Server // for others
	peers    *peers       // workers and schedulers that show a certificate
	cluster  *grpc.Server // for them
	inner    *grpc.Server // for the HTTP side, within the process
	health   *health.Server
	http     *http.Server
	conn     *grpc.ClientConn
	relay    link.Relay // of programs' messages
	gateway  *gateway.Gateway
	members  *cluster.Members
	failed   chan error
	cancel   context.CancelFunc
}

// Start starts a node. It serves before it has read the store: calls wait.
func Start(c Config) (*Server, error) {
	c.Patience = cmp.Or(c.Patience, DefaultPatience)
	if err := auth.CheckNamespace("namespace", cmp.Or(c.Namespace, auth.DefaultNamespace)); err != nil {
		return nil, err
	}
	c.Scheduler.GRPC, c.Scheduler.HTTP = cmp.Or(c.AdvertiseGRPC, c.GRPC.Addr().String()), cmp.Or(c.AdvertiseHTTP, c.HTTP.Addr().String())
	sched, err := scheduler.New(c.Scheduler)
	if err != nil {
		return nil, err
	}
	log := c.Scheduler.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	who := c.Authenticator
	if who == nil {
		who = &auth.Authenticator{OpenLocally: true}
	}
	if c.Dial == nil {
		c.Dial = insecure.NewCredentials()
	}
	s := &Server{
		cfg: c, sched: sched, health: health.NewServer(), failed: make(chan error, 5+len(c.Gateway)),
		guard: auth.NewGuard(auth.GuardConfig{Authenticator: who, Policy: Policy(), Namespace: c.Namespace, Limits: c.Limits, Audit: log}),
	}
	keeper := &oldWorkers{sched.Name(), c.Scheduler.Store, sched.View()}
	s.old = jobscheduler.NewRegistry(jobscheduler.RegistryConfig{Credentials: c.Dial, Keeper: keeper, Log: log})
	s.oldSub = keeper.follow(s.old)
	s.service = sched.Service(version.String())
	c.Jobs.Store, c.Jobs.View, c.Jobs.Scheduler, c.Jobs.Logger = c.Scheduler.Store, sched.View(), sched.Name(), log
	c.Jobs.Peer = s.peer
	s.jobs = control.New(c.Jobs)
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	handshake := insecure.NewCredentials()
	if c.TLS != nil {
		handshake = pki.ServerCredentials(c.TLS)
	}
	s.relay.Authorize = s.admitLink
	s.door = door.New(c.GRPC, c.Door)
	c.Door.Patience = c.Patience // net/http would give the handshake and the header one each
	s.httpDoor = door.New(c.HTTP, c.Door)
	s.peers = &peers{
		TransportCredentials: link.Credentials(handshake, c.Patience, func(k net.Conn) {
			if err := s.relay.Serve(context.Background(), k); err != nil {
				log.Debug("link ended", "from", k.RemoteAddr().String(), "error", err)
			}
		}),
		known: s.door.Known, addr: c.GRPC.Addr(), conns: make(chan *shaken), closed: make(chan struct{}),
	}
	most := bound.MaxMessage
	if who.OpenLocally {
		most = bound.MaxAnswer // workers show no certificates, and everybody is trusted
	}
	s.grpc, s.cluster = s.newOuter(s.peers, most), s.newOuter(already{handshake}, bound.MaxAnswer)
	s.inner = s.newGRPC(grpc.MaxRecvMsgSize(bound.MaxAnswer), grpc.MaxSendMsgSize(bound.MaxAnswer),
		grpc.UnaryInterceptor(s.guard.Unary()), grpc.StreamInterceptor(s.guard.Stream()))
	s.register(s.inner)
	within := bufconn.Listen(1 << 20)
	s.conn, err = grpc.NewClient("passthrough:///within", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return within.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(bound.MaxAnswer), grpc.MaxCallSendMsgSize(bound.MaxAnswer)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("server: %w", err), s.undo())
	}
	handler, err := s.handler()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("server: %w", err), s.undo(), s.conn.Close())
	}
	s.http = api.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.httpDoor.Spoke(r.RemoteAddr)
		handler.ServeHTTP(w, r)
	}))
	s.http.ReadHeaderTimeout = c.Patience
	s.http.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug) // whoever connects can cause a line
	go func() { _ = s.inner.Serve(within) }()
	for srv, l := range map[*grpc.Server]net.Listener{s.grpc: s.door, s.cluster: s.peers} {
		go func() {
			if err := srv.Serve(l); err != nil {
				s.failed <- fmt.Errorf("serve gRPC: %w", err)
			}
		}()
	}
	go func() {
		var l net.Listener = s.httpDoor
		if c.HTTPTLS != nil {
			l = tls.NewListener(l, c.HTTPTLS)
		}
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
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
	if err := s.startGateway(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("server: %w", err), s.Stop(ctx))
	}
	go s.tellHealth(ctx)
	return s, nil
}

// undo ends what a node that does not start has begun.
func (s *Server) undo() error {
	s.jobs.Close()
	s.oldSub.Close()
	s.old.Close()
	s.service.Close()
	return s.sched.Stop(context.Background())
}

// startGateway runs the gateway on the cluster's members. Calls wait in the queue of
// its listeners until the first picture of the cluster is whole.
func (s *Server) startGateway(ctx context.Context) error {
	if len(s.cfg.Gateway) == 0 {
		return nil
	}
	s.members = cluster.New(s.sched.View())
	cfg := gateway.Config{Members: s.members, Logger: s.cfg.Scheduler.Logger, Hosts: s.cfg.Hosts}
	cfg.TLS, cfg.MemberTLS, cfg.RequireTLS = s.cfg.GatewayTLS, s.cfg.CallTLS, s.cfg.GatewayTLS != nil
	if s.cfg.Authenticator != nil {
		cfg.Admit = s.admitCaller
	}
	for _, ln := range s.cfg.Gateway {
		cfg.Listen = append(cfg.Listen, ln.Addr().String())
	}
	gw, err := gateway.New(cfg)
	if err != nil {
		return err
	}
	s.gateway = gw
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

// newOuter is a server for others, behind a front.
func (s *Server) newOuter(creds credentials.TransportCredentials, most int) *grpc.Server {
	f := &front{guard: s.guard, door: s.door}
	srv := s.newGRPC(append(f.options(most), grpc.Creds(creds))...)
	in := guarded{srv, f}
	s.register(in)
	rotav1.RegisterSessionsServer(in, s.sched.Sessions())
	rotav1.RegisterJobWorkServer(in, s.jobs)
	jobschedulerv1.RegisterSchedulerServer(in, s.old)
	reflection.Register(registrar{in, srv})
	return srv
}

// registrar is where reflection registers itself, and what it tells about.
type registrar struct {
	grpc.ServiceRegistrar
	reflection.ServiceInfoProvider
}

func (s *Server) newGRPC(opts ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts,
		grpc.ChainUnaryInterceptor(s.dated), grpc.ChainStreamInterceptor(s.datedStream),
		grpc.ConnectionTimeout(s.cfg.Patience), grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, MaxConnectionIdle: idleTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)...)
}

// register has a server answer the API.
func (s *Server) register(srv grpc.ServiceRegistrar) {
	s.service.Register(srv)
	rotav1.RegisterJobsServer(srv, s.jobs)
	healthv1.RegisterHealthServer(srv, s.health)
}

const (
	// idleTimeout is how long one may stay that asks nothing.
	idleTimeout = 15 * time.Minute
	// maxStreams is how many calls one connection may have under way.
	maxStreams = 10_000
)

// peer connects to another scheduler.
func (s *Server) peer(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(s.cfg.Dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(bound.MaxAnswer), grpc.MaxCallSendMsgSize(bound.MaxMessage)))
}

// admitCaller decides about a call of a function from another machine.
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

// admitLink decides about a connection for the messages of programs, by the same
// rules as about a call: its credentials are a bearer, or those of its TLS.
func (s *Server) admitLink(ctx context.Context, c net.Conn, bearer []byte) (context.Context, error) {
	md := metadata.MD{}
	if len(bearer) > 0 {
		md.Set("authorization", "Bearer "+string(bearer))
	}
	ctx = metadata.NewIncomingContext(ctx, md)
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: c.RemoteAddr(), AuthInfo: link.AuthInfo(c)})
	ctx, err := s.guard.AdmitAudited(ctx, LinkMethod)
	if err != nil {
		return ctx, err
	}
	s.door.Known(c.RemoteAddr().String())
	return s.guard.Hold(ctx, auth.From(ctx)), nil
}

func (s *Server) handler() (http.Handler, error) {
	page, err := console.Handler()
	if err != nil {
		return nil, err
	}
	return api.NewHandler(api.Config{
		Conn: s.conn, Addr: s.cfg.HTTP.Addr().String(), Hosts: s.cfg.Hosts, Console: page, Metrics: s.sched.Metrics(), Ready: s.ready,
		Jobs: jobscheduler.NewHandler(jobscheduler.HandlerConfig{Backends: []jobscheduler.Backend{s.old, s.jobs.Old()}, Admit: s.admitOld}),
		Admit: func(r *http.Request, method string) (*auth.Pass, error) {
			_, pass, err := s.admit(r, method)
			return pass, err
		},
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

// Gateway is the node's gateway, nil if it has none.
func (s *Server) Gateway() *gateway.Gateway { return s.gateway }

// Relay passes the messages of programs on.
func (s *Server) Relay() *link.Relay { return &s.relay }

// Stop ends the node in order: it resigns, workers go to other schedulers, calls
// under way are answered, within the time of ctx.
func (s *Server) Stop(ctx context.Context) error {
	s.cancel()
	s.health.Shutdown()
	s.jobs.Close()
	s.oldSub.Close()
	s.old.Close()
	if s.gateway != nil {
		_ = s.gateway.Shutdown(ctx) // it has closed by then in any case
		s.members.Close()
	}
	err := s.sched.Stop(ctx)
	s.relay.Close()
	if e := s.http.Shutdown(ctx); e != nil {
		_ = s.http.Close() // watches do not end by themselves
	}
	stopped := make(chan struct{})
	go func() {
		var both sync.WaitGroup
		both.Go(s.grpc.GracefulStop)
		both.Go(s.cluster.GracefulStop)
		both.Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(graceful):
	case <-ctx.Done():
	}
	s.grpc.Stop()
	s.cluster.Stop()
	_ = s.conn.Close()
	s.inner.Stop()
	s.service.Close()
	return err
}

// graceful is how long calls under way may take to end. Watches never do.
const graceful = 200 * time.Millisecond

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
