package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"

	"github.com/rota-project/rota"
)

// ErrDataDirInUse says that another process has the data directory.
var ErrDataDirInUse = errors.New("data directory is in use")

// EmbedConfig says where an embedded node keeps its data.
type EmbedConfig struct {
	// DataDir is where the data is; it is made if it is not there. Nobody else may
	// write to it.
	DataDir string
	// Listen is a loopback address for clients, as 127.0.0.1:2379: every user of
	// the machine can then read and write all that is kept. Empty means a unix
	// socket that only this user can reach.
	Listen string
	// NoSync does not wait for the disk. A crash of the machine (not of the
	// process) then loses data: for tests and throw-away clusters only.
	NoSync bool
	// Quorum makes it a member of several. Nil: it is alone.
	Quorum *Quorum
	// Logger gets what the server has to say. Nil means nobody.
	Logger *slog.Logger
}

// How a node is tuned that is alone: nobody's heartbeat is late, so an election
// may be short, and what matters is how soon it is ready. Its ticks also bound
// the shortest lease: one second.
const (
	tickMs     = 50
	electionMs = 250
	quota      = 8 << 30
	// The log's entries stay in memory until a snapshot; they may be 1 MiB long.
	snapshotCount   = 300
	snapshotCatchUp = 50
	// History is for watches that were cut a short time. Older ones list again.
	historyKept = "2m"
	// A node that cannot start within it never will.
	startTimeout = 30 * time.Second
	lockFile     = "rota.lock"
	// aloneName is what a node is called that is alone.
	aloneName = "rota"
)

// Embedded is one etcd node in this process.
type Embedded struct {
	dir      string
	etcd     *embed.Etcd
	quorum   *quorum // nil if it is alone
	grpc     *grpcServers
	lock     lock
	socket   *socket // nil if it listens on an address
	endpoint string
	failed   *failure
	stop     sync.Once
}

// Embed starts a node and waits until it is ready: until ctx ends if it is a member of
// several, as it waits for the others. An error wraps ErrDataDirInUse if another node
// has the directory, or is a *rota.FieldError. Nothing is left running after an error.
func Embed(ctx context.Context, cfg EmbedConfig) (*Embedded, error) {
	e := &Embedded{dir: cfg.DataDir, failed: &failure{ch: make(chan struct{})}}
	var me owner
	if cfg.Quorum != nil {
		var err error
		if e.quorum, err = newQuorum(*cfg.Quorum); err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		me = owner{cfg.Quorum.Name, cfg.Quorum.Members[cfg.Quorum.Name]}
	}
	err := e.open(ctx, cfg, me)
	if err != nil {
		_ = errors.Join(e.quorum.stop(), e.socket.close(), e.lock.Close()) // the error of the start is the one that counts
		return nil, err
	}
	return e, nil
}

// open takes the data directory and starts the node on it.
func (e *Embedded) open(ctx context.Context, cfg EmbedConfig, me owner) error {
	ec, err := embedConfig(cfg)
	if err != nil {
		return err
	}
	if err := ownDir(cfg.DataDir); err != nil {
		return err
	}
	lock, err := fileutil.TryLockFile(filepath.Join(cfg.DataDir, lockFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return fmt.Errorf("etcd: %s: %w", cfg.DataDir, ErrDataDirInUse)
	} else if err != nil {
		return fmt.Errorf("etcd: data_dir: lock: %w", err)
	}
	e.lock.LockedFile = lock
	if err := claim(cfg.DataDir, me); err != nil {
		return err
	}
	if err := e.start(ctx, cfg, ec); err != nil {
		return fmt.Errorf("etcd: start in %s: %w", cfg.DataDir, err)
	}
	return nil
}

func (e *Embedded) start(ctx context.Context, cfg EmbedConfig, ec *embed.Config) (err error) {
	if cfg.Listen == "" {
		if e.socket, err = newSocket(cfg.DataDir); err != nil {
			return err
		}
		ec.ListenClientUrls = []url.URL{{Scheme: "unix", Path: e.socket.path()}}
	} else {
		ec.ListenClientUrls = []url.URL{{Scheme: "http", Host: cfg.Listen}}
	}
	ec.AdvertiseClientUrls = ec.ListenClientUrls
	f := e.failed
	servers := &grpcServers{}
	ec.ServiceRegister = servers.add
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(serverLogger(cfg.Logger, f))
	await := awaitAlone
	if e.quorum != nil {
		exists := false
		if !started(cfg.DataDir) {
			if exists, err = e.quorum.enter(ctx); err != nil {
				return err
			}
		}
		e.quorum.configure(ec, exists)
		await = e.quorum.await
	}
	node, err := launch(ctx, ec, f)
	if err != nil {
		return err
	}
	if e.quorum != nil {
		e.quorum.port.serve(e.quorum.handler(node))
	}
	if err := await(ctx, node, f); err != nil {
		if f.get() == nil {
			node.Server.HardStop() // Close would wait for a node that is not ready
			node.Close()
		}
		return err
	}
	e.etcd, e.grpc, e.endpoint = node, servers, ec.ListenClientUrls[0].String()
	if e.socket == nil {
		e.endpoint = "http://" + e.etcd.Clients[0].Addr().String() // the port may have been any
	}
	if e.quorum != nil {
		go e.watchRemoval()
	}
	return nil
}

// watchRemoval has the node fail when the others have removed it.
func (e *Embedded) watchRemoval() {
	<-e.etcd.Server.StopNotify()
	if e.etcd.Server.IsIDRemoved(uint64(e.etcd.Server.MemberID())) {
		e.failed.set(errRemoved)
	}
}

// lock is the data directory's, once it is held.
type lock struct{ *fileutil.LockedFile }

func (l lock) Close() error {
	if l.LockedFile == nil {
		return nil
	}
	return l.LockedFile.Close()
}

// Endpoints are what to open.
func (e *Embedded) Endpoints() []string { return []string{e.endpoint} }

// Failed is closed when the node has given up: its disk is full or broken. Err
// then says why. All that can be done is to stop and start again.
func (e *Embedded) Failed() <-chan struct{} { return e.failed.ch }

// Err is why the node has failed, nil if it has not.
func (e *Embedded) Err() error { return e.failed.get() }

// Stop ends the node in order. It may be called twice. Stores that are open on it
// should be closed before.
func (e *Embedded) Stop() error {
	var err error
	e.stop.Do(func() {
		if why := e.failed.get(); why == nil || errors.Is(why, errRemoved) {
			// Close would wait for open watches for seconds.
			e.grpc.stop()
			e.etcd.Close()
		}
		if err = errors.Join(e.quorum.stop(), e.socket.close(), e.lock.Close()); err != nil {
			err = fmt.Errorf("etcd: unlock: %w", err)
		}
	})
	return err
}

// grpcServers are what clients are connected to.
type grpcServers struct {
	mu  sync.Mutex
	all []*grpc.Server
}

func (g *grpcServers) add(s *grpc.Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, s)
}

func (g *grpcServers) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.all {
		s.Stop()
	}
}

func embedConfig(cfg EmbedConfig) (*embed.Config, error) {
	if cfg.DataDir == "" {
		return nil, &rota.FieldError{Field: "data_dir", Value: "", Want: "a directory; it is missing"}
	}
	if cfg.Listen != "" {
		host, _, err := net.SplitHostPort(cfg.Listen)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			return nil, &rota.FieldError{Field: "listen", Value: cfg.Listen, Want: "a loopback address and a port, as 127.0.0.1:2379"}
		}
	}
	ec := embed.NewConfig()
	ec.Name = aloneName
	ec.Dir = cfg.DataDir
	// There are no peers, so nothing listens for them; the address is a name.
	ec.ListenPeerUrls = nil
	ec.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	ec.TickMs, ec.ElectionMs = tickMs, electionMs
	ec.QuotaBackendBytes = quota
	ec.SnapshotCount, ec.SnapshotCatchUpEntries = snapshotCount, snapshotCatchUp
	ec.AutoCompactionMode, ec.AutoCompactionRetention = embed.CompactorModePeriodic, historyKept
	ec.UnsafeNoFsync = cfg.NoSync
	ec.EnableGRPCGateway = false
	ec.HostWhitelist = map[string]struct{}{"localhost": {}, "127.0.0.1": {}, "::1": {}}
	return ec, nil
}

// launch runs StartEtcd where it may end in any way that it likes: etcd gives up
// by log entries that panic or exit.
func launch(ctx context.Context, ec *embed.Config, f *failure) (*embed.Etcd, error) {
	type result struct {
		node *embed.Etcd
		err  error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.err = guard(f, func() (err error) {
			r.node, err = embed.StartEtcd(ec)
			return err
		})
		done <- r
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case r := <-done:
		return r.node, r.err
	case <-ctx.Done():
		go func() { // it holds what it holds until it comes back
			if r := <-done; r.node != nil {
				r.node.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// guard runs what gives up by log entries that panic or exit, and returns when it has.
func guard(f *failure, run func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("it gave up")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("it gave up: %v", p)
			}
			if why := f.get(); why != nil {
				err = why
			}
			done <- err
		}()
		err = run()
	}()
	return <-done
}

// awaitAlone waits until a node that is alone is ready.
func awaitAlone(ctx context.Context, node *embed.Etcd, f *failure) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case <-node.Server.ReadyNotify():
		return nil
	case <-f.ch:
		return f.get()
	case <-node.Server.StopNotify():
	case <-ctx.Done():
	}
	return fmt.Errorf("it did not become ready: %w", context.Cause(ctx))
}

// failure is the first fatal log entry of a node.
type failure struct {
	mu  sync.Mutex
	err error
	ch  chan struct{}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// set has the node fail, unless it has failed before.
func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		close(f.ch)
	}
}

// OnWrite implements zapcore.CheckWriteHook in place of exiting the process.
func (f *failure) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	why := errors.New(e.Message)
	for _, field := range fields {
		if err, ok := field.Interface.(error); ok {
			why = fmt.Errorf("%s: %w", e.Message, err)
		}
	}
	f.set(why)
	runtime.Goexit()
}

func serverLogger(l *slog.Logger, f *failure) *zap.Logger {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return zapLogger(l, zap.WithFatalHook(f))
}
