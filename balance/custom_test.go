package balance_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rota-project/rota/balance"
)

// ledger picks by a number that wanders, and keeps the account of each worker.
type ledger struct {
	t     *testing.T
	n     atomic.Int64
	mu    sync.Mutex
	calls map[string]int
}

func (l *ledger) Pick(fn *balance.Fn, candidates []balance.Candidate) int {
	n := int(l.n.Add(1))
	if fn.Name() != "f" || len(candidates) == 0 || n%50 == 0 {
		return []int{-1, len(candidates)}[n/50%2] // none, in two ways
	}
	i := n % len(candidates)
	if c := candidates[i]; c.Name == "closed" || c.InFlight >= 3 || c.Weight != 2 {
		l.t.Errorf("offered %+v", c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[candidates[i].Name]++
	return i
}

func (l *ledger) Done(_ *balance.Fn, worker string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[worker]--
}

// TestCustom: a rule of the user's own is asked of workers with room only, never
// of one that was tried, and hears of the end of each call that it picked for.
func TestCustom(t *testing.T) {
	t.Parallel()
	var set balance.Set
	var members []balance.Member
	for _, name := range []string{"a", "b", "closed", "c"} {
		w := balance.NewWorker(name)
		w.SetLimit(3)
		if name == "closed" {
			w.Close()
		}
		members = append(members, balance.Member{Worker: w, Weight: 2})
	}
	set.Update(members)
	l := &ledger{t: t, calls: map[string]int{}}
	fn, rule := balance.NewFn("f", nil), balance.Custom{Picker: l}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for k := range 500 {
				c := balance.Call{Fn: fn}
				tried := members[k%4].Worker
				c.Tried[0] = tried
				var p balance.Pick
				w := set.Pick(rule, &c, &p)
				if w == tried {
					t.Errorf("%s was tried", w.Name())
				}
				if k%3 == 0 {
					p.Release()
				} else {
					p.Done(1, 1)
				}
			}
		})
	}
	wg.Wait()
	for name, n := range l.calls {
		if n != 0 {
			t.Errorf("%d calls of %s never ended", n, name)
		}
	}
	for _, m := range members {
		if n := m.Worker.InFlight(); n != 0 {
			t.Errorf("%s has %d calls", m.Worker.Name(), n)
		}
	}
	if rule.Name() != "custom" {
		t.Error(rule.Name())
	}
	if _, err := balance.RuleByName("custom", 0); err == nil {
		t.Error("a file can name it")
	}
}
