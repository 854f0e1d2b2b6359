package view

import (
	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/table"
)

// counts are kept with every change, so that nobody has to walk millions of
// records to say how many there are.
type counts struct {
	instances int // of all declared tasks
	running   int
	weights   map[string]*sum // of what each worker has grants of
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

// Running is the number of instances that run: the worker that has the grant
// says so. Of two that have one, while one takes over from the other, it is the
// one that stays. Call it inside Read.
func (v *View) Running() int { return v.counts.running }

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
		v.counts.instances += replicas(c.New) - replicas(c.Old)
		for n := range max(replicas(c.Old), replicas(c.New)) {
			if d := weightOf(c.New, n) - weightOf(c.Old, n); d != 0 {
				for _, worker := range v.holders[rota.Instance{Task: c.Key, Index: n}] {
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
	v.counts.running += v.runs(i, worker, c.New, a) - v.runs(i, worker, c.Old, a)
}

// countAck takes a change of what a worker said of an instance.
func (v *View) countAck(worker string, c table.Change[record.Ack]) {
	i := c.Last().Instance
	g, _ := v.Grant(worker, i)
	v.counts.running += v.runs(i, worker, g, c.New) - v.runs(i, worker, g, c.Old)
}

// runs is 1 if an instance runs and 0 if not, were g and a (nil for none) what
// worker has of it.
func (v *View) runs(i rota.Instance, worker string, g *record.Grant, a *record.Ack) int {
	for _, other := range v.holders[i] {
		if other == worker {
			continue
		}
		if h, ok := v.Grant(other, i); ok && (g == nil || stays(h, g)) {
			g = h
			a, _ = v.Ack(other, i)
		}
	}
	if g == nil || g.Revoked || a == nil || a.Generation != g.Generation || a.State != ownership.Running {
		return 0
	}
	return 1
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
	for _, w := range v.holders[i] {
		if h, ok := v.Grant(w, i); ok && (g == nil || stays(h, g)) {
			worker, g = w, h
		}
	}
	return worker, g
}
