package rota

import (
	"fmt"
	"maps"
	"slices"
)

// Worker is a process that does work, as the placement sees it.
type Worker struct {
	// Name is stable: a worker that restarts comes back under it.
	Name string
	// Zone is where failures are shared; the label "zone" means it too.
	Zone string
	// Labels are facts that rules can ask for.
	Labels map[string]string
	// Kinds are the kinds of task it can run. Nil means every kind but those of
	// programs, see IsProgramKind.
	Kinds []string
	// Capacity is what it has of each resource. A resource that is not named
	// here is not there, unless Capacity is nil: then nothing is counted.
	Capacity map[string]float64
	// MaxTasks is the most instances it takes. Zero means no limit.
	MaxTasks int
	// Strength is its share of load relative to others. Zero means 1; a worker
	// of strength 2 gets twice the weight.
	Strength float64
	// Cordoned workers are given nothing new.
	Cordoned bool
	// Draining workers are given nothing new and emptied.
	Draining bool
	// Ramp is the part of its strength that counts while it joined lately
	// (slow start): above 0, at most 1. Zero means 1.
	Ramp float64
}

// Validate returns a *FieldError for the first field that is not as its
// documentation says.
func (w Worker) Validate() error {
	if err := validName("name", w.Name, true); err != nil {
		return err
	}
	if err := validName("zone", w.Zone, false); err != nil {
		return err
	}
	if len(w.Labels) > MaxRules {
		return &FieldError{"labels", len(w.Labels), fmt.Sprintf("at most %d entries", MaxRules)}
	}
	for _, k := range slices.Sorted(maps.Keys(w.Labels)) {
		if err := validName("labels", k, true); err != nil {
			return err
		}
		if err := validName("labels."+k, w.Labels[k], false); err != nil {
			return err
		}
	}
	for _, k := range w.Kinds {
		if err := validName("kinds", k, true); err != nil {
			return err
		}
	}
	if err := validAmounts("capacity", w.Capacity); err != nil {
		return err
	}
	if w.MaxTasks < 0 {
		return &FieldError{"max_tasks", w.MaxTasks, "zero or more"}
	}
	if err := validAmount("strength", w.Strength); err != nil {
		return err
	}
	if err := validAmount("ramp", w.Ramp); err != nil || w.Ramp > 1 {
		return &FieldError{"ramp", w.Ramp, "0 to 1"}
	}
	return nil
}
