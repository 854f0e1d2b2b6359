package rota

// ReasonCode says why a move is made, or why an instance waits. Programs decide by the
// code; the text beside it is for people.
type ReasonCode uint8

// Codes of reasons: of moves, and from NoPlace on of what waits.
const (
	WasNowhere       ReasonCode = iota // it is new, or its worker was lost before
	WorkerGone                         // its worker is gone
	WorkerDrains                       // its worker is draining
	RuleForbids                        // its rules no longer allow its worker
	ReplicaThere                       // another instance of its task is on its worker
	WrongCompany                       // its worker holds what it must not be with, or lacks what it must
	OverCapacity                       // its worker has too little capacity for all that it holds
	EvensLoad                          // its worker had more than the mean
	FillsUp                            // its new worker had less than the mean
	Spreads                            // its task or group is spread
	ChangesPlaces                      // it makes room for another, which makes room for it
	EvensGroup                         // its group is evened
	KeepsKeyTogether                   // the tasks of its key are together
	ComesBack                          // nothing else takes it
	GangBroken                         // its gang cannot be whole
	Preempted                          // it gives way to a higher priority
	Undeclared                         // no task declares it
	NoPlace                            // no worker may take it
	GangWaits                          // its gang cannot be whole
	Braked                             // too few workers are ready
	StaysForNow                        // it has to leave its worker, and no other may take it
)

var reasonNames = [...]string{
	"was-nowhere", "worker-gone", "worker-drains", "rule-forbids", "replica-there", "wrong-company", "over-capacity", "evens-load", "fills-up",
	"spreads", "changes-places", "evens-group", "keeps-key-together", "comes-back", "gang-broken", "preempted", "undeclared", "no-place",
	"gang-waits", "braked", "stays-for-now",
}

// String is the code as the API spells it: "over-capacity".
func (c ReasonCode) String() string {
	if int(c) < len(reasonNames) {
		return reasonNames[c]
	}
	return "unknown"
}
