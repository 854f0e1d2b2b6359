package jobs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// candidate is a worker that takes jobs.
type candidate struct {
	rota.Worker
	session  *view.Session
	any      bool
	commands []string
	slots    int
}

// candidates are the workers that take jobs, in order of name. c.mu is held.
func (c *Control) candidates() []*candidate {
	out := make([]*candidate, 0, len(c.p.workers))
	for _, name := range slices.Sorted(maps.Keys(c.p.workers)) {
		jw, s := c.p.workers[name], c.p.sessions[name]
		if s == nil || s.GetLeaving() || s.GetIncarnation() != jw.GetIncarnation() {
			continue
		}
		out = append(out, &candidate{
			Worker: s.Placeable(c.p.nodes[name]), session: s,
			any: jw.GetAny(), commands: jw.GetCommands(), slots: int(jw.GetSlots()),
		})
	}
	return out
}

// question is a job that asks for a worker.
type question struct {
	id         string
	spec       *job.Spec
	conditions []placement.Condition
	leader     int64 // epoch of whoever would place it, 0 for nobody
}

// ask is one rule that can stop a job, asked of a worker that has so many. It returns the
// first obstacle, and says to tell, unless that is nil, what it found of each thing that it
// asks for.
type ask func(p *picture, q *question, w *candidate, jobs int, tell func(placement.Finding)) placement.Obstacle

// asks are all rules, in the order of placement.Rules: what stops a job first, and the
// table of what each finds.
var asks = []ask{
	func(_ *picture, _ *question, w *candidate, _ int, tell func(placement.Finding)) placement.Obstacle {
		return placement.AskState(&w.Worker, tell)
	},
	func(_ *picture, q *question, w *candidate, _ int, tell func(placement.Finding)) placement.Obstacle {
		return placement.AskPin(q.spec.Worker, &w.Worker, tell)
	},
	askCommand,
	func(_ *picture, q *question, w *candidate, _ int, tell func(placement.Finding)) placement.Obstacle {
		return placement.AskLabels(q.conditions, &w.Worker, tell)
	},
	func(p *picture, q *question, w *candidate, _ int, tell func(placement.Finding)) placement.Obstacle {
		return p.account.Ask(q.id, w.Name, w.Capacity, q.spec.Resources, q.leader, tell)
	},
	askSlots,
}

func askCommand(_ *picture, q *question, w *candidate, _ int, tell func(placement.Finding)) (o placement.Obstacle) {
	command := q.spec.Argv[0]
	if !w.any && !slices.Contains(w.commands, command) {
		o = placement.Obstacle{Code: placement.LacksCommand, Name: text.Clip(command, text.Short)}
	}
	if tell != nil {
		v := placement.Finding{Rule: placement.ByCommand, Value: "lists it", Limit: "wants " + text.Clip(command, text.Short)}
		switch {
		case w.any:
			v.Value = "lists any"
		case o.Code != "":
			v.Value = "does not list it"
		}
		tell(v.Of(o))
	}
	return o
}

func askSlots(_ *picture, _ *question, w *candidate, jobs int, tell func(placement.Finding)) (o placement.Obstacle) {
	if jobs >= w.slots {
		o.Code = placement.JobsFull
	}
	if tell != nil {
		tell(placement.Finding{Rule: placement.ByJobs, Value: fmt.Sprintf("%d there", jobs), Limit: fmt.Sprintf("%d at most", w.slots)}.Of(o))
	}
	return o
}

// obstacle is what stops a job first on a worker that has so many, or none.
func (p *picture) obstacle(q *question, w *candidate, jobs int) placement.Obstacle {
	for _, rule := range asks {
		if o := rule(p, q, w, jobs, nil); o.Code != "" {
			return o
		}
	}
	return placement.Obstacle{}
}

// load is what a worker with so many jobs would bear with one more, for its strength. Of
// those that fit the one with the least gets the job.
func (w *candidate) load(jobs int) float64 {
	strength := w.Strength
	if strength == 0 {
		strength = 1
	}
	return float64(jobs+1) / strength
}

func conditionsOf(s job.Spec) ([]placement.Condition, error) {
	out := make([]placement.Condition, 0, len(s.Require))
	for _, r := range s.Require {
		c, err := placement.ParseCondition(r)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// choose finds the worker that fits and has the most room. c.mu is held.
func (b *batch) choose(id string, s job.Spec, from []*candidate) *candidate {
	conditions, err := conditionsOf(s)
	if err != nil {
		return nil // checked when it was declared
	}
	q := &question{id, &s, conditions, b.c.p.epoch}
	var best *candidate
	var bestLoad float64
	for _, w := range from {
		jobs := b.active(w.Name)
		if b.c.p.obstacle(q, w, jobs).Code != "" {
			continue
		}
		if load := w.load(jobs); best == nil || load < bestLoad {
			best, bestLoad = w, load
		}
	}
	return best
}

// line is jobs of one class that wait, in order.
type line struct {
	class string
	ids   []string
}

// lines are the queue as the batch has it.
func (b *batch) lines() []*line {
	out := make([]*line, 0, len(b.c.p.queue)+1)
	for class, ids := range b.c.p.queue {
		out = append(out, &line{class, ids})
	}
	for _, id := range b.order { // declared in this very batch, or queued again
		if ch := b.changed[id]; ch.next != nil && ch.next.job.State == job.Queued && (ch.old == nil || ch.old.job.State != job.Queued) {
			out = append(out, &line{ch.next.class, []string{id}})
		}
	}
	return out
}

// skip leaves out what cannot be placed now: what the batch has changed, and
// what waits for the end of a back-off.
func (b *batch) skip(l *line) {
	for len(l.ids) > 0 {
		if e := b.entry(l.ids[0]); e != nil && e.job.State == job.Queued {
			if ready, _ := e.job.Ready(b.now); ready {
				return
			}
		}
		l.ids = l.ids[1:]
	}
}

// place gives queued jobs to workers, oldest first. It says when the next one is
// due, and whether there were more than the batch takes.
func (b *batch) place() (next time.Time, more bool) {
	c := b.c
	for id := range c.p.delayed {
		if at := c.p.entries[id].job.NotBefore; at.After(b.now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	workers, free := c.candidates(), 0
	for _, w := range workers {
		free += max(0, w.slots-b.active(w.Name))
	}
	if free == 0 {
		return next, false // the queue may be long: it costs nothing while nobody has room
	}
	lines := b.lines()
	for free > 0 {
		// The oldest of all lines, in which all may run on the same workers.
		var oldest *line
		for _, l := range lines {
			if b.skip(l); len(l.ids) > 0 && (oldest == nil || l.ids[0] < oldest.ids[0]) {
				oldest = l
			}
		}
		if oldest == nil {
			break
		}
		if b.full() {
			return next, true
		}
		id := oldest.ids[0]
		e := b.entry(id)
		oldest.ids = oldest.ids[1:]
		w := b.choose(id, e.spec, workers)
		if w == nil {
			lines = slices.DeleteFunc(lines, func(l *line) bool { return l.class == oldest.class }) // nobody has room for any
			continue
		}
		// The leader's tasks take room at the same time.
		if !c.p.account.Promise(id, w.Name, w.Capacity, e.spec.Resources, c.p.epoch) {
			more = true // it is looked at again
			continue
		}
		j, err := e.job.Place(w.Name, w.session.GetIncarnation(), w.session.ID, c.p.generation(), b.now)
		if err != nil {
			c.cfg.Logger.Error("job cannot be placed", "job", id, "error", err)
			c.p.account.Withdraw(id, w.Name)
			continue
		}
		b.jobs[w.Name]++
		free--
		b.put(id, &entry{spec: e.spec, specMod: e.specMod, class: e.class, job: j, stateMod: e.stateMod}, nil)
		// Only while this very session lives, and has not said since that it leaves; and
		// while this leader leads: the next one has counted what it placed.
		b.changed[id].place = w.Name
		b.changed[id].conds = append(b.changed[id].conds,
			store.Cond{Key: store.SessionKey(w.Name), By: store.ByMod, Revision: w.session.Mod},
			store.Cond{Key: store.LeaderKey, By: store.ByCreate, Revision: c.p.epoch})
	}
	return next, more
}

// errNotAllowed is the answer to a command that no worker of the cluster lists.
var errNotAllowed = errors.New("not allowed")

// refuse says why a job is not even queued: it names a worker that nobody has
// heard of, or a command that the workers which take jobs do not list. nil if it
// may wait for its turn, or names a pool whose workers may list it and need not be
// there yet.
func (c *Control) refuse(s job.Spec) error {
	err := c.unlisted(s)
	if err != nil && s.Worker == "" && c.cfg.Named != nil && c.cfg.Named(s) {
		return nil
	}
	return err
}

// unlisted says why no worker that is known may ever run a job.
func (c *Control) unlisted(s job.Spec) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	lists := func(name string) bool {
		w := c.p.workers[name]
		return w.GetAny() || slices.Contains(w.GetCommands(), s.Argv[0])
	}
	if s.Worker != "" {
		switch {
		case c.p.sessions[s.Worker] == nil && c.p.nodes[s.Worker] == nil:
			return fmt.Errorf("worker %s: %w", text.Clip(s.Worker, text.Short), rota.ErrNotFound)
		case c.p.workers[s.Worker] != nil && !lists(s.Worker):
			return fmt.Errorf("command %s: %w on worker %s: its own configuration does not list it", text.Clip(s.Argv[0], text.Short), errNotAllowed, s.Worker)
		}
		return nil
	}
	for name := range c.p.workers {
		if lists(name) {
			return nil
		}
	}
	if len(c.p.workers) > 0 {
		return fmt.Errorf("command %s: %w: no worker's own configuration lists it", text.Clip(s.Argv[0], text.Short), errNotAllowed)
	}
	return nil
}
