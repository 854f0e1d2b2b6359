package job

// States of a worker's report that are no states of a job, see JobReport in the API.
const (
	ReportRefused = "refused" // the order came to nothing, and never will
	ReportFenced  = "fenced"  // the worker ended it, as it may no longer run it
	ReportLeft    = "left"    // the worker ended it, as it leaves
)

// Reasons of a worker why an output cannot be read, see OutputPiece in the API.
const (
	ReadNotFound = "NOT_FOUND"
	ReadOffset   = "OFFSET"
	ReadBusy     = "BUSY"
	ReadNone     = "NONE" // of a task: nothing is kept, or not yet
)
