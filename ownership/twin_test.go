package ownership_test

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// twin is the Ledger again, in the dumbest way: it remembers what it was told
// and looks at everything each time. The clever one must give the same answers.
type twin struct {
	limits   ownership.Limits
	targets  map[rota.Instance]ownership.Target
	grants   map[rota.Instance]map[string]twinGrant
	sessions map[string]int64
	leaving  map[string]bool
	early    map[rota.Instance]twinGrant
	moves    map[rota.Instance]twinMove
	exists   map[rota.Instance]bool
	asked    rota.Generation
}

type twinGrant struct {
	ownership.Held
	state ownership.State
}

type twinMove struct{ from, to string }

func newTwin() *twin {
	return &twin{
		targets: map[rota.Instance]ownership.Target{}, grants: map[rota.Instance]map[string]twinGrant{},
		sessions: map[string]int64{}, leaving: map[string]bool{},
		early: map[rota.Instance]twinGrant{}, moves: map[rota.Instance]twinMove{}, exists: map[rota.Instance]bool{},
	}
}

func (t *twin) Record(worker string, g ownership.Grant, removed bool) {
	if removed {
		delete(t.grants[g.Instance], worker)
		return
	}
	t.exists[g.Instance] = true
	if t.grants[g.Instance] == nil {
		t.grants[g.Instance] = map[string]twinGrant{}
	}
	n := twinGrant{Held: ownership.Held{Worker: worker, Grant: g}}
	if old, ok := t.grants[g.Instance][worker]; ok && old.Generation == g.Generation {
		n.state = old.state
	}
	if e := t.early[g.Instance]; e.Worker == worker && e.Generation == g.Generation {
		n.state = e.state
		delete(t.early, g.Instance)
	}
	t.grants[g.Instance][worker] = n
}

func (t *twin) Session(worker string, session int64) {
	if t.sessions[worker] != session {
		t.sessions[worker] = session
		t.leaving[worker] = false
	}
}

func (t *twin) Leaving(worker string, leaving bool) {
	t.leaving[worker] = leaving && t.sessions[worker] != 0
}

func (t *twin) Ack(worker string, i rota.Instance, gen rota.Generation, s ownership.State) {
	if !t.exists[i] {
		return
	}
	g, ok := t.grants[i][worker]
	switch e := t.early[i]; {
	case ok && g.Generation == gen:
		if g.state != ownership.Stopped {
			g.state = s
			t.grants[i][worker] = g
		}
	case ok && g.Generation > gen, gen > t.asked, e.Generation > gen:
	case e.Worker == worker && e.Generation == gen && e.state == ownership.Stopped:
	default:
		e = twinGrant{state: s}
		e.Worker, e.Generation = worker, gen
		t.early[i] = e
	}
}

func (t *twin) Target(i rota.Instance, target ownership.Target) {
	t.exists[i] = t.exists[i] || target != (ownership.Target{})
	t.targets[i] = target
}

// instances are all that are known, in order.
func (t *twin) instances() []rota.Instance {
	all := map[rota.Instance]bool{}
	for i := range t.targets {
		all[i] = true
	}
	for i := range t.grants {
		all[i] = true
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b rota.Instance) int {
		return cmp.Or(cmp.Compare(t.targets[b].Priority, t.targets[a].Priority), a.Compare(b))
	})
}

func (t *twin) held(i rota.Instance) []twinGrant {
	return slices.SortedFunc(maps.Values(t.grants[i]), func(a, b twinGrant) int {
		return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Worker, b.Worker))
	})
}

func (t *twin) lives(g twinGrant) bool { return g.Session != 0 && g.Session == t.sessions[g.Worker] }

func (t *twin) fits(i rota.Instance, g twinGrant) bool {
	return g.Worker == t.targets[i].Worker && g.Spec == t.targets[i].Spec && !g.Revoked
}

// Moving counts the moves under way.
func (t *twin) Moving() int {
	n := 0
	for _, i := range t.instances() {
		target := t.targets[i].Worker
		m := t.moves[i]
		var old []twinGrant
		arriving, running, stuck := false, false, false
		for _, g := range t.held(i) {
			if t.lives(g) && t.fits(i, g) {
				arriving, running = true, g.state == ownership.Running || g.state == ownership.Backoff
			}
		}
		for _, g := range t.held(i) {
			switch {
			case !t.lives(g) || t.fits(i, g) || !g.Revoked && !arriving:
			case g.state == ownership.Stuck:
				stuck = true
			default:
				old = append(old, g)
			}
		}
		switch {
		case target == "":
			m = twinMove{}
		case len(old) > 0:
			m = twinMove{old[len(old)-1].Worker, target}
		case running || stuck || m.from == "":
			m = twinMove{}
		default:
			m.to = target
		}
		t.moves[i] = m
		if m.from != "" {
			n++
		}
	}
	return n
}

// Running counts the instances that run where they should.
func (t *twin) Running() int {
	n := 0
	for _, i := range t.instances() {
		if slices.ContainsFunc(t.held(i), func(g twinGrant) bool {
			return t.lives(g) && t.fits(i, g) && g.state == ownership.Running
		}) {
			n++
		}
	}
	return n
}

// Ready asks every instance twice: first without beginning any move, then again
// those that would begin one.
func (t *twin) Ready(gen rota.Generation) ownership.Effects {
	t.asked = max(t.asked, gen)
	t.Moving()
	begun := map[rota.Instance]twinMove{}
	room := func(worker string) bool {
		n := 0
		for _, moves := range []map[rota.Instance]twinMove{t.moves, begun} {
			for _, m := range moves {
				if m.from != "" && (worker == "" || m.from == worker || m.to == worker) {
					n++
				}
			}
		}
		limit := t.limits.PerWorker
		if worker == "" {
			limit = t.limits.InAll
		}
		return limit <= 0 || n < limit
	}
	var out ownership.Effects
	var again []rota.Instance
	for _, i := range t.instances() {
		if len(t.grants[i]) == 0 && t.targets[i].Worker == "" {
			delete(t.exists, i)
			delete(t.early, i)
			delete(t.targets, i)
			continue
		}
		if t.one(i, gen, &out, func(string) bool { return t.moves[i].from != "" }) {
			again = append(again, i)
		}
	}
	for _, i := range again {
		t.one(i, gen, &out, func(from string) bool {
			to := t.targets[i].Worker
			switch {
			case t.moves[i].from != "" || begun[i].from != "":
				return true
			case !room("") || !room(from) || !room(to):
				return false
			}
			begun[i] = twinMove{from, to}
			return true
		})
	}
	return out
}

// one says what an instance needs; it is true if it needs only leave to move.
func (t *twin) one(i rota.Instance, gen rota.Generation, out *ownership.Effects, leave func(from string) bool) bool {
	target := t.targets[i]
	available := target.Mode == rota.Available
	session := t.sessions[target.Worker]
	if t.leaving[target.Worker] {
		session = 0
	}
	var keep []twinGrant // the living that have not stopped
	atTarget, done := false, false
	for _, g := range t.held(i) {
		switch {
		case g.Worker == target.Worker && !g.Revoked && (!t.lives(g) || g.state == ownership.Stopped && session == 0):
		case !t.lives(g) && target.Worker != "" && session == 0:
		case !t.lives(g) || g.state == ownership.Stopped:
			h := g.Held
			h.To = "" // nobody needs it any more
			out.Release = append(out.Release, h)
			atTarget = atTarget || g.Worker == target.Worker
			done = true
		default:
			keep = append(keep, g)
			atTarget = atTarget || g.Worker == target.Worker
		}
	}
	fit := func(g twinGrant) bool { return t.fits(i, g) }
	runs := func(g twinGrant) bool { return t.fits(i, g) && g.state == ownership.Running }
	for _, g := range keep {
		if g.Revoked || fit(g) {
			continue
		}
		inPlace := g.Worker == target.Worker
		if target.Worker != "" {
			if available && !inPlace && !slices.ContainsFunc(keep, runs) {
				continue
			}
			if (!available || inPlace) && session == 0 {
				continue
			}
			if (!available || inPlace) && !leave(g.Worker) {
				return !done
			}
		}
		h := g.Held
		h.To = target.Worker
		out.Revoke = append(out.Revoke, h)
		done = true
	}
	if target.Worker == "" || session == 0 || atTarget || len(keep) > 0 && !available || slices.ContainsFunc(keep, fit) {
		return false
	}
	if len(keep) > 0 && !leave(keep[0].Worker) {
		return !done
	}
	out.Grant = append(out.Grant, ownership.Held{Worker: target.Worker, Grant: ownership.Grant{
		Instance: i, Generation: gen, Session: session, Spec: target.Spec, Reason: target.Reason,
	}})
	return false
}

// accountant is what both are.
type accountant interface {
	Record(worker string, g ownership.Grant, removed bool)
	Session(worker string, session int64)
	Leaving(worker string, leaving bool)
	Ack(worker string, i rota.Instance, gen rota.Generation, s ownership.State)
	Target(i rota.Instance, t ownership.Target)
	Ready(gen rota.Generation) ownership.Effects
	Moving() int
	Running() int
}

func TestLedgerEqualsTwin(t *testing.T) {
	t.Parallel()
	effects := 0
	rapid.Check(t, func(t *rapid.T) { effects += compareWithTwin(t) })
	if effects < 1000 {
		t.Errorf("%d effects: too little work to mean anything", effects)
	}
}

func compareWithTwin(t *rapid.T) (effects int) {
	l, w := &ownership.Ledger{}, newTwin()
	both := func(do func(accountant)) { do(l); do(w) }
	workers := rapid.SampledFrom([]string{"w1", "w2", "w3", "w4"})
	instances := rapid.Custom(func(t *rapid.T) rota.Instance {
		return rota.Instance{Task: "t", Index: rapid.IntRange(0, 7).Draw(t, "index")}
	})
	states := rapid.SampledFrom([]ownership.State{
		ownership.Starting, ownership.Running, ownership.Backoff, ownership.Stopping, ownership.Stuck,
		ownership.Stopped, ownership.Running, ownership.Stopped,
	})
	rev := 10
	next := func() int { rev++; return rev }
	write := func(e ownership.Effects, some func() bool) {
		for _, h := range e.Release {
			if some() {
				both(func(a accountant) { a.Record(h.Worker, h.Grant, true) })
			}
		}
		for _, h := range e.Revoke {
			if h.Revoked = true; some() {
				both(func(a accountant) { a.Record(h.Worker, h.Grant, false) })
			}
		}
		for _, h := range e.Grant {
			if some() {
				both(func(a accountant) { a.Record(h.Worker, h.Grant, false) })
			}
		}
	}
	ready := func(t *rapid.T) ownership.Effects {
		gen := rota.Generation(next())
		got, want := l.Ready(gen), w.Ready(gen)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("ready:\ngot  %+v\nwant %+v", got, want)
		}
		if again := l.Ready(gen); !reflect.DeepEqual(again, got) {
			t.Fatalf("ready again:\ngot  %+v\nwant %+v", again, got)
		}
		effects += len(got.Release) + len(got.Revoke) + len(got.Grant)
		return got
	}
	ack := func(t *rapid.T) {
		i, s := instances.Draw(t, "instance"), states.Draw(t, "state")
		held := w.held(i)
		if len(held) == 0 || rapid.IntRange(0, 9).Draw(t, "any") == 0 {
			worker, gen := workers.Draw(t, "worker"), rota.Generation(rapid.IntRange(max(rev-3, 0), rev+3).Draw(t, "generation"))
			both(func(a accountant) { a.Ack(worker, i, gen, s) })
			return
		}
		g := rapid.SampledFrom(held).Draw(t, "grant")
		both(func(a accountant) { a.Ack(g.Worker, i, g.Generation, s) })
	}
	actions := map[string]func(*rapid.T){
		"": func(t *rapid.T) {
			if got, want := l.Moving(), w.Moving(); got != want {
				t.Fatalf("%d moving, want %d", got, want)
			}
			if got, want := l.Running(), w.Running(); got != want {
				t.Fatalf("%d running, want %d", got, want)
			}
		},
		"session": func(t *rapid.T) {
			worker, session := workers.Draw(t, "worker"), int64(next())
			if rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
				session = 0
			}
			both(func(a accountant) { a.Session(worker, session) })
		},
		"leaving": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
				worker, leaving := workers.Draw(t, "worker"), rapid.IntRange(0, 2).Draw(t, "not") > 0
				both(func(a accountant) { a.Leaving(worker, leaving) })
			}
		},
		"target": func(t *rapid.T) {
			for range rapid.IntRange(1, 4).Draw(t, "targets") {
				i := instances.Draw(t, "instance")
				target := ownership.Target{
					Worker: workers.Draw(t, "worker"), Spec: uint64(rapid.IntRange(1, 2).Draw(t, "spec")),
					Priority: float64(rapid.IntRange(0, 1).Draw(t, "priority")),
					Reason:   rapid.SampledFrom([]string{"", "because"}).Draw(t, "reason"),
				}
				if rapid.Bool().Draw(t, "available") {
					target.Mode = rota.Available
				}
				if rapid.IntRange(0, 9).Draw(t, "nowhere") == 0 {
					target = ownership.Target{}
				}
				both(func(a accountant) { a.Target(i, target) })
			}
		},
		"limits": func(t *rapid.T) {
			limits := ownership.Limits{InAll: rapid.IntRange(0, 3).Draw(t, "all"), PerWorker: rapid.IntRange(0, 2).Draw(t, "worker")}
			l.Limits, w.limits = limits, limits
		},
		"ack":  ack,
		"acks": func(t *rapid.T) { ack(t); ack(t); ack(t) },
		"write": func(t *rapid.T) {
			write(ready(t), func() bool { return true })
		},
		"write some": func(t *rapid.T) {
			write(ready(t), func() bool { return rapid.Bool().Draw(t, "done") })
		},
		"answered late": func(t *rapid.T) {
			e := ready(t)
			for _, h := range e.Grant {
				both(func(a accountant) { a.Ack(h.Worker, h.Instance, h.Generation, ownership.Running) })
			}
			write(e, func() bool { return true })
		},
		"record": func(t *rapid.T) {
			worker, i := workers.Draw(t, "worker"), instances.Draw(t, "instance")
			g := ownership.Grant{
				Instance: i, Generation: rota.Generation(next()), Session: w.sessions[worker],
				Revoked: rapid.Bool().Draw(t, "revoked"), Spec: 1,
			}
			both(func(a accountant) { a.Record(worker, g, false) })
		},
		"remove": func(t *rapid.T) {
			worker, g := workers.Draw(t, "worker"), ownership.Grant{Instance: instances.Draw(t, "instance")}
			both(func(a accountant) { a.Record(worker, g, true) })
		},
	}
	for n := range 4 {
		session := int64(next())
		both(func(a accountant) { a.Session(fmt.Sprintf("w%d", n+1), session) })
	}
	for range 4 {
		actions["target"](t)
	}
	t.Repeat(actions)
	// When nothing is left to know, nothing is remembered.
	for i := range 8 {
		both(func(a accountant) { a.Target(rota.Instance{Task: "t", Index: i}, ownership.Target{}) })
	}
	for n := range 4 {
		both(func(a accountant) { a.Session(fmt.Sprintf("w%d", n+1), 0) })
	}
	write(ready(t), func() bool { return true })
	if e := ready(t); !e.Empty() {
		t.Fatalf("left to do: %+v", e)
	}
	if n := l.Size(); n != 0 {
		t.Fatalf("%d things are remembered for ever", n)
	}
	return effects
}
