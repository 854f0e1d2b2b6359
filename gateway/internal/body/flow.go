// Package body reads the bodies of requests while they come: those of HTTP/1 from their
// connections, and those of net/http so that who waits can be sent away. The gateway's clients
// have one each. It must never keep a body.
package body

import (
	"errors"
	"io"
	"net"

	"github.com/rota-project/rota/gateway/internal/sock"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// WholeChunks is the size of the chunked body at the beginning of b, 0 if it has
// not yet come in full, and that of what is in the chunks.
func WholeChunks(b []byte) (size, data int, err error) {
	var ch wire.Chunks
	for !ch.Done() {
		d, _, n, err := ch.Next(b[size:])
		if err != nil {
			return 0, 0, err
		}
		if n == 0 && !ch.Done() {
			return 0, 0, nil
		}
		size += n
		data += len(d)
	}
	return size, data, nil
}

// Flow reads the body of a request over HTTP/1 that is not kept. It has a sock of its own:
// the connection's is the answer's.
type Flow struct {
	from   sock.Sock
	early  []byte // what has come already, of a body of known length
	left   int64  // what of it is to come
	chunks wire.Chunks
	buf    []byte // what has come of a chunked body: from at to n it is undecoded
	at, n  int
	data   []byte // decoded and not yet taken
	end    []byte // trailers
}

// BeginLength begins to read a body of that length, the first of which, and what follows it,
// may be here. It returns how many bytes of it are.
func (f *Flow) BeginLength(nc net.Conn, early []byte, length int64) int {
	*f = Flow{left: length, early: early[:min(int64(len(early)), length)]}
	f.from.Init(nc)
	return len(f.early)
}

// BeginChunks begins to read a chunked body, the first of which is here.
func (f *Flow) BeginChunks(nc net.Conn, early []byte) {
	*f = Flow{buf: make([]byte, max(len(early), sock.PieceSize))}
	f.from.Init(nc)
	f.n = copy(f.buf, early)
}

// Trailer is what followed the body, as lines.
func (f *Flow) Trailer() []byte { return f.end }

// Chunked says that the body is chunked.
func (f *Flow) Chunked() bool { return f.buf != nil }

// Rest is what came after a chunked body.
func (f *Flow) Rest() []byte { return f.buf[f.at:f.n] }

// Read returns some of the body, with io.EOF its last.
func (f *Flow) Read(p []byte) (n int, err error) {
	if f.Chunked() {
		return f.readChunks(p)
	}
	return f.readLength(p)
}

func (f *Flow) readLength(p []byte) (n int, err error) {
	p = p[:min(int64(len(p)), f.left)]
	switch {
	case len(p) == 0:
		return 0, io.EOF
	case len(f.early) > 0:
		n = copy(p, f.early)
		f.early = f.early[n:]
	default:
		if n, err = f.from.Read(p); n == 0 {
			return 0, CutShort(err)
		}
	}
	if f.left -= int64(n); f.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

// CutShort is the error of a body that ends too early.
func CutShort(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (f *Flow) readChunks(p []byte) (n int, err error) {
	for {
		if len(f.data) > 0 {
			k := copy(p[n:], f.data)
			f.data = f.data[k:]
			if n += k; n == len(p) {
				return n, nil
			}
			continue
		}
		if f.chunks.Done() {
			return n, io.EOF
		}
		d, trailer, k, err := f.chunks.Next(f.buf[f.at:f.n])
		if err != nil {
			return n, err
		}
		f.at += k
		f.data = d
		if f.chunks.Done() {
			f.end = trailer
		}
		if k > 0 || f.chunks.Done() {
			continue
		}
		if n > 0 {
			return n, nil
		}
		copy(f.buf, f.buf[f.at:f.n])
		f.n -= f.at
		f.at = 0
		if f.n == len(f.buf) {
			return 0, errLongChunk
		}
		if k, err = f.from.Read(f.buf[f.n:]); k == 0 {
			return 0, CutShort(err)
		}
		f.n += k
	}
}

// errLongChunk is of trailers that nobody needs.
var errLongChunk = &wire.Error{Status: 400, Reason: "malformed chunk"}
