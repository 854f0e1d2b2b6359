package pools_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/pools"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an engine of which a test has the other end.
type fake struct {
	mu      sync.Mutex
	next    int
	copies  map[string]engine.Copy // by handle
	orders  map[string]engine.Order
	start   func(o engine.Order) error // before it is started; nil: it is
	listErr error
}

func newFake() *fake {
	return &fake{copies: map[string]engine.Copy{}, orders: map[string]engine.Order{}}
}

func (f *fake) Start(_ context.Context, o engine.Order) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.start != nil {
		if err := f.start(o); err != nil {
			return "", err
		}
	}
	return f.begin(o), nil
}

// begin begins a copy; f.mu is held.
func (f *fake) begin(o engine.Order) string {
	f.next++
	handle := fmt.Sprintf("h%d", f.next)
	f.orders[o.Worker] = o
	f.copies[handle] = engine.Copy{Cluster: o.Cluster, Pool: o.Pool, Worker: o.Worker, Handle: handle, State: engine.Running, Began: time.Now()}
	return handle
}

func (f *fake) Stop(_ context.Context, handle string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.copies[handle]; ok {
		c.State, c.Detail = engine.Ended, "asked to end"
		f.copies[handle] = c
	}
	return nil
}

func (f *fake) List(context.Context) ([]engine.Copy, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.copies)), f.listErr
}

func (f *fake) Close(context.Context) error { return nil }

// ordered are the orders so far.
func (f *fake) ordered() map[string]engine.Order {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.orders)
}

func (f *fake) change(g func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g()
}

// living are the workers of which copies run, in order.
func (f *fake) living() (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.copies {
		if c.State != engine.Ended {
			out = append(out, c.Worker)
		}
	}
	slices.Sort(out)
	return out
}

// bench is a scheduler's pools on a store, on a fake clock.
type bench struct {
	*testing.T
	st     *memory.Store
	v      *view.View
	k      *pools.Control
	engine *fake
	leases map[string]store.LeaseID
	signed map[string]int
	log    *events.Log
	told   *events.Recorder
	jobs   jobs
	// authority is the text that workers are to trust.
	authority atomic.Value
	gets      atomic.Int64 // of the store, by Controls
	known     atomic.Int64 // calls whose token was good
}

// reads counts the keys that are read.
type reads struct {
	store.Store
	count *atomic.Int64
}

func (r reads) Get(ctx context.Context, key string) (store.KV, bool, int64, error) {
	r.count.Add(1)
	return r.Store.Get(ctx, key)
}

// jobs are what the pools are told of jobs.
type jobs struct {
	mu     sync.Mutex            // guards these
	queued []job.Spec            // that wait for a worker, named job0 and on
	active map[string][]job.Spec // by worker
	runs   map[string]string     // the only command that a worker runs as a job
}

func (j *jobs) change(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

func (j *jobs) of(worker string) []job.Spec {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.active[worker])
}

func (j *jobs) waiting() []job.Spec {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.queued)
}

func (j *jobs) commands(worker string) (commands []string, whatever bool, slots int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c, ok := j.runs[worker]; ok {
		return []string{c}, false, 10
	}
	return nil, false, 0
}

func bubble(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, st: memory.New(), engine: newFake(), leases: map[string]store.LeaseID{}, signed: map[string]int{}}
		b.authority.Store("authority")
		b.v = view.New(b.st, slog.New(slog.DiscardHandler))
		b.log = events.NewLog(events.Limits{Keep: 1000, Age: 1000 * time.Hour}, slog.New(slog.DiscardHandler))
		b.log.Follow(b.v)
		b.told = events.NewRecorder(events.Config{Store: b.st, Log: b.log, Scheduler: "s1", Leads: func() bool { return true }})
		ctx, cancel := context.WithCancel(context.Background())
		viewed := make(chan struct{})
		go func() {
			defer close(viewed)
			_ = b.v.Run(ctx)
		}()
		b.lead("s1")
		b.k = b.control("s1", map[string]engine.Engine{engine.Local: b.engine})
		defer func() {
			b.k.Close(context.Background())
			b.told.Close()
			b.log.Close()
			cancel()
			<-viewed
			b.st.Close()
		}()
		test(b)
	})
}

// control is the pools of a scheduler of this name.
func (b *bench) control(name string, engines map[string]engine.Engine) *pools.Control {
	return pools.New(pools.Config{
		Store: reads{b.st, &b.gets}, View: b.v, Scheduler: name, Engines: engines,
		Known: func(context.Context) { b.known.Add(1) },
		Drain: func(_ context.Context, worker string) error {
			b.put(store.NodeKey(worker), &storepb.Node{Version: record.Version, Name: worker, Draining: true}, 0)
			return nil
		},
		Sign: func(worker string, _ []byte) ([]byte, error) {
			b.signed[worker]++
			return []byte("certificate of " + worker), nil
		},
		CA:     func() ([]byte, error) { return []byte(b.authority.Load().(string)), nil },
		Events: b.told,
		Queued: func(_ int, visit func(string, job.Spec)) {
			for n, s := range b.jobs.waiting() {
				visit(fmt.Sprint("job", n), s)
			}
		},
		Active: func(worker string, visit func(string, job.Spec)) {
			for n, s := range b.jobs.of(worker) {
				visit(fmt.Sprint(worker, n), s)
			}
		},
		Environ: func(name string) map[string]string {
			return map[string]string{"OTEL_OF": name, "ROTA_NAME": "not this one"}
		},
		Work:     func(worker string) int { return len(b.jobs.of(worker)) },
		Commands: b.jobs.commands,
	})
}

func (b *bench) put(key string, m record.Versioned, lease store.LeaseID) {
	value, err := record.Encode(m)
	if err != nil {
		b.Error(err)
	}
	if ok, _, err := b.st.Txn(context.Background(), nil, []store.Op{{Key: key, Value: value, Lease: lease}}); err != nil || !ok {
		b.Error(ok, err)
	}
}

// lead has a scheduler of this name lead.
func (b *bench) lead(name string) {
	if old, ok := b.leases["leader"]; ok {
		_ = b.st.Revoke(context.Background(), old)
	}
	lease, _, err := b.st.Grant(context.Background(), 1000*time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	b.leases["leader"] = lease
	b.put(store.LeaderKey, &storepb.Leader{Version: record.Version, Name: name}, lease)
	synctest.Wait()
}

// alive has a worker's session begin, or end.
func (b *bench) alive(worker string, yes bool) {
	if !yes {
		_ = b.st.Revoke(context.Background(), b.leases[worker])
	} else {
		lease, _, err := b.st.Grant(context.Background(), 1000*time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		b.leases[worker] = lease
		b.put(store.SessionKey(worker), &storepb.Session{Version: record.Version, Name: worker}, lease)
	}
	synctest.Wait()
}

// pass lets time pass.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func definition(name string, from, to int64) *rotav1.PoolDefinition {
	return &rotav1.PoolDefinition{
		Name: name, Engine: engine.Local, Size: &rotav1.PoolSize{From: from, To: to},
		Template: &rotav1.PoolTemplate{Labels: map[string]string{"tier": name}, Kinds: []string{"web"}, Command: []string{"rota", "worker"}},
	}
}

func (b *bench) ctx() context.Context { return auth.Inside(b.Context()) }

func (b *bench) apply(pools ...*rotav1.PoolDefinition) {
	b.Helper()
	if _, err := b.k.ApplyPools(b.ctx(), &rotav1.ApplyPoolsRequest{Pools: pools}); err != nil {
		b.Fatal(err)
	}
	b.pass(2 * time.Second)
}

func (b *bench) get(name string) *rotav1.Pool {
	b.Helper()
	p, err := b.k.GetPool(b.ctx(), &rotav1.GetPoolRequest{Name: name})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// join has a worker join by the token that its order had.
func (b *bench) join(worker, key string) error {
	token := b.engine.ordered()[worker].Token
	r, err := b.k.JoinWorker(b.ctx(), &rotav1.JoinWorkerRequest{Token: token, PublicKey: []byte(key), Worker: worker})
	if err == nil && (r.GetWorker() != worker || string(r.GetCertificate()) != "certificate of "+worker) {
		err = errors.New("another's certificate")
	}
	synctest.Wait()
	return err
}

// up has all workers join that have not, and come to life.
func (b *bench) up() {
	b.Helper()
	for _, w := range b.engine.living() {
		if _, alive := b.leases[w]; alive {
			continue
		}
		if err := b.join(w, "key of "+w); err != nil {
			b.Fatal(err)
		}
		b.alive(w, true)
	}
	b.pass(2 * time.Second)
}

func wants(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want %q", err, text)
	}
}
