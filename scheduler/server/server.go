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
	"strings"
	"sync"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/console"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/api/rest"
	"github.com/rota-project/rota/internal/compat/schedulerworker"
	"github.com/rota-project/rota/internal/door"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/internal/version"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/functions"
	"github.com/rota-project/rota/scheduler/internal/jobs"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/pools"
	"github.com/rota-project/rota/scheduler/internal/service"
	"github.com/rota-project/rota/scheduler/internal/signin"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

// Config says where to listen and how to schedule.
type Config struct {
	// Scheduler is how to schedule. Its GRPC, HTTP and spans are filled in.
	Scheduler scheduler.Config
	// GRPC and HTTP are where to listen. Both are closed by Stop.
	GRPC, HTTP net.Listener
	// Gateway are where the gateway listens; without any there is none.
	Gateway []net.Listener
	// WorkerRefusals are the answers by which functions say that a call was not run.
	WorkerRefusals []gateway.WorkerRefusal
	// AdvertiseGRPC and AdvertiseHTTP are where others reach them. Empty means
	// where they listen.
	AdvertiseGRPC, AdvertiseHTTP string
	// TLS secures GRPC, HTTPTLS HTTP. Nil is none, which only loopback is for.
	TLS, HTTPTLS *tls.Config
	// GatewayTLS secures Gateway; off loopback it takes nothing else. CallTLS secures
	// its calls to the worker of a name. Nil is none, which only loopback is for.
	GatewayTLS *tls.Config
	CallTLS    func(worker string) *tls.Config
	// Authenticator finds out who calls; its Sessions are filled in. Nil takes everybody
	// on this machine for an admin, which only loopback is for.
	Authenticator *auth.Authenticator
	// CodeFlow signs people in at an issuer. Nil: nobody.
	CodeFlow *auth.CodeFlow
	// SessionLife is how long somebody stays signed in at the most. Zero means 12 hours.
	SessionLife time.Duration
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
	// Pools says which engines this scheduler has, and how workers get certificates. Its
	// Store, View, Scheduler, Drain, Work, Known and Logger are filled in.
	Pools Pools
	// Quorum is this scheduler's part of the cluster that keeps the store. Nil: it is
	// kept by one, or by an etcd of the user's.
	Quorum store.Quorum
	// Jobs bounds jobs. Its Node, Pools and Named are filled in.
	Jobs jobs.Config
	// Kinds are kinds of work beside jobs. Nil: there are none.
	Kinds []kind.Kind
	// Settings tells admins what this scheduler was configured with, as JSON and without
	// secrets, and LastLog the last lines of its log. Nil: it is not told.
	Settings func() any
	LastLog  func() []byte
	// TracerProvider makes the spans of calls, jobs and passes. Nil makes none.
	TracerProvider trace.TracerProvider
	// TraceCallers takes the word of callers on whether a trace is recorded.
	TraceCallers bool
}

// Pools is how a node has engines start workers.
type Pools = pools.Config

// DefaultPatience is how long a connection may take to say its first words.
const DefaultPatience = 10 * time.Second

// Server is a running control-plane node.
type Server struct {
	cfg      Config
	log      *slog.Logger
	sched    *scheduler.Scheduler
	service  *service.Service
	jobs     *jobs.Control
	kinds    []kind.Attached // jobs, too
	pools    *pools.Control
	calls    *grpcprom.ServerMetrics
	requests requests // over HTTP
	old      *schedulerworker.Registry
	oldSub   *view.Subscription
	guard    *auth.Guard
	signin   *signin.Handler
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
	members  *functions.Members
	calling  functions.Service // tells of the gateway
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
	c.Scheduler.Good = certificateGood(c.TLS)
	c.Scheduler.TracerProvider = c.TracerProvider
	if c.Dial == nil {
		c.Dial = insecure.NewCredentials()
	}
	c.Scheduler.Peer = func(address string) (*grpc.ClientConn, error) { return peerConn(address, c.Dial) }
	sched, err := scheduler.New(c.Scheduler)
	if err != nil {
		return nil, err
	}
	log := c.Scheduler.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var s *Server
	who := &auth.Authenticator{OpenLocally: true}
	if c.Authenticator != nil {
		own := *c.Authenticator // it gets Sessions of its own
		who = &own
	}
	kinds := append([]kind.Kind{{Policy: jobs.Policy(), Attach: func(n kind.Node) kind.Attached {
		return s.attachJobs(c.Jobs, n)
	}}}, c.Kinds...)
	policy, err := policyWith(kinds...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("server: %w", err), sched.Stop(context.Background()))
	}
	s = &Server{
		cfg: c, log: log, sched: sched, health: health.NewServer(), failed: make(chan error, 5+len(c.Gateway)),
		guard: auth.NewGuard(auth.GuardConfig{Authenticator: who, Policy: policy, Namespace: c.Namespace, Limits: c.Limits, Audit: log}),
	}
	keeper := &oldWorkers{sched.Name(), c.Scheduler.Store, sched.View()}
	s.old = schedulerworker.NewRegistry(schedulerworker.RegistryConfig{Credentials: c.Dial, Keeper: keeper, Log: log})
	s.oldSub = keeper.follow(s.old)
	if err := s.startSignIn(who); err != nil {
		return nil, errors.Join(fmt.Errorf("server: %w", err), sched.Stop(context.Background()))
	}
	s.service = sched.Service(version.String())
	for _, k := range kinds {
		s.kinds = append(s.kinds, k.Attach(kind.Node{
			Store: c.Scheduler.Store, View: sched.View(), Capacity: sched.Capacity(), Scheduler: sched.Name(), Desk: sched.Desk(), Peers: sched.Peers(),
			Events: sched.Events(), Metrics: sched.Registry(), TracerProvider: c.TracerProvider, TraceCallers: c.TraceCallers, Logger: log,
		}))
	}
	c.Pools.Store, c.Pools.View, c.Pools.Scheduler, c.Pools.Logger, c.Pools.Work = c.Scheduler.Store, sched.View(), sched.Name(), log, s.active
	c.Pools.Events, c.Pools.Queued, c.Pools.Active, c.Pools.Commands = sched.Events(), s.jobs.Queued, s.jobs.ActiveOn, s.jobs.Commands
	c.Pools.Drain = func(ctx context.Context, worker string) error {
		_, err := s.service.DrainWorker(auth.Inside(ctx), &rotav1.WorkerRequest{Name: worker})
		return err
	}
	c.Pools.Known = func(ctx context.Context) { s.door.Known(whence(ctx)) }
	s.pools = pools.New(c.Pools)
	s.service.Pools(s.pools.AdviseTask)
	s.measure(sched.Registry())
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	handshake := insecure.NewCredentials()
	if c.TLS != nil {
		handshake = pki.ServerCredentials(c.TLS)
	}
	s.relay.Authorize = s.admitLink
	ofGRPC := c.Door
	// What anybody may call has small messages. Of a refused one a window may come before
	// its caller hears of that: who has several under way should be told why each was.
	ofGRPC.BytesEntered = cmp.Or(ofGRPC.BytesEntered, maxHeader+streamWindow)
	ofGRPC.BytesRefused = cmp.Or(ofGRPC.BytesRefused, maxHeader+8*streamWindow)
	s.door = door.New(c.GRPC, ofGRPC)
	ofHTTP := c.Door
	ofHTTP.Patience = c.Patience       // net/http would give the handshake and the header one each
	ofHTTP.Segment = door.SmallSegment // many a request is refused before its body has come
	ofHTTP.Bytes = cmp.Or(ofHTTP.Bytes, maxHeader+rest.MaxUnread+32<<10)
	ofHTTP.BytesEntered = cmp.Or(ofHTTP.BytesEntered, maxHeader+streamWindow)
	s.httpDoor = door.New(c.HTTP, ofHTTP)
	s.peers = &peers{
		TransportCredentials: link.Credentials(handshake, c.Patience, func(k net.Conn) {
			if err := s.relay.Serve(context.Background(), k); err != nil {
				log.Debug("link ended", "from", k.RemoteAddr().String(), "error", err)
			}
		}),
		known: s.door.Known, meter: s.meter, addr: c.GRPC.Addr(), conns: make(chan *shaken), closed: make(chan struct{}),
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
	handler = s.requests.timed(handler)
	s.http = rest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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

// attachJobs attaches jobs, which ask pools and are asked by them.
func (s *Server) attachJobs(c jobs.Config, n kind.Node) *jobs.Control {
	c.Node = n
	c.Pools = func(spec job.Spec) []*rotav1.WhyPool { return s.pools.AdviseJob(spec) } // it is there before anybody can ask
	c.Named = func(spec job.Spec) bool { return s.pools.Named(spec) }
	s.jobs = jobs.New(c)
	return s.jobs
}

// active is how much a worker has of all kinds of work beside tasks.
func (s *Server) active(worker string) (n int) {
	for _, k := range s.kinds {
		n += k.Active(worker)
	}
	return n
}

// closeKinds ends all kinds of work.
func (s *Server) closeKinds() {
	for _, k := range s.kinds {
		k.Close()
	}
}

// startSignIn has people sign in at browsers. Sessions end with the credentials that
// who knows.
func (s *Server) startSignIn(who *auth.Authenticator) error {
	keeper := signin.NewKeeper(s.cfg.Scheduler.Store, s.sched.View(), s.cfg.SessionLife)
	if !who.OpenLocally {
		who.Sessions = keeper
	}
	scheme := "http://"
	if s.cfg.HTTPTLS != nil {
		scheme = "https://"
	}
	var err error
	s.signin, err = signin.NewHandler(signin.Config{
		Keeper: keeper, Guard: s.guard, Authenticator: who, Flow: s.cfg.CodeFlow, Console: scheme + s.cfg.Scheduler.HTTP, Log: s.log,
		Admit: func(r *http.Request, method string) (context.Context, error) {
			ctx, _, err := s.admit(r, method)
			return ctx, err
		},
		Refused: func(r *http.Request) { s.httpDoor.Refused(r.RemoteAddr) },
		Offered: func(method string) bool {
			return s.calling.Tells() || !strings.HasPrefix(method, "/"+rotav1.Functions_ServiceDesc.ServiceName+"/")
		},
	})
	return err
}

// undo ends what a node that does not start has begun.
func (s *Server) undo() error {
	s.pools.Close(context.Background())
	s.closeKinds()
	s.oldSub.Close()
	s.old.Close()
	s.service.Close()
	return s.sched.Stop(context.Background())
}

func (s *Server) handler() (http.Handler, error) {
	page, err := console.Handler("")
	if err != nil {
		return nil, err
	}
	return rest.NewHandler(rest.Config{
		Conn: s.conn, Addr: s.cfg.HTTP.Addr().String(), Hosts: s.cfg.Hosts, Console: page, Metrics: s.sched.Metrics(), Debug: debug(&s.cfg), Ready: s.ready,
		Jobs:   schedulerworker.NewHandler(schedulerworker.HandlerConfig{Backends: []schedulerworker.Backend{s.old, s.jobs.Old()}, Admit: s.admitOld}),
		SignIn: s.signin, Session: func(r *http.Request) string { return s.signin.Cookie(r).Reveal() },
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

// Metrics is what the node counts.
func (s *Server) Metrics() *prometheus.Registry { return s.sched.Registry() }

// Relay passes the messages of programs on.
func (s *Server) Relay() *link.Relay { return &s.relay }

// Stop ends the node in order: it resigns, workers go to other schedulers, calls
// under way are answered, within the time of ctx.
func (s *Server) Stop(ctx context.Context) error {
	s.endPools(ctx)
	s.cancel()
	s.health.Shutdown()
	s.closeKinds()
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

// endPools ends what engines run no longer than this process: those workers hand over
// while there is a scheduler, within half of the time that is left.
func (s *Server) endPools(ctx context.Context) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	s.pools.Close(ctx)
}

// graceful is how long calls under way may take to end. Watches never do.
const graceful = 200 * time.Millisecond
