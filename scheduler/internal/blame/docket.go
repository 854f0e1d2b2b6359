package blame

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Time is a reading of a monotonic clock: how long since any fixed moment.
type Time = time.Duration

// Limits say when a task is suspected, and what it has to bear then.
type Limits struct {
	// Deaths is after how many deaths of workers with it on board a task is
	// suspected. Zero is never.
	Deaths int
	// Window is the time within which they count.
	Window time.Duration
	// Together is how close deaths are that may have one cause: where so half of the
	// workers or more went, and nothing was on board of all, no task is to blame.
	Together time.Duration
	// Backoff is how long a suspect waits before its trial.
	Backoff time.Duration
	// A trial takes twice the shortest time between two deaths of which the task is
	// suspected, but no less and no more than these.
	MinTrial, MaxTrial time.Duration
}

// Default are the limits that suit a cluster.
func Default() Limits {
	return Limits{
		Deaths: 3, Window: 10 * time.Minute, Together: 2 * time.Second,
		Backoff: 10 * time.Second, MinTrial: 10 * time.Second, MaxTrial: 2 * time.Minute,
	}
}

const (
	// maxDeaths is how many deaths are remembered.
	maxDeaths = 32
	// maxSuspects is the most tasks that one death makes suspects: more than that say
	// nothing. Deaths to come have fewer in common.
	maxSuspects = 256
	// maxAll is the most suspects at once.
	maxAll = 1024
	// maxWorkers is how many of the workers that died with it a suspect remembers.
	maxWorkers = 8
	// rounds is in how many parts, one after another, suspects may be tried. Of as many
	// suspects as its square one is found in two trials, even if one worker takes all.
	rounds = 10
)

// State is where a suspect is.
type State string

// The states of suspects.
const (
	Backoff State = "backoff" // it does not run, for a time
	Trial   State = "trial"   // it may run, apart from others
	Held    State = "held"    // it does not run until somebody lets it
)

// Task is a task that was on board of a worker, and a digest of what it runs.
type Task struct {
	ID   string
	Spec uint64
}

// Suspect is a task that may be killing its workers.
type Suspect struct {
	Task
	State State
	// Deaths is how many workers died with it, Workers are the latest of them.
	Deaths  int
	Workers []string
	// Lot tells suspects on trial apart: no worker is to have two of one lot.
	Lot int
	// Changed is when it came into its state.
	Changed Time

	until  Time          // the end of its backoff, or of its trial once that has begun
	trial  time.Duration // what its trial takes
	begun  bool          // its trial has
	loaded bool          // it was suspected before this docket was

	// explained are the deaths that it explains since it is held, without what else was
	// on board. The last one convicted it.
	explained []death
}

// Withheld reports whether it must not run now.
func (s Suspect) Withheld() bool { return s.State != Trial }

type death struct {
	at                  Time
	worker, incarnation string
	aboard              []Task
}

// Docket is the leader's account of deaths and suspects. Its zero value, with
// Limits, is ready to use. It is not safe for concurrent use.
type Docket struct {
	Limits Limits

	deaths   []death // oldest first
	suspects map[string]*Suspect
	cleared  map[string]Time // deaths before that do not count; of tasks in deaths
	changed  map[string]bool
}

// Load takes a suspect over from an earlier docket; alive is the number of workers.
func (d *Docket) Load(now Time, list []Suspect, alive int) {
	if d.Limits.Deaths <= 0 {
		return
	}
	d.init()
	var waiting []*Suspect
	for _, s := range list {
		s.Workers, s.loaded, s.begun, s.explained, s.Changed = slices.Clone(s.Workers), true, false, nil, now
		s.trial = d.Limits.MinTrial
		s.until = now + d.Limits.Backoff
		d.suspects[s.ID] = &s
		d.changed[s.ID] = true
		if s.State != Held {
			waiting = append(waiting, &s)
		}
	}
	d.deal(waiting, alive)
}

// Died says that a worker has died with these tasks on board, and how many are left.
func (d *Docket) Died(now Time, worker, incarnation string, aboard []Task, alive int) {
	if d.Limits.Deaths <= 0 || len(aboard) == 0 {
		return
	}
	d.init()
	d.forget(now)
	d.deaths = append(d.deaths, death{now, worker, incarnation, aboard})
	if len(d.deaths) > maxDeaths {
		d.deaths = slices.Delete(d.deaths, 0, 1)
	}
	if d.together(now, alive) {
		return
	}
	if !d.tried(now, worker, aboard, alive) {
		d.count(now, aboard, alive)
	}
}

// Returned says that a worker that was taken for dead lives: the same process is back.
// What was held for its death is tried again, or free if too few deaths are left.
func (d *Docket) Returned(now Time, worker, incarnation string) {
	lives := func(x death) bool { return x.worker == worker && x.incarnation == incarnation }
	before := len(d.deaths)
	d.deaths = slices.DeleteFunc(d.deaths, lives)
	changed := len(d.deaths) < before
	for _, s := range d.suspects {
		if slices.ContainsFunc(s.explained, lives) {
			d.retract(s, now, lives)
			changed = true
		}
	}
	if changed {
		d.recount()
	}
}

// retract takes deaths that were none off what a held task explains. If one of them
// convicted it, or without them it would not have been suspected, it is held no longer.
func (d *Docket) retract(s *Suspect, now Time, lives func(death) bool) {
	convicted := !lives(s.explained[len(s.explained)-1])
	before := s.explained
	s.explained = slices.DeleteFunc(slices.Clone(before), lives)
	s.Deaths -= len(before) - len(s.explained)
	s.Workers = slices.DeleteFunc(slices.Clone(s.Workers), func(worker string) bool {
		of := func(x death) bool { return x.worker == worker }
		return slices.ContainsFunc(before, of) && !slices.ContainsFunc(s.explained, of)
	})
	d.changed[s.ID] = true
	if convicted && (s.loaded || len(s.explained) >= d.Limits.Deaths) {
		return
	}
	d.deaths = append(d.deaths, s.explained...)
	slices.SortStableFunc(d.deaths, func(a, b death) int { return cmp.Compare(a.at, b.at) })
	d.deaths = d.deaths[max(0, len(d.deaths)-maxDeaths):]
	s.explained = nil
	d.retreat(s, now)
}

// Declared says what a task is now. One that runs something else is another.
func (d *Docket) Declared(t Task) {
	if s := d.suspects[t.ID]; s != nil && s.Spec != t.Spec {
		d.drop(s)
	}
}

// Deleted says that a task is gone.
func (d *Docket) Deleted(id string) {
	if s := d.suspects[id]; s != nil {
		d.drop(s)
	}
}

// Release lets a suspect go: no death so far counts any more.
func (d *Docket) Release(now Time, id string) {
	if s := d.suspects[id]; s != nil {
		d.clear(s, now)
	}
}

// Runs says that a suspect runs: its trial begins, if it is to have one.
func (d *Docket) Runs(now Time, id string) {
	if s := d.suspects[id]; s != nil && s.State == Trial && !s.begun {
		s.begun, s.until = true, now+s.trial
	}
}

// Tick brings the account up to now.
func (d *Docket) Tick(now Time) {
	if len(d.deaths) == 0 || now-d.deaths[0].at > d.Limits.Window {
		d.forget(now)
	}
	for _, id := range slices.Sorted(maps.Keys(d.suspects)) {
		switch s := d.suspects[id]; {
		case s.State == Backoff && now >= s.until:
			d.set(s, Trial, now)
			s.begun = false
		case s.State == Trial && s.begun && now >= s.until:
			d.clear(s, now)
		}
	}
}

// Next is when Tick has something to do; false if no time is enough for that.
func (d *Docket) Next() (at Time, ok bool) {
	for _, s := range d.suspects {
		if timed := s.State == Backoff || s.State == Trial && s.begun; timed && (!ok || s.until < at) {
			at, ok = s.until, true
		}
	}
	return at, ok
}

// Of answers what is held against a task.
func (d *Docket) Of(id string) (Suspect, bool) {
	s := d.suspects[id]
	if s == nil {
		return Suspect{}, false
	}
	return *s, true
}

// Suspects are all of them, in order of id.
func (d *Docket) Suspects() []Suspect {
	out := make([]Suspect, 0, len(d.suspects))
	for _, id := range slices.Sorted(maps.Keys(d.suspects)) {
		out = append(out, *d.suspects[id])
	}
	return out
}

// Changes are the tasks whose standing has changed since it was last asked, in order.
func (d *Docket) Changes() []string {
	out := slices.Sorted(maps.Keys(d.changed))
	clear(d.changed)
	return out
}

func (d *Docket) init() {
	if d.suspects == nil {
		d.suspects, d.cleared, d.changed = map[string]*Suspect{}, map[string]Time{}, map[string]bool{}
	}
}

// forget lets go of deaths that do not count any more.
func (d *Docket) forget(now Time) {
	d.deaths = slices.DeleteFunc(d.deaths, func(x death) bool { return now-x.at > d.Limits.Window })
	maps.DeleteFunc(d.cleared, func(_ string, at Time) bool { return now-at > d.Limits.Window })
}

// together reports whether the last death is one of many that no task explains, and
// then forgets all of these.
func (d *Docket) together(now Time, alive int) bool {
	from := len(d.deaths) - 1
	for from > 0 && now-d.deaths[from-1].at <= d.Limits.Together {
		from--
	}
	group := d.deaths[from:]
	workers := map[string]bool{}
	for _, x := range group {
		workers[x.worker] = true
	}
	if len(workers) < 2 || 2*len(workers) < alive+len(workers) {
		return false
	}
	common := map[Task]int{}
	for _, x := range group {
		for _, t := range x.aboard {
			if common[t]++; common[t] == len(group) {
				return false
			}
		}
	}
	d.deaths = slices.Delete(d.deaths, from, len(d.deaths))
	d.recount()
	return true
}

// tried judges by a death of a worker that had suspects on trial on board: the others
// are acquitted, and one that was alone is held. It reports whether there was one.
func (d *Docket) tried(now Time, worker string, aboard []Task, alive int) bool {
	var there []*Suspect
	for _, t := range aboard {
		if s := d.suspects[t.ID]; s != nil && s.State == Trial && s.Spec == t.Spec {
			there = append(there, s)
		}
	}
	if len(there) == 0 {
		return false
	}
	for _, s := range there {
		s.Deaths++
		s.Workers = latest(append(s.Workers, worker))
	}
	for _, s := range d.suspects {
		if s.State != Held && !slices.Contains(there, s) {
			d.clear(s, now)
		}
	}
	if len(there) == 1 {
		s := there[0]
		d.set(s, Held, now)
		s.explained = nil
		d.deaths = slices.DeleteFunc(d.deaths, func(x death) bool {
			it := slices.Contains(x.aboard, s.Task)
			if at, ok := d.cleared[s.ID]; it && (!ok || x.at > at) {
				s.explained = append(s.explained, death{x.at, x.worker, x.incarnation, []Task{s.Task}})
			}
			return it
		})
		return true
	}
	for _, s := range there {
		d.retreat(s, now)
	}
	d.deal(there, alive)
	return true
}

// record is what deaths say of a task.
type record struct {
	deaths   int
	workers  []string // each once, in order of their first death
	last     Time
	shortest time.Duration // between two
}

// records are those of tasks; with only, of these.
func (d *Docket) records(only []Task) map[Task]*record {
	out := make(map[Task]*record, len(only))
	for _, t := range only {
		out[t] = &record{}
	}
	for _, x := range d.deaths {
		for _, t := range x.aboard {
			r := out[t]
			if at, ok := d.cleared[t.ID]; r == nil || ok && x.at <= at {
				continue
			}
			if r.deaths > 0 && (r.shortest == 0 || x.at-r.last < r.shortest) {
				r.shortest = max(x.at-r.last, 1)
			}
			r.deaths++
			r.last = x.at
			if !slices.Contains(r.workers, x.worker) {
				r.workers = append(r.workers, x.worker)
			}
		}
	}
	return out
}

// count makes suspects of the tasks on board that were on board of enough others. A
// worker that dies again and again with the same may be ill itself: that counts half,
// unless there is no other.
func (d *Docket) count(now Time, aboard []Task, alive int) {
	if len(d.deaths) < d.Limits.Deaths {
		return
	}
	var news []*Suspect
	for t, r := range d.records(aboard) {
		enough := r.deaths >= d.Limits.Deaths && (len(r.workers) > 1 || alive == 0 || r.deaths >= 2*d.Limits.Deaths)
		if !enough || d.suspects[t.ID] != nil {
			continue
		}
		news = append(news, &Suspect{
			Task: t, Deaths: r.deaths, Workers: latest(r.workers),
			trial: min(max(2*r.shortest, d.Limits.MinTrial), d.Limits.MaxTrial),
		})
	}
	if len(news) > maxSuspects || len(d.suspects)+len(news) > maxAll {
		return
	}
	for _, s := range news {
		d.suspects[s.ID] = s
		d.retreat(s, now)
	}
	d.deal(news, alive)
}

// retreat has a suspect wait before it is tried.
func (d *Docket) retreat(s *Suspect, now Time) {
	d.set(s, Backoff, now)
	s.until = now + d.Limits.Backoff
}

// deal divides suspects into lots, so that they are tried in a few rounds at most, on
// the workers that died with them: others may not be for them.
func (d *Docket) deal(list []*Suspect, alive int) {
	slices.SortFunc(list, func(a, b *Suspect) int { return cmp.Compare(a.ID, b.ID) })
	workers := map[string]bool{}
	for _, s := range list {
		for _, w := range s.Workers {
			workers[w] = true
		}
	}
	at := max(min(alive, len(workers)), 1) * rounds
	lots := (len(list) + at - 1) / at
	for n, s := range list {
		s.Lot = n % lots
	}
}

// recount lets go of suspects against whom there is no longer enough.
func (d *Docket) recount() {
	var list []Task
	for _, s := range d.suspects {
		if s.State != Held && !s.loaded {
			list = append(list, s.Task)
		}
	}
	for t, r := range d.records(list) {
		if r.deaths < d.Limits.Deaths {
			d.drop(d.suspects[t.ID])
		}
	}
}

func (d *Docket) set(s *Suspect, to State, now Time) {
	s.State, s.Changed = to, now
	d.changed[s.ID] = true
}

// clear acquits a suspect of all deaths so far.
func (d *Docket) clear(s *Suspect, now Time) {
	d.drop(s)
	d.cleared[s.ID] = now
}

func (d *Docket) drop(s *Suspect) {
	delete(d.suspects, s.ID)
	d.changed[s.ID] = true
}

func latest(workers []string) []string {
	return slices.Clone(workers[max(0, len(workers)-maxWorkers):])
}
