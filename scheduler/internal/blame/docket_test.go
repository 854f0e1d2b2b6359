package blame_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/rota-project/rota/internal/purity"
	"github.com/rota-project/rota/scheduler/internal/blame"
)

func TestPure(t *testing.T) {
	t.Parallel()
	found, err := purity.Check(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// aboard are tasks by their ids.
func aboard(ids string) (out []blame.Task) {
	for _, id := range strings.Fields(ids) {
		out = append(out, blame.Task{ID: id, Spec: 1})
	}
	return out
}

// standing is who is suspected, as "k:backoff/3".
func standing(d *blame.Docket) string {
	var out []string
	for _, s := range d.Suspects() {
		out = append(out, fmt.Sprintf("%s:%s/%d", s.ID, s.State, s.Deaths))
	}
	return strings.Join(out, " ")
}

// TestScripts plays events: "die WORKER TASKS", "runs TASK", "wait DURATION",
// "back WORKER", "release TASK", "spec TASK", "gone TASK", and compares who is suspected
// with what follows the arrow.
func TestScripts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		alive  int
		script string
	}{
		"a killer": {3, `
			die w1 a b k -> 
			wait 5s
			die w2 b c k -> 
			wait 5s
			die w3 c d k -> k:backoff/3
			wait 9s -> k:backoff/3
			wait 1s -> k:trial/3
			wait 1h -> k:trial/3
			runs k
			wait 2s
			die w1 a k -> k:held/4
			wait 1h -> k:held/4
			release k -> 
			die w1 k -> 
		`},
		"co-travellers are acquitted by a death without them": {4, `
			die w1 a b k
			wait 3s
			die w2 a b k
			wait 3s
			die w3 a b k -> a:backoff/3 b:backoff/3 k:backoff/3
			wait 10s -> a:trial/3 b:trial/3 k:trial/3
			runs a
			runs b
			runs k
			wait 3s
			die w4 b k -> b:backoff/4 k:backoff/4
			wait 10s -> b:trial/4 k:trial/4
			runs k
			wait 3s
			die w1 k x y -> k:held/5
		`},
		"a trial that is outlived": {3, `
			die w1 a
			wait 3s
			die w2 a
			wait 3s
			die w3 a -> a:backoff/3
			wait 10s
			runs a
			wait 9s -> a:trial/3
			wait 1s -> 
			wait 3s
			die w1 a -> 
			wait 3s
			die w2 a -> 
			wait 3s
			die w3 a -> a:backoff/3
		`},
		"a slow killer has a long trial": {3, `
			die w1 a
			wait 50s
			die w2 a
			wait 50s
			die w3 a -> a:backoff/3
			wait 10s
			runs a
			wait 99s -> a:trial/3
			die w3 a -> a:held/4
		`},
		"deaths long ago": {3, `
			die w1 a
			wait 6m
			die w2 a
			wait 5m
			die w3 a -> 
		`},
		"one worker that dies again and again may be ill": {3, `
			die w1 a b
			wait 3s
			die w1 a b
			wait 3s
			die w1 a b -> 
			wait 3s
			die w1 a b
			wait 3s
			die w1 a b -> 
			wait 3s
			die w1 a b -> a:backoff/6 b:backoff/6
		`},
		"the only worker": {0, `
			die w1 a
			wait 3s
			die w1 a
			wait 3s
			die w1 a -> a:backoff/3
		`},
		"half of the workers at once": {2, `
			die w1 a b
			die w2 c d
			wait 1m
			die w1 a c
			wait 1s
			die w3 b d -> 
			wait 1m
			die w2 a b
			wait 1s
			die w3 c d -> 
		`},
		"half of the workers by what all of them had": {2, `
			die w1 a k
			wait 1s
			die w2 b k
			wait 1s
			die w3 c k -> k:backoff/3
		`},
		"the second of two takes back what the first did": {2, `
			die w1 a
			wait 1m
			die w2 a
			wait 1m
			die w3 a -> a:backoff/3
			wait 1s
			die w4 b -> 
		`},
		"it was not dead": {3, `
			die w1 a
			wait 3s
			die w2 a
			wait 3s
			die w3 a -> a:backoff/3
			back w3 -> 
			wait 3s
			die w2 a -> a:backoff/3
		`},
		"held for a death that was none": {3, `
			die w1 a
			wait 3s
			die w2 a
			wait 3s
			die w3 a -> a:backoff/3
			wait 10s
			runs a
			die w4 a -> a:held/4
			wait 1m
			back w4 -> a:backoff/3
			wait 10s -> a:trial/3
			runs a
			die w5 a b -> a:held/4
			back w4 -> a:held/4
			back w5 -> a:backoff/3
			wait 10s
			runs a
			wait 10s -> 
		`},
		"suspected for a death that was none, and held": {4, `
			die w1 a
			wait 3s
			die w2 a
			wait 3s
			die w3 a
			wait 10s
			runs a
			die w4 a -> a:held/4
			back w1 -> a:held/3
			back w2 -> 
			die w1 a -> a:backoff/3
		`},
		"of two that were held one is tried again": {4, `
			die w1 a b
			wait 3s
			die w2 a b
			wait 3s
			die w3 a b
			wait 10s
			runs a
			runs b
			die w4 a -> a:held/4
			back w4 -> a:backoff/3
			wait 10s
			runs a
			die w1 a -> a:held/4
			back w1
			back w2
			back w3 -> 
		`},
		"something else under its name": {3, `
			die w1 a
			wait 3s
			die w2 a
			wait 3s
			die w3 a -> a:backoff/3
			spec a -> 
		`},
		"it is deleted": {3, `
			die w1 a
			wait 3s
			die w2 a
			wait 3s
			die w3 a -> a:backoff/3
			gone a -> 
		`},
		"two killers": {4, `
			die w1 k
			wait 3s
			die w2 l
			wait 3s
			die w3 k
			wait 3s
			die w4 l
			wait 3s
			die w1 k -> k:backoff/3
			wait 3s
			die w2 l -> k:backoff/3 l:backoff/3
			wait 10s
			runs k
			runs l
			die w3 k -> k:held/4
			wait 5s
			die w4 l
			wait 3s
			die w1 l -> k:held/4
			wait 3s
			die w2 l -> k:held/4 l:backoff/3
		`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &blame.Docket{Limits: blame.Default()}
			now := blame.Time(0)
			for line := range strings.Lines(strings.TrimSpace(c.script)) {
				event, want, compare := strings.Cut(strings.TrimSpace(line), "->")
				w := strings.Fields(event)
				switch w[0] {
				case "die":
					d.Died(now, w[1], "i", aboard(strings.Join(w[2:], " ")), c.alive)
				case "wait":
					by, err := time.ParseDuration(w[1])
					if err != nil {
						t.Fatal(err)
					}
					now += by
					d.Tick(now)
				case "runs":
					d.Runs(now, w[1])
				case "back":
					d.Returned(now, w[1], "i")
				case "release":
					d.Release(now, w[1])
				case "spec":
					d.Declared(blame.Task{ID: w[1], Spec: 2})
				case "gone":
					d.Deleted(w[1])
				default:
					t.Fatal(line)
				}
				if got := standing(d); compare && got != strings.TrimSpace(want) {
					t.Fatalf("after %q: %q, want %q", event, got, strings.TrimSpace(want))
				}
			}
		})
	}
}

// TestOff: without a number of deaths nobody is ever suspected.
func TestOff(t *testing.T) {
	t.Parallel()
	d := &blame.Docket{}
	for n := range 20 {
		d.Died(blame.Time(n)*time.Second, fmt.Sprint("w", n), "i", aboard("a"), 3)
	}
	d.Load(0, []blame.Suspect{{Task: blame.Task{ID: "a"}, State: blame.Held}}, 3)
	if d.Tick(time.Hour); standing(d) != "" {
		t.Error(standing(d))
	}
}

// TestLoad: the next leader's docket goes on where the last one's was.
func TestLoad(t *testing.T) {
	t.Parallel()
	d := &blame.Docket{Limits: blame.Default()}
	d.Load(5, []blame.Suspect{
		{Task: blame.Task{ID: "h", Spec: 1}, State: blame.Held, Deaths: 4},
		{Task: blame.Task{ID: "b", Spec: 1}, State: blame.Backoff, Deaths: 3},
		{Task: blame.Task{ID: "t", Spec: 1}, State: blame.Trial, Deaths: 3},
	}, 3)
	if got := fmt.Sprint(d.Changes()); got != "[b h t]" {
		t.Error(got)
	}
	d.Returned(5, "w", "i") // of which it knows nothing
	if got := standing(d); got != "b:backoff/3 h:held/4 t:trial/3" {
		t.Error(got)
	}
	d.Tick(time.Minute)
	d.Runs(time.Minute, "b")
	d.Died(time.Minute+1, "w", "i", aboard("b c"), 3)
	if got := standing(d); got != "b:held/4 h:held/4" {
		t.Error(got)
	}
}

// cluster is a cluster of the dumbest kind: it puts tasks where they may be.
type cluster struct {
	*rand.Rand
	d       *blame.Docket
	now     blame.Time
	ids     []string       // of the tasks, in order
	at      map[string]int // worker by task
	since   map[string]blame.Time
	workers int
	usable  int                      // how many of the workers take tasks; the first
	latency map[string]time.Duration // of killers, from their start to the death
	dead    []process
}

type process struct{ worker, incarnation string }

func (c *cluster) fill(n int) {
	for k := range n {
		id := fmt.Sprintf("t%02d", k)
		c.ids, c.at[id] = append(c.ids, id), -1
	}
}

// place puts what is nowhere somewhere, if anything may be.
func (c *cluster) place() {
	type spot struct{ lot, worker int }
	suspects, taken := map[string]blame.Suspect{}, map[spot]bool{}
	for _, s := range c.d.Suspects() {
		suspects[s.ID] = s
		if at, ok := c.at[s.ID]; ok && at >= 0 {
			taken[spot{s.Lot, at}] = true
		}
	}
	for _, id := range c.ids {
		s, suspect := suspects[id]
		if c.at[id] >= 0 || suspect && s.Withheld() {
			continue
		}
		for _, w := range c.Perm(c.usable) {
			here := spot{s.Lot, w}
			if suspect && taken[here] {
				continue
			}
			c.at[id], c.since[id] = w, c.now
			taken[here] = taken[here] || suspect
			c.d.Runs(c.now, id)
			break
		}
	}
	for id, s := range suspects {
		if s.Withheld() {
			c.at[id] = -1
		}
	}
}

func (c *cluster) die(w int) {
	var on []string
	for _, id := range c.ids {
		if c.at[id] == w {
			on = append(on, id)
		}
	}
	p := process{fmt.Sprint("w", w), fmt.Sprint(c.now)}
	c.dead = append(c.dead, p)
	c.d.Died(c.now, p.worker, p.incarnation, aboard(strings.Join(on, " ")), c.workers-1)
	for _, id := range on {
		c.at[id] = -1
	}
}

// TestKiller: a killer among a hundred tasks takes few workers with it, whatever it
// takes to kill, and nothing else is held in the end.
func TestKiller(t *testing.T) {
	t.Parallel()
	most := map[int]int{}
	for seed := range uint64(120) {
		workers := []int{1, 2, 3, 4, 10, 30}[seed%6]
		usable := workers
		if seed%12 >= 6 {
			usable = 1 // all that die are the same, and others live
		}
		c := &cluster{
			Rand: rand.New(rand.NewPCG(seed, 3)), d: &blame.Docket{Limits: blame.Default()}, workers: workers, usable: usable,
			at: map[string]int{}, since: map[string]blame.Time{}, latency: map[string]time.Duration{},
		}
		c.fill(100)
		killer := fmt.Sprintf("t%02d", c.IntN(100))
		c.latency[killer] = time.Duration(c.IntN(5000)) * time.Millisecond
		deaths := 0
		down := map[string]time.Duration{}
		const step = 250 * time.Millisecond
		for ; c.now < 10*time.Minute; c.now += step {
			c.d.Tick(c.now)
			c.place()
			if w := c.at[killer]; w >= 0 && c.now-c.since[killer] >= c.latency[killer] {
				deaths++
				c.die(w)
			}
			for id, at := range c.at {
				if at < 0 {
					down[id] += step
				}
			}
		}
		if s, ok := c.d.Of(killer); !ok || s.State != blame.Held || len(c.d.Suspects()) != 1 {
			t.Fatalf("seed %d, %d workers: %s after %d deaths; the killer is %s", seed, workers, standing(c.d), deaths, killer)
		}
		most[usable] = max(most[usable], deaths)
		for id, d := range down {
			if id != killer && d > 5*time.Minute {
				t.Errorf("seed %d, %d workers: %s was down for %v", seed, workers, id, d)
			}
		}
	}
	t.Logf("deaths at the most, by workers that take tasks: %v", most)
	for workers, n := range most {
		// Three to be suspected, of two workers, else six, one to divide those that were
		// always with it, and one to be held.
		limit := 8
		if workers >= 10 {
			limit = 5
		}
		if n > limit {
			t.Errorf("%d workers: %d deaths", workers, n)
		}
	}
}

// TestChaos: whatever dies and comes back, the account stays small and says what may
// be; and when deaths end, so do all suspicions but those of which somebody has to decide.
func TestChaos(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 4))
		c := &cluster{
			Rand: r, d: &blame.Docket{Limits: blame.Default()}, workers: 1 + r.IntN(8),
			at: map[string]int{}, since: map[string]blame.Time{},
		}
		c.usable = c.workers
		c.fill(1 + r.IntN(40))
		for range 400 {
			c.now += time.Duration(r.IntN(5000)) * time.Millisecond
			c.d.Tick(c.now)
			c.place()
			id := fmt.Sprintf("t%02d", r.IntN(40))
			switch r.IntN(12) {
			case 0, 1, 2, 3:
				c.die(r.IntN(c.workers))
			case 4:
				if len(c.dead) > 0 {
					one := c.dead[r.IntN(len(c.dead))]
					c.d.Returned(c.now, one.worker, one.incarnation)
				}
			case 5:
				c.d.Release(c.now, id)
			case 6:
				c.d.Deleted(id)
			case 7:
				c.d.Declared(blame.Task{ID: id, Spec: uint64(1 + r.IntN(2))})
			case 8:
				again := &blame.Docket{Limits: blame.Default()}
				again.Load(c.now, c.d.Suspects(), c.workers)
				c.d = again
				for _, id := range c.ids {
					if c.at[id] >= 0 {
						c.d.Runs(c.now, id)
					}
				}
			}
			for _, s := range c.d.Suspects() {
				if len(s.Workers) > 8 || s.Lot < 0 || s.Deaths < 3 || s.State != blame.Backoff && s.State != blame.Trial && s.State != blame.Held {
					t.Fatalf("seed %d: %+v", seed, s)
				}
			}
		}
		for range 1000 {
			c.now += 10 * time.Second
			c.d.Tick(c.now)
			c.place()
		}
		for _, s := range c.d.Suspects() {
			if s.State != blame.Held {
				t.Fatalf("seed %d: hours later %+v", seed, s)
			}
		}
		if at, ok := c.d.Next(); ok {
			t.Fatalf("seed %d: it waits for %v", seed, at)
		}
	}
}

// TestCostOfDeaths: a death that cannot make anything suspect, and a worker that comes
// without having been taken for dead, cost nothing by what was on board.
func TestCostOfDeaths(t *testing.T) { //nolint:paralleltest // counts allocations
	var many []blame.Task
	for n := range 10_000 {
		many = append(many, blame.Task{ID: fmt.Sprint(n), Spec: 1})
	}
	d := &blame.Docket{Limits: blame.Default()}
	now := blame.Time(0)
	if n := testing.AllocsPerRun(100, func() {
		now += d.Limits.Window * 2 / 3
		d.Died(now, "w1", "i", many, 9)
	}); n > 20 {
		t.Errorf("a death allocates %v times", n)
	}
	d.Load(now, []blame.Suspect{{Task: many[0], State: blame.Held}}, 9)
	for n := range 3 {
		d.Died(now, fmt.Sprint("v", n), "i", many[:2], 9)
	}
	if n := testing.AllocsPerRun(100, func() { d.Returned(now, "w2", "i") }); n > 0 {
		t.Errorf("a worker that comes allocates %v times", n)
	}
}

// TestForgets: what was on board of workers that died long ago is not kept.
func TestForgets(t *testing.T) {
	t.Parallel()
	d := &blame.Docket{Limits: blame.Default()}
	on := aboard("a b c")
	kept := weak.Make(&on[0])
	d.Died(0, "w", "i", on, 3)
	d.Tick(d.Limits.Window)
	if runtime.GC(); kept.Value() == nil {
		t.Fatal("it is forgotten too early")
	}
	d.Tick(d.Limits.Window + 1)
	if runtime.GC(); kept.Value() != nil {
		t.Error("it is kept")
	}
	runtime.KeepAlive(d)
}
