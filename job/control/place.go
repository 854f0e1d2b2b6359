package control

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/job"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/store"
)

// candidate is a worker that takes jobs.
type candidate struct {
	rota.Worker
	session  int64
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
			Worker: s.Placeable(c.p.nodes[name]), session: s.ID,
			any: jw.GetAny(), commands: jw.GetCommands(), slots: int(jw.GetSlots()),
		})
	}
	return out
}

// why says what speaks against running s on w, or nothing.
func (w *candidate) why(s job.Spec, conditions []placement.Condition, u *usage) string {
	switch {
	case s.Worker != "" && s.Worker != w.Name:
		return "is not the one that was named"
	case w.Draining:
		return "is draining"
	case w.Cordoned:
		return "is cordoned"
	case !w.any && !slices.Contains(w.commands, s.Argv[0]):
		return "does not run " + text.Clip(s.Argv[0], text.Short)
	}
	for _, c := range conditions {
		if !c.Met(&w.Worker) {
			return "does not meet " + c.String()
		}
	}
	if w.Capacity != nil {
		for _, name := range slices.Sorted(maps.Keys(s.Resources)) {
			if have := w.Capacity[name]; s.Resources[name] > have {
				return "has too little " + name
			} else if s.Resources[name] > have-u.resources[name] {
				return "has no " + name + " left"
			}
		}
	}
	if u.jobs >= w.slots {
		return "runs as many jobs as it may"
	}
	return ""
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
func (b *batch) choose(s job.Spec, from []*candidate) *candidate {
	conditions, err := conditionsOf(s)
	if err != nil {
		return nil // checked when it was declared
	}
	var best *candidate
	var bestLoad float64
	for _, w := range from {
		u := b.usage(w.Name)
		if w.why(s, conditions, u) != "" {
			continue
		}
		strength := w.Strength
		if strength == 0 {
			strength = 1
		}
		if load := float64(u.jobs+1) / strength; best == nil || load < bestLoad {
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
		free += max(0, w.slots-b.usage(w.Name).jobs)
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
		w := b.choose(e.spec, workers)
		if w == nil {
			lines = slices.DeleteFunc(lines, func(l *line) bool { return l.class == oldest.class }) // nobody has room for any
			continue
		}
		j, err := e.job.Place(w.Name, w.session, c.p.generation(), b.now)
		if err != nil {
			c.cfg.Logger.Error("job cannot be placed", "job", id, "error", err)
			continue
		}
		b.usage(w.Name).add(e.spec, 1)
		free--
		b.put(id, &entry{spec: e.spec, specMod: e.specMod, class: e.class, job: j, stateMod: e.stateMod}, nil)
		// Only while this very session lives.
		b.changed[id].conds = append(b.changed[id].conds, store.Cond{Key: store.SessionKey(w.Name), By: store.ByCreate, Revision: w.session})
	}
	return next, false
}

// ErrNotAllowed is the answer to a command that no worker of the cluster lists.
var ErrNotAllowed = errors.New("not allowed")

// refuse says why a job is not even queued: it names a worker that nobody has
// heard of, or a command that the workers which take jobs do not list. nil if it
// may wait for its turn.
func (c *Control) refuse(s job.Spec) error {
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
			return fmt.Errorf("command %s: %w on worker %s: its own configuration does not list it", text.Clip(s.Argv[0], text.Short), ErrNotAllowed, s.Worker)
		}
		return nil
	}
	for name := range c.p.workers {
		if lists(name) {
			return nil
		}
	}
	if len(c.p.workers) > 0 {
		return fmt.Errorf("command %s: %w: no worker's own configuration lists it", text.Clip(s.Argv[0], text.Short), ErrNotAllowed)
	}
	return nil
}

// waits says why a queued job is on no worker. c.mu is held.
func (c *Control) waits(e *entry) string {
	conditions, err := conditionsOf(e.spec)
	if err != nil {
		return err.Error()
	}
	counts := map[string]int{}
	workers := c.candidates()
	for _, w := range workers {
		u := c.p.used[w.Name]
		if u == nil {
			u = &usage{}
		}
		if reason := w.why(e.spec, conditions, u); reason != "" {
			counts[reason]++
		}
	}
	if len(workers) == 0 {
		return "no worker takes jobs"
	}
	parts := make([]string, 0, len(counts))
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[reason], reason))
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("of %d workers: %s", len(workers), strings.Join(parts, ", "))
}
