package gateway

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/upstream"
)

// ailing is what is known of the workers on which a function fails while others
// may do well there. A worker is left out for the function after some failures in a
// row, for a time that doubles, but never the last one that the function has.
type ailing struct {
	some atomic.Int32 // workers that are in by
	mu   sync.Mutex
	by   map[*upstream.Worker]*ailment
}

// ailment is how a function does on one worker.
type ailment struct {
	fails int // in a row
	out   bool
	level int
	until int64
	cause string
}

// fail notes a failure of f on a worker. It leaves the worker out for f after
// Health.Failures in a row, if enough others remain.
func (a *ailing) fail(g *Gateway, w *upstream.Worker, f *function, h *Health, why error) {
	a.mu.Lock()
	if a.by == nil {
		a.by = map[*upstream.Worker]*ailment{}
	}
	m := a.by[w]
	if m == nil {
		m = &ailment{}
		a.by[w] = m
		a.some.Add(1)
	}
	m.fails++
	m.cause = why.Error()
	out := !m.out && m.fails >= h.Failures && spare(f.group.Load().set.Workers(), w.Bal, a.share(f, h.Panic))
	if out {
		m.out = true
		m.until = g.now() + int64(min(h.Quarantine<<min(m.level, 16), h.MaxQuarantine))
		m.level = min(m.level+1, 16)
	}
	a.mu.Unlock()
	if out {
		g.log.Warn("worker left out for a function", "worker", w.Name, "function", f.name, "error", why)
		g.regroup(f)
	}
}

// share converts the share of all workers that must stay in service into one of the
// workers that are not left out.
func (a *ailing) share(f *function, panicShare float64) float64 {
	in := len(f.group.Load().set.Workers())
	outs := 0
	for _, m := range a.by {
		if m.out {
			outs++
		}
	}
	return panicShare * float64(in+outs) / float64(max(in, 1))
}

// recovered notes that a call on the worker went well.
func (a *ailing) recovered(w *upstream.Worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m := a.by[w]; m != nil && !m.out {
		delete(a.by, w)
		a.some.Add(-1)
	}
}

// out is why the worker is left out for the function, empty if it is not.
func (a *ailing) out(w *upstream.Worker) (cause string) {
	if a.some.Load() == 0 {
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if m := a.by[w]; m != nil && m.out {
		return m.cause
	}
	return ""
}

// due readmits workers whose time is over; after one more failure they are out for longer.
// It forgets workers that are gone.
func (a *ailing) due(now int64, gone func(*upstream.Worker) bool) (changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for w, m := range a.by {
		if gone(w) {
			delete(a.by, w)
			a.some.Add(-1)
			changed = changed || m.out
		} else if m.out && now >= m.until {
			m.out = false
			m.fails-- // of those that were needed
			changed = true
		}
	}
	return changed
}

// readmit lets workers in again that were left out for a function.
func (g *Gateway) readmit(now int64) {
	st := g.state.Load()
	gone := func(w *upstream.Worker) bool { return st.byName[w.Name] != w }
	look := func(f *function) {
		if f.ailing.some.Load() != 0 && f.ailing.due(now, gone) {
			g.regroup(f)
		}
	}
	look(g.other)
	for _, f := range st.fns {
		look(f)
	}
}

// regroup gives the function the group of workers that it is to be called on.
func (g *Gateway) regroup(f *function) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.regroupLocked(f)
}

func (g *Gateway) regroupLocked(f *function) {
	ms := f.members
	if f.ailing.some.Load() != 0 {
		ms = slices.DeleteFunc(slices.Clone(ms), func(m balance.Member) bool {
			return f.ailing.out(upstream.Of(m.Worker)) != ""
		})
	}
	was := f.group.Load()
	if len(ms) == len(f.members) && f.everywhere {
		f.group.Store(g.everywhere)
	} else {
		grp := was
		if grp == nil || grp == g.everywhere {
			grp = &group{}
		}
		grp.set.Update(ms)
		f.group.Store(grp)
	}
	if was != nil {
		was.queue.Wake() // who waits there looks for its group again
	}
}
