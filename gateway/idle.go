package gateway

import (
	"sync/atomic"
	"time"
)

// movement is what moves of a call's two bodies: the request's and the answer's, or
// the two directions of a connection that has switched protocols. Those who carry
// them say what they wait for; the sweeper ends what stands still.
type movement struct {
	// most is how long nothing may move, in nanoseconds; 0 is a minute.
	most atomic.Int64
	// last is when something last moved in either direction, or began to be waited for.
	last atomic.Int64
	// up and down say which side each direction waits for.
	up, down atomic.Uint32
}

// Sides that a direction waits for: to send the next of it, or to take it.
const (
	onNobody = iota // it has not begun, or is over
	onClient
	onWorker
)

// ascend notes that the request's body waits for that side.
func (m *movement) ascend(now int64, side uint32) {
	m.last.Store(now)
	m.up.Store(side)
}

// descend notes that the answer's body waits for that side.
func (m *movement) descend(now int64, side uint32) {
	m.last.Store(now)
	m.down.Store(side)
}

func (m *movement) rest() {
	m.up.Store(onNobody)
	m.down.Store(onNobody)
}

// stalled says whose fault it is that nothing has moved for too long. Who takes
// nothing holds up all that is behind it. Else the client is waited for as long as
// it may send: no worker can answer what has not come, and no client may bring a
// worker into disrepute by its silence.
func (m *movement) stalled(now int64) end {
	most := m.most.Load()
	if most == 0 {
		most = int64(time.Minute)
	}
	if now-m.last.Load() <= most {
		return notEnded
	}
	up, down := m.up.Load(), m.down.Load()
	switch {
	case down == onClient:
		return clientDeaf
	case up == onWorker:
		return workerStalled
	case up == onClient:
		return clientSlow
	case down == onWorker:
		return workerStalled
	}
	return notEnded
}
