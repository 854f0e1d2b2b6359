package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/worker"
)

// live is a control plane: an embedded etcd that waits for the disk, and one
// scheduler that listens on loopback.
type live struct {
	dir    string
	etcd   *etcd.Embedded
	store  *etcd.Store
	server *server.Server
	addr   string
}

func start(ctx context.Context, c scheduler.Config) (*live, error) {
	return startOn(ctx, c, func(s *etcd.Store) store.Store { return s })
}

// startOn is start on what over makes of the store.
func startOn(ctx context.Context, c scheduler.Config, over func(*etcd.Store) store.Store) (l *live, err error) {
	l = &live{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.stop())
		}
	}()
	if l.dir, err = os.MkdirTemp("", "rota-bench-*"); err != nil {
		return l, err
	}
	if l.etcd, err = etcd.Embed(ctx, etcd.EmbedConfig{DataDir: l.dir}); err != nil {
		return l, err
	}
	if l.store, err = etcd.Open(ctx, etcd.Config{Endpoints: l.etcd.Endpoints(), Root: "bench/"}); err != nil {
		return l, err
	}
	var listen net.ListenConfig
	grpc, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return l, err
	}
	http, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return l, err
	}
	c.Store, c.Name = over(l.store), "s1"
	l.addr = grpc.Addr().String()
	if l.server, err = server.Start(server.Config{Scheduler: c, GRPC: grpc, HTTP: http}); err != nil {
		return l, err
	}
	return l, l.server.Ready(ctx)
}

func (l *live) stop() error {
	var err error
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if l.server != nil {
		err = errors.Join(err, l.server.Stop(ctx))
	}
	if l.store != nil {
		err = errors.Join(err, l.store.Close())
	}
	if l.etcd != nil {
		err = errors.Join(err, l.etcd.Stop())
	}
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	return err
}

// apply declares tasks as a user's file of them would be.
func (l *live) apply(ctx context.Context, tasks []rota.Task) error {
	const chunk = 10_000
	for len(tasks) > 0 {
		n := min(chunk, len(tasks))
		if _, err := l.server.Service().ApplyTasks(auth.Inside(ctx), &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto(tasks[:n])}); err != nil {
			return err
		}
		tasks = tasks[n:]
	}
	return nil
}

func taskList(n int) []rota.Task { return taskRange(0, n) }

func taskRange(from, to int) []rota.Task {
	out := make([]rota.Task, to-from)
	for i := range out {
		out[i] = rota.Task{ID: fmt.Sprintf("task-%06d", from+i)}
	}
	return out
}

// ran is told what runs where.
type ran struct {
	mu     sync.Mutex
	by     map[rota.Instance]string // who runs it now
	starts int                      // since mark
	last   time.Time                // of starts
	first  time.Time
	gaps   []time.Duration // between the end of one run and the begin of the next
	ended  map[rota.Instance]time.Time
	double error
	cond   func() bool   // what somebody waits for, looked at whenever a task starts
	done   chan struct{} // closed when it is so
}

func newRan() *ran {
	return &ran{by: map[rota.Instance]string{}, ended: map[rota.Instance]time.Time{}}
}

// on is the task function of a worker. It runs until it is told to stop.
func (r *ran) on(name string) worker.TaskFunc {
	return func(ctx context.Context, a worker.Assigned) error {
		i := a.Instance()
		r.mu.Lock()
		now := time.Now()
		if who, runs := r.by[i]; runs {
			r.double = fmt.Errorf("%v runs on %s and on %s", i, who, name)
		}
		r.by[i] = name
		if r.starts == 0 {
			r.first = now
		}
		r.starts++
		r.last = now
		if t, ok := r.ended[i]; ok {
			r.gaps = append(r.gaps, now.Sub(t))
		}
		if r.cond != nil && (r.double != nil || r.cond()) {
			close(r.done)
			r.cond = nil
		}
		r.mu.Unlock()
		<-ctx.Done()
		r.mu.Lock()
		delete(r.by, i)
		r.ended[i] = time.Now()
		r.mu.Unlock()
		return nil
	}
}

func (r *ran) mark() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts, r.gaps = 0, nil
}

// until waits for cond, which is looked at whenever a task starts.
func (r *ran) until(ctx context.Context, what string, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	done := make(chan struct{})
	r.mu.Lock()
	if r.cond, r.done = cond, done; cond() {
		close(done)
		r.cond = nil
	}
	r.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", what, ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.double
}

// functions makes the task function of a worker.
type functions interface {
	on(name string) worker.TaskFunc
}

// worker starts a worker that is connected over gRPC, or by connect.
func (l *live) worker(name string, r functions, connect worker.Connector) (*worker.Worker, error) {
	w, err := worker.New(worker.Config{Name: name, Schedulers: []string{l.addr}, Connect: connect, Exit: func(int) {
		fmt.Fprintf(os.Stderr, "cluster: worker %s had to fence itself: the machine is too busy to measure anything\n", name)
		os.Exit(1)
	}})
	if err != nil {
		return nil, err
	}
	if err := w.HandleTask("", r.on(name)); err != nil {
		return nil, err
	}
	w.Start()
	return w, nil
}

// workers starts n of them and waits until all have a session.
func (l *live) workers(ctx context.Context, n int, r functions) ([]*worker.Worker, error) {
	var all []*worker.Worker
	for i := range n {
		w, err := l.worker(fmt.Sprintf("w%03d", i), r, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, l.settled(ctx, n)
}

// settled waits until n workers live and all tasks run and nothing moves.
func (l *live) settled(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for quiet := 0; quiet < 3; {
		s, err := l.server.Service().GetStatus(ctx, &rotav1.GetStatusRequest{})
		if err != nil {
			return err
		}
		if s.GetWorkers().GetReady() == int64(n) && s.GetTasks().GetWaiting() == 0 && s.GetMoving() == 0 && s.GetImbalance() < 1.01 {
			quiet++
		} else {
			quiet = 0
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("cluster does not settle: %v: %w", s, ctx.Err())
		}
	}
	return nil
}

func stopAll(ctx context.Context, workers []*worker.Worker) error {
	errs := make([]error, len(workers))
	var group sync.WaitGroup
	for i, w := range workers {
		group.Go(func() { errs[i] = w.Stop(ctx) })
	}
	group.Wait()
	return errors.Join(errs...)
}
