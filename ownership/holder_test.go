package ownership_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// A holder remembers what it holds and nothing else, however long it lives.
func TestHolderForgets(t *testing.T) {
	t.Parallel()
	h := ownership.NewHolder(ownership.DefaultTrust(5 * time.Second))
	now, seq, renewed := ownership.Time(0), uint64(0), 0
	for n := range 1000 {
		now += time.Second
		for range 3 {
			seq++
			h.Sent(seq, now)
		}
		if n%10 == 0 {
			renewed++
			h.Renewed(seq, 5*time.Second, now)
		}
		i, gen := rota.Instance{Task: fmt.Sprint("t", n)}, rota.Generation(n+1)
		h.Give([]ownership.Order{{Instance: i, Generation: gen}}, now)
		h.Called(i, now)
		h.Returned(i, "failed", ownership.Exit{}, now)
		h.Take(i, gen, now)
		h.Returned(i, "", ownership.Exit{}, now)
		if acks := h.Acks(); len(acks) != 1 || acks[0].State != ownership.Stopped {
			t.Fatalf("%v: acknowledged %v", i, acks)
		}
		if s := h.Size(); s > 64 {
			t.Fatalf("%d things are remembered after %d grants", s, n+1)
		}
		if n%10 == 0 && h.Size() != 0 {
			t.Fatalf("%d things are remembered after a renewal", h.Size())
		}
	}
	if renewed != 100 {
		t.Fatalf("%d renewals", renewed)
	}
}

// TestHolderUpdate: what has changed beside what is to be run ends nothing and begins
// nothing, but is the order in which instances start, and shortens the pause after a
// failure, to no less than the first one.
func TestHolderUpdate(t *testing.T) {
	t.Parallel()
	trust := ownership.DefaultTrust(5 * time.Second)
	h := ownership.NewHolder(trust)
	a, b := rota.Instance{Task: "a"}, rota.Instance{Task: "b"}
	h.Give([]ownership.Order{{Instance: a, Generation: 1, Priority: 2}, {Instance: b, Generation: 2, Priority: 1}}, 0)
	h.Update(b, 1, 9, 0) // of the past
	h.Update(rota.Instance{Task: "c"}, 1, 9, 0)
	h.Update(b, 2, 3, 0)
	h.Sent(1, 0)
	if did := h.Renewed(1, time.Hour, 0); len(did) != 2 || did[0].Instance != b || did[1].Instance != a {
		t.Fatalf("it starts %v", did)
	}
	h.Called(a, 0)
	h.Acks()
	if h.Update(a, 1, 7, time.Second); len(h.Acks()) != 0 || len(h.Tick(time.Second)) != 0 {
		t.Error("a change is something to do, or to say, of what runs")
	}
	for range 6 { // the pauses grow
		now := ownership.Time(0)
		h.Returned(b, "failed", ownership.Exit{}, now)
		h.Returned(b, "failed", ownership.Exit{}, now)
		if _, again := h.Failures(b); again > 2*trust.Backoff {
			h.Update(b, 2, 3, now)
			if did := h.Tick(now + trust.Backoff - 1); len(did) != 0 {
				t.Errorf("it does %v before the first pause is over", did)
			}
			if did := h.Tick(now + trust.Backoff); len(did) != 1 || did[0].Do != ownership.Start {
				t.Errorf("after the first pause it does %v", did)
			}
			return
		}
		h.Tick(now + time.Minute)
	}
	t.Error("the pauses do not grow")
}
