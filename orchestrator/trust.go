package orchestrator

import (
	"slices"
	"strings"
)

// A worker that takes none of a term's additions rests: it keeps what it does
// and is given nothing new for a term, then for two, at last for longestRest.
// After that it is tried out with one task, and one that it takes ends the rest.
// A task avoids a worker that refused it in the same way, for up to longestAvoid
// terms, as long as there are enough others.
const (
	longestRest  = 4
	longestAvoid = 8
)

// refused is the label by which a task's rule names workers that refused it.
const refused = "refused"

// trust remembers which workers failed to add what.
type trust[W, T comparable] struct {
	term    int
	all     bool // all workers that answered would rest: then none does
	workers map[W]*strikes
	pairs   map[pair[W, T]]*strikes
	refused map[W]bool // workers in pairs
}

type pair[W, T comparable] struct {
	worker W
	task   T
}

// strikes are failures in a row.
type strikes struct {
	n     int
	until int // the last term in which they count
}

func newTrust[W, T comparable]() trust[W, T] {
	return trust[W, T]{workers: map[W]*strikes{}, pairs: map[pair[W, T]]*strikes{}, refused: map[W]bool{}}
}

// begin begins a term, and forgets what was long ago.
func (t *trust[W, T]) begin(term int, actual []WorkerState[W, T]) {
	t.term, t.all = term, len(t.workers) > 0
	clear(t.refused)
	for p, s := range t.pairs {
		if term > s.until+longestAvoid {
			delete(t.pairs, p)
		} else {
			t.refused[p.worker] = true
		}
	}
	if len(t.workers) == 0 {
		return
	}
	answered := make(map[W]bool, len(actual))
	for _, s := range actual {
		answered[s.Name] = true
		t.all = t.all && t.workers[s.Name] != nil
	}
	for w, s := range t.workers {
		if !answered[w] && term > s.until+longestAvoid {
			delete(t.workers, w)
		}
	}
}

// rests reports whether the worker is given nothing new.
func (t *trust[W, T]) rests(w W) bool { return !t.all && t.workers[w] != nil }

// due reports whether a worker that rests is to be tried out.
func (t *trust[W, T]) due(w W) bool {
	s := t.workers[w]
	return s != nil && t.term > s.until
}

func (t *trust[W, T]) avoids(w W, task T) bool {
	s := t.pairs[pair[W, T]{w, task}]
	return s != nil && t.term <= s.until
}

// outcome notes how the additions of a term went.
func (t *trust[W, T]) outcome(added []order[W, T], failed []error) {
	took := map[W]bool{} // by worker that was given any: whether it took one
	for i, x := range added {
		took[x.worker] = took[x.worker] || failed[i] == nil
		p := pair[W, T]{x.worker, x.task}
		switch failed[i].(type) { //nolint:errorlint // notGivenError is never wrapped
		case nil:
			delete(t.pairs, p)
		case notGivenError:
		default:
			strike(t.pairs, p, t.term, longestAvoid)
		}
	}
	for w, ok := range took {
		if ok {
			delete(t.workers, w)
		} else {
			strike(t.workers, w, t.term, longestRest)
		}
	}
}

// strike adds a failure, which counts for twice as many terms as the last.
func strike[K comparable](all map[K]*strikes, k K, term, longest int) {
	s := all[k]
	if s == nil {
		s = &strikes{}
		all[k] = s
	}
	s.until = term + min(1<<min(s.n, 30), longest)
	s.n++
}

// avoid tells the planner which tasks keep from which workers.
func (d *desk[W, T]) avoid() error {
	open := 0
	for _, p := range d.places {
		if p.name != "" && !p.rests {
			open++
		}
	}
	names := map[*record[T]][]string{}
	for p := range d.trust.pairs {
		r := d.tasks[p.task]
		if r == nil {
			continue
		}
		list := names[r]
		if w, ok := d.workers[p.worker]; ok && slices.Contains(r.seen, w) {
			delete(d.trust.pairs, p) // it does it after all
		} else if ok && !d.places[w].rests && d.trust.avoids(p.worker, p.task) {
			list = append(list, d.places[w].name)
		}
		names[r] = list
	}
	for r, list := range names {
		rule := ""
		if len(list) > 0 && open-len(list) >= r.n {
			slices.Sort(list)
			rule = refused + " not in (" + strings.Join(list, ",") + ")"
		}
		if rule == r.avoid {
			continue
		}
		r.avoid = rule
		if err := d.declare(r); err != nil {
			return err
		}
	}
	return nil
}

// tryOut gives each worker whose rest is over one task: one that waits, else one
// that was to be added elsewhere, else one of the fullest worker. If it refuses,
// the task goes to where it would have been without the trial.
func (d *desk[W, T]) tryOut(remove, add []order[W, T]) ([]order[W, T], []order[W, T], error) {
	var loads []int
	for n := range d.places {
		p, w := &d.places[n], int32(n)
		if p.name == "" || !p.rests || !d.trust.due(p.worker) {
			continue
		}
		if loads == nil {
			loads = d.loads()
		}
		x := d.trial(w, loads, &remove, &add)
		if x == nil {
			delete(d.trust.workers, p.worker) // it has its share: it gets nothing that could be lost
			continue
		}
		x.worker = p.worker
		loads[w]++
		if x.back != nowhere {
			loads[x.back]--
		}
		if err := d.put(d.records[x.record], int(x.index), w); err != nil {
			return nil, nil, err
		}
	}
	return remove, add, nil
}

// trial returns an addition that may go to w instead; nil if there is none.
func (d *desk[W, T]) trial(w int32, loads []int, remove, add *[]order[W, T]) *order[W, T] {
	suits := func(r *record[T]) bool {
		return r != nil && !slices.Contains(r.at, w) && !d.trust.avoids(d.places[w].worker, r.task)
	}
	added := func(r *record[T], index, after, back int32) *order[W, T] {
		*add = append(*add, order[W, T]{task: r.task, record: r.number, index: index, after: after, back: back})
		return &(*add)[len(*add)-1]
	}
	for _, r := range d.records {
		if !suits(r) {
			continue
		}
		if k := slices.Index(r.at, nowhere); k >= 0 {
			return added(r, int32(k), nowhere, nowhere)
		}
	}
	for i := range *add {
		x := &(*add)[i]
		if to := d.workers[x.worker]; !d.places[to].rests && loads[to] > loads[w] && suits(d.records[x.record]) {
			x.back = to
			return x
		}
	}
	full := w
	for n, load := range loads {
		if d.places[n].name != "" && !d.places[n].rests && load > loads[full]+1 {
			full = int32(n)
		}
	}
	if full == w {
		return nil
	}
	for _, r := range d.records {
		if !suits(r) || slices.ContainsFunc(*add, func(x order[W, T]) bool { return x.record == r.number }) {
			continue
		}
		if k := slices.Index(r.at, full); k >= 0 {
			x := added(r, int32(k), int32(len(*remove)), full)
			x.worker = d.places[full].worker
			*remove = append(*remove, *x)
			return x
		}
	}
	return nil
}

// loads counts what each worker is to do, by its number.
func (d *desk[W, T]) loads() []int {
	loads := make([]int, len(d.places))
	for _, r := range d.records {
		if r == nil {
			continue
		}
		for _, w := range r.at {
			if w != nowhere {
				loads[w]++
			}
		}
	}
	return loads
}
