package rota

// ReasonCode says why a move is made, or why an instance waits. Programs decide by the
// code; the text beside it is for people.
type ReasonCode uint8

// Codes of reasons: of moves, and from NoPlace on of what waits.
const (
	Unplaced         ReasonCode = iota // it is new, or its worker was lost before
	WorkerGone                         // its worker is gone
	WorkerDrains                       // its worker is draining
	RuleForbids                        // its rules no longer allow its worker
	HoldsReplica                       // another instance of its task is on its worker
	BreaksAffinity                     // its affinity rules no longer allow its worker
	OverCapacity                       // its worker is over its capacity
	EvensLoad                          // its worker had more than the mean
	FillsUp                            // its new worker had less than the mean
	Spreads                            // its task or group is spread
	Swaps                              // it swaps workers with another instance
	EvensGroup                         // its group is evened out
	KeepsKeyTogether                   // it joins the other tasks of its key
	ComesBack                          // no other worker can take it
	GangBroken                         // its gang cannot be placed as a whole
	Preempted                          // an instance of higher priority takes its capacity
	Undeclared                         // no task declares it
	NoPlace                            // no worker can take it
	GangWaits                          // its gang cannot be placed as a whole
	TooFewWorkers                      // fewer workers are ready than required
	StaysForNow                        // it has to leave its worker, but no other can take it
)

var reasonNames = [...]string{
	"unplaced", "worker-gone", "worker-drains", "rule-forbids", "holds-replica", "breaks-affinity", "over-capacity", "evens-load", "fills-up",
	"spreads", "swaps", "evens-group", "keeps-key-together", "comes-back", "gang-broken", "preempted", "undeclared", "no-place",
	"gang-waits", "too-few-workers", "stays-for-now",
}

// String is the code as the API spells it: "over-capacity".
func (c ReasonCode) String() string {
	if int(c) < len(reasonNames) {
		return reasonNames[c]
	}
	return "unknown"
}
