package events

import (
	"strings"
	"time"

	"github.com/rota-project/rota"
)

// Filter is which events are asked for. What is empty does not matter.
type Filter struct {
	Task, Worker, Job, Program, Pool string
	// Kind is a kind, or what stands before the dot of several.
	Kind string
	// Since is when they happened at the earliest, Until is before when.
	Since, Until time.Time
}

// match reports whether an event is asked for. Of a pass the answer has those moves only
// that concern whom the filter names.
func (f *Filter) match(e Kept) (Kept, bool) {
	switch {
	case f.Kind != "" && e.Kind != f.Kind && !strings.HasPrefix(e.Kind, f.Kind+"."),
		!f.Since.IsZero() && e.Time.Before(f.Since), !f.Until.IsZero() && !e.Time.Before(f.Until),
		f.Job != "" && e.Subject.Job != f.Job, f.Program != "" && e.Subject.Program != f.Program, f.Pool != "" && e.Subject.Pool != f.Pool:
		return e, false
	case f.Task == "" && f.Worker == "":
		return e, true
	}
	if len(e.Moves) > 0 {
		var mine []rota.Move
		for _, m := range e.Moves {
			if (f.Task == "" || m.Instance.Task == f.Task) && (f.Worker == "" || m.From == f.Worker || m.To == f.Worker) {
				mine = append(mine, m)
			}
		}
		e.Moves, e.LeftOut = mine, e.LeftOut+len(e.Moves)-len(mine)
		return e, len(mine) > 0
	}
	return e, (f.Task == "" || e.Subject.Task == f.Task) && (f.Worker == "" || e.Subject.Worker == f.Worker || e.From == f.Worker)
}

// List answers events that are asked for, newest first, at most so many, of those before
// an event if one is named. more says that there are others, before the last one.
func (l *Log) List(f Filter, before *ID, most int) (out []Kept, more bool) {
	now := time.Now()
	l.mu.RLock()
	defer l.mu.RUnlock()
	var at [shelves]cursor
	for s := range at {
		at[s] = cursor{r: &l.racks[s], page: len(l.racks[s].pages)}
		at[s].back(l.limits.Keep)
	}
	for {
		var newest *cursor
		for s := range at {
			if c := &at[s]; c.now != nil && (newest == nil || newest.now.ID.Less(c.now.ID)) {
				newest = c
			}
		}
		if newest == nil {
			return out, false
		}
		e := *newest.now
		newest.back(l.limits.Keep)
		if before != nil && !e.ID.Less(*before) || now.Sub(e.Time) > l.limits.Age {
			continue
		}
		e, ok := f.match(e)
		switch {
		case !ok:
		case len(out) == most:
			return out, true
		default:
			out = append(out, e)
		}
	}
}

// Latest is the last event that is known.
func (l *Log) Latest() ID {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.latest
}

// cursor goes back through a rack.
type cursor struct {
	r        *rack
	page, at int
	passed   int
	now      *Kept // nil at the end
}

// back goes to the event before, if that is one of the newest so many.
func (c *cursor) back(keep int) {
	c.now = nil
	if c.passed == keep {
		return
	}
	for c.at == 0 {
		if c.page == 0 {
			return
		}
		c.page--
		c.at = len(c.r.pages[c.page].events)
	}
	c.at--
	c.passed++
	c.now = &c.r.pages[c.page].events[c.at]
}
