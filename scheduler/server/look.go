package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/version"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/service"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// ErrNoCluster says that no cluster is kept there.
var ErrNoCluster = errors.New("no cluster is kept there")

// Window answers what may be asked of a cluster straight from its store, read only:
// replicas (package peer) listen nowhere, and so nobody else answers for theirs. The
// command line opens it (rota --etcd --root). It serves the methods of the API that
// change nothing, within the process, from a picture of its own, and refuses the
// others. It must never write to the store.
type Window struct {
	view     *view.View
	happened *events.Log
	service  *service.Service
	server   *grpc.Server
	within   *bufconn.Listener
	stop     context.CancelFunc
	viewed   chan error
}

// Look reads the cluster that st keeps, which stays open, and answers for it until
// Close. It returns ErrNoCluster if there is none.
func Look(ctx context.Context, st store.Store) (*Window, error) {
	log := slog.New(slog.DiscardHandler)
	w := &Window{view: view.New(st, log), happened: events.NewLog(events.Limits{}, log), within: bufconn.Listen(1 << 20), viewed: make(chan error, 1)}
	w.happened.Follow(w.view)
	var run context.Context
	run, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	wait, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		err := w.view.Run(run)
		cancel(err)
		w.viewed <- err
	}()
	if err := w.view.Wait(wait, 1); err != nil {
		w.stop()
		<-w.viewed //nolint:errcheck // its error is the cause below
		return nil, context.Cause(wait)
	}
	w.service = service.New(service.Config{Store: st, View: w.view, Log: w.happened, Capacity: capacity.New(w.view), Age: w.age, Version: version.String()})
	w.server = grpc.NewServer(
		grpc.MaxSendMsgSize(bound.MaxAnswer),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, r any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if err := readsOnly(info.FullMethod); err != nil {
				return nil, err
			}
			_ = grpc.SetHeader(ctx, w.dated())
			return h(ctx, r)
		}),
		grpc.ChainStreamInterceptor(func(srv any, st grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if err := readsOnly(info.FullMethod); err != nil {
				return err
			}
			_ = st.SetHeader(w.dated())
			return h(srv, st)
		}),
		grpc.UnknownServiceHandler(func(_ any, st grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(st)
			return notHere(method)
		}),
	)
	w.service.Register(w.server)
	go func() { _ = w.server.Serve(w.within) }()
	empty := false
	w.view.Read(func() {
		v := w.view
		empty = v.Leader == nil && v.Tasks.Len()+len(v.Sessions)+len(v.Schedulers)+len(v.Nodes)+len(v.Sources) == 0 && !v.Cluster.GetStarted()
	})
	if empty {
		return nil, errors.Join(ErrNoCluster, w.Close())
	}
	return w, nil
}

// Close ends what Open began, and its connections.
func (w *Window) Close() error {
	w.server.Stop()
	w.service.Close()
	w.stop()
	return <-w.viewed
}

// Dial connects to what answers.
func (w *Window) Dial(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///within", append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(bound.MaxAnswer), grpc.MaxCallSendMsgSize(bound.MaxMessage)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.within.DialContext(ctx) }))...)
}

// age is how old the picture is, and whether that is too old.
func (w *Window) age() (age time.Duration, stale bool) {
	age = time.Since(w.view.AsOf())
	return age, age > sessions.DefaultLease
}

func (w *Window) dated() metadata.MD { return ageHeader(w.age()) }

// readsOnly refuses methods that would change something, and those of workers.
func readsOnly(method string) error {
	if r, ok := Policy()[method]; ok && !r.Writes && !r.Worker {
		return nil
	}
	return status.Errorf(codes.PermissionDenied, "%s changes the cluster, which is only looked at by its etcd: its replicas decide what they run", name(method))
}

// notHere says that replicas do nothing of the kind.
func notHere(method string) error {
	if err := readsOnly(method); err != nil {
		return err
	}
	return status.Errorf(codes.Unimplemented, "%s is none of what a cluster can be asked by its etcd: replicas run tasks", name(method))
}

// name is a method's, as "ApplyTasks".
func name(method string) string { return method[strings.LastIndex(method, "/")+1:] }
