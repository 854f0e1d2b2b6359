package capacity_test

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store/memory"
)

func account(t *testing.T) *capacity.Account {
	t.Helper()
	a := capacity.New(view.New(memory.New(), slog.New(slog.DiscardHandler)))
	t.Cleanup(a.Close)
	return a
}

type amounts = map[string]float64

// TestClaims follows a job's claim from its promise to its end.
func TestClaims(t *testing.T) {
	t.Parallel()
	a := account(t)
	jobs := a.Of("job")
	var told atomic.Int64
	defer a.Notify(func() { told.Add(1) })()
	have := amounts{"cpus": 0.3, "memory": 8 << 30}
	promise := func(id string, leader int64, n amounts, want bool) {
		t.Helper()
		if got := jobs.Promise(id, "w", have, n, leader); got != want {
			t.Fatalf("promise of %v to %s: %v", n, id, got)
		}
	}
	promise("a", 5, amounts{"cpus": 0.1}, false) // nobody has counted for that leader
	if o, lacks := jobs.Lacks("a", "w", have, amounts{"cpus": 0.1}, 5); !lacks || o.Code != placement.NotCounted {
		t.Errorf("%+v, %v", o, lacks)
	}
	a.Lead()
	a.Open(5)
	promise("a", 4, amounts{"cpus": 0.1}, false) // of a leader before
	promise("a", 5, amounts{"cpus": 0.1}, true)
	promise("a", 5, amounts{"cpus": 0.3}, true) // what is its own is not in its way
	jobs.Settle("a")
	for _, id := range []string{"a", "b", "c"} {
		promise(id, 5, amounts{"cpus": 0.1}, true) // three times 0.1 is 0.3
	}
	promise("d", 5, amounts{"cpus": 1e-9}, false)
	promise("d", 5, amounts{"gpus": 1}, false) // what is not stated is not there
	promise("d", 5, amounts{"gpus": 0}, true)
	promise("d", 5, nil, true)
	promise("d", 5, amounts{"memory": 8 << 30}, true)
	if o, _ := jobs.Lacks("e", "w", have, amounts{"memory": 1}, 0); o != (placement.Obstacle{Code: placement.LacksResource, Name: "memory", Need: 1, Has: 8 << 30}) {
		t.Errorf("%+v", o)
	}
	if !jobs.Promise("e", "free", nil, amounts{"cpus": 1e6}, 5) {
		t.Error("a worker without stated capacity counts nothing")
	}
	// The picture has a's place, and takes it for b's that b ended.
	jobs.Take("a", "w", amounts{"cpus": 0.1})
	jobs.Settle("a")
	jobs.Take("b", "", nil)
	jobs.Settle("b")
	promise("f", 5, amounts{"cpus": 0.1}, true)
	promise("g", 5, amounts{"cpus": 0.1}, false)
	if news := a.Plan(); news["w"].Of("cpus") != 0.3 || news["free"].Of("cpus") != 1e6 || a.News() {
		t.Errorf("%+v", news)
	}
	// A new term: what was being written can no longer land.
	if use := a.Lead(); use["w"].Of("cpus") != 0.1 || len(use) != 1 {
		t.Errorf("%+v", use)
	}
	jobs.Take("a", "", nil)
	if a.Lead(); told.Load() == 0 {
		t.Error("nobody was told")
	}
	if u := a.Beside("w"); !u.Empty() {
		t.Errorf("%+v", u)
	}
}

// TestKindsShareRoom: what one kind of work has taken is not there for another, and each
// kind has its own names.
func TestKindsShareRoom(t *testing.T) {
	t.Parallel()
	a := account(t)
	one, other := a.Of("one"), a.Of("other")
	have, half := amounts{"cpus": 1}, amounts{"cpus": 0.5}
	a.Lead()
	a.Open(5)
	if !one.Promise("x", "w", have, half, 5) || !other.Promise("x", "w", have, half, 5) {
		t.Fatal("there is room for both")
	}
	for kind, c := range map[string]capacity.Claims{"one": one, "other": other} {
		if o, _ := c.Lacks("y", "w", have, half, 5); o.Code != placement.LacksResource {
			t.Errorf("more of kind %s: %+v", kind, o)
		}
	}
	one.Settle("x")
	if u := a.Beside("w"); u.Of("cpus") != 0.5 {
		t.Errorf("what is left takes %v", u)
	}
	if o, lacks := one.Lacks("y", "w", have, half, 5); lacks {
		t.Errorf("in its place: %+v", o)
	}
}
