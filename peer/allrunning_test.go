package peer_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/peer"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// replica is one of a service's in a history of faults.
type replica struct {
	node   *peer.Node
	store  *faulty.Store // its connection to the store
	name   string
	since  time.Time // when its connection was cut; zero while it is up
	killed bool
}

// histories is a service of replicas to which everything happens.
type histories struct {
	t        *testing.T
	rng      *rand.Rand
	under    *memory.Store
	list     list
	replicas []*replica
	log      []string

	mu      sync.Mutex
	running map[string]string // who runs each task
	dead    map[string]bool   // replicas that were killed: nothing of them runs
	allRan  time.Time         // when all tasks ran last and then one did not
}

const sharedTasks = 12

func (h *histories) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// begin starts one more replica.
func (h *histories) begin() {
	r := &replica{name: fmt.Sprintf("r%d", len(h.replicas)), store: faulty.New(h.under, nil)}
	r.node = newNode(h.t, r.store, r.name, &h.list, peer.Config{})
	if err := r.node.HandleTask("", func(ctx context.Context, a worker.Assigned) error {
		h.mu.Lock()
		if !h.dead[r.name] {
			h.running[a.ID()] = r.name
		}
		h.mu.Unlock()
		<-ctx.Done()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stop(func(task, who string) bool { return task == a.ID() && who == r.name })
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	h.replicas = append(h.replicas, r)
	r.node.Start()
}

// kill ends a replica as kill -9 does: nothing of it runs any more, and nobody is told.
func (h *histories) kill(r *replica) {
	r.killed = true
	h.cut(r, faulty.Down)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead[r.name] = true
	h.stop(func(_, who string) bool { return who == r.name })
}

// stop notes what runs no more, and when all ran last; h.mu is held.
func (h *histories) stop(which func(task, who string) bool) {
	if len(h.running) == sharedTasks {
		h.allRan = time.Now()
	}
	maps.DeleteFunc(h.running, which)
}

func (h *histories) cut(r *replica, how faulty.State) {
	if r.since.IsZero() {
		r.since = time.Now()
	}
	r.store.Set(how)
}

func (h *histories) heal(r *replica) {
	r.since = time.Time{}
	r.store.Set(faulty.Up)
}

func (h *histories) alive() (out []*replica) {
	for _, r := range h.replicas {
		if !r.killed && r.node.Status() != worker.StatusDead {
			out = append(out, r)
		}
	}
	return out
}

// act has one thing happen.
func (h *histories) act() {
	alive := h.alive()
	one := alive[h.rng.IntN(len(alive))]
	switch what := h.rng.IntN(10); {
	case what == 0 && len(alive) > 1:
		h.note("%s is killed, leader %v", one.name, one.node.Leads())
		h.kill(one)
	case what == 1 && len(alive) > 1:
		h.note("%s leaves", one.name)
		ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
		defer cancel()
		h.heal(one)
		_ = one.node.Stop(ctx)
	case what == 2 && len(alive) < 5:
		h.note("one more begins")
		h.begin()
	case what == 3:
		h.note("the store is gone for all")
		for _, r := range alive {
			h.cut(r, faulty.Down)
		}
	case what <= 6:
		how := faulty.Down
		if h.rng.IntN(2) == 0 {
			how = faulty.Hung
		}
		h.note("%s is cut off (%d), leader %v", one.name, how, one.node.Leads())
		h.cut(one, how)
	default:
		h.note("all are connected")
		for _, r := range alive {
			h.heal(r)
		}
	}
}

// runningNow is how many tasks run, and for how long that has not been all of them.
func (h *histories) runningNow() (n int, since time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.running) < sharedTasks {
		since = time.Since(h.allRan)
	}
	return len(h.running), since
}

// TestAllRunningIsTrue: whatever happens to a service, whoever says that all tasks
// run has a picture that is at most half a lease old, in which the leases of all that
// run them lasted. If nobody reaches the store they run at this moment.
func TestAllRunningIsTrue(t *testing.T) {
	t.Parallel()
	const lease, step = scheduler.DefaultLease, 100 * time.Millisecond
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := &histories{
					t: t, rng: rand.New(rand.NewPCG(seed, 1)), under: memory.New(),
					running: map[string]string{}, dead: map[string]bool{},
				}
				t.Cleanup(func() { h.under.Close() })
				h.list.n.Store(sharedTasks)
				for range 3 {
					h.begin()
				}
				said := 0
				watch := func(d time.Duration) {
					t.Helper()
					for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(step) {
						synctest.Wait()
						now := time.Now()
						n, since := h.runningNow()
						nobody := true
						for _, r := range h.alive() {
							nobody = nobody && !r.since.IsZero()
						}
						for _, r := range h.alive() {
							if !r.node.IsAllRunning() {
								continue
							}
							said++
							why := ""
							switch cut := now.Sub(r.since); {
							case since > lease+lease/2+time.Second:
								why = fmt.Sprintf("for %v they have not", since)
							case !r.since.IsZero() && cut > lease/2+time.Second:
								why = fmt.Sprintf("it is cut off for %v", cut)
							case nobody && n < sharedTasks && cut > lease/2+time.Second:
								why = "nobody reaches the store"
							}
							if why != "" {
								t.Fatalf("%s says that all run, and %d do; %s:\n%s", r.name, n, why, strings.Join(h.log, "\n"))
							}
						}
					}
				}
				watch(5 * time.Second)
				for range 15 {
					synctest.Wait()
					h.act()
					watch(time.Duration(h.rng.IntN(9000)) * time.Millisecond)
				}
				for _, r := range h.replicas {
					if !r.killed {
						h.heal(r)
					}
				}
				watch(3 * lease)
				for _, r := range h.alive() {
					if n, _ := h.runningNow(); !r.node.IsAllRunning() || n != sharedTasks {
						t.Errorf("in the end %s says that all run: %v, and %d do:\n%s", r.name, r.node.IsAllRunning(), n, strings.Join(h.log, "\n"))
					}
				}
				if said == 0 {
					t.Error("nobody ever said that all run")
				}
				for _, r := range h.replicas {
					r.store.Set(faulty.Up)
					if err := r.node.Stop(context.Background()); err != nil {
						t.Error(err)
					}
					r.store.Close()
				}
			})
		})
	}
}
