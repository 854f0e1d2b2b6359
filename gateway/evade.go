package gateway

import (
	"bytes"
	"slices"

	"github.com/rota-project/rota/gateway/internal/paths"
)

// evades says whether a worker could read the call as one with a guard that has not been
// asked. at is the index of the call's route, -1 for a task; path is as the client sent it.
func (st *state) evades(t *target, at int, host, path, method []byte) bool {
	if !st.guards.any && !st.cfg.Closed {
		return false
	}
	var room [2][256]byte
	heard, _, _ := bytes.Cut(t.path, []byte{'?'}) // by the worker
	if !paths.IsCanonical(heard) {
		heard = paths.AppendCanonical(room[0][:0], heard)
	}
	if fn, ok := paths.Named(heard); ok && !bytes.Equal(fn, t.fn) && st.keeps(fn, t) {
		return true
	}
	behind := st.behind
	if at >= 0 {
		behind = st.routes[at].behind
	}
	for _, r := range behind {
		if paths.Covers(r.canonical, heard) && r.serves(method) {
			return true
		}
	}
	if at < 0 || paths.IsCanonical(path) && st.plain {
		return false
	}
	path = paths.AppendCanonical(room[1][:0], path)
	for i := range st.routes {
		if i > at && st.routes[at].canonical == st.routes[at].Prefix {
			break // however it is read, the path begins with what the route is for
		}
		r := &st.routes[i]
		if i != at && paths.Covers(r.canonical, path) && r.isFor(host) && r.serves(method) && st.guards.lacks(t, r) {
			return true
		}
	}
	return false
}

// keeps says whether the call, which is for another function, must not reach the named one.
func (st *state) keeps(fn []byte, t *target) bool {
	if st.fns[string(fn)] == nil && st.cfg.Closed || st.guards.byRoute[string(fn)] {
		return true
	}
	g := st.guards.of(fn)
	return g != nil && (g.forward != nil || g != t.guard && g != st.guards.of(t.fn)) // an authorization service is told the name
}

// lacks says whether a route has a guard that t does not.
func (gs *guards) lacks(t *target, r *route) bool {
	own := gs.of(t.fn)
	for _, g := range [2]*guard{r.guard, gs.of([]byte(r.Function))} {
		if g != nil && g != t.guard && g != own {
			return true
		}
	}
	return false
}

// hide finds, for each route that strips its prefix, the guarded routes that a worker could
// take its calls for. These are routes with guards that it lacks, to functions that some
// worker offers beside its own. The tasks of a worker can have any path. A route of / does
// not count, as it says nothing about other routes.
func (b *builder) hide() {
	st := b.next
	if !st.guards.any {
		return
	}
	behind := func(t *target, of func(r *route) bool) (rs []*route) {
		for i := range st.routes {
			if r := &st.routes[i]; !r.Strip && r.canonical != "/" && st.guards.lacks(t, r) && of(r) {
				rs = append(rs, r)
			}
		}
		return rs
	}
	for i := range st.routes {
		if r := &st.routes[i]; r.Strip {
			r.behind = behind(&target{fn: []byte(r.Function), guard: r.guard}, func(other *route) bool { return b.together(r.Function, other.Function) })
		}
	}
	st.behind = behind(&target{}, func(*route) bool { return true })
}

// together says whether some worker offers both functions.
func (b *builder) together(f, g string) bool {
	if f == g || len(b.next.everywhere) > 0 {
		return true
	}
	for _, fns := range b.offers {
		if slices.Contains(fns, f) && slices.Contains(fns, g) {
			return true
		}
	}
	return false
}
