package worker

// Stats are what a worker counts of itself.
type Stats struct {
	Held     int    // instances that it was granted
	Running  int    // instances whose function is running
	Starts   uint64 // calls of task functions so far
	Failures uint64 // of these, how many ended by themselves
	Readers  int64  // who reads what its tasks write
	LogBytes int    // memory that what they wrote takes
}

// Stats counts.
func (w *Worker) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Stats{
		Held: w.held, Running: len(w.tasks), Starts: w.starts.Load(), Failures: w.failures.Load(),
		Readers: w.reads.Load(), LogBytes: w.logs.Bytes(),
	}
}
