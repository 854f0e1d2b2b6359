package balance_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/balance"
)

func members(names ...string) []balance.Member {
	var ms []balance.Member
	for _, n := range names {
		ms = append(ms, balance.Member{Worker: balance.NewWorker(n), Weight: 1})
	}
	return ms
}

func setOf(ms []balance.Member) *balance.Set {
	var s balance.Set
	s.Update(ms)
	return &s
}

// try picks with a fresh random number and returns the pick, which may be empty.
func try(s *balance.Set, r balance.Rule, c balance.Call, rnd *splitmix) *balance.Pick {
	c.Rand = rnd.next()
	p := new(balance.Pick)
	s.Pick(r, &c, p)
	return p
}

func name(p *balance.Pick) string {
	if p.Worker() == nil {
		return ""
	}
	return p.Worker().Name()
}

func rule(t *testing.T, name string) balance.Rule {
	t.Helper()
	r, err := balance.RuleByName(name, 3)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name() != name {
		t.Fatalf("rule %q calls itself %q", name, r.Name())
	}
	return r
}

// every rule that may pick any worker.
func general() []string {
	return slices.DeleteFunc(balance.Names(), func(n string) bool { return n == "owner" })
}

func TestUnknownRule(t *testing.T) {
	t.Parallel()
	_, err := balance.RuleByName("fastest", 0)
	var fe *rota.FieldError
	if !errors.As(err, &fe) || fe.Field != "balancer" {
		t.Fatalf("got %v, want a field error of balancer", err)
	}
}

func TestEveryRuleAvoidsWhatItMust(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 5, 40} {
		for _, r := range general() {
			t.Run(fmt.Sprintf("%s/%d", r, n), func(t *testing.T) {
				t.Parallel()
				var names []string
				for i := range n {
					names = append(names, fmt.Sprintf("w%d", i))
				}
				ms := members(names...)
				s := setOf(ms)
				rnd := splitmix(n)
				fn := balance.NewFn("f", []string{"numpy", "six"})
				call := balance.Call{Fn: fn, Key: 77}
				if s.Pick(rule(t, r), &call, new(balance.Pick)) == nil {
					t.Fatal("no worker picked though all are open")
				}
				for _, m := range ms {
					m.Worker.SetLimit(3)
				}
				ms[0].Worker.Close()
				var held []*balance.Pick
				for range 3 * n * 4 {
					p := try(s, rule(t, r), call, &rnd)
					if w := p.Worker(); w != nil {
						if w == ms[0].Worker {
							t.Fatal("picked a closed worker")
						}
						held = append(held, p)
					}
				}
				for _, m := range ms[1:] {
					if m.Worker.InFlight() > 3 {
						t.Fatalf("%s has %d calls, limit 3", m.Worker.Name(), m.Worker.InFlight())
					}
				}
				if n > 1 && len(held) < 3*(n-1)-1 {
					t.Fatalf("%d calls found a place, there were %d", len(held), 3*(n-1)-1)
				}
				for _, p := range held {
					p.Done(1, 1)
					p.Release()
				}
				if n > 1 {
					tried := call
					tried.Tried[0] = ms[n-1].Worker
					for range 50 {
						p := try(s, rule(t, r), tried, &rnd)
						if p.Worker() == ms[n-1].Worker {
							t.Fatal("picked a worker that was tried already")
						}
						p.Release()
					}
				}
			})
		}
	}
}

func TestRoundRobinIsExact(t *testing.T) {
	t.Parallel()
	s := setOf(members("a", "b", "c", "d"))
	got := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rnd := splitmix(i)
			p := try(s, balance.RoundRobin{}, balance.Call{}, &rnd)
			mu.Lock()
			defer mu.Unlock()
			got[name(p)]++
		})
	}
	wg.Wait()
	for _, w := range []string{"a", "b", "c", "d"} {
		if got[w] != 2 {
			t.Fatalf("8 calls over 4 workers: %v, want 2 each", got)
		}
	}
}

func TestRandomFollowsWeights(t *testing.T) {
	t.Parallel()
	ms := members("a", "b", "c", "never")
	ms[1].Weight, ms[2].Weight, ms[3].Weight = 3, 6, 0
	s := setOf(ms)
	rnd := splitmix(4)
	got := map[string]int{}
	const calls = 100_000
	for range calls {
		p := try(s, balance.Random{}, balance.Call{}, &rnd)
		got[name(p)]++
		p.Release()
	}
	for i, want := range []float64{.1, .3, .6, 0} {
		share := float64(got[ms[i].Worker.Name()]) / calls
		if math.Abs(share-want) > 0.01 {
			t.Errorf("%s got %.3f of the calls, want %.1f", ms[i].Worker.Name(), share, want)
		}
	}
	if got["never"] != 0 {
		t.Errorf("a worker of weight 0 got %d calls", got["never"])
	}
	for _, m := range ms[:3] {
		m.Worker.Close()
	}
	if p := try(s, balance.Random{}, balance.Call{}, &rnd); p.Worker() != nil {
		t.Errorf("%s picked though only a worker of weight 0 is open", name(p))
	}
}

func TestLeastLoadedTakesAllInTurn(t *testing.T) {
	t.Parallel()
	s := setOf(members("a", "b", "c", "d"))
	var rnd splitmix
	for round := range 3 {
		for _, want := range []string{"a", "b", "c", "d"} {
			if p := try(s, balance.LeastLoaded{}, balance.Call{}, &rnd); name(p) != want {
				t.Fatalf("round %d: picked %s, want %s", round, name(p), want)
			}
		}
	}
}

// TestLeastLoadedEqualsItsTwin holds the index to the dumb loop over all.
func TestLeastLoadedEqualsItsTwin(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 17, 64, 65, 200} {
		for seed := range 10 {
			rnd := splitmix(seed*1000 + n)
			var names []string
			for i := range n {
				names = append(names, fmt.Sprintf("w%d", i))
			}
			ms := members(names...)
			for i := range ms {
				ms[i].Weight = 1 + int(rnd.next()%3)
			}
			s := setOf(ms)
			var held []*balance.Pick
			for step := range 2000 {
				switch k := rnd.next() % 100; {
				case k < 45 && len(held) > 0:
					i := int(rnd.next() % uint64(len(held)))
					held[i].Release()
					held = slices.Delete(held, i, i+1)
				case k < 47:
					ms[rnd.next()%uint64(n)].Worker.Close()
				case k < 52:
					ms[rnd.next()%uint64(n)].Worker.Open()
				case k < 53:
					ms[rnd.next()%uint64(n)].Worker.SetShare(0.5)
				case k < 54:
					ms[rnd.next()%uint64(n)].Worker.SetShare(1)
				default:
					least := math.Inf(1)
					for _, m := range ms {
						if !m.Worker.Closed() {
							least = min(least, float64(m.Worker.Load()))
						}
					}
					before := map[string]uint64{}
					for _, m := range ms {
						before[m.Worker.Name()] = m.Worker.Load()
					}
					p := try(s, balance.LeastLoaded{}, balance.Call{}, &rnd)
					if p.Worker() == nil {
						if !math.IsInf(least, 1) {
							t.Fatalf("n %d seed %d step %d: nothing picked", n, seed, step)
						}
						continue
					}
					// Loads are compared in whole calls: less than one apart.
					if got := before[name(p)]; got-uint64(least) >= 256 {
						t.Fatalf("n %d seed %d step %d: picked load %d, least is %.0f", n, seed, step, got, least)
					}
					held = append(held, p)
				}
			}
		}
	}
}

func TestHashingBounded(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("w%d", i))
	}
	ms := members(names...)
	s := setOf(ms)
	rnd := splitmix(1)
	r := balance.HashingBounded{}
	where := map[int]string{}
	for f := range 2000 {
		p := try(s, r, balance.Call{Fn: balance.NewFn(fmt.Sprint(f), nil)}, &rnd)
		where[f] = name(p)
		p.Release()
	}
	// One function called all at once stays within the bound.
	fn := balance.NewFn("hot", nil)
	var held []*balance.Pick
	for i := 1; i <= 400; i++ {
		p := try(s, r, balance.Call{Fn: fn}, &rnd)
		bound := int(math.Ceil(1.25 * float64(i) / 20))
		if p.Worker().InFlight() > bound {
			t.Fatalf("call %d made a load of %d, bound %d", i, p.Worker().InFlight(), bound)
		}
		held = append(held, p)
	}
	for _, p := range held {
		p.Release()
	}
	// A worker that goes moves its own functions and few others.
	gone := setOf(ms[1:])
	moved := 0
	for f := range 2000 {
		p := try(gone, r, balance.Call{Fn: balance.NewFn(fmt.Sprint(f), nil)}, &rnd)
		if where[f] != "w0" && name(p) != where[f] {
			moved++
		}
		p.Release()
	}
	if moved > 2000/10 {
		t.Errorf("%d of 2000 functions moved that were not on the worker that left", moved)
	}
}

// The worker that olscheduler's own hash ring gives to these packages, as its
// test suite expects it.
func TestPkgAwareKeepsOlschedulersAffinity(t *testing.T) {
	t.Parallel()
	ms := members("http://localhost:9021", "http://localhost:9022")
	for _, tc := range []struct {
		fn   *balance.Fn
		want string
	}{
		{balance.NewFn("bar", []string{"z17922!", "pkg2"}), "http://localhost:9022"},
		{balance.NewFn("foo", []string{"pkg0", "pkg1"}), "http://localhost:9021"},
	} {
		s := setOf(ms)
		rnd := splitmix(3)
		for range 5 {
			p := try(s, rule(t, "pkg-aware"), balance.Call{Fn: tc.fn}, &rnd)
			if name(p) != tc.want {
				t.Errorf("%s: picked %s, want %s", tc.fn.Name(), name(p), tc.want)
			}
			p.Release()
		}
		got := map[string]int{}
		for range 4 {
			p := try(s, rule(t, "pkg-aware"), balance.Call{Fn: tc.fn}, &rnd)
			got[name(p)]++
			defer p.Release()
		}
		if got[tc.want] != 3 || len(got) != 2 {
			t.Errorf("%s: 4 calls at once with threshold 3: %v, want 3 to stay and 1 elsewhere", tc.fn.Name(), got)
		}
		for _, m := range ms { // for the next case
			for m.Worker.InFlight() > 0 {
				m.Worker.ForceRelease()
			}
		}
	}
}

func TestPkgAwareChoosesTheLessLoadedOfTwo(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 8 {
		names = append(names, fmt.Sprintf("http://w%d", i))
	}
	var rnd splitmix
	elsewhere := 0
	for f := range 50 {
		s := setOf(members(names...))
		pkgs := []string{fmt.Sprintf("pkg%d", f)}
		r := balance.PkgAware{Threshold: 100}
		first := try(s, r, balance.Call{Fn: balance.NewFn("a", pkgs)}, &rnd)
		second := try(s, r, balance.Call{Fn: balance.NewFn("b", pkgs)}, &rnd)
		if name(first) != name(second) {
			elsewhere++
		}
		stay := try(s, r, balance.Call{Fn: balance.NewFn("a", pkgs)}, &rnd)
		stay.Release()
	}
	// The two hashes coincide for about one package of eight.
	if elsewhere < 35 {
		t.Errorf("the second candidate was taken for %d of 50 packages though the first was loaded", elsewhere)
	}
}

func TestPullAsksWhoFinishedLately(t *testing.T) {
	t.Parallel()
	for _, r := range []string{"pull", "smart"} {
		s := setOf(members("a", "b", "c", "d", "e"))
		rnd := splitmix(8)
		fn, other := balance.NewFn("f", nil), balance.NewFn("g", nil)
		p := try(s, rule(t, r), balance.Call{Fn: fn, Now: 1}, &rnd)
		warm := name(p)
		p.Done(2, 1)
		for i := range 10 {
			try(s, rule(t, "round-robin"), balance.Call{Fn: other}, &rnd).Release()
			p := try(s, rule(t, r), balance.Call{Fn: fn, Now: int64(i) + 3}, &rnd)
			if name(p) != warm {
				t.Fatalf("%s: call %d went to %s, the instance is on %s", r, i, name(p), warm)
			}
			p.Done(int64(i)+3, 1)
		}
		// Failed calls leave no instance behind, and one instance serves one call.
		a := try(s, rule(t, r), balance.Call{Fn: fn, Now: 20}, &rnd)
		b := try(s, balance.Pull{}, balance.Call{Fn: fn, Now: 20}, &rnd)
		if name(a) == name(b) {
			t.Errorf("%s: two calls at once share one idle instance", r)
		}
	}
}

func TestLeastLatencyLeavesASlowWorker(t *testing.T) {
	t.Parallel()
	s := setOf(members("slow", "fast", "quick"))
	rnd := splitmix(5)
	got := map[string]int{}
	now := int64(0)
	for i := range 3000 {
		now += 20e6
		p := try(s, balance.LeastLatency{}, balance.Call{Now: now}, &rnd)
		if i >= 1000 {
			got[name(p)]++
		}
		took := int64(1e6)
		if name(p) == "slow" {
			took = 50e6
		}
		p.Done(now, took)
	}
	if got["slow"] > 100 || got["fast"] < 500 || got["quick"] < 500 {
		t.Errorf("calls of 2000: %v, want few for the slow one", got)
	}
	if got["slow"] == 0 {
		t.Error("the slow one is never asked again, so nobody would learn that it recovered")
	}
}

func TestStickyAndOwner(t *testing.T) {
	t.Parallel()
	ms := members("a", "b", "c", "d")
	s := setOf(ms)
	var rnd splitmix
	for key := uint64(1); key < 50; key++ {
		p := try(s, balance.Sticky{}, balance.Call{Key: key * 7919}, &rnd)
		first := name(p)
		for range 5 {
			if q := try(s, balance.Sticky{}, balance.Call{Key: key * 7919}, &rnd); name(q) != first {
				t.Fatalf("key %d went to %s and %s", key, first, name(q))
			}
		}
		p.Release()
	}
	if p := try(s, balance.Owner{}, balance.Call{Owner: "c"}, &rnd); name(p) != "c" {
		t.Errorf("owner c: picked %q", name(p))
	}
	ms[2].Worker.Close()
	for _, o := range []string{"c", "nobody", ""} {
		if p := try(s, balance.Owner{}, balance.Call{Owner: o}, &rnd); p.Worker() != nil {
			t.Errorf("owner %q: picked %s, want none", o, name(p))
		}
	}
}

func TestSlowStartTakesItsShare(t *testing.T) {
	t.Parallel()
	for _, r := range []string{"round-robin", "random", "least-loaded", "p2c"} {
		ms := members("new", "b", "c", "d")
		ms[0].Worker.SetShare(0.1)
		s := setOf(ms)
		rnd := splitmix(6)
		got := map[string]int{}
		var held []*balance.Pick
		for range 4000 {
			p := try(s, rule(t, r), balance.Call{}, &rnd)
			got[name(p)]++
			if held = append(held, p); len(held) == 40 { // 40 calls in flight
				held[0].Release()
				held = held[1:]
			}
		}
		if got["new"] > 4000/4/4 || got["new"] == 0 {
			t.Errorf("%s: a worker in slow start got %d of 4000 calls over 4 workers", r, got["new"])
		}
	}
}

// Everything at once: picks, releases, updates, closing. Nothing leaks.
func TestCountsReturnToZero(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 40} {
		for _, r := range general() {
			t.Run(fmt.Sprintf("%s/%d", r, n), func(t *testing.T) {
				t.Parallel()
				var names []string
				for i := range n {
					names = append(names, fmt.Sprintf("w%d", i))
				}
				ms := members(names...)
				s := setOf(ms)
				rl := rule(t, r)
				fn := balance.NewFn("f", []string{"p"})
				var callers, churn sync.WaitGroup
				stop := make(chan struct{})
				churn.Go(func() {
					rnd := splitmix(99)
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						s.Update(ms[:1+rnd.next()%uint64(n)])
						w := ms[rnd.next()%uint64(n)].Worker
						w.Close()
						w.SetLimit(int(rnd.next() % 3))
						w.Open()
					}
				})
				for g := range 4 {
					callers.Go(func() {
						rnd := splitmix(g)
						for i := range 2000 {
							c := balance.Call{Fn: fn, Rand: rnd.next(), Now: int64(i)}
							var p, q balance.Pick
							s.Pick(rl, &c, &p)
							s.Pick(rl, &c, &q)
							p.Done(int64(i), 5)
							q.Release()
							q.Release()
						}
					})
				}
				callers.Wait()
				close(stop)
				churn.Wait()
				for _, m := range ms {
					if m.Worker.InFlight() != 0 {
						t.Errorf("%s has %d calls in flight after all are done", m.Worker.Name(), m.Worker.InFlight())
					}
					m.Worker.SetLimit(0)
					m.Worker.Open()
				}
				// The index has lost nobody.
				s.Update(ms)
				seen := map[string]bool{}
				rnd := splitmix(1)
				for range n {
					seen[name(try(s, balance.LeastLoaded{}, balance.Call{}, &rnd))] = true
				}
				if len(seen) != n {
					t.Errorf("least-loaded finds %d of %d idle workers", len(seen), n)
				}
			})
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	s := set(100)
	fn := balance.NewFn("f", []string{"a", "b"})
	for _, n := range general() {
		r := rule(t, n)
		c := &balance.Call{Fn: fn}
		var p balance.Pick
		rnd := splitmix(2)
		if a := testing.AllocsPerRun(1000, func() {
			c.Rand = rnd.next()
			s.Pick(r, c, &p)
			p.Done(1, 1)
		}); a != 0 {
			t.Errorf("%s allocates %.1f times a pick", n, a)
		}
	}
}
