package program

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rota-project/rota/internal/program/link"
)

// PlaceOption configures InProcess and Local.
type PlaceOption func(*placeConfig)

type placeConfig struct {
	functions *Functions
	capacity  map[string]float64 // nil: nothing is counted
	loopback  bool
}

func options(opts []PlaceOption) placeConfig {
	c := placeConfig{functions: &Default}
	for _, o := range opts {
		o(&c)
	}
	return c
}

// WithFunctions offers these task functions instead of Default.
func WithFunctions(fs *Functions) PlaceOption { return func(c *placeConfig) { c.functions = fs } }

// WithCapacity sets the capacity of the process (with Local, of each process). Without it,
// resources are not counted.
func WithCapacity(r Resources) PlaceOption { return func(c *placeConfig) { c.capacity = r.Map() } }

// InProcess runs programs in this process: for tests and first steps, and for programs that
// need only one machine.
func InProcess(opts ...PlaceOption) Place { return &inProcess{cfg: options(opts)} }

type inProcess struct {
	cfg placeConfig
}

// names are the programs that run in this process, as the cluster has them for
// its own.
var names = struct {
	mu   sync.Mutex
	used map[string]bool
}{used: map[string]bool{}}

func takeName(name string) (release func(), err error) {
	names.mu.Lock()
	defer names.mu.Unlock()
	if names.used[name] {
		return nil, fmt.Errorf("%w: %s", ErrRunning, name)
	}
	names.used[name] = true
	return func() {
		names.mu.Lock()
		defer names.mu.Unlock()
		delete(names.used, name)
	}, nil
}

func (in *inProcess) open(_ context.Context, r *run) (host, error) {
	release, err := takeName(r.p.name)
	if err != nil {
		return nil, err
	}
	h := processHost{cfg: in.cfg, run: r, release: release, room: newRoom(in.cfg.capacity, "this process")}
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	if in.cfg.loopback {
		return newLoopbackHost(h)
	}
	return &h, nil
}

// processHost is this process while it runs a program.
type processHost struct {
	cfg     placeConfig
	run     *run
	room    *room
	release func()
	ctx     context.Context
	cancel  context.CancelCauseFunc
}

func (h *processHost) wire(p *peer) (link.Outlet, error) {
	r := h.run
	t := newTaskConn(h.ctx, p.name, p.spec.Args, p.spec.Env, r.window)
	t.traces = r.p.cfg.Traces
	t.out = link.NewPipe(r.sched.inbox, p, r.window, r.sched.reply)
	p.local = t
	return link.NewPipe(t.inbox, nil, r.window, t.reply), nil
}

func (h *processHost) place(ctx context.Context, peers []*peer, missing func(string)) ([]string, error) {
	return h.room.take(ctx, h.cfg.functions, peers, missing)
}

func (h *processHost) start(p *peer) error {
	f := h.cfg.functions.get(p.spec.Name)
	if f == nil {
		return fmt.Errorf("%w: %s", errNoFunction, p.spec.Name)
	}
	go p.local.serve(f)
	return nil
}

func (h *processHost) ended(p *peer) { h.room.give(p) }

func (h *processHost) event(Event) {}

func (h *processHost) close(error) {
	h.cancel(errToldToExit)
	h.release()
}

// room counts what workers without a cluster have left. Tasks are put where the
// most is left, the largest first, all of them or none.
type room struct {
	mu      sync.Mutex
	workers []string
	left    []map[string]float64 // nil: nothing is counted
	load    []int
	held    map[*peer]int
	changed chan struct{}
}

func newRoom(capacity map[string]float64, workers ...string) *room {
	r := &room{workers: workers, held: map[*peer]int{}, changed: make(chan struct{}), load: make([]int, len(workers))}
	for range workers {
		r.left = append(r.left, maps.Clone(capacity))
	}
	return r
}

// take waits until all peers fit, and until all their functions are there.
func (r *room) take(ctx context.Context, fs *Functions, peers []*peer, missing func(string)) ([]string, error) {
	var want []string
	for _, p := range peers {
		if !slices.Contains(want, p.spec.Name) {
			want = append(want, p.spec.Name)
		}
	}
	for {
		lacking, registered := fs.lacks(want)
		r.mu.Lock()
		changed := r.changed
		var why string
		if len(lacking) > 0 {
			why = fmt.Sprintf("%s: no task function %s", strings.Join(r.workers, ", "), strings.Join(lacking, ", "))
		} else {
			var workers []string
			if workers, why = r.fit(peers); workers != nil {
				r.mu.Unlock()
				missing("")
				return workers, nil
			}
		}
		r.mu.Unlock()
		missing(why)
		select {
		case <-registered:
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// fit gives each peer a worker, or says what stands in the way.
func (r *room) fit(peers []*peer) (workers []string, why string) {
	order := slices.Clone(peers)
	slices.SortStableFunc(order, func(a, b *peer) int {
		x, y := a.spec.Resources, b.spec.Resources
		return -slices.Compare([]float64{x.CPUs, x.MemMiB}, []float64{y.CPUs, y.MemMiB})
	})
	left, load := make([]map[string]float64, len(r.left)), slices.Clone(r.load)
	for i := range left {
		left[i] = maps.Clone(r.left[i])
	}
	at := map[*peer]int{}
	short := map[string]int{}
	for _, p := range order {
		need := p.spec.Resources.Map()
		best := -1
		var lack string
		for w := range left {
			if l := lacks(left[w], need); l != "" {
				lack = l
			} else if best < 0 || load[w] < load[best] {
				best = w
			}
		}
		if best < 0 {
			short[fmt.Sprintf("%s: no room for its %s", p.spec.Name, lack)]++
			continue
		}
		for k, v := range need {
			if left[best] != nil {
				left[best][k] -= v
			}
		}
		load[best]++
		at[p] = best
	}
	if len(short) > 0 {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(short)) {
			parts = append(parts, fmt.Sprintf("%d of %s", short[k], k))
		}
		return nil, strings.Join(parts, "; ")
	}
	r.left, r.load = left, load
	for _, p := range peers {
		r.held[p] = at[p]
		workers = append(workers, r.workers[at[p]])
	}
	return workers, ""
}

func lacks(left, need map[string]float64) string {
	if left == nil {
		return ""
	}
	for _, k := range slices.Sorted(maps.Keys(need)) {
		if v := need[k]; v > left[k]+1e-9 {
			return fmt.Sprintf("%g %s", v, k)
		}
	}
	return ""
}

// of is the index of the worker that a task was given.
func (r *room) of(p *peer) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[p]
}

// give returns what a task held.
func (r *room) give(p *peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok := r.held[p]
	if !ok {
		return
	}
	delete(r.held, p)
	r.load[w]--
	for k, v := range p.spec.Resources.Map() {
		if r.left[w] != nil {
			r.left[w][k] += v
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
}
