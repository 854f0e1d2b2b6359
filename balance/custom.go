package balance

// Picker is a rule of a user's own. Its methods are called from many goroutines
// at once and must be quick: every call waits for them.
type Picker interface {
	// Pick returns the place in candidates of the worker that gets a call of the
	// function; a number that is no place means none, and the call waits. The
	// candidates have room for the call and were not tried for it yet; there is
	// at least one. The slice is not to be kept.
	Pick(fn *Fn, candidates []Candidate) int
	// Done is told when a call that the worker was picked for has ended, in
	// whatever way, or could not be given to it.
	Done(fn *Fn, worker string)
}

// Candidate is a worker that a Picker may pick.
type Candidate struct {
	Name     string // the URL, for a worker that was given no other name
	Weight   int    // its part of the calls, relative to the others
	InFlight int    // calls on it now
}

// Custom is the rule of a Picker.
type Custom struct{ Picker Picker }

// Name is "custom"; no configuration file can name it.
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
