// Package sock has connections as the gateway uses them, to clients and to workers, with
// TLS or without: they wait without a buffer, and tell what of them was not read, where that
// can be known. It must never know HTTP.
package sock

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/rota-project/rota/gateway/internal/tcp"
)

// Sock is a connection with what the engine asks of it besides.
type Sock struct {
	NC    net.Conn
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

// Init makes it that of a connection.
func (s *Sock) Init(nc net.Conn) {
	s.NC = nc
	s.own, _ = nc.(looker)
}

func (s *Sock) Read(p []byte) (int, error)  { return s.NC.Read(p) }
func (s *Sock) Write(p []byte) (int, error) { return s.NC.Write(p) }

// Ask writes all of out and then reads the beginning of the answer into in. wrote
// says how much was written, whatever came of it.
func (s *Sock) Ask(out, in []byte) (n, wrote int, err error) {
	if wrote, err = s.Write(out); err == nil {
		n, err = s.Read(in)
	}
	return n, wrote, err
}

// Idle waits for the first bytes of a request. It takes a buffer from l when
// something has come, or where that cannot be known but by reading. On success the
// buffer stays lent and holds n bytes.
func (s *Sock) Idle(l tcp.Lender) (n int, err error) {
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

// Each calls do with what comes, to its end or do's error. Where it can it has no
// buffer while nothing comes.
func (s *Sock) Each(do func(p []byte) error) error {
	var b Borrowed
	for {
		n, err := s.take(&b)
		if err == nil {
			err = do((*b.Buf)[:n])
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
func (s *Sock) take(b *Borrowed) (n int, err error) {
	if s.own != nil {
		return s.own.Idle(b)
	}
	if n, err = s.NC.Read(b.Lend()); n > 0 {
		return n, nil // an error comes again
	}
	b.TakeBack()
	return 0, err
}

// Borrowed is a buffer of those for bodies, or none; it is its own tcp.Lender.
type Borrowed struct{ Buf *[]byte }

// Lend implements tcp.Lender.
func (b *Borrowed) Lend() []byte {
	b.Buf = GetPiece()
	return *b.Buf
}

// TakeBack implements tcp.Lender.
func (b *Borrowed) TakeBack() {
	PutPiece(b.Buf)
	b.Buf = nil
}

// Alive looks, without waiting, whether an idle connection is still open and has
// nothing to say. Where that cannot be known it is believed to be.
func (s *Sock) Alive() bool {
	if s.own == nil {
		return tcp.Silent(s.NC)
	}
	return s.own.Silent()
}

// Acked is how many bytes the peer's system has acknowledged on this connection.
// What it has not acknowledged, the peer's program cannot have read. ok is false
// where that cannot be known.
func (s *Sock) Acked() (bytes uint64, ok bool) {
	if s.own == nil {
		return 0, false
	}
	return s.own.Acked()
}

// Gone looks, without waiting, whether the peer has closed the connection, as far
// as that can be known. It may be called while somebody reads.
func Gone(nc net.Conn) bool {
	p, ok := nc.(looker)
	return ok && p.Gone()
}

// PieceSize is how much of a body is carried at once.
const PieceSize = 32 << 10

var pieces = sync.Pool{New: func() any { b := make([]byte, PieceSize); return &b }}

// GetPiece returns a buffer for a piece of a body, which goes to putPiece afterwards.
func GetPiece() *[]byte {
	b, _ := pieces.Get().(*[]byte) // it holds nothing else
	return b
}

// PutPiece takes a buffer back.
func PutPiece(b *[]byte) { pieces.Put(b) }

// LongAgo is a deadline that is over: it wakes whoever reads or writes.
var LongAgo = time.Unix(1, 0)
