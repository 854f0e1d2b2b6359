package flow

import (
	"encoding/binary"
	"fmt"
)

// sender is the sending side of one channel: it keeps the bytes from acked on
// until the other end has consumed them.
type sender struct {
	q      queue
	acked  uint64 // stream position of the first byte in q
	sent   uint64 // next position to send; acked <= sent <= high <= end
	high   uint64 // the furthest that was ever sent; sent goes back after a cut
	window uint64
}

func (s *sender) end() uint64 { return s.acked + uint64(s.q.len()) }

// full reports whether the next message has to wait. One message may exceed
// the window, so that any message up to MaxMessage fits into any window.
func (s *sender) full() bool { return uint64(s.q.len()) >= s.window }

func (s *sender) append(tag uint64, data []byte) {
	s.q.reserve(2*binary.MaxVarintLen64 + len(data))
	s.q.buf = binary.AppendUvarint(s.q.buf, tag)
	s.q.buf = binary.AppendUvarint(s.q.buf, uint64(len(data)))
	s.q.buf = append(s.q.buf, data...)
}

// sendable is the number of bytes that may go now.
func (s *sender) sendable() int {
	limit := min(s.end(), s.acked+s.window)
	if limit <= s.sent {
		return 0
	}
	return int(limit - s.sent)
}

// next takes up to n bytes to send.
func (s *sender) next(n int) (offset uint64, p []byte) {
	n = min(n, s.sendable())
	at := int(s.sent - s.acked)
	offset, p = s.sent, s.q.bytes()[at:at+n]
	s.sent += uint64(n)
	s.high = max(s.high, s.sent)
	return offset, p
}

// ack takes note of what the other end has consumed. Late news change nothing.
func (s *sender) ack(consumed uint64) error {
	if consumed > s.high {
		return fmt.Errorf("%w: byte %d acknowledged, %d were sent", ErrProtocol, consumed, s.high)
	}
	if consumed > s.acked {
		s.q.discard(int(consumed - s.acked))
		s.acked = consumed
		s.sent = max(s.sent, consumed)
	}
	return nil
}

// rewind goes back to what the other end has received.
func (s *sender) rewind(received uint64) error {
	if received > s.high {
		return fmt.Errorf("%w: byte %d received, %d were sent", ErrProtocol, received, s.high)
	}
	s.sent = max(received, s.acked)
	return nil
}

// receiver is the receiving side of one channel.
type receiver struct {
	q        queue
	consumed uint64 // position up to which the reader has taken
	received uint64 // position up to which bytes arrived; q holds what is between
	told     uint64 // the consumed that the other end knows
	force    bool   // tell it at the next chance
	window   uint64

	part     []byte // a message that has come in part, of length partLen
	partLen  int
	partTag  uint64
	slab     []byte // where small messages are cut from
	messages uint64 // taken so far
}

// receive takes bytes of the stream. ok is false if some before them are missing.
func (r *receiver) receive(offset uint64, p []byte) (ok bool, err error) {
	if offset > r.received {
		return false, nil
	}
	if skip := r.received - offset; skip > 0 { // sent again after a cut
		if skip >= uint64(len(p)) {
			return true, nil
		}
		p = p[skip:]
	}
	if r.received+uint64(len(p))-r.consumed > r.window {
		return false, fmt.Errorf("%w: more than the window of %d bytes", ErrProtocol, r.window)
	}
	r.q.write(p)
	r.received += uint64(len(p))
	return true, nil
}

// Small messages are cut from slabs, so that they cost a fraction of an
// allocation; a reader that keeps one keeps at most slabSize bytes alive.
const (
	slabSize = 4 << 10
	smallMax = slabSize / 8
)

func (r *receiver) space(n int) []byte {
	if n > smallMax {
		return make([]byte, n)
	}
	if len(r.slab) < n {
		r.slab = make([]byte, slabSize)
	}
	b := r.slab[:n:n]
	r.slab = r.slab[n:]
	return b
}

func (r *receiver) consume(n int) {
	r.q.discard(n)
	r.consumed += uint64(n)
}

// take returns the next whole message.
func (r *receiver) take() (tag uint64, data []byte, ok bool, err error) {
	b := r.q.bytes()
	if r.part == nil {
		if len(b) == 0 {
			return 0, nil, false, nil
		}
		tag, n := binary.Uvarint(b)
		size, m := binary.Uvarint(b[max(n, 0):])
		switch {
		case n < 0 || m < 0:
			return 0, nil, false, fmt.Errorf("%w: a message's head is no number", ErrProtocol)
		case n == 0 || m == 0:
			return 0, nil, false, nil
		case size > MaxMessage:
			return 0, nil, false, fmt.Errorf("%w: a message of %d bytes, at most %d are allowed", ErrProtocol, size, MaxMessage)
		}
		head, want := n+m, int(size)
		data = r.space(want)
		if len(b)-head >= want {
			copy(data, b[head:])
			r.consume(head + want)
			r.messages++
			return tag, data, true, nil
		}
		r.part, r.partLen, r.partTag = data[:0], want, tag
		r.consume(head)
		b = r.q.bytes()
	}
	// The rest of a message that is larger than what has come. Its bytes count
	// as consumed: they no longer take room in the window.
	n := min(len(b), r.partLen-len(r.part))
	r.part = append(r.part, b[:n]...)
	r.consume(n)
	if len(r.part) < r.partLen {
		return 0, nil, false, nil
	}
	tag, data = r.partTag, r.part
	r.part = nil
	r.messages++
	return tag, data, true, nil
}

// ackDue reports whether the other end should hear how far this one has read.
// A quarter of a window keeps a sender going and costs little.
func (r *receiver) ackDue() bool {
	n := r.consumed - r.told
	return n > 0 && (r.force || n >= r.window/4)
}
