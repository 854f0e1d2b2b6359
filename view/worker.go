package view

import (
	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store/storepb"
)

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
