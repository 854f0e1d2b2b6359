package sessions

import (
	"slices"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// Machine is how things are where a worker runs.
type Machine struct {
	// ClockAhead is how far its clock is ahead of this process's; negative: behind.
	ClockAhead time.Duration
	// CertificateEnds is when its certificate ends; zero if it has none or is of a
	// version that does not say.
	CertificateEnds time.Time
}

// Machine is how things are where a worker runs; ok is false if its session is not
// here, or it does not say.
func (s *Server) Machine(worker string) (m Machine, ok bool) {
	s.mu.Lock()
	c := s.live[worker]
	s.mu.Unlock()
	if c == nil {
		return m, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.aheads) == 0 {
		return m, false
	}
	return Machine{slices.Max(c.aheads), c.certificateEnds}, true
}

// manyAheads is how many differences between the clocks are kept. A message that
// comes late makes the worker's look as if it were behind, so the greatest is the
// nearest to the truth.
const manyAheads = 8

// note keeps what the worker says of its machine.
func (c *session) note(m *rotav1.Machine) {
	if m == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.aheads) == manyAheads {
		c.aheads = slices.Delete(c.aheads, 0, 1)
	}
	c.aheads = append(c.aheads, time.Until(time.UnixMilli(m.GetUnixMs())))
	c.certificateEnds = time.Time{}
	if ends := time.UnixMilli(m.GetCertificateEndsUnixMs()); ends.Unix() > 0 && ends.UTC().Year() <= 9999 { // what an answer may hold
		c.certificateEnds = ends
	}
}
