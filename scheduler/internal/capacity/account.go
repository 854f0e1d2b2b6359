package capacity

import (
	"slices"
	"sync"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
)

// Account is what is taken of each worker's capacity. It is safe for use by several
// goroutines, and inside View.Read.
type Account struct {
	view *view.View
	sub  *view.Subscription

	mu      sync.Mutex
	workers map[string]*worker
	tasks   map[string]*task      // those that state resources, or that did when they were granted
	others  map[work][]otherClaim // of other kinds of work than tasks
	// Grants, by worker, of tasks that were deleted before this scheduler heard of
	// them: nobody knows what they take.
	strange map[string]map[rota.Instance]struct{}
	news    map[string]struct{} // workers on which others than tasks took or left something since Plan
	term    int64               // the epoch of the leader whose targets are in; 0 for none
	waits   bool                // the last plan left tasks waiting for room
	freed   bool                // room has become free since that plan
	told    []*func()
}

// worker is the account of one worker.
type worker struct {
	all    placement.Use // everything
	held   placement.Use // tasks: granted, or their grant is being written
	others placement.Use
	beside placement.Use // others, and tasks that were told to stop long ago and do not
}

// task is what one instance of a task takes, and where.
type task struct {
	amounts map[string]float64
	claims  []claim
	gone    bool // nobody declares it
}

type claim struct {
	index  int
	worker string
	how    how
}

// how says why an instance is on a worker's account.
type how uint8

const (
	granted  how = 1 << iota // the store has the grant
	promised                 // the grant is being written
	aimed                    // it is planned there
	revoked                  // the grant is revoked
	stuck                    // the worker says that it does not stop
)

const (
	onAny  = granted | promised | aimed
	onHeld = granted | promised
	onHung = granted | revoked | stuck
)

func (h how) takes() bool { return h&onAny != 0 }
func (h how) holds() bool { return h&onHeld != 0 }
func (h how) hangs() bool { return h&onHung == onHung }

// work is one thing of a kind of work.
type work struct{ kind, id string }

// otherClaim is what one thing takes of a worker.
type otherClaim struct {
	worker   string
	amounts  map[string]float64
	promised bool // its place is being written
}

// New returns the account of a picture. Close it.
func New(v *view.View) *Account {
	a := &Account{view: v, workers: map[string]*worker{}, tasks: map[string]*task{}, others: map[work][]otherClaim{}, strange: map[string]map[rota.Instance]struct{}{}, news: map[string]struct{}{}}
	a.sub = v.Subscribe(a.load, a.learn)
	return a
}

// Close ends the account's interest in the picture.
func (a *Account) Close() { a.sub.Close() }

// Notify has f called whenever something is taken or becomes free, until stop is
// called. f must not block, and must not call the account.
func (a *Account) Notify(f func()) (stop func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &f
	a.told = append(a.told, p)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.told = slices.DeleteFunc(a.told, func(q *func()) bool { return q == p })
	}
}

func (a *Account) tell() {
	for _, f := range a.told {
		(*f)()
	}
}

// load takes the whole picture; the view stands still.
func (a *Account) load() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for t := range a.view.Tasks.All() {
		a.declare(t.ID, t)
	}
}

// learn takes in what changed; the view stands still.
func (a *Account) learn(d *view.Delta) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range d.Tasks {
		a.declare(c.Key, c.New)
	}
	for name, changes := range d.Grants {
		for _, c := range changes {
			i := c.Last().Instance
			if c.New == nil || c.Old != nil && c.Old.Generation != c.New.Generation {
				a.unwonder(i, name)
			}
			if a.tasks[i.Task] == nil {
				if c.Old == nil && c.New != nil {
					a.wonder(i, name)
				}
				continue
			}
			on, off := granted, revoked|stuck
			switch {
			case c.New == nil:
				on, off = 0, granted|revoked|stuck
			case c.New.Revoked:
				on, off = granted|revoked, 0
			}
			a.mark(i, name, on, off)
		}
	}
	for name, changes := range d.Acks {
		for _, c := range changes {
			if c.New == nil || a.tasks[c.New.Instance.Task] == nil {
				continue
			}
			if g, ok := a.view.Grant(name, c.New.Instance); ok && g.Generation == c.New.Generation {
				a.mark(c.New.Instance, name, stuckIf(c.New), stuck&^stuckIf(c.New))
			}
		}
	}
}

// wonder notes a grant of a task that states no resources, or of which nobody knows
// what it states: it was deleted before its grant was first seen here.
func (a *Account) wonder(i rota.Instance, name string) {
	if _, declared := a.view.Tasks.Get(i.Task); declared {
		return
	}
	if a.strange[name] == nil {
		a.strange[name] = map[rota.Instance]struct{}{}
	}
	a.strange[name][i] = struct{}{}
}

// unwonder lets go of a grant of which nobody knew what it takes, once it is gone or
// another is in its place, even if its task was declared again meanwhile.
func (a *Account) unwonder(i rota.Instance, name string) {
	if _, ok := a.strange[name][i]; !ok {
		return
	}
	delete(a.strange[name], i)
	if len(a.strange[name]) == 0 {
		delete(a.strange, name)
	}
	a.freed = true
	a.tell()
}

func stuckIf(a *record.Ack) how {
	if a.State == "stuck" {
		return stuck
	}
	return 0
}

// declare takes a task in, changed or, if t is nil, gone. What is granted of one that
// is gone is taken until the grant is.
func (a *Account) declare(id string, t *record.Task) {
	have := a.tasks[id]
	switch {
	case have == nil && (t == nil || len(t.Resources()) == 0):
		return
	case t == nil:
		have.gone = true
		a.forget(id, have)
		return
	case have != nil:
		have.gone = false
		if sameAmounts(have.amounts, t.Resources()) {
			return
		}
		for _, c := range have.claims {
			a.add(have, c.worker, c.how, -1)
		}
		if len(t.Resources()) == 0 {
			delete(a.tasks, id)
			return
		}
		have.amounts = t.Resources()
		for _, c := range have.claims {
			a.add(have, c.worker, c.how, 1)
		}
		return
	}
	a.tasks[id] = &task{amounts: t.Resources()}
	for index := range t.Replicas {
		i := rota.Instance{Task: id, Index: index}
		for _, name := range a.view.Holders(i) {
			g, ok := a.view.Grant(name, i)
			if !ok {
				continue
			}
			on := granted
			if g.Revoked {
				on |= revoked
			}
			if ack, ok := a.view.Ack(name, i); ok && ack.Generation == g.Generation {
				on |= stuckIf(ack)
			}
			a.mark(i, name, on, 0)
		}
	}
}

func sameAmounts(a, b map[string]float64) bool {
	var x, y placement.Use
	x.Add(a)
	y.Add(b)
	return x.Equal(y)
}

// forget lets go of a task that is gone once it takes nothing.
func (a *Account) forget(id string, t *task) {
	if t.gone && len(t.claims) == 0 {
		delete(a.tasks, id)
	}
}

// mark sets and clears why an instance is on a worker's account.
func (a *Account) mark(i rota.Instance, name string, on, off how) {
	t := a.tasks[i.Task]
	if t == nil {
		return
	}
	at := slices.IndexFunc(t.claims, func(c claim) bool { return c.index == i.Index && c.worker == name })
	if at < 0 {
		if on == 0 {
			return
		}
		at = len(t.claims)
		t.claims = append(t.claims, claim{index: i.Index, worker: name})
	}
	was := t.claims[at].how
	is := was&^off | on
	if is == was {
		return
	}
	t.claims[at].how = is
	a.add(t, name, was, -1)
	a.add(t, name, is, 1)
	if was.takes() && !is.takes() {
		a.freed = true
		a.tell()
	} else if was.hangs() != is.hangs() {
		a.tell()
	}
	if is == 0 {
		t.claims = slices.Delete(t.claims, at, at+1)
		a.forget(i.Task, t)
	}
}

// add puts what an instance takes into a worker's sums, or, by -1, takes it out.
func (a *Account) add(t *task, name string, h how, by int) {
	if !h.takes() {
		return
	}
	w := a.worker(name)
	change(&w.all, t.amounts, by)
	if h.holds() {
		change(&w.held, t.amounts, by)
	}
	if h.hangs() {
		change(&w.beside, t.amounts, by)
		a.news[name] = struct{}{}
	}
	a.drop(name, w)
}

func change(u *placement.Use, amounts map[string]float64, by int) {
	if by > 0 {
		u.Add(amounts)
	} else {
		u.Remove(amounts)
	}
}

func (a *Account) worker(name string) *worker {
	w := a.workers[name]
	if w == nil {
		w = &worker{}
		a.workers[name] = w
	}
	return w
}

// drop forgets a worker of which nothing is taken.
func (a *Account) drop(name string, w *worker) {
	if w.all.Empty() {
		delete(a.workers, name)
	}
}

// Beside is what other work than tasks takes of a worker, and tasks that do not stop: what the plan of
// tasks has to leave room for.
func (a *Account) Beside(name string) placement.Use {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[name]; w != nil {
		return w.beside.Clone()
	}
	return placement.Use{}
}
