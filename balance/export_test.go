package balance

// Load shows the load that rules compare.
func (w *Worker) Load() uint64 { return w.load(w.state.Load()) }

// ForceRelease gives back a place whose Pick is lost.
func (w *Worker) ForceRelease() { w.release() }
