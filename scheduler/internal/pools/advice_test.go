package pools_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/scheduler/internal/events"
)

// helps are the pools that help, and why the others do not.
func helps(pools []*rotav1.WhyPool) (yes []string, no map[string]string) {
	no = map[string]string{}
	for _, p := range pools {
		if p.GetHelps() {
			yes = append(yes, p.GetPool())
		} else {
			no[p.GetPool()] = p.GetReason()
		}
	}
	return yes, no
}

// TestAdvice: why a pool helps a task that waits, and why not.
func TestAdvice(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		small, fixed, grows, gpu, full := definition("small", 0, 2), definition("fixed", 1, 1), definition("grows", 0, 2), definition("gpu", 0, 2), definition("full", 0, 1)
		for _, d := range []*rotav1.PoolDefinition{fixed, grows, gpu, full} {
			d.Template.Capacity = map[string]float64{"cpu": 8}
		}
		small.Template.Capacity = map[string]float64{"cpu": 2}
		gpu.Template.Kinds = []string{"gpu"}
		full.Size = &rotav1.PoolSize{From: 0, To: 0}
		b.apply(small, fixed, grows, gpu, full)
		b.up()
		b.tasks(1, "web", 7)
		yes, no := helps(b.k.AdviseTask("web0"))
		if !reflect.DeepEqual(yes, []string{"grows"}) {
			b.Errorf("helps: %v, not: %v", yes, no)
		}
		for pool, want := range map[string]string{
			"small": "7 cpu", "fixed": "has all of them", "gpu": "does not run kind web", "full": "has all of them: its size is 0",
		} {
			if !strings.Contains(no[pool], want) {
				b.Errorf("%s: %q, want %q", pool, no[pool], want)
			}
		}
		// One that fails is passed over, and says so.
		b.engine.change(func() { b.engine.start = func(engine.Order) error { return errors.New("no quota") } })
		b.pass(40 * time.Second)
		if yes, no = helps(b.k.AdviseTask("web0")); len(yes) > 0 || !strings.Contains(no["grows"], "tries again at") || !strings.Contains(no["grows"], "no quota") {
			b.Errorf("helps: %v, not: %v", yes, no)
		}
		b.engine.change(func() { b.engine.start = nil })
		b.pass(10 * time.Minute)
		if yes, no = helps(b.k.AdviseTask("web0")); !reflect.DeepEqual(yes, []string{"grows"}) {
			b.Errorf("helps: %v, not: %v", yes, no)
		}
		if got := b.k.AdviseTask("none"); got != nil {
			b.Errorf("%v of a task that there is not", got)
		}
	})
}

// TestJobsAreDemand: jobs that wait have the pool grow whose workers run them, or which
// they name; and those that run are no room to spare.
func TestJobsAreDemand(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.jobs.change(func() { b.jobs.runs, b.jobs.active = map[string]string{}, map[string][]job.Spec{} })
		one, two := definition("one", 1, 4), definition("two", 0, 4)
		for _, d := range []*rotav1.PoolDefinition{one, two} {
			d.Template.Capacity = map[string]float64{"cpu": 2}
		}
		b.apply(one, two)
		first := b.engine.living()[0]
		b.jobs.change(func() { b.jobs.runs[first] = "echo" })
		b.up()
		b.pass(time.Minute)
		named := job.Spec{Argv: []string{"anything"}, Require: []string{"pool=two"}, Resources: map[string]float64{"cpu": 1}}
		for _, tc := range []struct {
			spec job.Spec
			yes  []string
			no   map[string]string
		}{
			{job.Spec{Argv: []string{"echo"}}, []string{"one"}, map[string]string{"two": "requires pool=two"}},
			{job.Spec{Argv: []string{"cat"}}, nil, map[string]string{"one": "cat", "two": "requires pool=two"}},
			{job.Spec{Argv: []string{"echo"}, Resources: map[string]float64{"cpu": 3}}, nil, map[string]string{"one": "3 cpu"}},
			{job.Spec{Argv: []string{"echo"}, Worker: "w1"}, nil, map[string]string{"one": "names its worker, w1"}},
			{named, []string{"two"}, map[string]string{"one": "anything"}},
		} {
			yes, no := helps(b.k.AdviseJob(tc.spec))
			if !reflect.DeepEqual(yes, tc.yes) {
				b.Errorf("%v: helps %v, not %v; want %v", tc.spec, yes, no, tc.yes)
			}
			for pool, want := range tc.no {
				if !strings.Contains(no[pool], want) {
					b.Errorf("%v: %s: %q, want %q", tc.spec, pool, no[pool], want)
				}
			}
		}
		if !b.k.Named(named) || b.k.Named(job.Spec{Argv: []string{"echo"}, Require: []string{"tier=one"}}) || b.k.Named(job.Spec{Argv: []string{"cat"}, Require: []string{"pool=one"}}) {
			b.Error("which jobs name a pool that could run them")
		}

		// Six of one cpu for workers of two, of which one pool has one that is free already.
		queued := []job.Spec{named, {Argv: []string{"cat"}}, {Argv: []string{"echo"}, Worker: "w1"}}
		for range 6 {
			queued = append(queued, job.Spec{Argv: []string{"echo"}, Resources: map[string]float64{"cpu": 1}})
		}
		b.jobs.change(func() { b.jobs.queued = queued })
		b.pass(time.Minute)
		if got := [2]int64{b.get("one").GetStarted(), b.get("two").GetStarted()}; got != [2]int64{4, 1} {
			b.Errorf("%v workers, want 4 and 1", got)
		}
		b.up()
		living := b.engine.living()
		b.jobs.change(func() {
			b.jobs.queued = nil
			for _, w := range living {
				b.jobs.runs[w] = "echo"
				if strings.HasPrefix(w, "pool.one") && w != first {
					b.jobs.active[w] = queued[8:] // one cpu of two, a fifth of which is left free
				}
			}
		})
		b.pass(time.Hour)
		if got := [2]int64{b.get("one").GetStarted(), b.get("two").GetStarted()}; got != [2]int64{3, 0} {
			b.Errorf("%v workers, want 3 and none", got)
		}
	})
}

// TestEvents: what happens to a pool is told.
func TestEvents(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply(definition("web", 1, 3))
		b.up()
		b.engine.change(func() { b.engine.start = func(engine.Order) error { return errors.New("no quota") } })
		b.tasks(1, "web", 0)
		if _, err := b.k.ScalePool(b.ctx(), &rotav1.ScalePoolRequest{Name: "web", Size: &rotav1.PoolSize{From: 2, To: 3}}); err != nil {
			b.Fatal(err)
		}
		b.pass(3 * time.Second)
		b.engine.change(func() { b.engine.start, b.engine.listErr = nil, errors.New("gone fishing") })
		b.pass(10 * time.Second)
		b.engine.change(func() { b.engine.listErr = nil })
		b.pass(10 * time.Second)
		if _, err := b.k.DeletePool(b.ctx(), &rotav1.DeletePoolRequest{Name: "web"}); err != nil {
			b.Fatal(err)
		}
		b.pass(3 * time.Second)
		for w := range b.leases {
			if w != "leader" {
				b.alive(w, false)
			}
		}
		b.pass(3 * time.Second)
		list, _ := b.log.List(events.Filter{Pool: "web"}, nil, 100)
		var got []string
		for _, e := range list {
			got = append(got, e.Kind)
			if (e.Kind == events.PoolStarted || e.Kind == events.PoolEnded) && !strings.HasPrefix(e.Subject.Worker, "pool.web.") {
				b.Errorf("%+v", e)
			}
		}
		want := []string{
			events.PoolDeclared, events.PoolStarted, events.PoolScaled, events.PoolScaled, events.PoolFailed, events.PoolAway, events.PoolStarted,
			events.PoolDeleted, events.PoolEnded, events.PoolEnded, events.PoolGone,
		}
		slices.Sort(got) // the loop may tell what it does before the caller what was asked for
		slices.Sort(want)
		if !slices.Equal(got, want) {
			b.Errorf("told %q\nwant %q", got, want)
		}
		for kind, text := range map[string]string{events.PoolFailed: "no quota", events.PoolAway: "the engine local does not answer: gone fishing", events.PoolDeclared: "engine local, size 1 to 3"} {
			one, _ := b.log.List(events.Filter{Kind: kind}, nil, 1)
			if len(one) != 1 || !strings.Contains(one[0].Text, text) {
				b.Errorf("%s: %v, want %q", kind, one, text)
			}
		}
	})
}
