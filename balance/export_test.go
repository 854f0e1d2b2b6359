package balance

import "unsafe"

// Load shows the load that rules compare.
func (w *Worker) Load() uint64 { return w.load(w.state.Load()) }

// ForceRelease gives back a place whose Pick is lost.
func (w *Worker) ForceRelease() { w.release() }

// SetTurn sets the worker's turn.
func (w *Worker) SetTurn(turn uint64) {
	s := w.state.Load()
	w.state.Store(s&(1<<turnShift-1) | turn<<turnShift)
}

// Layout is where in a Worker the counters begin that change with every call, and
// how large a Worker is, in bytes.
func Layout() (counters, size uintptr) {
	return unsafe.Offsetof(Worker{}.state), unsafe.Sizeof(Worker{})
}

// Lag is how far behind a turn may be, as lag says.
const Lag = 256

// LeaveGap notes two idle instances on w as two callers at one instant may: with a
// gap between their bits.
func (f *Fn) LeaveGap(w *Worker, now int64) {
	i := f.warm.seatOf(w)
	f.warm.seats[i].at.Store(now)
	f.warm.idle[0].Or(1 << i)
	f.warm.idle[2].Or(1 << i)
}
