package rota

import (
	"fmt"
	"maps"
	"slices"
)

// Worker is a process that runs work, as placement sees it.
type Worker struct {
	// Name is stable: a worker keeps it across restarts.
	Name string
	// Zone is the failure zone. Rules can refer to it as the label "zone".
	Zone string
	// Labels are facts that rules can match.
	Labels map[string]string
	// Kinds are the kinds of task it can run. Nil means every kind but those of
	// programs, see IsProgramKind.
	Kinds []string
	// Capacity is the amount of each resource. The worker has none of a resource that is
	// not named, unless Capacity is nil: then resources are not counted.
	Capacity map[string]float64
	// MaxTasks is the maximum number of instances. Zero means no limit.
	MaxTasks int
	// Strength is the worker's share of the load relative to other workers. Zero means 1; a
	// worker of strength 2 gets twice the weight.
	Strength float64
	// Cordoned workers are given nothing new.
	Cordoned bool
	// Draining workers are given nothing new, and their tasks are moved away.
	Draining bool
	// Ramp is the part of its strength that counts while it joined lately
	// (slow start): above 0, at most 1. Zero means 1.
	Ramp float64
}

// Validate returns a *FieldError for the first invalid field; the fields' documentation
// says what is valid.
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
