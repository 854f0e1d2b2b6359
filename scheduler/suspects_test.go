package scheduler_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/service"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fragile is a cluster whose worker processes may die at any time, and are started
// again by a supervisor.
type fragile struct {
	t      *testing.T
	store  *memory.Store
	report bool                 // a keeper says so when one dies
	kills  func(id string) bool // what kills its worker

	mu     sync.Mutex
	sc     *scheduler.Scheduler
	svc    *service.Service
	procs  map[string]*fragileProc
	deaths int
	closed bool
	over   chan struct{}
	ends   sync.WaitGroup
}

type fragileProc struct {
	w    *worker.Worker
	dead chan struct{}
	once sync.Once
	runs map[string]bool // under fragile.mu
}

// mortal is the connection of a process that says nothing from its death on, whatever
// is on its way while the connection is cut: above all not that it leaves in order.
type mortal struct {
	worker.Stream
	dead <-chan struct{}
}

func (m mortal) Send(x *rotav1.FromWorker) error {
	select {
	case <-m.dead:
		return io.EOF
	default:
		return m.Stream.Send(x)
	}
}

func newFragile(t *testing.T, workers, tasks int, report bool, kills func(string) bool) *fragile {
	t.Helper()
	f := &fragile{t: t, store: memory.New(), report: report, kills: kills, procs: map[string]*fragileProc{}, over: make(chan struct{})}
	f.lead("s1")
	var list []*rotav1.TaskDefinition
	for n := range tasks {
		list = append(list, &rotav1.TaskDefinition{Id: fmt.Sprintf("t%02d", n)})
	}
	if _, err := f.svc.ApplyTasks(auth.Inside(t.Context()), &rotav1.ApplyTasksRequest{Tasks: list}); err != nil {
		t.Fatal(err)
	}
	for n := range workers {
		f.start(fmt.Sprintf("w%d", n))
	}
	return f
}

// lead has another scheduler take the place of the one that there is.
func (f *fragile) lead(name string) {
	f.t.Helper()
	old, oldSvc := f.sc, f.svc
	sc, err := scheduler.New(scheduler.Config{Name: name, Store: f.store})
	if err != nil {
		f.t.Fatal(err)
	}
	sc.Start()
	f.mu.Lock()
	f.sc, f.svc = sc, sc.Service("")
	f.mu.Unlock()
	if old != nil {
		oldSvc.Close()
		if err := old.Stop(context.Background()); err != nil {
			f.t.Error(err)
		}
	}
}

func (f *fragile) close() {
	f.mu.Lock()
	f.closed = true
	close(f.over)
	for _, p := range f.procs {
		f.ends.Go(func() { _ = p.w.Stop(context.Background()) })
	}
	f.mu.Unlock()
	f.ends.Wait()
	f.svc.Close()
	if err := f.sc.Stop(context.Background()); err != nil {
		f.t.Error(err)
	}
	f.store.Close()
}

// start starts a worker process.
func (f *fragile) start(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	p := &fragileProc{dead: make(chan struct{}), runs: map[string]bool{}}
	w, err := worker.New(worker.Config{Name: name, NameWait: time.Hour, Exit: func(int) { runtime.Goexit() }, Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
		f.mu.Lock()
		sc := f.sc
		f.mu.Unlock()
		ctx, cut := context.WithCancel(ctx)
		select {
		case <-p.dead:
			cut()
			return nil, context.Canceled
		default:
		}
		f.ends.Go(func() {
			select {
			case <-p.dead:
			case <-ctx.Done():
			}
			cut()
		})
		return mortal{sc.Sessions().Dial(ctx), p.dead}, nil
	}})
	if err != nil {
		f.t.Error(err)
		return
	}
	err = w.HandleTask("", func(ctx context.Context, a worker.Assigned) error {
		f.mu.Lock()
		p.runs[a.ID()] = true
		f.mu.Unlock()
		f.mu.Lock()
		kills := f.kills(a.ID())
		f.mu.Unlock()
		if kills {
			select {
			case <-time.After(300 * time.Millisecond):
				f.kill(name, p)
			case <-ctx.Done():
			case <-p.dead:
			}
		}
		select {
		case <-ctx.Done():
		case <-p.dead:
			<-f.over // nothing of a process that is gone says anything
		}
		f.mu.Lock()
		delete(p.runs, a.ID())
		f.mu.Unlock()
		return nil
	})
	if err != nil {
		f.t.Error(err)
	}
	p.w = w
	f.procs[name] = p
	w.Start()
}

// kill ends a process at once; another takes its place.
func (f *fragile) kill(name string, p *fragileProc) {
	p.once.Do(func() {
		f.mu.Lock()
		f.deaths++
		sc := f.sc
		f.mu.Unlock()
		close(p.dead)
		f.ends.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = p.w.Stop(ctx) // what is left of it
		})
		f.ends.Go(func() {
			if f.report {
				_, _ = sc.Sessions().ReportExit(auth.Inside(context.Background()), &rotav1.ReportExitRequest{Name: name, Incarnation: p.w.Incarnation()})
			}
			time.Sleep(200 * time.Millisecond)
			f.start(name)
		})
	})
}

// running are the tasks that run on living processes.
func (f *fragile) running() (ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.procs {
		for id := range p.runs {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (f *fragile) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deaths
}

// suspects are those of the status, as "id:state".
func (f *fragile) suspects() string {
	f.t.Helper()
	s, err := f.svc.GetStatus(f.t.Context(), &rotav1.GetStatusRequest{})
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, x := range s.GetSuspects() {
		out = append(out, x.GetTask()+":"+x.GetState())
	}
	return strings.Join(out, " ")
}

func (f *fragile) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestKillerAmongHundred: a task that kills its workers, one of a hundred, is held
// after few deaths, with all others running; whether a keeper reports deaths or a
// broken connection says so.
func TestKillerAmongHundred(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		workers, most int
		report        bool
	}{{2, 8, true}, {3, 8, true}, {4, 8, false}, {10, 8, true}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFragile(t, c.workers, 100, c.report, func(id string) bool { return id == "t42" })
				defer f.close()
				f.settle(2 * time.Minute)
				if got := f.suspects(); got != "t42:held" {
					t.Errorf("suspected: %s", got)
				}
				deaths := f.count()
				t.Logf("%d deaths", deaths)
				if deaths < 3 || deaths > c.most {
					t.Errorf("%d deaths", deaths)
				}
				if got := f.running(); len(got) != 99 || slices.Contains(got, "t42") {
					t.Errorf("%d run: %v", len(got), got)
				}
				f.settle(3 * time.Minute)
				if f.count() != deaths {
					t.Errorf("%d deaths more", f.count()-deaths)
				}
			})
		})
	}
}

// TestHeldTask: what is held is told by every answer, outlives leaders and deaths of
// others, and ends by its release, a change, or its deletion.
func TestHeldTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFragile(t, 3, 10, true, func(id string) bool { return id == "t04" })
		defer f.close()
		f.settle(2 * time.Minute)
		held := func() {
			t.Helper()
			got, err := f.svc.GetTask(t.Context(), &rotav1.GetTaskRequest{Id: "t04"})
			if err != nil || got.GetSuspect().GetState() != "held" || got.GetInstances()[0].GetState() != "held" || got.GetSuspect().GetDeaths() < 4 {
				t.Fatalf("%v, %v", got, err)
			}
			why, err := f.svc.Why(t.Context(), &rotav1.WhyRequest{Id: "t04"})
			if err != nil || !strings.Contains(why.String(), "workers died while running it") || !strings.Contains(why.String(), "rota task release") || len(why.GetInstances()[0].GetWorkers()) != 3 {
				t.Errorf("%v, %v", why, err)
			}
			if plan, err := f.svc.GetPlan(t.Context(), &rotav1.GetPlanRequest{}); err != nil || len(plan.GetMoves()) > 0 {
				t.Errorf("%v, %v", plan, err)
			}
		}
		held()
		deaths := f.count()
		f.lead("s2")
		f.settle(time.Minute)
		held()
		if f.count() != deaths {
			t.Error("the next leader has it run")
		}
		// Released, it runs, and is held again after as many deaths.
		for _, id := range []string{"none", "t05"} {
			if _, err := f.svc.ReleaseTask(auth.Inside(t.Context()), &rotav1.ReleaseTaskRequest{Id: id}); status.Code(err) != map[string]codes.Code{"none": codes.NotFound, "t05": codes.FailedPrecondition}[id] {
				t.Errorf("%s: %v", id, err)
			}
		}
		if got, err := f.svc.ReleaseTask(auth.Inside(t.Context()), &rotav1.ReleaseTaskRequest{Id: "t04"}); err != nil || got.GetSuspect() != nil {
			t.Errorf("%v, %v", got, err)
		}
		f.settle(200 * time.Millisecond)
		if got := f.running(); !slices.Contains(got, "t04") {
			t.Errorf("released, it does not run: %v", got)
		}
		f.settle(2 * time.Minute)
		held()
		if more := f.count() - deaths; more < 3 || more > 8 {
			t.Errorf("%d deaths more", more)
		}
		// Something else under its name is another task; so is one that was deleted.
		f.mu.Lock()
		f.kills = func(string) bool { return false }
		f.mu.Unlock()
		if _, err := f.svc.ApplyTasks(auth.Inside(t.Context()), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "t04", Payload: "mended"}}}); err != nil {
			t.Fatal(err)
		}
		f.settle(time.Minute)
		if got := f.running(); len(got) != 10 || f.suspects() != "" {
			t.Errorf("mended: %v run, suspected: %s", got, f.suspects())
		}
	})
}

// TestNobodysFault: workers that leave in order, are drained, are cut off, or die
// many at once are no reason to suspect what they ran.
func TestNobodysFault(t *testing.T) {
	t.Parallel()
	nobody := func(string) bool { return false }
	each := func(f *fragile, do func(name string, p *fragileProc)) {
		for range 6 {
			for n := range 3 {
				name := fmt.Sprintf("w%d", n)
				f.mu.Lock()
				p := f.procs[name]
				f.mu.Unlock()
				do(name, p)
				f.settle(3 * time.Second)
			}
		}
	}
	for name, play := range map[string]func(f *fragile){
		"they leave": func(f *fragile) {
			each(f, func(name string, p *fragileProc) {
				if err := p.w.Stop(context.Background()); err != nil {
					f.t.Error(err)
				}
				f.start(name)
			})
		},
		"they are drained": func(f *fragile) {
			each(f, func(name string, p *fragileProc) {
				if _, err := f.svc.DrainWorker(f.t.Context(), &rotav1.WorkerRequest{Name: name}); err != nil {
					f.t.Error(err)
				}
				f.settle(3 * time.Second)
				f.kill(name, p) // with nothing on board
				f.settle(3 * time.Second)
				if _, err := f.svc.UndrainWorker(f.t.Context(), &rotav1.WorkerRequest{Name: name}); err != nil {
					f.t.Error(err)
				}
			})
		},
		"most at once": func(f *fragile) {
			for range 6 {
				f.mu.Lock()
				two := map[string]*fragileProc{"w0": f.procs["w0"], "w1": f.procs["w1"]}
				f.mu.Unlock()
				for name, p := range two {
					f.kill(name, p)
				}
				f.settle(20 * time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFragile(t, 3, 9, true, nobody)
				defer f.close()
				f.settle(10 * time.Second)
				play(f)
				f.settle(10 * time.Second)
				if got := f.suspects(); got != "" || len(f.running()) != 9 {
					t.Errorf("suspected: %s; %v run", got, f.running())
				}
			})
		})
	}
}

// TestAccountWrittenByOthers: whatever somebody else does to the account of suspects,
// the leader goes on with what it knows and writes it again.
func TestAccountWrittenByOthers(t *testing.T) {
	t.Parallel()
	newer, err := record.Encode(&storepb.Suspects{Version: record.Version + 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		op    store.Op
		stays string // what is known after it
	}{
		"deleted":         {store.Op{Delete: true}, ""},
		"garbage":         {store.Op{Value: []byte("\xffgarbage")}, "t04:held"},
		"a later version": {store.Op{Value: newer}, "t04:held"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFragile(t, 3, 10, true, func(id string) bool { return id == "t04" })
				defer f.close()
				f.settle(2 * time.Minute)
				if got := f.suspects(); got != "t04:held" {
					t.Fatalf("suspected: %s", got)
				}
				also := func(id string) {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.kills = func(x string) bool { return x == id }
				}
				also("")
				c.op.Key = store.SuspectsKey
				for range 2 { // whatever it was before, known or not
					if _, _, err := f.store.Txn(t.Context(), nil, []store.Op{c.op}); err != nil {
						t.Fatal(err)
					}
					f.settle(time.Minute)
					if got := f.suspects(); got != c.stays {
						t.Errorf("suspected: %q, want %q", got, c.stays)
					}
				}
				// What comes after is written down, and outlives the leader. The one that
				// runs anew has its workers' deaths to itself.
				also("t05")
				f.mu.Lock()
				all := maps.Clone(f.procs)
				f.mu.Unlock()
				for name, p := range all {
					f.kill(name, p)
				}
				f.settle(3 * time.Minute)
				for range 2 {
					if got := f.suspects(); got != strings.TrimSpace(c.stays+" t05:held") {
						t.Errorf("in the end suspected: %q", got)
					}
					f.lead("s2")
					f.settle(time.Second)
				}
				kv, ok, _, err := f.store.Get(t.Context(), store.SuspectsKey)
				if err != nil || !ok || record.Decode(kv.Value, &storepb.Suspects{}) != nil {
					t.Errorf("the account in the end: %q, %v, %v", kv.Value, ok, err)
				}
			})
		})
	}
}
