package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/worker/supervise"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/worker"
)

// beWorker is a worker process.
func beWorker(ctx context.Context, name, scheduler string) error {
	link, err := supervise.Join()
	if err != nil {
		return err
	}
	go func() {
		<-link.Lost()
		os.Exit(1)
	}()
	w, err := worker.New(worker.Config{
		Name: name, Schedulers: []string{scheduler}, Incarnation: os.Getenv(supervise.IncarnationEnv), Guard: link,
	})
	if err != nil {
		return err
	}
	if err := w.HandleTask("", func(ctx context.Context, _ worker.Assigned) error {
		<-ctx.Done()
		return nil
	}); err != nil {
		return err
	}
	ctx, stop := signalContext(ctx)
	defer stop()
	return w.Run(ctx)
}

// acks is told by the scheduler's picture what is acknowledged as running.
type acks struct {
	mu   sync.Mutex
	on   map[rota.Instance]string
	last time.Time
	lost map[rota.Instance]bool // those of the one that is killed, until they run elsewhere
	done chan struct{}
}

func (a *acks) take(d *scheduler.Delta) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, changes := range d.Acks {
		for _, c := range changes {
			if c.New == nil || c.New.State != ownership.Running {
				continue
			}
			a.on[c.New.Instance] = name
			if a.lost[c.New.Instance] {
				delete(a.lost, c.New.Instance)
				if a.last = time.Now(); len(a.lost) == 0 {
					close(a.done)
				}
			}
		}
	}
}

// kill kills a worker process whose supervisor lives, again and again. A task
// counts as running elsewhere when the store has the new worker's word for it.
func kill(ctx context.Context, o options) (rows []row, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l, err := start(ctx, scheduler.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	a := &acks{on: map[rota.Instance]string{}}
	sub := l.server.Scheduler().View().Subscribe(nil, a.take)
	defer sub.Close()
	supervised, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	for n := range someWorkers {
		name := fmt.Sprintf("w%d", n)
		group.Go(func() {
			_ = supervise.Run(supervised, supervise.Config{
				Name: name, Argv: []string{self, "-worker", name, "-scheduler", l.addr}, Env: os.Environ(),
				Stdout: os.Stderr, Restart: supervise.Always,
				Exited: func(ctx context.Context, incarnation string) error {
					_, err := l.server.Scheduler().Sessions().ReportExit(auth.Inside(ctx), &rotav1.ReportExitRequest{Name: name, Incarnation: incarnation})
					return err
				},
			})
		})
	}
	if err := l.settled(ctx, someWorkers); err != nil {
		return nil, err
	}
	if err := l.apply(ctx, taskList(someTasks)); err != nil {
		return nil, err
	}
	var times []time.Duration
	for n := range o.runs {
		if err := l.settled(ctx, someWorkers); err != nil {
			return nil, err
		}
		name := fmt.Sprintf("w%d", n%someWorkers)
		w, err := l.server.Service().GetWorker(ctx, &rotav1.GetWorkerRequest{Name: name})
		if err != nil {
			return nil, err
		}
		done := make(chan struct{})
		a.mu.Lock()
		a.lost, a.done = map[rota.Instance]bool{}, done
		for i, on := range a.on {
			if on == name {
				a.lost[i] = true
			}
		}
		held := len(a.lost)
		a.mu.Unlock()
		if held < someTasks/someWorkers*9/10 {
			return nil, fmt.Errorf("%s runs %d tasks only", name, held)
		}
		began := time.Now()
		if err := syscall.Kill(int(w.GetPid()), syscall.SIGKILL); err != nil {
			return nil, err
		}
		select {
		case <-done:
		case <-time.After(time.Minute):
			return nil, fmt.Errorf("tasks of %s do not run elsewhere", name)
		}
		a.mu.Lock()
		times = append(times, a.last.Sub(began))
		a.lost = nil
		a.mu.Unlock()
	}
	return []row{inMillis("kill -9 of 1 of 10, supervised: its 1,000 run elsewhere, p99", percentile(times, 0.99), 500*time.Millisecond, 10*time.Second,
		fmt.Sprintf("processes; median %v of %d", percentile(times, 0.5).Round(time.Millisecond), len(times)))}, nil
}

// product measures the binary as it is built for users.
func product(ctx context.Context, _ options) (rows []row, err error) {
	_, bin, remove, err := productIn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	info, err := os.Stat(bin)
	if err != nil {
		return nil, err
	}
	rows = append(rows, inMB("the binary", float64(info.Size()), 50e6, ""))

	var best time.Duration
	for range 3 {
		took, err := devReady(ctx, bin)
		if err != nil {
			return rows, err
		}
		if best == 0 || took < best {
			best = took
		}
	}
	rows = append(rows, inSeconds("rota dev until ready", best, time.Second, 0, "from exec to its greeting; best of 3"))

	l, err := start(ctx, scheduler.Config{})
	if err != nil {
		return rows, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	w := exec.CommandContext(ctx, bin, "worker", "--name", "idle", "--schedulers", l.addr, "--demo") //nolint:gosec // the path is our own
	w.Env = append(os.Environ(), "ROTA_INCARNATION=one")
	if err := w.Start(); err != nil {
		return rows, err
	}
	defer func() {
		_ = w.Process.Signal(syscall.SIGTERM)
		_ = w.Wait()
	}()
	if err := l.settled(ctx, 1); err != nil {
		return rows, err
	}
	time.Sleep(5 * time.Second) // idle is what it is after some renewals
	rss, err := residentOf(w.Process.Pid, "VmRSS")
	return append(rows, inMB("an idle worker, resident", rss, 25e6, "5 s after it joined")), err
}

// productIn builds the binary as it is built for users in a directory of its own, which
// remove removes.
func productIn(ctx context.Context) (dir, bin string, remove func() error, err error) {
	dir, err = os.MkdirTemp("", "rota-bench-*")
	if err != nil {
		return "", "", nil, err
	}
	remove = func() error { return os.RemoveAll(dir) }
	bin, err = buildProduct(ctx, dir)
	if err != nil {
		return "", "", nil, errors.Join(err, remove())
	}
	return dir, bin, remove, nil
}

// buildProduct builds the binary as it is built for users.
func buildProduct(ctx context.Context, dir string) (bin string, err error) {
	bin = filepath.Join(dir, "rota")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./cmd/rota") //nolint:gosec // the path is our own
	if build.Dir, err = productDir(ctx); err != nil {
		return "", err
	}
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return bin, nil
}

func devReady(ctx context.Context, bin string) (took time.Duration, err error) {
	cmd := exec.CommandContext(ctx, bin, "dev")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
	}()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "ready after") {
			return time.Since(began), nil
		}
	}
	return 0, errors.New("rota dev ends without a greeting")
}

// productDir is where the product's module is.
func productDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/rota-project/rota").Output()
	if err != nil {
		return "", fmt.Errorf("find the product: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// residentOf reads an amount of /proc/PID/status in bytes.
func residentOf(pid int, field string) (float64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(field+":")); ok {
			kb, err := strconv.ParseFloat(string(bytes.Fields(rest)[0]), 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s", field)
}
