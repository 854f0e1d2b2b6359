package capacity

import (
	"slices"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
)

// Lead begins a leader's term: the targets of an earlier one are forgotten, and so are
// places that an earlier one was writing, which can no longer land. It answers what
// others than tasks take of workers. Call it while the view stands still. Other work
// that states resources is given no place until Open is called.
func (a *Account) Lead() map[string]placement.Use {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.term, a.waits, a.freed = 0, false, false
	for id, t := range a.tasks {
		for _, c := range slices.Clone(t.claims) {
			a.mark(rota.Instance{Task: id, Index: c.index}, c.worker, 0, aimed|promised)
		}
	}
	for w := range a.others {
		a.settle(w)
	}
	clear(a.news)
	out := map[string]placement.Use{}
	for name, w := range a.workers {
		if !w.beside.Empty() {
			out[name] = w.beside.Clone()
		}
	}
	return out
}

// Open says that all targets of the term of the epoch are in.
func (a *Account) Open(epoch int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.term = epoch
	a.tell()
}

// News reports whether there is something for a plan: what others than tasks take has
// changed, or tasks wait and room has become free.
func (a *Account) News() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.term != 0 && (len(a.news) > 0 || a.waits && a.freed)
}

// Plan answers what others than tasks take of the workers of which that has changed
// since it was last asked, for the plan that begins.
func (a *Account) Plan() map[string]placement.Use {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.freed = false
	out := make(map[string]placement.Use, len(a.news))
	for name := range a.news {
		out[name] = placement.Use{}
		if w := a.workers[name]; w != nil {
			out[name] = w.beside.Clone()
		}
	}
	clear(a.news)
	return out
}

// Planned says that the targets of a plan are in, and whether it has left something
// waiting: what becomes free from now on is offered to tasks first.
func (a *Account) Planned(waiting []rota.Waiting) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waits = slices.ContainsFunc(waiting, func(w rota.Waiting) bool {
		return (w.Code == rota.NoPlace || w.Code == rota.GangWaits) && a.tasks[w.Instance.Task] != nil
	})
	a.tell()
}

// Aim says on which worker an instance is planned; empty for none.
func (a *Account) Aim(i rota.Instance, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tasks[i.Task]
	if t == nil {
		return
	}
	for _, c := range slices.Clone(t.claims) {
		if c.index == i.Index && c.worker != name {
			a.mark(i, c.worker, 0, aimed)
		}
	}
	if name != "" {
		a.mark(i, name, aimed, 0)
	}
}

// Takes reports whether an instance takes of a worker's capacity, or nobody knows.
func (a *Account) Takes(i rota.Instance, name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, strange := a.strange[name][i]
	return strange || a.tasks[i.Task] != nil
}

// Hangs reports whether an instance was told to stop on a worker long ago.
func (a *Account) Hangs(i rota.Instance, name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tasks[i.Task]
	return t != nil && slices.ContainsFunc(t.claims, func(c claim) bool {
		return c.index == i.Index && c.worker == name && c.how.hangs()
	})
}

// Grant enters an instance whose grant is about to be written. Where the worker has
// no room for it beside what is granted there and what other work takes, or while something
// runs there of which nobody knows what it takes, it is entered only by force; ok says
// whether it was. news says that other work took or left something there since the last plan
// began: the next one may find another worker for it.
func (a *Account) Grant(i rota.Instance, name string, capacity map[string]float64, force bool) (ok, news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tasks[i.Task]
	if t == nil {
		return true, false
	}
	mine := how(0)
	for _, c := range t.claims {
		if c.index == i.Index && c.worker == name {
			mine = c.how
		}
	}
	if !force && !mine.holds() && capacity != nil && len(a.strange[name]) > 0 {
		return false, false
	}
	if w := a.workers[name]; w != nil && !force && !mine.holds() {
		if _, lacks := w.held.Plus(w.others).Lacks(capacity, t.amounts); lacks {
			_, news = a.news[name]
			return false, news
		}
	}
	a.mark(i, name, promised, 0)
	return true, false
}

// Written takes back Grant: the picture has the grant now, or it was not written.
func (a *Account) Written(i rota.Instance, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mark(i, name, 0, promised)
}
