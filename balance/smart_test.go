package balance_test

import (
	"testing"

	"github.com/rota-project/rota/balance"
)

// callOnce picks, and ends the call at once after it took so long.
func callOnce(s *balance.Set, r balance.Rule, fn *balance.Fn, now, took int64, rnd *splitmix) string {
	p := try(s, r, balance.Call{Fn: fn, Now: now}, rnd)
	defer p.Done(now+took, took)
	return name(p)
}

func TestIdleInstancesAreForgotten(t *testing.T) {
	t.Parallel()
	ms := members("a", "b", "c", "d", "e")
	s := setOf(ms)
	rnd := splitmix(21)
	fn := balance.NewFn("f", nil)
	warm := callOnce(s, balance.Pull{}, fn, 1, 1, &rnd)
	if again := callOnce(s, balance.Pull{}, fn, balance.WarmFor, 1, &rnd); again != warm {
		t.Errorf("before its time has passed the instance on %s is not asked, but %s", warm, again)
	}
	// The least loaded worker that was given least is any other.
	if again := callOnce(s, balance.Pull{}, fn, 4*balance.WarmFor, 1, &rnd); again == warm {
		t.Errorf("%s is asked long after its instance's time", warm)
	}
}

func TestNoInstanceOnWhoLeft(t *testing.T) {
	t.Parallel()
	for _, r := range []string{"pull", "smart"} {
		ms := members("a", "b", "c")
		s := setOf(ms)
		rnd := splitmix(22)
		fn := balance.NewFn("f", []string{"p"})
		late := try(s, rule(t, r), balance.Call{Fn: fn, Now: 1}, &rnd)
		gone := name(late)
		callOnce(s, rule(t, r), fn, 1, 1, &rnd)
		var rest []balance.Member
		for _, m := range ms {
			if m.Worker.Name() != gone {
				rest = append(rest, m)
			}
		}
		s.Update(rest)
		late.Done(2, 1) // its instance is idle only now
		for i := range 20 {
			if to := callOnce(s, rule(t, r), fn, int64(i)+3, 1, &rnd); to == gone {
				t.Fatalf("%s: call %d went to %s, which has left", r, i, gone)
			}
		}
		for _, m := range ms {
			if n := m.Worker.InFlight(); n != 0 {
				t.Errorf("%s: %d calls in flight on %s", r, n, m.Worker.Name())
			}
		}
	}
}

// As many calls at once as there are idle instances find one each.
func TestEachIdleInstanceServesOneCall(t *testing.T) {
	t.Parallel()
	ms := members("a", "b", "c", "d")
	s := setOf(ms)
	rnd := splitmix(23)
	fn := balance.NewFn("f", nil)
	hold := func() map[string]int {
		got := map[string]int{}
		var held []*balance.Pick
		for range 12 {
			p := try(s, balance.Pull{}, balance.Call{Fn: fn, Now: 5}, &rnd)
			got[name(p)]++
			held = append(held, p)
		}
		for _, p := range held {
			p.Done(6, 1)
		}
		return got
	}
	if got := hold(); len(got) != 4 || got["a"] != 3 {
		t.Fatalf("12 cold calls over 4 workers: %v, want 3 each", got)
	}
	// Load from elsewhere, so that the least loaded are others than the warm ones.
	s.Update(append(members("e", "f"), ms...))
	if got := hold(); got["e"]+got["f"] != 0 {
		t.Errorf("12 calls with 12 idle instances: %v, want none on the workers without", got)
	}
}

func TestGapsBetweenIdleInstances(t *testing.T) {
	t.Parallel()
	ms := members("a", "b", "c")
	s := setOf(ms)
	rnd := splitmix(27)
	fn := balance.NewFn("f", nil)
	fn.LeaveGap(ms[1].Worker, 1)
	for i, want := range []bool{true, true, false} {
		p := try(s, balance.Pull{}, balance.Call{Fn: fn, Now: 2}, &rnd)
		defer p.Release()
		if (name(p) == "b") != want {
			t.Errorf("call %d with two idle instances on b went to %s", i+1, name(p))
		}
	}
}

func TestSmartStartsWhereItStartedLast(t *testing.T) {
	t.Parallel()
	var names []string
	for _, n := range "abcdefghij" {
		names = append(names, string(n))
	}
	s := setOf(members(names...))
	rnd := splitmix(24)
	fn, other := balance.NewFn("f", []string{"numpy", "six"}), balance.NewFn("g", nil)
	p := try(s, balance.Smart{}, balance.Call{Fn: fn, Now: 1}, &rnd)
	defer p.Release()
	for i := range 5 { // at once with the first: all of them cold
		callOnce(s, balance.Smart{}, other, 1, 1, &rnd)
		q := try(s, balance.Smart{}, balance.Call{Fn: fn, Now: 1}, &rnd)
		defer q.Release()
		if name(q) != name(p) {
			t.Fatalf("instance %d was started on %s, the packages are on %s", i+2, name(q), name(p))
		}
	}
	// A worker that is Miss calls busier than the least loaded one is not worth it.
	q := try(s, balance.Smart{}, balance.Call{Fn: fn, Now: 1}, &rnd)
	defer q.Release()
	if name(q) == name(p) {
		t.Errorf("the seventh call at once went to %s too", name(q))
	}
}

func TestSmartLeavesABusyWarmWorker(t *testing.T) {
	t.Parallel()
	ms := members("a", "b")
	s := setOf(ms)
	rnd := splitmix(25)
	fn := balance.NewFn("f", nil)
	warm := callOnce(s, balance.Smart{}, fn, 1, 1, &rnd)
	busy := ms[0].Worker
	if busy.Name() != warm {
		busy = ms[1].Worker
	}
	alone := setOf([]balance.Member{{Worker: busy, Weight: 1}})
	for range 9 {
		try(alone, balance.Random{}, balance.Call{}, &rnd)
	}
	p := try(s, balance.Smart{}, balance.Call{Fn: fn, Now: 2}, &rnd)
	if name(p) != warm {
		t.Errorf("with 9 calls more than the other the warm worker %s is left for %s", warm, name(p))
	}
	p.Done(3, 1)
	try(alone, balance.Random{}, balance.Call{}, &rnd)
	if p := try(s, balance.Smart{}, balance.Call{Fn: fn, Now: 4}, &rnd); name(p) == warm {
		t.Errorf("with 10 calls more than the other the warm worker %s is still asked", warm)
	}
}

// Half of ten workers are half as fast: under load they get fewer calls, when they
// have recovered as many as the others again.
func TestSmartGivesSlowWorkersLess(t *testing.T) {
	t.Parallel()
	var names []string
	for _, n := range "abcdefghij" {
		names = append(names, string(n))
	}
	ms := members(names...)
	slow := map[*balance.Worker]bool{}
	for i, m := range ms {
		slow[m.Worker] = i%2 == 0
	}
	s := setOf(ms)
	rnd := splitmix(26)
	fn := balance.NewFn("f", nil)
	now := int64(1)
	// So many calls at once, the next to be done ended first.
	run := func(calls, atOnce int, took func(*balance.Worker) int64) (part float64) {
		type flying struct {
			p    *balance.Pick
			ends int64
			took int64
		}
		var fl []flying
		n := 0
		for range calls {
			if len(fl) == atOnce {
				first := 0
				for i := range fl {
					if fl[i].ends < fl[first].ends {
						first = i
					}
				}
				now = max(now, fl[first].ends)
				fl[first].p.Done(now, fl[first].took)
				fl = append(fl[:first], fl[first+1:]...)
			}
			p := try(s, balance.Smart{}, balance.Call{Fn: fn, Now: now}, &rnd)
			if slow[p.Worker()] {
				n++
			}
			d := took(p.Worker()) + int64(rnd.next()%1e6)
			fl = append(fl, flying{p, now + d, d})
		}
		for _, f := range fl {
			f.p.Done(f.ends, f.took)
		}
		return float64(n) / float64(calls)
	}
	even := func(*balance.Worker) int64 { return 20e6 }
	run(1000, 60, even) // more instances than are needed
	if part := run(20_000, 30, even); part < 0.48 || part > 0.52 {
		t.Errorf("equal workers: half of them got %.3f of the calls", part)
	}
	halved := func(w *balance.Worker) int64 {
		if slow[w] {
			return 40e6
		}
		return 20e6
	}
	run(5000, 30, halved) // learns
	// By calls in flight alone they would get 0.355.
	if part := run(20_000, 30, halved); part > 0.34 || part < 0.1 {
		t.Errorf("the slow half got %.3f of the calls, want less than a third or so", part)
	}
	run(5000, 30, even)
	if part := run(20_000, 30, even); part < 0.48 || part > 0.52 {
		t.Errorf("recovered, the slow half got %.3f of the calls", part)
	}
}
