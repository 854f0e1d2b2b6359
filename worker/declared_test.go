package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/worker"

	"google.golang.org/protobuf/proto"
)

// update says anew what is declared of a grant.
func update(g *rotav1.GrantItem) *rotav1.UpdateItem {
	return &rotav1.UpdateItem{
		Task: g.GetTask().GetId(), Index: g.GetIndex(), Generation: g.GetGeneration(), Group: g.GetTask().GetGroup(),
		Key: g.GetTask().GetKey(), Weight: g.GetTask().GetWeight(), Priority: g.GetTask().GetPriority(),
	}
}

func updates(list ...*rotav1.UpdateItem) *rotav1.Grants { return &rotav1.Grants{Update: list} }

// TestDeclaredAnew: whatever is declared of a task in whatever order, and however the
// worker hears of it, what runs knows it at last, goes on unless what it is to run
// has changed, and stays under the generation of its grant.
func TestDeclaredAnew(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { declareAnew(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

// follower is a task function that follows what is declared.
type follower struct {
	mu    sync.Mutex
	calls map[string]int
	knows map[string]rota.Task
}

func (f *follower) run(ctx context.Context, a worker.Assigned) error {
	f.mu.Lock()
	f.calls[a.ID()]++
	f.mu.Unlock()
	for {
		t, changed := a.Current()
		f.mu.Lock()
		f.knows[a.ID()] = t
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func declareAnew(t *testing.T, chance *rand.Rand) {
	f := newFake(t)
	gen := uint64(3)
	granted := []*rotav1.GrantItem{grant("a", 1, rota.Available, "p0"), grant("b", 2, rota.Exclusive, "p0"), grant("c", 3, rota.Exclusive, "p0")}
	granted[2].Index = 4
	f.full = granted
	fn := &follower{calls: map[string]int{}, knows: map[string]rota.Task{}}
	w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": fn.run})
	want := map[string]int{"a": 1, "b": 1, "c": 1} // calls
	change := func(s *rotav1.TaskSpec) {
		switch chance.IntN(4) {
		case 0:
			s.Group = fmt.Sprint("g", chance.IntN(3))
		case 1:
			s.Key = fmt.Sprint("k", chance.IntN(3))
		case 2:
			s.Weight = float64(chance.IntN(3))
		default:
			s.Priority = float64(chance.IntN(3))
		}
	}
	for range 40 {
		n := chance.IntN(len(granted))
		g := proto.CloneOf(granted[n]) // the worker may still read the other
		for range chance.IntN(3) {
			change(g.GetTask())
		}
		anew := chance.IntN(4) == 0
		if anew { // another grant, perhaps of something else
			gen++
			g.Generation = gen
			other := chance.IntN(2) == 0
			if other {
				g.Task.Payload = fmt.Append(nil, "p", gen)
			}
			if other || g.GetTask().GetMode() != string(rota.Available) {
				want[g.GetTask().GetId()]++
			}
		}
		granted = slices.Clone(granted)
		granted[n] = g
		f.set(func() { f.full = granted })
		switch how := chance.IntN(4); {
		case how == 0:
			f.cut() // it hears of it from the next scheduler
			pass(time.Second)
		case anew:
			f.grants(give(g))
		case how == 1: // as a list of all, on the connection that it has
			f.grants(&rotav1.Grants{Full: true, Grant: granted})
		default:
			f.grants(updates(update(g)))
		}
		if chance.IntN(4) == 0 { // of the past, or of what it does not have
			f.grants(updates(
				&rotav1.UpdateItem{Task: "a", Generation: granted[0].GetGeneration() - 1, Key: "wrong"},
				&rotav1.UpdateItem{Task: "b", Generation: granted[1].GetGeneration() + 1, Key: "wrong"},
				&rotav1.UpdateItem{Task: "c", Index: 3, Generation: granted[2].GetGeneration(), Key: "wrong"},
				&rotav1.UpdateItem{Task: "d", Generation: 1, Key: "wrong"},
			))
		}
	}
	fn.mu.Lock()
	defer fn.mu.Unlock()
	if !reflect.DeepEqual(fn.calls, want) {
		t.Errorf("calls %v, want %v", fn.calls, want)
	}
	listed := map[string]worker.Assigned{}
	for _, a := range w.Tasks() {
		listed[a.ID()] = a
	}
	for _, g := range granted {
		s := g.GetTask()
		want := rota.Task{ID: s.GetId(), Kind: "k", Group: s.GetGroup(), Key: s.GetKey(), Weight: s.GetWeight(), Priority: s.GetPriority(), Payload: s.GetPayload(), Mode: rota.Mode(s.GetMode())}
		if got := fn.knows[want.ID]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s knows %+v, declared is %+v", want.ID, got, want)
		}
		a := listed[want.ID]
		if !reflect.DeepEqual(a.Task, want) || a.Generation() != rota.Generation(g.GetGeneration()) {
			t.Errorf("%s is listed as %+v under generation %d, granted was %v", want.ID, a.Task, a.Generation(), g)
		}
	}
	if len(listed) != len(granted) {
		t.Errorf("listed are %v", listed)
	}
}

// TestUpdateIsNoGrant: it begins nothing, and what was revoked stays so.
func TestUpdateIsNoGrant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		fn := &follower{calls: map[string]int{}, knows: map[string]rota.Task{}}
		w := start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": fn.run})
		f.grants(updates(update(grant("a", 1, rota.Exclusive, ""))))
		f.grants(give(grant("b", 2, rota.Exclusive, "")))
		f.grants(revoke("b", 2))
		f.grants(updates(update(grant("b", 2, rota.Exclusive, ""))))
		if len(w.Tasks()) != 0 || fn.calls["a"] != 0 || fn.calls["b"] != 1 {
			t.Errorf("calls %v, running %v", fn.calls, w.Tasks())
		}
	})
}

// TestUpdateOfFailing: a change may be the remedy, so a task that waits after a
// failure is called soon; but not at each of many changes at once.
func TestUpdateOfFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		g := grant("a", 1, rota.Exclusive, "")
		g.Task.Key = "bad"
		f.full = []*rotav1.GrantItem{g}
		calls := 0
		start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": func(ctx context.Context, a worker.Assigned) error {
			calls++
			if a.Task.Key == "bad" {
				return errors.New("no such key")
			}
			return wait(ctx, a)
		}})
		pass(time.Minute) // the pauses have grown
		f.wants("a", "backoff")
		before := calls
		good := grant("a", 1, rota.Exclusive, "")
		for n := range 100 {
			good.Task.Key, good.Task.Weight = "bad", float64(n+1)
			f.grants(updates(update(good)))
			pass(time.Millisecond)
		}
		if calls > before+2 {
			t.Errorf("%d calls for 100 changes in 100 ms", calls-before)
		}
		good.Task.Key = "good"
		f.grants(updates(update(good)))
		pass(time.Second)
		f.wants("a", "running")
	})
}
