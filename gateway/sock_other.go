//go:build !linux

package gateway

import (
	"errors"
	"net"
	"os"
	"time"
)

// sock reads and writes a connection, by the means that every system has.
type sock struct {
	nc    net.Conn
	first [1]byte
}

func (s *sock) init(nc net.Conn) { s.nc = nc }

func (s *sock) Read(p []byte) (int, error)  { return s.nc.Read(p) }
func (s *sock) Write(p []byte) (int, error) { return s.nc.Write(p) }

// Ask writes all of out and then reads the beginning of the answer into in.
func (s *sock) Ask(out, in []byte) (n, wrote int, err error) {
	if wrote, err = s.nc.Write(out); err == nil {
		n, err = s.nc.Read(in)
	}
	return n, wrote, err
}

// Idle waits for the first bytes of a request, in a buffer that l lends.
func (s *sock) Idle(l lender) (n int, err error) {
	return idle(s.nc, &s.first, l)
}

// Alive looks whether an idle connection is still open and has nothing to say.
func (s *sock) Alive() bool {
	var one [1]byte
	if s.nc.SetReadDeadline(longAgo) != nil {
		return false
	}
	_, err := s.nc.Read(one[:])
	return errors.Is(err, os.ErrDeadlineExceeded) && s.nc.SetReadDeadline(time.Time{}) == nil
}

// gone cannot be known here without reading.
func gone(net.Conn) bool { return false }

// Acked cannot be known here.
func (s *sock) Acked() (bytes uint64, ok bool) { return 0, false }
