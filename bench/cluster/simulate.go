package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store"
)

// simulated is what the simulation has to say, as one line of JSON.
type simulated struct {
	Declared   time.Duration `json:"declared"`
	Granted    time.Duration `json:"granted"`
	AllRunning time.Duration `json:"all_running"`
	Lost       time.Duration `json:"lost"`
	Held       int           `json:"held"`
	CPU        time.Duration `json:"cpu"`
	Renewal    time.Duration `json:"renewal"` // the slowest answer
	Peak       float64       `json:"peak"`    // bytes, as Resident and Heap
	Resident   float64       `json:"resident"`
	Heap       float64       `json:"heap"`
}

// simulation runs simulate in a process of its own, so that its memory is its own.
func simulation(ctx context.Context, o options) ([]row, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-simulate", "-sessions", fmt.Sprint(o.sessions), "-tasks", fmt.Sprint(o.tasks)) //nolint:gosec // the command itself
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GOMEMLIMIT=1250MiB")
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var s simulated
	if err := json.Unmarshal(out, &s); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("simulated %d sessions x %d tasks: ", o.sessions, o.tasks)
	return []row{
		inSeconds(what+"all granted", s.Granted, 30*time.Second, 0, fmt.Sprintf("from the first declared; all declared after %v, all running in the store after %v; %v of CPU; slowest renewal %v",
			s.Declared.Round(100*time.Millisecond), s.AllRunning.Round(100*time.Millisecond), s.CPU.Round(time.Second), s.Renewal.Round(time.Millisecond))),
		inSeconds(what+"one lost", s.Lost, 2*time.Second, 0, fmt.Sprintf("its %d tasks run elsewhere", s.Held)),
		inMB(what+"peak", s.Peak, 3<<29, fmt.Sprintf("resident; %.0f MB at the end, heap %.0f MB", s.Resident/1e6, s.Heap/1e6)),
	}, nil
}

// field is a set of simulated workers. They do what a worker does on its stream,
// and run nothing.
type field struct {
	mu      sync.Mutex
	owner   []int32 // by the task's number: one more than the session's
	all     []*simWorker
	granted int
	// welcomed is how many have a session.
	welcomed int
	double   error
	moved    chan struct{}
	birth    time.Time
	slowest  time.Duration // renewal
	running  atomic.Bool   // the leader says that all tasks run
}

type simWorker struct {
	f       *field
	n       int32 // from 1
	name    string
	dial    func() (simConn, error)
	conn    simConn
	held    int  // guarded by field.mu
	in      bool // it has a session; the same
	session int64
	lease   int64
	seq     atomic.Uint64
	asked   atomic.Int64 // when the last renewal was, since field.birth
}

type simConn interface {
	Send(*rotav1.FromWorker) error
	Recv() (*rotav1.ToWorker, error)
}

// serve reads what the scheduler says until the stream ends.
func (w *simWorker) serve() {
	for {
		m, err := w.conn.Recv()
		if err != nil {
			w.f.mu.Lock()
			if w.n >= 0 && w.f.double == nil {
				w.f.double = fmt.Errorf("%s: its stream ended after %d granted: %w", w.name, w.f.granted, err)
			}
			w.f.mu.Unlock()
			w.f.wake()
			return
		}
		switch b := m.GetBody().(type) {
		case *rotav1.ToWorker_Welcome:
			w.session, w.lease = b.Welcome.GetSession(), b.Welcome.GetLease()
			w.f.mu.Lock()
			w.in = true
			w.f.welcomed++
			w.f.mu.Unlock()
			w.f.wake()
		case *rotav1.ToWorker_Grants:
			w.grants(b.Grants)
		case *rotav1.ToWorker_Renewed:
			took := time.Since(w.f.birth) - time.Duration(w.asked.Load())
			w.f.mu.Lock()
			w.f.slowest = max(w.f.slowest, took)
			w.f.mu.Unlock()
		case *rotav1.ToWorker_Refused:
			w.f.mu.Lock()
			if w.n >= 0 && w.f.double == nil {
				w.f.double = fmt.Errorf("%s: session refused after %d granted: %s", w.name, w.f.granted, b.Refused.GetText())
			}
			w.f.mu.Unlock()
			w.f.wake()
		case *rotav1.ToWorker_Cluster:
			w.f.running.Store(b.Cluster.GetAllRunning())
			w.f.wake()
		}
	}
}

func (w *simWorker) grants(m *rotav1.Grants) {
	f := w.f
	acks := make([]*rotav1.Ack, 0, len(m.GetGrant())+len(m.GetRevoke()))
	f.mu.Lock()
	if w.n < 0 { // it is deaf
		f.mu.Unlock()
		return
	}
	for _, r := range m.GetRevoke() {
		if at := &f.owner[numberOf(r.GetTask())]; *at == w.n {
			*at = 0
			w.held--
			f.granted--
		}
		acks = append(acks, &rotav1.Ack{Task: r.GetTask(), Generation: r.GetGeneration(), State: string(ownership.Stopped)})
	}
	for _, g := range m.GetGrant() {
		id := g.GetTask().GetId()
		at := &f.owner[numberOf(id)]
		switch *at {
		case 0:
		case w.n:
			continue
		default:
			f.double = fmt.Errorf("%s runs on %s and on %s", id, f.all[*at-1].name, w.name)
		}
		*at = w.n
		w.held++
		f.granted++
		acks = append(acks, &rotav1.Ack{Task: id, Index: g.GetIndex(), Generation: g.GetGeneration(), State: string(ownership.Running)})
	}
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
	if len(acks) > 0 {
		_ = w.conn.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Acks{Acks: &rotav1.Acks{Acks: acks}}})
	}
}

// declared is how many tasks are declared at a time.
const declared = 10_000

func numberOf(task string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(task, "task-"))
	if err != nil {
		panic(err) // nobody declared that
	}
	return n
}

// tell logs how far things are.
func (f *field) tell(ctx context.Context, log *slog.Logger) {
	for ctx.Err() == nil {
		f.mu.Lock()
		granted, slowest := f.granted, f.slowest
		f.slowest = 0
		f.mu.Unlock()
		log.Info("simulating", "granted", granted, "slowest_renewal", slowest, "cpu", cpuTime())
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (f *field) wake() {
	f.mu.Lock()
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
}

func (f *field) until(ctx context.Context, what string, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	for {
		f.mu.Lock()
		ok, moved, err := cond(), f.moved, f.double
		granted := f.granted
		f.mu.Unlock()
		if err != nil || ok {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %d granted: %w", what, granted, ctx.Err())
		}
	}
}

// simLease is the lease of simulated sessions, which is a scheduler's own.
const simLease = 5 * time.Second

func newField(tasks int) *field {
	return &field{owner: make([]int32, tasks), moved: make(chan struct{}), birth: time.Now()}
}

// add adds a worker, which is to be given a connection.
func (f *field) add(n int) *simWorker {
	w := &simWorker{f: f, n: int32(n + 1), name: fmt.Sprintf("w%04d", n)}
	f.all = append(f.all, w)
	return w
}

// atOnce is how many ask for a session at the same time; workers that are refused while
// there are too many ask again later, which these do not.
const atOnce = 200

// hello has all workers get a session.
func (f *field) hello(ctx context.Context) (err error) {
	for n, w := range f.all {
		if n%atOnce == 0 {
			if err := f.until(ctx, "some welcomed", func() bool { return f.welcomed == n }); err != nil {
				return err
			}
		}
		if w.conn, err = w.dial(); err != nil {
			return err
		}
		go w.serve()
		w.seq.Store(1)
		if err := w.conn.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{Seq: 1, Info: &rotav1.WorkerInfo{
			Name: w.name, Incarnation: "one", AnyKind: true,
		}}}}); err != nil {
			return f.until(ctx, "why "+w.name+" cannot say hello", func() bool { return false })
		}
	}
	return f.until(ctx, "all welcomed", func() bool { return f.welcomed == len(f.all) })
}

// renew has each renew five times in a lease, as workers do, and not all at once. One that
// is deaf does not, or has no session yet.
func (f *field) renew(ctx context.Context, lease time.Duration) {
	ticker := time.NewTicker(lease / 5 / 100)
	defer ticker.Stop()
	for at := 0; ; at++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		for n := at % 100; n < len(f.all); n += 100 {
			w := f.all[n]
			f.mu.Lock()
			deaf := w.n < 0 || !w.in
			f.mu.Unlock()
			if deaf {
				continue
			}
			w.asked.Store(int64(time.Since(f.birth)))
			go func() {
				_ = w.conn.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Renew{Renew: &rotav1.Renew{Seq: w.seq.Add(1)}}})
			}()
		}
	}
}

// simulate runs sessions simulated workers and a million tasks, and writes what
// it measured to out.
func simulate(ctx context.Context, out io.Writer, sessions, tasks int, heap string) (err error) {
	level := slog.LevelError
	if heap != "" {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	l, err := start(ctx, scheduler.Config{Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := newField(tasks)
	for n := range sessions {
		f.add(n).dial = func() (simConn, error) { return l.server.Scheduler().Sessions().Dial(ctx), nil }
	}
	go f.renew(ctx, simLease)
	if err := f.hello(ctx); err != nil {
		return err
	}

	if heap != "" {
		go f.tell(ctx, log)
	}
	var s simulated
	began := time.Now()
	for from := 0; from < tasks; from += declared {
		if err := l.apply(ctx, taskRange(from, min(from+declared, tasks))); err != nil {
			return err
		}
	}
	s.Declared = time.Since(began)
	if err := f.until(ctx, "all granted", func() bool { return f.granted == tasks }); err != nil {
		return err
	}
	s.Granted = time.Since(began)
	if err := f.until(ctx, "all running", func() bool { return f.running.Load() }); err != nil {
		return err
	}
	s.AllRunning = time.Since(began)

	victim := f.all[len(f.all)/2]
	f.mu.Lock()
	s.Held = victim.held
	for i, n := range f.owner {
		if n == victim.n {
			f.owner[i] = 0
		}
	}
	f.granted -= victim.held
	victim.n = -1 // it is deaf
	f.mu.Unlock()
	began = time.Now()
	// Its process is known to be dead: what its supervisor says.
	if err := l.store.Revoke(ctx, store.LeaseID(victim.lease)); err != nil {
		return err
	}
	if err := f.until(ctx, "the tasks of the lost", func() bool { return f.granted == tasks }); err != nil {
		return err
	}
	s.Lost = time.Since(began)

	pid := os.Getpid()
	if s.Peak, err = residentOf(pid, "VmHWM"); err != nil {
		return err
	}
	if s.Resident, err = residentOf(pid, "VmRSS"); err != nil {
		return err
	}
	s.CPU, s.Renewal = cpuTime(), f.slowest
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	s.Heap = float64(mem.HeapAlloc)
	if heap != "" {
		if err := profileHeap(heap); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(s)
}
