package role

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/gatewayadmin"
	"github.com/rota-project/rota/cmd/rota/internal/otlp"
	"github.com/rota-project/rota/compat/olscheduler"
	"github.com/rota-project/rota/internal/ending"
	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/internal/notify"
	"github.com/rota-project/rota/internal/taskfile"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// keptLog is how much of a scheduler's log is kept for admins, in bytes.
const keptLog = 256 << 10

// insight is what admins see of a scheduler: its options, and the end of what it logs
// to a logs.Writer.
func insight(opts *config.Options, logTo io.Writer) (sv server.Config) {
	sv.Settings = func() any { return opts.Settings() }
	if w, ok := logTo.(*logs.Writer); ok {
		w.Keep(keptLog)
		sv.LastLog = w.Last
	}
	return sv
}

// Scheduler runs a control-plane node until ctx ends. opts are the options that c was
// loaded with.
func Scheduler(ctx context.Context, c *config.Scheduler, opts *config.Options, logTo io.Writer) error {
	log := logger(c.Log, logTo)
	p, err := inheritedPorts()
	if err != nil {
		return err
	}
	if p == nil {
		p = &ports{}
		if p.grpc, _, err = listen(ctx, "grpc", c.GRPC, false); err != nil {
			return err
		}
		if p.http, _, err = listen(ctx, "http", c.HTTP, false); err != nil {
			p.close()
			return err
		}
	}
	return runNode(ctx, c, p, insight(opts, logTo), log, func(n *node) error {
		defer ending.Left(func() string {
			return "the scheduler did not resign; if it led, another one leads once its lease has ended"
		})()
		log.Info("ready", "gateway", n.gateway, "http", p.http.Addr().String(), "grpc", p.grpc.Addr().String(), "etcd", n.etcd)
		defer notify.Run(ctx, log,
			func(ctx context.Context) bool { return n.server.Ready(ctx) == nil },
			func() bool { return !n.server.Scheduler().Late() })()
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
// order. The ports are closed in any case.
func runNode(ctx context.Context, c *config.Scheduler, p *ports, sv server.Config, log *slog.Logger, f func(*node) error) (err error) {
	defer p.close()
	n := &node{etcd: c.Etcd}
	quiet := slog.New(slog.DiscardHandler)
	if log.Enabled(ctx, slog.LevelDebug) {
		quiet = log
	}
	if len(c.Etcd) == 0 {
		ec := etcd.EmbedConfig{DataDir: c.DataDir, NoSync: c.NoSync, Logger: quiet}
		if ec.Quorum, err = quorum(ctx, c, p, log); err != nil {
			return err
		}
		if n.embedded, err = etcd.Embed(ctx, ec); err != nil {
			return err
		}
		n.etcd, n.failed = n.embedded.Endpoints(), n.embedded.Failed()
		defer func() { err = errors.Join(err, n.embedded.Stop()) }()
	}
	n.store, err = openStore(ctx, c, n.embedded, quiet, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()

	if n.embedded != nil && n.embedded.Restored() {
		log.Info("the store was restored from a backup: waiting until all earlier leases have ended", "lease", c.Lease)
		if err := scheduler.Fence(ctx, n.store, c.Lease); err != nil {
			return err
		}
		if err := n.embedded.Fenced(); err != nil {
			return err
		}
	}

	sc := scheduler.Config{Store: n.store, Name: c.Name, Logger: log}
	if sc.Name == "" {
		// The same after a restart, and another for each scheduler of a host.
		_, port, _ := net.SplitHostPort(p.grpc.Addr().String())
		host, _ := os.Hostname()
		sc.Name = host + "-" + port
	}
	spans, err := otlp.Open(ctx, c.Trace, otlp.Process{Role: "scheduler", Name: sc.Name, Log: log})
	if err != nil {
		return err
	}
	defer spans.Close()
	sc.Lease, sc.Interval, sc.Timeout, sc.Debounce = c.Lease, c.Interval, c.PassTimeout, c.Debounce
	sc.MaxWorkers, sc.BarrierWorkers, sc.BarrierWait = c.MaxWorkers, c.BarrierWorkers, c.BarrierWait
	sc.Hold, sc.HoldFor = holdOf(c)
	if sc.Events = (scheduler.EventLimits{Keep: c.EventsKeep, Age: c.EventsAge}); c.EventsKeep == 0 {
		sc.Events.Keep = -1
	}
	if sc.SuspectAfter = c.SuspectAfter; c.SuspectAfter == 0 {
		sc.SuspectAfter = -1
	}
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
	sv.Scheduler, sv.GRPC, sv.HTTP, sv.WorkerRefusals = sc, p.grpc, p.http, olscheduler.WorkerRefusals()
	sv.TracerProvider, sv.TraceCallers = spans.Provider(), c.Trace.Callers
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFollowing()
	if err := secure(following, c, &sv, log); err != nil {
		return err
	}
	if c.Gateway != "" {
		if p.gateway == nil {
			if p.gateway, _, err = listen(ctx, "gateway", c.Gateway, c.AnyGateway); err != nil {
				return err
			}
		}
		sv.Gateway, n.gateway = []net.Listener{p.gateway}, p.gateway.Addr().String()
	}
	removeDir, err := openPools(c, &sv, log)
	if err != nil {
		return err
	}
	defer removeDir()
	defer ending.Left(func() string { removeDir(); return "" })()
	if len(c.Cluster) > 0 {
		sv.Quorum = n.embedded
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
	if len(c.Cluster) > 0 {
		go n.apart(following, log)
	}
	defer serveAdmin(ctx, c, n, log)()
	return f(n)
}

// quorum opens the peer port of a scheduler that keeps the store with others. It is nil
// for one that does so alone.
func quorum(ctx context.Context, c *config.Scheduler, p *ports, log *slog.Logger) (q *etcd.Quorum, err error) {
	if len(c.Cluster) == 0 {
		return nil, nil //nolint:nilnil // documented
	}
	if p.peer == nil {
		if p.peer, _, err = listen(ctx, "peer", c.PeerAddress(), false); err != nil {
			return nil, err
		}
	}
	q = &etcd.Quorum{Name: c.Name, Members: c.Cluster, Listener: p.peer, Join: c.Join, Logger: log}
	if c.TLS {
		q.TLS = pki.Files{CA: c.TLSCA, Cert: c.TLSCert, Key: c.TLSKey, Revoked: c.TLSRevoked}
	} else if !auth.Loopback(c.PeerAddress()) {
		log.Warn("the peer port is open to anyone who reaches it (--peer-insecure)", "peer", p.peer.Addr().String())
	}
	return q, nil
}

// apartEvery is how often it is looked who leads.
const apartEvery = time.Second

// apart keeps the leader of the schedulers from leading their etcds as well, until ctx
// ends: when both go in one moment, the lease of the first is counted from the election
// of the second only.
func (n *node) apart(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(apartEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		leads, v := false, n.server.Scheduler().View()
		v.Read(func() { leads = v.Leader != nil && v.Leader.Name == n.server.Scheduler().Name() })
		if !leads {
			continue
		}
		if err := n.embedded.Yield(ctx); err != nil && ctx.Err() == nil {
			log.Debug("no other member of etcd leads yet", "error", err)
		}
	}
}

// gatewaySocket is where the gateway of a scheduler of this data directory is asked.
func gatewaySocket(dir string) string { return filepath.Join(dir, "gateway.sock") }

// serveAdmin serves the admin side of the node's gateway on a socket in its data
// directory, where rota route finds it. A node without one is better than none.
func serveAdmin(ctx context.Context, c *config.Scheduler, n *node, log *slog.Logger) (stop func()) {
	g := n.server.Gateway()
	if g == nil {
		return func() {}
	}
	path := ""
	if len(c.Etcd) == 0 {
		path = gatewaySocket(c.DataDir)
	}
	_, port, err := net.SplitHostPort(n.gateway)
	if err == nil {
		stop, err = admin.Socket(ctx, g, path, port, log)
	}
	if err != nil {
		log.Warn("no admin socket: rota route cannot reach this gateway", "error", err)
		return func() {}
	}
	return stop
}

// openStore connects to etcd, and goes on trying while it is not there.
func openStore(ctx context.Context, c *config.Scheduler, node *etcd.Embedded, quiet, log *slog.Logger) (*etcd.Store, error) {
	for {
		st, err := etcd.Open(ctx, etcd.Config{
			Endpoints: c.Etcd, Node: node, Root: store.ClusterRoot(c.Root, c.Namespace), CAFile: c.EtcdCA, CertFile: c.EtcdCert, KeyFile: c.EtcdKey,
			RevokedFile: c.TLSRevoked,
			User:        c.EtcdUser, PasswordFile: c.EtcdPasswordFile, Logger: quiet, Patience: c.Lease / 10, Again: len(c.Cluster) > 0,
		})
		var field *rota.FieldError
		switch {
		case err == nil:
			return st, nil
		case errors.As(err, &field), ctx.Err() != nil:
			return nil, err
		}
		log.Error("etcd does not answer; trying again", "error", err)
	}
}

// holdOf says which lists are held, and for how long, as package scheduler has it.
func holdOf(c *config.Scheduler) (part float64, wait time.Duration) {
	part, wait = c.TasksHold, c.TasksHoldFor
	if part == 0 {
		part = 1
	}
	if wait == 0 {
		wait = -1
	}
	return part, wait
}

// sources are the lists that the configuration names.
func sources(c *config.Scheduler) ([]*source.Source, error) {
	parse := func(name string, r io.Reader) ([]rota.Task, error) {
		return taskfile.Read(r, name, taskfile.Options{Columns: c.TasksColumns})
	}
	var out []*source.Source
	if c.TasksFile != "" {
		s := source.File(c.TasksFile, 0, c.TasksRest, parse)
		s.Name = "tasks-file"
		out = append(out, s)
	}
	if c.TasksURL != "" {
		client, err := source.Access{
			HeadersFile: c.TasksHeadersFile, TokenFile: c.TasksTokenFile, CAFile: c.TasksCA, CertFile: c.TasksCert, KeyFile: c.TasksKey,
		}.Client()
		if err != nil {
			return nil, err
		}
		s := source.URL(c.TasksURL, c.TasksPoll, client, parse)
		s.Name = "tasks-url"
		out = append(out, s)
	}
	return out, nil
}
