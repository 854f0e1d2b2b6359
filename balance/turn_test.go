package balance_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/rota-project/rota/balance"
)

// Workers share no cache line, and what every call writes shares none with what is
// only read: allocations of these sizes begin on a line.
func TestWorkersShareNoCacheLine(t *testing.T) {
	t.Parallel()
	if counters, size := balance.Layout(); counters != 64 || size != 128 {
		t.Errorf("the counters begin at byte %d of %d, want 64 of 128", counters, size)
	}
}

// Calls one after another, each to an idle fleet, are ties all along.
func TestTiesGoToWhoWasGivenLess(t *testing.T) {
	t.Parallel()
	for _, r := range []string{"least-loaded", "smart", "p2c"} {
		ms := members("a", "b", "c", "d", "e")
		s := setOf(ms)
		rnd := splitmix(12)
		got := map[string]int{}
		call := func() string {
			p := try(s, rule(t, r), balance.Call{}, &rnd)
			defer p.Release()
			got[name(p)]++
			return name(p)
		}
		for range 1000 {
			call()
		}
		for _, m := range ms {
			if n := got[m.Worker.Name()]; n < 190 || n > 210 {
				t.Errorf("%s: of 1000 calls over 5 workers %v, want 200 each", r, got)
				break
			}
		}
	}
}

// Who was away is preferred for a while, but not until it has made up for all.
func TestWhoComesBackIsNotGivenEverything(t *testing.T) {
	t.Parallel()
	for _, r := range []string{"least-loaded", "smart"} {
		ms := members("a", "b", "c", "d", "e")
		s := setOf(ms)
		rnd := splitmix(13)
		ms[2].Worker.Close()
		for range 20_000 {
			try(s, rule(t, r), balance.Call{}, &rnd).Release()
		}
		ms[2].Worker.Open()
		back := 0
		for range 4 * balance.Lag {
			p := try(s, rule(t, r), balance.Call{}, &rnd)
			if p.Worker() == ms[2].Worker {
				back++
			}
			p.Release()
		}
		if even := 4 * balance.Lag / 5; back < even || back > balance.Lag+even {
			t.Errorf("%s: %d of %d calls went to the one that came back", r, back, 4*balance.Lag)
		}
	}
}

func TestTurnsWrapAround(t *testing.T) {
	t.Parallel()
	ms := members("a", "b", "c")
	const top = 1<<34 - 1 // turns have 34 bits
	for i, m := range ms {
		m.Worker.SetTurn(top - uint64(i))
	}
	s := setOf(ms)
	var rnd splitmix
	got := map[string]int{}
	for i := range 300 {
		p := try(s, balance.LeastLoaded{}, balance.Call{}, &rnd)
		if i == 0 && name(p) != "c" {
			t.Errorf("%s was picked, c was given less", name(p))
		}
		got[name(p)]++
		p.Release()
	}
	for _, m := range ms {
		if n := got[m.Worker.Name()]; n < 98 || n > 102 {
			t.Errorf("of 300 calls around the end of the turns: %v, want 100 each", got)
		}
		if m.Worker.InFlight() != 0 || m.Worker.Closed() {
			t.Errorf("%s: %d in flight, closed: %t", m.Worker.Name(), m.Worker.InFlight(), m.Worker.Closed())
		}
	}
}

func TestHugeWeightsAndLoads(t *testing.T) {
	t.Parallel()
	ms := members("strong", "weak")
	ms[0].Weight, ms[1].Weight = math.MaxInt/2, 1
	s := setOf(ms)
	var rnd splitmix
	for _, r := range []string{"least-loaded", "smart", "p2c", "hashing-bounded"} {
		for i := range 100 {
			p := try(s, rule(t, r), balance.Call{Fn: balance.NewFn(fmt.Sprint(i), nil)}, &rnd)
			if name(p) != "strong" && r != "hashing-bounded" {
				t.Fatalf("%s: call %d went to the weak worker", r, i)
			}
			p.Release()
		}
	}
}
