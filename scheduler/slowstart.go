package scheduler

import "time"

// rampSteps is in how many steps the strength of a worker that joined lately
// grows to the whole: each gives it as much again.
const rampSteps = 5

// ramps are the workers that joined lately in this term, each with the step in
// which it did. All steps begin together, so that those that join together
// count the same throughout. The zero ramps have nobody start slowly.
type ramps struct {
	each  time.Duration // what a step takes
	begun time.Time
	step  int64
	from  map[string]int64
}

func newRamps(over time.Duration, now time.Time) ramps {
	return ramps{each: over / rampSteps, begun: now, from: map[string]int64{}}
}

// join has a worker start slowly.
func (r *ramps) join(name string, now time.Time) {
	if r.each <= 0 {
		return
	}
	step := int64(now.Sub(r.begun) / r.each)
	if len(r.from) == 0 {
		r.step = step
	}
	r.from[name] = step
}

func (r *ramps) leave(name string) { delete(r.from, name) }

// part is what counts of a worker's strength, as of the last grow; zero is all
// of it.
func (r *ramps) part(name string) float64 {
	from, ok := r.from[name]
	if !ok {
		return 0
	}
	return float64(max(r.step-from, 0)+1) / rampSteps
}

// grow goes on to the step that it is time for, and tells the workers whose
// part it changes.
func (r *ramps) grow(now time.Time, tell func(name string)) {
	if len(r.from) == 0 {
		return
	}
	step := int64(now.Sub(r.begun) / r.each)
	if step == r.step {
		return
	}
	r.step = step
	for name, from := range r.from {
		tell(name)
		if step-from >= rampSteps-1 {
			delete(r.from, name)
		}
	}
}

// next is when the next step begins, if anybody waits for it.
func (r *ramps) next() (at time.Time, ok bool) {
	if len(r.from) == 0 {
		return at, false
	}
	return r.begun.Add(time.Duration(r.step+1) * r.each), true
}
