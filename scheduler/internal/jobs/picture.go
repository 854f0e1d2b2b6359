package jobs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// keys are those of jobs.
var keys = &view.Kind{
	Records:  []string{store.JobsPrefix, store.JobStatesPrefix, store.JobSchedulesPrefix, store.JobScheduleStatesPrefix},
	TakerKey: store.JobWorkerKey, Taker: func() view.Taker { return &storepb.JobWorker{} },
}

// entry is one job of the picture. Its values are replaced, never changed.
type entry struct {
	spec     job.Spec
	specMod  int64 // 0 if what was asked for has not been seen yet
	class    string
	job      job.Job
	stateMod int64  // 0 while it has no state of its own
	early    []byte // a state that came before what was asked for
}

// picture is all jobs as the store has them. Control.mu guards it.
type picture struct {
	entries   map[string]*entry
	ids       []string            // in order, which is that of time
	queue     map[string][]string // want a worker, now or later, in order, by class
	queued    int                 // how many
	delayed   map[string]struct{} // those of the queue that wait for a time
	active    map[string]map[string]struct{}
	lost      map[string]map[string]struct{} // given up for lost with their worker, by worker
	schedules map[string]*planned
	of        map[string][]string // jobs of a schedule, in order
	// revision is the newest that anything was seen of. viewed is that of the view: whatever
	// came or went until then the picture has.
	revision, viewed int64

	sessions map[string]*view.Session
	nodes    map[string]*storepb.Node
	workers  map[string]*storepb.JobWorker
	grpc     map[string]string // schedulers' addresses
	leading  bool
	epoch    int64 // of the leader's term; 0 while nobody leads
	account  capacity.Claims
}

func newPicture(account *capacity.Account) picture {
	return picture{
		entries: map[string]*entry{}, queue: map[string][]string{}, delayed: map[string]struct{}{}, active: map[string]map[string]struct{}{},
		schedules: map[string]*planned{}, of: map[string][]string{},
		lost: map[string]map[string]struct{}{}, account: account.Of("job"),
		sessions: map[string]*view.Session{}, nodes: map[string]*storepb.Node{}, workers: map[string]*storepb.JobWorker{},
	}
}

// learn takes in what the view says; it runs while the view stands still.
func (c *Control) learn(d *view.Delta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams.Learn(d)
	v := c.cfg.View
	for _, s := range d.Sessions {
		if now := v.Sessions[s.Name]; now != nil {
			c.p.sessions[s.Name] = now
		} else {
			delete(c.p.sessions, s.Name)
		}
		c.dirty[s.Name] = struct{}{}
	}
	for _, name := range d.Nodes {
		if n := v.Nodes[name]; n != nil {
			c.p.nodes[name] = n
		} else {
			delete(c.p.nodes, name)
		}
	}
	for _, name := range d.Takers[keys] {
		c.takeTaker(name)
		c.p.countLost(name)
	}
	for _, s := range d.Sessions {
		c.p.countLost(s.Name)
	}
	if d.Schedulers {
		c.takeSchedulers()
	}
	if d.Leader {
		c.takeLeader()
	}
	if d.Reset != 0 {
		c.reset(d.Records[keys], d.Reset)
		c.p.viewed = max(c.p.viewed, d.Reset)
	} else {
		c.take(d.Records[keys])
	}
	for _, e := range d.Records[keys] {
		c.p.viewed = max(c.p.viewed, e.Mod)
	}
	if len(d.Sessions)+len(d.Nodes)+len(d.Takers[keys])+len(d.Records[keys]) > 0 || d.Leader || d.Reset != 0 {
		c.wake()
	}
}

// load takes the whole view; it runs while the view stands still.
func (c *Control) load() {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.cfg.View
	for name, s := range v.Sessions {
		c.p.sessions[name] = s
	}
	for name, n := range v.Nodes {
		c.p.nodes[name] = n
	}
	for name := range v.Takers[keys] {
		c.takeTaker(name)
	}
	c.takeSchedulers()
	c.takeLeader()
	c.streams.Load()
}

// takeTaker takes in whether a worker takes jobs.
func (c *Control) takeTaker(name string) {
	if w, ok := c.cfg.View.Takers[keys][name].(*storepb.JobWorker); ok {
		c.p.workers[name] = w
	} else {
		delete(c.p.workers, name)
	}
}

func (c *Control) takeSchedulers() {
	c.p.grpc = map[string]string{}
	for name, s := range c.cfg.View.Schedulers {
		c.p.grpc[name] = s.GetGrpc()
	}
}

func (c *Control) takeLeader() {
	l := c.cfg.View.Leader
	was := c.p.leading
	if c.p.leading, c.p.epoch = l != nil && l.Name == c.cfg.Scheduler, 0; l != nil {
		c.p.epoch = l.Epoch
	}
	if c.p.leading && !was {
		for worker := range c.p.active {
			c.dirty[worker] = struct{}{} // whoever was lost while nobody led
		}
	}
}

// reset replaces the picture by all that there was at a revision. What was
// written here since stays.
func (c *Control) reset(events []store.Event, rev int64) {
	seen := map[string]bool{}
	for _, e := range events {
		seen[e.Key] = true
	}
	var gone []store.Event
	for id := range c.p.entries {
		if !seen[store.JobKey(id)] {
			gone = append(gone, store.Event{KV: store.KV{Key: store.JobKey(id), Mod: rev}, Deleted: true})
		}
	}
	for name := range c.p.schedules {
		for _, key := range []string{store.JobScheduleKey(name), store.JobScheduleStateKey(name)} {
			if !seen[key] {
				gone = append(gone, store.Event{KV: store.KV{Key: key, Mod: rev}, Deleted: true})
			}
		}
	}
	c.take(append(gone, events...))
	for worker := range c.p.active {
		c.dirty[worker] = struct{}{}
	}
}

func (c *Control) take(events []store.Event) {
	for _, e := range events {
		if err := c.takeOne(e); err != nil {
			c.cfg.Logger.Error("job cannot be read", "key", e.Key, "error", err)
		}
	}
}

var errNotAJob = errors.New("not a job's key")

func (c *Control) takeOne(e store.Event) error {
	c.p.revision = max(c.p.revision, e.Mod)
	if id, ok := store.NameIn(store.JobsPrefix, e.Key); ok {
		return c.takeSpec(id, e)
	}
	if name, ok := store.NameIn(store.JobSchedulesPrefix, e.Key); ok {
		return c.takeSchedule(name, e)
	}
	if name, ok := store.NameIn(store.JobScheduleStatesPrefix, e.Key); ok {
		return c.takeScheduleState(name, e)
	}
	id, ok := store.NameIn(store.JobStatesPrefix, e.Key)
	if !ok {
		return errNotAJob
	}
	if e.Deleted {
		return nil // it goes with what was asked for
	}
	old := c.p.entries[id]
	if old == nil || old.specMod == 0 {
		c.p.entries[id] = &entry{early: e.Value, stateMod: e.Mod}
		return nil
	}
	if e.Mod <= old.stateMod {
		return nil // known: written here
	}
	j, err := decodeState(e.Value, old.job.Declared())
	if err != nil {
		return err
	}
	c.set(id, &entry{spec: old.spec, specMod: old.specMod, class: old.class, job: j, stateMod: e.Mod})
	return nil
}

func (c *Control) takeSpec(id string, e store.Event) error {
	old := c.p.entries[id]
	if e.Deleted {
		if old != nil && old.specMod < e.Mod {
			c.set(id, nil)
		}
		return nil
	}
	if old != nil && old.specMod >= e.Mod {
		return nil
	}
	declared, spec, err := decodeSpec(e.Value)
	if err != nil {
		return err
	}
	if declared.ID != id {
		return fmt.Errorf("%w: job %s under another key", record.ErrMalformed, declared.ID)
	}
	next := &entry{spec: spec, specMod: e.Mod, class: classOf(spec), job: declared}
	if old != nil && old.early != nil {
		if next.job, err = decodeState(old.early, next.job); err != nil {
			return err
		}
		next.stateMod = old.stateMod
	}
	c.set(id, next)
	return nil
}

// set replaces an entry (nil: it is gone) and tells whoever cares. c.mu is held.
func (c *Control) set(id string, next *entry) {
	old := c.p.entries[id]
	if old != nil && old.specMod != 0 {
		c.p.unindex(id, old)
	}
	if next == nil {
		delete(c.p.entries, id)
		remove(&c.p.ids, id)
		c.p.account.Take(id, "", nil)
	} else {
		if old == nil || old.specMod == 0 {
			insert(&c.p.ids, id)
		}
		c.p.entries[id] = next
		c.p.index(id, next)
	}
	c.p.account.Settle(id) // a place that was being written is this, or can no longer land
	for w := range c.watchers {
		w.add(id)
	}
	if c.p.leading {
		c.measures.changed(old, next)
	}
	c.drive(id, old, next)
}

// insert and remove keep a list in order; new ids are most often the greatest,
// and old ones go first.
func insert(list *[]string, id string) {
	if n := len(*list); n == 0 || (*list)[n-1] < id {
		*list = append(*list, id)
	} else if at, ok := slices.BinarySearch(*list, id); !ok {
		*list = slices.Insert(*list, at, id)
	}
}

func remove(list *[]string, id string) {
	if at, ok := slices.BinarySearch(*list, id); ok {
		*list = slices.Delete(*list, at, at+1)
	}
}

func (p *picture) index(id string, e *entry) {
	if name := e.job.Schedule; name != "" {
		ids := p.of[name]
		insert(&ids, id)
		p.of[name] = ids
	}
	switch {
	case e.job.State == job.Queued:
		ids := p.queue[e.class]
		insert(&ids, id)
		p.queue[e.class] = ids
		p.queued++
		if !e.job.NotBefore.IsZero() {
			p.delayed[id] = struct{}{}
		}
	case e.job.State.Active():
		worker := e.job.Worker()
		if p.active[worker] == nil {
			p.active[worker] = map[string]struct{}{}
		}
		p.active[worker][id] = struct{}{}
	case e.job.State == job.Lost:
		worker := e.job.Worker()
		if p.lost[worker] == nil {
			p.lost[worker] = map[string]struct{}{}
		}
		p.lost[worker][id] = struct{}{}
	}
	p.count(id, e)
}

// count enters what a job takes of its worker into the account. One that was given up
// for lost may run on: it counts from when the worker's same process has a session
// again until that process has said what it runs, see Connect.
func (p *picture) count(id string, e *entry) {
	a, _ := e.job.Current()
	takes := e.job.State.Active()
	if s := p.sessions[a.Worker]; e.job.State == job.Lost && s != nil {
		takes = s.GetIncarnation() == a.Incarnation && p.workers[a.Worker].GetIncarnation() != a.Incarnation
	}
	if !takes {
		a.Worker = ""
	}
	p.account.Take(id, a.Worker, e.spec.Resources)
}

// countLost counts the lost jobs of a worker anew that has come, gone, or said what it
// runs.
func (p *picture) countLost(worker string) {
	for id := range p.lost[worker] {
		p.count(id, p.entries[id])
	}
}

func (p *picture) unindex(id string, e *entry) {
	if name := e.job.Schedule; name != "" {
		ids := p.of[name]
		remove(&ids, id)
		if p.of[name] = ids; len(ids) == 0 {
			delete(p.of, name)
		}
	}
	switch {
	case e.job.State == job.Queued:
		ids := p.queue[e.class]
		remove(&ids, id)
		if p.queue[e.class] = ids; len(ids) == 0 {
			delete(p.queue, e.class)
		}
		p.queued--
		delete(p.delayed, id)
	case e.job.State.Active():
		worker := e.job.Worker()
		delete(p.active[worker], id)
		if len(p.active[worker]) == 0 {
			delete(p.active, worker)
		}
	case e.job.State == job.Lost:
		worker := e.job.Worker()
		delete(p.lost[worker], id)
		if len(p.lost[worker]) == 0 {
			delete(p.lost, worker)
		}
	}
}

// classOf is the same for jobs that fit the same workers.
func classOf(s job.Spec) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %q", s.Argv[0], s.Worker, s.Require)
	if len(s.Resources) > 0 {
		fmt.Fprintf(&b, " %v", s.Resources) // fmt sorts maps
	}
	return b.String()
}

// generation is greater than that of every placement whose effect the picture
// has; the one to come is written at a later revision still.
func (p *picture) generation() rota.Generation { return rota.Generation(p.revision + 1) }

// expired reports whether a job may go.
func (e *entry) expired(now time.Time) bool {
	at, ok := e.job.Expires(e.spec)
	return ok && !now.Before(at)
}
