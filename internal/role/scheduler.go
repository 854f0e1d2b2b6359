package role

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/config"
	"github.com/rota-project/rota/gateway/admin"
	"github.com/rota-project/rota/internal/ending"
	"github.com/rota-project/rota/internal/notify"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/server"
	"github.com/rota-project/rota/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/taskfile"
)

// Scheduler runs a control-plane node until ctx ends.
func Scheduler(ctx context.Context, c *config.Scheduler, logTo io.Writer) error {
	log := logger(c.Log, logTo)
	grpcL, _, err := listen(ctx, "grpc", c.GRPC, false)
	if err != nil {
		return err
	}
	httpL, _, err := listen(ctx, "http", c.HTTP, false)
	if err != nil {
		_ = grpcL.Close()
		return err
	}
	return runNode(ctx, c, scheduler.Config{}, grpcL, httpL, log, func(n *node) error {
		defer ending.Left(func() string {
			return "the scheduler did not resign; if it led, another leads when its lease has ended"
		})()
		log.Info("ready", "gateway", n.gateway, "http", httpL.Addr().String(), "grpc", grpcL.Addr().String(), "etcd", n.etcd)
		go func() {
			if n.server.Ready(ctx) == nil {
				notify.Ready(ctx, log, func() bool { return !n.server.Scheduler().Late() })
			}
		}()
		select {
		case <-ctx.Done():
			return nil
		case err := <-n.server.Failed():
			return err
		case <-n.failed:
			return n.embedded.Err()
		}
	})
}

// node is a scheduler with the store under it.
type node struct {
	server   *server.Server
	embedded *etcd.Embedded // nil with an etcd of the user's
	failed   <-chan struct{}
	store    *etcd.Store
	etcd     []string
	gateway  string // where functions are called; empty without a gateway
}

// runNode starts the store and a scheduler on it, calls f, and ends both in
// order. The listeners are closed in any case.
func runNode(ctx context.Context, c *config.Scheduler, sc scheduler.Config, grpcL, httpL net.Listener,
	log *slog.Logger, f func(*node) error,
) (err error) {
	defer func() {
		_ = grpcL.Close()
		_ = httpL.Close()
	}()
	n := &node{etcd: c.Etcd}
	quiet := slog.New(slog.DiscardHandler)
	if log.Enabled(ctx, slog.LevelDebug) {
		quiet = log
	}
	if len(c.Etcd) == 0 {
		n.embedded, err = etcd.Embed(ctx, etcd.EmbedConfig{DataDir: c.DataDir, NoSync: c.NoSync, Logger: quiet})
		if err != nil {
			return err
		}
		n.etcd, n.failed = n.embedded.Endpoints(), n.embedded.Failed()
		defer func() { err = errors.Join(err, n.embedded.Stop()) }()
	}
	n.store, err = openStore(ctx, c, n.etcd, quiet, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()

	sc.Store, sc.Name, sc.Logger = n.store, c.Name, log
	if sc.Name == "" {
		// The same after a restart, and another for each scheduler of a host.
		_, port, _ := net.SplitHostPort(grpcL.Addr().String())
		host, _ := os.Hostname()
		sc.Name = host + "-" + port
	}
	sc.Lease, sc.Interval, sc.Timeout, sc.Debounce = c.Lease, c.Interval, c.PassTimeout, c.Debounce
	sc.MaxWorkers, sc.BarrierWorkers, sc.BarrierWait = c.MaxWorkers, c.BarrierWorkers, c.BarrierWait
	sc.Moves = ownership.Limits{InAll: c.MaxMoves}
	sc.SlowStart, sc.Placement = c.SlowStart, c.Placement
	lists, err := sources(c)
	if err != nil {
		return err
	}
	if len(c.Etcd) > 0 { // the embedded one does so by itself
		sc.History = c.EtcdHistory
	}
	sc.Sources = append(sc.Sources, lists...)
	sv := server.Config{Scheduler: sc, GRPC: grpcL, HTTP: httpL}
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFollowing()
	if err := secure(following, c, &sv, log); err != nil {
		return err
	}
	if c.Gateway != "" {
		ln, _, err := listen(ctx, "gateway", c.Gateway, c.AnyGateway)
		if err != nil {
			return err
		}
		defer func() { _ = ln.Close() }()
		sv.Gateway, n.gateway = []net.Listener{ln}, ln.Addr().String()
	}
	n.server, err = server.Start(sv)
	if err != nil {
		return err
	}
	defer func() {
		last, cancel := stopping(ctx)
		defer cancel()
		err = errors.Join(err, n.server.Stop(last))
	}()
	defer serveAdmin(ctx, c, n, log)()
	return f(n)
}

// serveAdmin serves the admin side of the node's gateway on a socket in its data
// directory, where rota route finds it. A node without one is better than none.
func serveAdmin(ctx context.Context, c *config.Scheduler, n *node, log *slog.Logger) (stop func()) {
	g := n.server.Gateway()
	if g == nil {
		return func() {}
	}
	path := ""
	if len(c.Etcd) == 0 {
		path = filepath.Join(c.DataDir, "gateway.sock")
	}
	_, port, err := net.SplitHostPort(n.gateway)
	if err == nil {
		stop, err = admin.Socket(ctx, g, path, port, log)
	}
	if err != nil {
		log.Warn("no admin socket: rota route cannot ask this gateway", "error", err)
		return func() {}
	}
	return stop
}

// openStore connects to etcd, and goes on trying while it is not there.
func openStore(ctx context.Context, c *config.Scheduler, endpoints []string, quiet, log *slog.Logger) (*etcd.Store, error) {
	for {
		st, err := etcd.Open(ctx, etcd.Config{
			Endpoints: endpoints, Root: store.ClusterRoot(c.Root, c.Namespace), CAFile: c.EtcdCA, CertFile: c.EtcdCert, KeyFile: c.EtcdKey,
			RevokedFile: c.TLSRevoked,
			User:        c.EtcdUser, PasswordFile: c.EtcdPasswordFile, Logger: quiet, Patience: c.Lease / 10,
		})
		var field *rota.FieldError
		switch {
		case err == nil:
			return st, nil
		case errors.As(err, &field), ctx.Err() != nil:
			return nil, err
		}
		log.Error("etcd is not there, trying again", "error", err)
	}
}

// sources are the lists that the configuration names.
func sources(c *config.Scheduler) ([]*source.Source, error) {
	parse := func(name string, r io.Reader) ([]rota.Task, error) {
		return taskfile.Read(r, name, taskfile.Options{Columns: c.TasksColumns})
	}
	var out []*source.Source
	if c.TasksFile != "" {
		s := source.File(c.TasksFile, 0, parse)
		s.Name = "tasks-file"
		out = append(out, s)
	}
	if c.TasksURL != "" {
		client, err := source.Access{Headers: c.TasksHeaders, TokenFile: c.TasksTokenFile, CAFile: c.TasksCA}.Client()
		if err != nil {
			return nil, err
		}
		s := source.URL(c.TasksURL, c.TasksPoll, client, parse)
		s.Name = "tasks-url"
		out = append(out, s)
	}
	return out, nil
}
