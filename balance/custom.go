package balance

// Picker is a rule of your own. Its methods are called concurrently and must be fast: every
// call waits for them.
type Picker interface {
	// Pick returns the index in candidates of the worker that gets a call of the function;
	// an invalid index means none, and the call waits. The candidates have room for the
	// call and have not been tried for it; there is at least one. Do not keep the slice.
	Pick(fn *Fn, candidates []Candidate) int
	// Done is called when a call for which the worker was picked has ended in any way, or
	// could not be sent to it.
	Done(fn *Fn, worker string)
}

// Candidate is a worker that a Picker may pick.
type Candidate struct {
	Name     string // the URL, for a worker without a name
	Weight   int    // its share of the calls, relative to the others
	InFlight int    // calls in flight on it
}

// Custom is the rule of a Picker.
type Custom struct{ Picker Picker }

// Name returns "custom", which is not valid in configuration files.
func (Custom) Name() string { return "custom" }

func (r Custom) pick(_ *Set, n *snapshot, c *Call) (*Worker, feedback) {
	candidates, workers := make([]Candidate, 0, len(n.members)), make([]*Worker, 0, len(n.members))
	for i := range n.members {
		m := &n.members[i]
		if state := m.Worker.state.Load(); m.Worker.free(state) && !c.avoids(m.Worker) {
			candidates = append(candidates, Candidate{m.Worker.name, m.Weight, m.Worker.InFlight()})
			workers = append(workers, m.Worker)
		}
	}
	for len(candidates) > 0 {
		i := r.Picker.Pick(c.Fn, candidates)
		if i < 0 || i >= len(candidates) {
			return nil, 0
		}
		if workers[i].reserve() {
			return workers[i], wantsDone
		}
		// It was filled meanwhile, and is offered no more.
		r.Picker.Done(c.Fn, candidates[i].Name)
		candidates, workers = append(candidates[:i], candidates[i+1:]...), append(workers[:i], workers[i+1:]...)
	}
	return nil, 0
}
