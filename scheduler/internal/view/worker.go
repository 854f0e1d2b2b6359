package view

import (
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/internal/storepb"
)

// Grace is how long what a worker held waits for its return: it was lost, asked
// for such a wait, and the wait is not over. Call it inside Read.
func (v *View) Grace(worker string, now time.Time) time.Duration {
	node := v.Nodes[worker]
	whole := time.Duration(node.GetLast().GetRestartGraceMs()) * time.Millisecond
	switch lost := node.GetLostUnixMs(); {
	case v.Sessions[worker] != nil:
		return 0
	case lost == 0:
		return max(0, whole) // nobody has seen when that was
	default:
		// Another's clock may have written it.
		return max(0, min(whole, whole-now.Sub(time.UnixMilli(lost))))
	}
}

// Returns reports whether a worker that leaves is to come back: it asked for a wait,
// and nobody drains it. Call it inside Read.
func (v *View) Returns(s *Session) bool {
	return s.GetRestartGraceMs() > 0 && !v.Nodes[s.GetName()].GetDraining()
}

// Placeable is a worker as placement sees it: one that lives and does not leave,
// or one whose return is or will be awaited, which keeps what it has and gets
// nothing new. Call it inside Read.
func (v *View) Placeable(worker string, awaited bool) (w rota.Worker, ok bool) {
	s, node := v.Sessions[worker], v.Nodes[worker]
	switch {
	case s != nil && s.GetLeaving():
		w = s.Placeable(node)
		w.Cordoned = true
		return w, v.Returns(s)
	case s != nil:
		return s.Placeable(node), true
	case awaited && node.GetLast() != nil:
		w = (&Session{Session: node.GetLast()}).Placeable(node)
		w.Cordoned = true
		return w, true
	}
	return w, false
}

// Placeable is a living worker as placement sees it; node may be nil.
func (s *Session) Placeable(node *storepb.Node) rota.Worker {
	w := rota.Worker{
		Name: s.GetName(), Zone: s.GetZone(), Labels: s.GetLabels(), Kinds: s.GetKinds(), Capacity: s.GetCapacity(),
		MaxTasks: int(s.GetMaxTasks()), Strength: s.GetStrength(), Cordoned: node.GetCordoned(), Draining: node.GetDraining(),
	}
	if s.GetAnyKind() {
		w.Kinds = nil
	} else if w.Kinds == nil {
		w.Kinds = []string{}
	}
	if len(w.Capacity) == 0 {
		w.Capacity = nil
	}
	return w
}

// WorkerStates counts the workers by state, and says what the fullest of those that are
// ready bears per strength, and all of them together. Call it inside Read.
func (v *View) WorkerStates() (states map[string]int, most, sum float64, ready int) {
	states = map[string]int{"ready": 0, "cordoned": 0, "draining": 0, "leaving": 0, "lost": 0}
	for name, s := range v.Sessions {
		node := v.Nodes[name]
		switch {
		case s.GetLeaving():
			states["leaving"]++
			continue
		case node.GetDraining():
			states["draining"]++
			continue
		case node.GetCordoned():
			states["cordoned"]++
		default:
			states["ready"]++
		}
		strength := s.GetStrength()
		if strength == 0 {
			strength = 1
		}
		load := v.Weight(name) / strength
		most, sum = max(most, load), sum+load
		ready++
	}
	for name, node := range v.Nodes {
		if v.Sessions[name] == nil && node.GetLostUnixMs() != 0 {
			states["lost"]++
		}
	}
	return states, most, sum, ready
}
