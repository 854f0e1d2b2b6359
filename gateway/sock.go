package gateway

import (
	"errors"
	"io"
	"net"

	"github.com/rota-project/rota/gateway/internal/tcp"
)

// sock is a connection with what the engine asks of it besides.
type sock struct {
	nc    net.Conn
	own   looker // nil: it is not of package tcp, or TLS is in between
	first [1]byte
}

// looker is what a connection can that package tcp has taken over.
type looker interface {
	Idle(l tcp.Lender) (int, error)
	Silent() bool
	Gone() bool
	Acked() (uint64, bool)
}

func (s *sock) init(nc net.Conn) {
	s.nc = nc
	s.own, _ = nc.(looker)
}

func (s *sock) Read(p []byte) (int, error)  { return s.nc.Read(p) }
func (s *sock) Write(p []byte) (int, error) { return s.nc.Write(p) }

// Ask writes all of out and then reads the beginning of the answer into in. wrote
// says how much was written, whatever came of it.
func (s *sock) Ask(out, in []byte) (n, wrote int, err error) {
	if wrote, err = s.Write(out); err == nil {
		n, err = s.Read(in)
	}
	return n, wrote, err
}

// Idle waits for the first bytes of a request. It takes a buffer from l when
// something has come, or where that cannot be known but by reading. On success the
// buffer stays lent and holds n bytes.
func (s *sock) Idle(l tcp.Lender) (n int, err error) {
	if s.own != nil {
		return s.own.Idle(l)
	}
	// Below TLS nobody tells when there is something to read: wait for one byte, what
	// follows it is as good as there.
	if n, err = s.Read(s.first[:]); n == 0 {
		return 0, err
	}
	l.Lend()[0] = s.first[0]
	return n, nil
}

// each calls do with what comes, to its end or do's error. Where it can it has no
// buffer while nothing comes.
func (s *sock) each(do func(p []byte) error) error {
	var b borrowed
	for {
		n, err := s.take(&b)
		if err == nil {
			err = do((*b.buf)[:n])
			b.TakeBack()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take reads some of what comes into a buffer, which stays lent on success.
func (s *sock) take(b *borrowed) (n int, err error) {
	if s.own != nil {
		return s.own.Idle(b)
	}
	if n, err = s.nc.Read(b.Lend()); n > 0 {
		return n, nil // an error comes again
	}
	b.TakeBack()
	return 0, err
}

// borrowed is a buffer of those for bodies, or none; it is its own tcp.Lender.
type borrowed struct{ buf *[]byte }

// Lend implements tcp.Lender.
func (b *borrowed) Lend() []byte {
	b.buf = getPumpBuffer()
	return *b.buf
}

// TakeBack implements tcp.Lender.
func (b *borrowed) TakeBack() {
	pumpBuffers.Put(b.buf)
	b.buf = nil
}

// Alive looks, without waiting, whether an idle connection is still open and has
// nothing to say. Where that cannot be known it is believed to be.
func (s *sock) Alive() bool {
	if s.own == nil {
		return tcp.Silent(s.nc)
	}
	return s.own.Silent()
}

// Acked is how many bytes the peer's system has acknowledged on this connection.
// What it has not acknowledged, the peer's program cannot have read. ok is false
// where that cannot be known.
func (s *sock) Acked() (bytes uint64, ok bool) {
	if s.own == nil {
		return 0, false
	}
	return s.own.Acked()
}

// gone looks, without waiting, whether the peer has closed the connection, as far
// as that can be known. It may be called while somebody reads.
func gone(nc net.Conn) bool {
	p, ok := nc.(looker)
	return ok && p.Gone()
}
