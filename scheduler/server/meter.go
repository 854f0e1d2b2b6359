package server

import (
	"context"
	"encoding/binary"
	"math"
	"net"
	"sync"

	"golang.org/x/net/http2"

	"github.com/rota-project/rota/auth"
)

// meter is a connection of gRPC on which what is received is paid for as it comes:
// a message by its length when its first bytes are here, until it has come whole.
// gRPC itself tells of a message only when all of it is in memory, and a stream may
// begin one at any time. It reads the frames of HTTP/2 that pass, and changes none.
type meter struct {
	net.Conn
	pass   *auth.Pass
	most   int // bytes of a message; gRPC refuses longer ones before it reads them
	ctx    context.Context
	cancel context.CancelFunc
	failed func(error) // told why the connection is ended here

	in, out frames // of one goroutine each

	mu     sync.Mutex
	last   uint32 // the newest stream
	coming map[uint32]*coming
}

// coming is what is known of the message that comes on a stream.
type coming struct {
	prefix [5]byte // whether it is compressed, and its length
	have   int     // bytes of prefix
	left   int     // bytes of the message
	paid   int
}

// unmetered are the bytes of messages that are not paid for: the window of a stream,
// of which all those of a connection share the connection's.
const unmetered = streamWindow

func newMeter(c net.Conn, pass *auth.Pass, most int, failed func(error)) *meter {
	m := &meter{Conn: c, pass: pass, most: most, failed: failed, coming: map[uint32]*coming{}}
	m.in.skip = len(http2.ClientPreface)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Read waits for room for a message that begins, and ends the connection if there is
// none in time.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if e := m.in.pass(p[:n], m.opened, m.data, m.ended); e != nil {
		m.failed(e)
		_ = m.Close()
		return 0, e
	}
	return n, err
}

// Write looks for streams that end on this side, while the other may go on.
func (m *meter) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	_ = m.out.pass(p[:n], nil, nil, m.ended)
	return n, err
}

// Close gives everything back.
func (m *meter) Close() error {
	m.cancel()
	m.pass.End()
	return m.Conn.Close()
}

// opened takes note of a new stream. Frames of those that have ended are nothing.
func (m *meter) opened(h http2.FrameHeader) {
	if h.Type != http2.FrameHeaders {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.StreamID > m.last {
		m.last = h.StreamID
		m.coming[h.StreamID] = &coming{}
	}
}

func (m *meter) ended(h http2.FrameHeader) {
	over := h.Type == http2.FrameRSTStream ||
		(h.Type == http2.FrameData || h.Type == http2.FrameHeaders) && h.Flags.Has(http2.FlagDataEndStream)
	if !over {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.coming[h.StreamID]; c != nil {
		m.pass.Give(c.paid)
		delete(m.coming, h.StreamID)
	}
}

// data follows the messages of a stream.
func (m *meter) data(h http2.FrameHeader, b []byte) error {
	for len(b) > 0 {
		price, n := m.follow(h.StreamID, b)
		if price > 0 {
			if err := m.pass.Take(m.ctx, price); err != nil {
				return err
			}
			m.paid(h.StreamID, price)
		}
		b = b[n:]
	}
	return nil
}

// follow takes the next n bytes of a stream, and says what is to be paid for the
// message that they have begun.
func (m *meter) follow(stream uint32, b []byte) (price, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.coming[stream]
	if c == nil {
		return 0, len(b)
	}
	if c.left > 0 {
		n = min(c.left, len(b))
		if c.left -= n; c.left == 0 {
			m.pass.Give(c.paid)
			c.paid = 0
		}
		return 0, n
	}
	n = copy(c.prefix[c.have:], b)
	if c.have += n; c.have < len(c.prefix) {
		return 0, n
	}
	c.have = 0
	c.left = int(min(binary.BigEndian.Uint32(c.prefix[1:]), math.MaxInt32))
	switch {
	case c.left == 0 || c.left > m.most:
		return 0, n
	case c.prefix[0] != 0:
		return m.most, n // it may become that
	case c.left <= unmetered:
		return 0, n
	}
	return c.left, n
}

// paid takes note of what was paid for the message that comes on a stream, unless
// that has ended meanwhile.
func (m *meter) paid(stream uint32, price int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.coming[stream]; c != nil {
		c.paid = price
		return
	}
	m.pass.Give(price)
}

// frames reads what is between the frames of HTTP/2 in one direction.
type frames struct {
	skip   int // bytes before the first frame
	head   [9]byte
	have   int // bytes of head
	header http2.FrameHeader
	left   int // bytes of the frame's payload
	data   int // those of them that are data; -1 if how much is padding is to be read first
}

// pass reads b: it says which frames begin and end, and the data of each. Nil
// functions are not called.
func (f *frames) pass(b []byte, begin func(http2.FrameHeader), data func(http2.FrameHeader, []byte) error, end func(http2.FrameHeader)) error {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(b))
			f.skip -= n
			b = b[n:]
			continue
		}
		if f.have < len(f.head) {
			n := copy(f.head[f.have:], b)
			b = b[n:]
			if f.have += n; f.have < len(f.head) {
				return nil
			}
			f.begin()
			if begin != nil {
				begin(f.header)
			}
		}
		n := min(f.left, len(b))
		if err := f.payload(b[:n], data); err != nil {
			return err
		}
		f.left -= n
		b = b[n:]
		if f.left == 0 {
			f.have = 0
			end(f.header)
		}
	}
	return nil
}

func (f *frames) begin() {
	f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
	f.header = http2.FrameHeader{
		Type: http2.FrameType(f.head[3]), Flags: http2.Flags(f.head[4]), Length: uint32(f.left),
		StreamID: binary.BigEndian.Uint32(f.head[5:]) & (1<<31 - 1),
	}
	switch {
	case f.header.Type != http2.FrameData:
		f.data = 0
	case f.header.Flags.Has(http2.FlagDataPadded):
		f.data = -1
	default:
		f.data = f.left
	}
}

func (f *frames) payload(b []byte, data func(http2.FrameHeader, []byte) error) error {
	if f.data < 0 && len(b) > 0 {
		f.data = max(f.left-1-int(b[0]), 0)
		b = b[1:]
	}
	n := min(f.data, len(b))
	if n <= 0 || data == nil {
		return nil
	}
	f.data -= n
	return data(f.header, b[:n])
}
