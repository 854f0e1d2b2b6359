package rota

import "strconv"

// Generation is the fencing token of a grant: of two grants of one instance the later
// always has the greater generation. It is derived from the store's revision when the grant
// was decided, so it needs no counter of its own.
type Generation uint64

// Instance is one of a task's replicas.
type Instance struct {
	Task  string
	Index int // from 0
}

func (i Instance) String() string {
	if i.Index == 0 {
		return i.Task
	}
	return i.Task + "#" + strconv.Itoa(i.Index)
}

// Compare orders instances by task and index.
func (i Instance) Compare(j Instance) int {
	switch {
	case i.Task < j.Task:
		return -1
	case i.Task > j.Task:
		return 1
	}
	return i.Index - j.Index
}

// Move is one step of a plan. From is empty for an instance that was on no worker. To is
// empty for an instance that must stop (its task is gone, or no worker may run it).
type Move struct {
	Instance Instance
	From, To string
	Reason   string // for people: "worker w3 is gone", "evens out load: w1 had 12% more than the mean"
	Forced   bool   // true if a rule or a loss demanded it, false if balance chose it
	Code     ReasonCode
}

// Waiting is an instance that no worker may take, and why.
type Waiting struct {
	Instance Instance
	Reason   string // for people, as counts and sums: "3 workers: 2 do not run kind gpu, 1 is draining"
	Code     ReasonCode
	// Obstacle is what stands in the way on most workers, a code of package placement:
	// "lacks-kind". Of NoPlace only.
	Obstacle string
}

// Plan is the set of changes from the current assignment to the desired one.
type Plan struct {
	Moves   []Move
	Waiting []Waiting
	Summary Summary
}

// Summary is the effect of a plan. Imbalance is the fullest worker's weight,
// per strength, over the mean: 1 is even.
type Summary struct {
	Forced, Chosen, Placed, Stopped, Waiting int
	ImbalanceBefore, ImbalanceAfter          float64
}
