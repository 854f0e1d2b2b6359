package role

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/gatewayadmin"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/ending"
	"github.com/rota-project/rota/internal/process"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// schedulerProcess is one of several schedulers.
type schedulerProcess struct {
	name string
	*process.Process
}

// several runs each scheduler as a child, of rota scheduler --cluster, until ctx ends
// or none is left.
func (d *dev) several(ctx context.Context) error {
	all, ended, err := d.startSchedulers()
	defer d.forgetSockets()
	defer ending.Left(func() string { d.forgetSockets(); return "" })()
	defer func() { stopSchedulers(all) }()
	if err != nil {
		return err
	}
	asks, err := d.ask()
	if err != nil {
		return err
	}
	defer asks.close()
	began := make(chan error, 1)
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { began <- asks.begin(starting, d.tasks, d.cfg.Tasks != "") }()
	select {
	case err = <-began:
	case p := <-ended:
		cancel()
		err = errors.Join(fmt.Errorf("dev: scheduler %s exited before the cluster served", p.name), <-began)
	}
	if ctx.Err() != nil {
		return nil // asked to end
	}
	if err != nil {
		return err
	}
	gone, stop, err := d.workers(ctx, asks.addresses, exitReporter)
	if err != nil {
		return err
	}
	defer stop()
	if asks.awaitWorkers(ctx, d.cfg.Workers) {
		var pids []int
		for _, p := range all {
			pids = append(pids, p.Pid())
		}
		d.greet(pids)
	}
	for left := len(all); ; {
		select {
		case <-ctx.Done():
			return nil
		case p := <-ended:
			left--
			exit, _ := p.Wait()
			say := d.log.Warn
			if left <= len(all)/2 {
				say = d.log.Error
			}
			say("a scheduler has ended", "scheduler", p.name, "status", exit.String(), "left", left, "quorum", len(all)/2+1)
			if left == 0 {
				return errors.New("dev: no scheduler is left")
			}
		case <-gone:
			gone = nil
			d.log.Warn("no worker is left; tasks wait for one")
		}
	}
}

// startSchedulers starts them. ended is told of each that has ended.
func (d *dev) startSchedulers() (all []*schedulerProcess, ended <-chan *schedulerProcess, err error) {
	ends := make(chan *schedulerProcess, len(d.ports))
	members := d.members()
	for n, p := range d.ports {
		name := schedulerName(n)
		sc, _, err := d.scheduler(name, d.schedulerDir(name))
		if err != nil {
			return all, ends, err
		}
		sc.Cluster = members
		tmp, err := d.temporary(name)
		if err != nil {
			return all, ends, err
		}
		files, env, err := p.handOver()
		if err != nil {
			return all, ends, fmt.Errorf("dev: scheduler %s: %w", name, err)
		}
		dir, _ := os.Getwd() // files may be named from here; "" is /
		started, err := process.Start(context.Background(), process.Spec{
			Argv: d.argv(sc, p), Env: append(withoutOwn(os.Environ()), env, "TMPDIR="+tmp), Dir: dir, Files: files,
			Stdout: wholeLines(d.logTo), Stderr: wholeLines(d.logTo),
		})
		closeAll(files)
		p.close() // a connection to one that has ended is to be refused
		if err != nil {
			return all, ends, fmt.Errorf("dev: scheduler %s: %w", name, err)
		}
		one := &schedulerProcess{name, started}
		all = append(all, one)
		go func() {
			<-one.Done()
			ends <- one
		}()
	}
	return all, ends, nil
}

func (d *dev) schedulerDir(name string) string { return filepath.Join(d.dir, name) }

// temporary makes a scheduler's directory of temporary files, empty: one that is killed
// leaves what it had there.
func (d *dev) temporary(name string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(d.dir, "tmp", name))
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("dev: scheduler %s: %w", name, err)
	}
	return dir, nil
}

// forgetSockets removes what a scheduler that was killed has left of its gateway outside
// of its directory.
func (d *dev) forgetSockets() {
	for n, p := range d.ports {
		if p.gateway == nil {
			continue
		}
		if _, port, err := net.SplitHostPort(p.gateway.Addr().String()); err == nil {
			admin.Forget(gatewaySocket(d.schedulerDir(schedulerName(n))), port)
		}
	}
}

// argv is the command of a scheduler.
func (d *dev) argv(sc *config.Scheduler, p *ports) []string {
	var cluster []string
	for _, name := range slices.Sorted(maps.Keys(sc.Cluster)) {
		cluster = append(cluster, name+"="+sc.Cluster[name])
	}
	gateway := ""
	if p.gateway != nil {
		gateway = p.gateway.Addr().String()
	}
	argv := []string{
		d.self, "scheduler", "--name", sc.Name, "--cluster", strings.Join(cluster, ","), "--data-dir", sc.DataDir,
		"--grpc", p.grpc.Addr().String(), "--http", p.http.Addr().String(), "--gateway", gateway, "--engines", strings.Join(sc.Engines, ","),
		"--lease", sc.Lease.String(), "--barrier-workers", fmt.Sprint(sc.BarrierWorkers), "--barrier-wait", sc.BarrierWait.String(),
		"--log-level", sc.Log.Level, "--log-format", sc.Log.Format,
	}
	if sc.TLS {
		argv = append(argv, "--tls", "--tls-cert", sc.TLSCert, "--tls-key", sc.TLSKey, "--tls-ca", sc.TLSCA, "--tokens", sc.Tokens, "--authority", sc.Authority)
	}
	return append(argv, sc.Trace.Args()...)
}

// stopSchedulers ends them one after the other: each that ends hands over to the others,
// and would wait in vain for one that ends as well.
func stopSchedulers(all []*schedulerProcess) {
	for _, p := range all {
		p.Stop(2 * stopTimeout)
		<-p.Done()
	}
}

// asking asks several schedulers, whichever answers.
type asking struct {
	addresses []string
	conns     []*grpc.ClientConn
}

// ask connects to all schedulers.
func (d *dev) ask() (*asking, error) {
	creds, options := insecure.NewCredentials(), []grpc.DialOption(nil)
	if d.cr != nil {
		src, err := pki.Load(pki.Files{CA: filepath.Join(d.cr.dir, pki.CAFile)})
		if err != nil {
			return nil, err
		}
		creds = src.Credentials("")
		options = append(options, grpc.WithPerRPCCredentials(auth.PerRPC(d.cr.token, true)))
	}
	options = append(options, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(bound.MaxMessage)))
	a := &asking{}
	for _, p := range d.ports {
		addr := p.grpc.Addr().String()
		conn, err := grpc.NewClient("passthrough:///"+addr, options...)
		if err != nil {
			a.close()
			return nil, fmt.Errorf("dev: scheduler %s: %w", addr, err)
		}
		a.addresses, a.conns = append(a.addresses, addr), append(a.conns, conn)
	}
	return a, nil
}

func (a *asking) close() {
	for _, c := range a.conns {
		_ = c.Close()
	}
}

// askFor bounds one question to one scheduler.
const askFor = 5 * time.Second

// any asks one scheduler after the other until one answers. Once nobody does, the error is the
// last one's.
func (a *asking) any(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) (err error) {
	for _, conn := range a.conns {
		one, cancel := context.WithTimeout(ctx, askFor)
		err = f(one, conn)
		cancel()
		if err == nil || !away(err) {
			return err
		}
	}
	return err
}

// away reports whether another scheduler, or the same one later, may answer better.
func away(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted:
		return true
	}
	return false
}

// begin waits until all schedulers serve, and declares the tasks unless the user's own
// are kept.
func (a *asking) begin(ctx context.Context, tasks []rota.Task, given bool) error {
	var group sync.WaitGroup
	for _, conn := range a.conns {
		group.Go(func() {
			_ = patiently(ctx, func() error {
				r, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
				if err == nil && r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
					err = status.Error(codes.Unavailable, r.GetStatus().String())
				}
				return err
			})
		})
	}
	group.Wait()
	err := patiently(ctx, func() error {
		return a.any(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
			kept, err := rotav1.NewClusterClient(conn).GetStatus(ctx, &rotav1.GetStatusRequest{})
			if err != nil || kept.GetTasks().GetDeclared() > 0 && !given {
				return err
			}
			_, err = rotav1.NewTasksClient(conn).ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto(tasks)})
			return err
		})
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("declare tasks: %w", err)
	}
	return nil
}

// patiently calls f until it does not say that somebody is away, or ctx ends.
func patiently(ctx context.Context, f func() error) error {
	pause := backoff.Backoff{First: 10 * time.Millisecond, Most: 200 * time.Millisecond}
	for {
		err := f()
		if err == nil || !away(err) || pause.Wait(ctx) != nil {
			return err
		}
	}
}

// awaitWorkers waits until so many workers live, for a time.
func (a *asking) awaitWorkers(ctx context.Context, want int) bool {
	within, cancel := context.WithTimeout(ctx, gatherFor)
	defer cancel()
	_ = patiently(within, func() error {
		return a.any(within, func(ctx context.Context, conn *grpc.ClientConn) error {
			r, err := rotav1.NewClusterClient(conn).GetStatus(ctx, &rotav1.GetStatusRequest{})
			if err == nil && int(r.GetWorkers().GetReady()) < want {
				err = status.Error(codes.Unavailable, "fewer workers")
			}
			return err
		})
	})
	return ctx.Err() == nil // say where things are all the same
}
