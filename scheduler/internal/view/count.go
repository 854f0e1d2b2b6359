package view

import (
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
)

// counts are kept with every change, so that nobody has to walk millions of
// records to say how many there are.
type counts struct {
	instances int             // of all declared tasks
	known     tally           // what workers say of these
	weights   map[string]*sum // of what each worker has grants of
}

// tally is how many instances run, and how many have ended by themselves and wait to
// be called again.
type tally struct{ running, failing int }

func (t *tally) change(from, to tally) {
	t.running += to.running - from.running
	t.failing += to.failing - from.failing
}

// sum is a sum of floating-point numbers from which as much can be taken away as
// was added, with nothing left (Neumaier's summation).
type sum struct{ total, lost float64 }

func (s *sum) add(x float64) {
	t := s.total + x
	if max(s.total, -s.total) >= max(x, -x) {
		s.lost += s.total - t + x
	} else {
		s.lost += x - t + s.total
	}
	s.total = t
}

// Instances is the number of instances of all declared tasks; call it inside Read.
func (v *View) Instances() int { return v.counts.instances }

// Running is the number of declared instances that run: the worker that has the
// grant says so. Of two that have one, while one takes over from the other, it is the
// one that stays. Call it inside Read.
func (v *View) Running() int { return v.counts.known.running }

// Failing is the number of declared instances whose function has ended by itself and is called
// again after a pause. Call it inside Read.
func (v *View) Failing() int { return v.counts.known.failing }

// AllRunning reports whether every instance of every declared task is known to run.
// It is not while nobody leads, before whoever leads has said so in this term, and
// when the picture was last known to be the store's longer ago than within. A worker
// that was killed counts as alive until its lease ends. Call it inside Read.
func (v *View) AllRunning(within time.Duration) bool {
	return v.Leader != nil && v.Cluster.GetAllRunning() && v.Cluster.GetEpoch() == v.Leader.Epoch &&
		v.Running() >= v.counts.instances && time.Since(v.asOf) <= within
}

// Weight is that of the declared instances of which a worker has grants; call it
// inside Read.
func (v *View) Weight(worker string) float64 {
	s := v.counts.weights[worker]
	if s == nil {
		return 0
	}
	return s.total + s.lost
}

// weightOf is the weight of an instance of t; 0 if t, which may be nil, has no
// such instance.
func weightOf(t *record.Task, index int) float64 {
	if t == nil || index >= replicas(t) {
		return 0
	}
	return t.Weight
}

func replicas(t *record.Task) int {
	if t == nil {
		return 0
	}
	return max(t.Replicas, 1)
}

// countTasks takes changes of tasks; the tables have them already.
func (v *View) countTasks(changes []table.Change[record.Task]) {
	for _, c := range changes {
		was, is := replicas(c.Old), replicas(c.New)
		v.counts.instances += is - was
		for n := min(was, is); n < max(was, is); n++ {
			i := rota.Instance{Task: c.Key, Index: n}
			worker, g := v.Owner(i)
			a, _ := v.Ack(worker, i)
			if t := tallyOf(g, a); is > was {
				v.counts.known.change(tally{}, t)
			} else {
				v.counts.known.change(t, tally{})
			}
		}
		for n := range max(was, is) {
			if d := weightOf(c.New, n) - weightOf(c.Old, n); d != 0 {
				for _, worker := range v.Holders(rota.Instance{Task: c.Key, Index: n}) {
					v.counts.weights[worker].add(-weightOf(c.Old, n))
					v.counts.weights[worker].add(weightOf(c.New, n))
				}
			}
		}
	}
}

// countGrant takes a change of a worker's grant before holders has it.
func (v *View) countGrant(worker string, c table.Change[record.Grant]) {
	i := c.Last().Instance
	if c.Old == nil || c.New == nil {
		t, _ := v.Tasks.Get(i.Task)
		s := v.counts.weights[worker]
		if s == nil {
			s = &sum{}
			v.counts.weights[worker] = s
		}
		if c.New != nil {
			s.add(weightOf(t, i.Index))
		} else {
			s.add(-weightOf(t, i.Index))
		}
	}
	a, _ := v.Ack(worker, i)
	v.counts.known.change(v.tallied(i, worker, c.Old, a), v.tallied(i, worker, c.New, a))
}

// countAck takes a change of what a worker said of an instance.
func (v *View) countAck(worker string, c table.Change[record.Ack]) {
	i := c.Last().Instance
	g, _ := v.Grant(worker, i)
	v.counts.known.change(v.tallied(i, worker, g, c.Old), v.tallied(i, worker, g, c.New))
}

// tallied is what an instance counts as, were g and a (nil for none) what worker has
// of it. One that is not declared counts as nothing. The task is looked up last: most
// changes of a large cluster are of instances that do not run yet, on one worker.
func (v *View) tallied(i rota.Instance, worker string, g *record.Grant, a *record.Ack) tally {
	for _, other := range v.Holders(i) {
		if other == worker {
			continue
		}
		if h, ok := v.Grant(other, i); ok && (g == nil || stays(h, g)) {
			g = h
			a, _ = v.Ack(other, i)
		}
	}
	counts := tallyOf(g, a)
	if counts == (tally{}) {
		return counts
	}
	if t, _ := v.Tasks.Get(i.Task); i.Index >= replicas(t) {
		return tally{}
	}
	return counts
}

// tallyOf is what an instance counts as by the grant that stays, and by what its
// worker says; nil for none.
func tallyOf(g *record.Grant, a *record.Ack) (t tally) {
	if g == nil || g.Revoked || a == nil || a.Generation != g.Generation {
		return t
	}
	switch a.State {
	case ownership.Running:
		t.running = 1
	case ownership.Backoff:
		t.failing = 1
	default:
	}
	return t
}

// stays reports whether, of two grants of one instance, a is the one that stays.
func stays(a, b *record.Grant) bool {
	if a.Revoked != b.Revoked {
		return b.Revoked
	}
	return a.Generation > b.Generation
}

// Owner is the worker that has a grant of i, and the grant; nil if there is none.
// Of two, while one takes over from the other, it is the one that stays. Call it
// inside Read.
func (v *View) Owner(i rota.Instance) (worker string, g *record.Grant) {
	for _, w := range v.Holders(i) {
		if h, ok := v.Grant(w, i); ok && (g == nil || stays(h, g)) {
			worker, g = w, h
		}
	}
	return worker, g
}
