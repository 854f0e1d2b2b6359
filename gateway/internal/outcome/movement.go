package outcome

import (
	"sync/atomic"
	"time"
)

// Movement is what moves of a call's two bodies: the request's and the answer's, or
// the two directions of a connection that has switched protocols. Those who carry
// them say what they wait for; the sweeper ends what stands still.
type Movement struct {
	// Most is how long nothing may move, in nanoseconds; 0 is a minute.
	Most atomic.Int64
	// last is when something last moved in either direction, or began to be waited for.
	last atomic.Int64
	// Up and down say which side each direction waits for.
	Up, Down atomic.Uint32
}

// Sides that a direction waits for: to send the next of it, or to take it.
const (
	OnNobody = iota // it has not begun, or is over
	OnClient
	OnWorker
)

// Ascend notes that the request's body waits for that side.
func (m *Movement) Ascend(now int64, side uint32) {
	m.last.Store(now)
	m.Up.Store(side)
}

// Descend notes that the answer's body waits for that side.
func (m *Movement) Descend(now int64, side uint32) {
	m.last.Store(now)
	m.Down.Store(side)
}

// Rest notes that nothing moves, and nobody is waited for.
func (m *Movement) Rest() {
	m.Up.Store(OnNobody)
	m.Down.Store(OnNobody)
}

// Stalled says whose fault it is that nothing has moved for too long. Who takes
// nothing holds up all that is behind it. Else the client is waited for as long as
// it may send: no worker can answer what has not come, and no client may bring a
// worker into disrepute by its silence.
func (m *Movement) Stalled(now int64) End {
	most := m.Most.Load()
	if most == 0 {
		most = int64(time.Minute)
	}
	if now-m.last.Load() <= most {
		return NotEnded
	}
	up, down := m.Up.Load(), m.Down.Load()
	switch {
	case down == OnClient:
		return ClientDeaf
	case up == OnWorker:
		return WorkerStalled
	case up == OnClient:
		return ClientSlow
	case down == OnWorker:
		return WorkerStalled
	}
	return NotEnded
}
