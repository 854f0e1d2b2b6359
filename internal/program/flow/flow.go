package flow

import (
	"encoding/binary"
	"fmt"
)

// The channels of a Flow.
const (
	Messages = 0 // read when the reader gets to it
	Replies  = 1 // read at once; what goes here answers something
	channels = 2
)

// Flow is one end's half of a conversation between Self and Peer.
type Flow struct {
	self, peer Addr
	tx         [channels]sender
	rx         [channels]receiver
	sync       bool // a Sync is to be sent
	answer     bool // and wants an answer
	gap        bool // bytes are missing and a Sync was sent for them
}

// New returns the half of a conversation. Window is what this end grants its
// peer, in bytes, brought into MinWindow..MaxWindow.
func New(self, peer Addr, window int) *Flow {
	f := &Flow{self: self, peer: peer}
	w := uint64(min(max(window, MinWindow), MaxWindow))
	for i := range channels {
		f.tx[i].window = MinWindow
		f.rx[i].window = w
	}
	return f
}

// Peer is the other end.
func (f *Flow) Peer() Addr { return f.peer }

// Connected says that there is a new path to the peer: what was under way may
// be lost, so both ends have to say how far they got.
func (f *Flow) Connected() { f.sync, f.answer, f.gap = true, true, false }

// Full reports whether a message on the channel has to wait until the peer has read more.
func (f *Flow) Full(channel uint8) bool { return f.tx[channel].full() }

// Append adds a message to what is to be sent. It copies data. The caller asks
// Full first, and keeps to MaxMessage.
func (f *Flow) Append(channel uint8, tag uint64, data []byte) { f.tx[channel].append(tag, data) }

// Take returns the next message that has come whole.
func (f *Flow) Take(channel uint8) (tag uint64, data []byte, ok bool, err error) {
	return f.rx[channel].take()
}

// Readable reports whether bytes wait for Take.
func (f *Flow) Readable(channel uint8) bool { return f.rx[channel].q.len() > 0 }

// AckNow has the peer told at the next chance how far this end has read.
func (f *Flow) AckNow(channel uint8) { f.rx[channel].force = true }

// Drained reports whether the peer has read all that was sent.
func (f *Flow) Drained() bool { return f.tx[Messages].q.len() == 0 && f.tx[Replies].q.len() == 0 }

// Progress counts the bytes that the peer is known to have read.
func (f *Flow) Progress(channel uint8) uint64 { return f.tx[channel].acked }

// Trim gives memory of empty buffers back.
func (f *Flow) Trim() {
	for i := range channels {
		f.tx[i].q.trim()
		f.rx[i].q.trim()
	}
}

// Buffered is the number of bytes that this end holds.
func (f *Flow) Buffered() int {
	n := 0
	for i := range channels {
		n += f.tx[i].q.len() + f.rx[i].q.len() + len(f.rx[i].part)
	}
	return n
}

const syncLen = 8 + channels*16

// Frame takes a frame from the peer. An error means that the peer does not
// keep to the protocol; the Flow is then of no more use.
func (f *Flow) Frame(h Header, payload []byte) error {
	if h.Src != f.peer || h.Dst != f.self {
		return fmt.Errorf("%w: a frame between other ends", ErrProtocol)
	}
	if h.Channel >= channels {
		return fmt.Errorf("%w: channel %d", ErrProtocol, h.Channel)
	}
	switch h.Type {
	case Data:
		ok, err := f.rx[h.Channel].receive(h.Offset, payload)
		if err != nil {
			return err
		}
		if ok {
			f.gap = false
		} else if !f.gap {
			f.gap, f.sync = true, true
		}
		return nil
	case Ack:
		return f.tx[h.Channel].ack(h.Offset)
	case Sync:
		return f.synced(h, payload)
	}
	return fmt.Errorf("%w: frame type %d between ends", ErrProtocol, h.Type)
}

func (f *Flow) synced(h Header, payload []byte) error {
	if len(payload) < syncLen {
		return fmt.Errorf("%w: a sync of %d bytes", ErrProtocol, len(payload))
	}
	window := binary.BigEndian.Uint64(payload)
	if window < MinWindow || window > MaxWindow {
		return fmt.Errorf("%w: a window of %d bytes", ErrProtocol, window)
	}
	for i := range channels {
		received := binary.BigEndian.Uint64(payload[8+i*16:])
		consumed := binary.BigEndian.Uint64(payload[16+i*16:])
		t := &f.tx[i]
		t.window = window
		if err := t.ack(consumed); err != nil {
			return err
		}
		if err := t.rewind(received); err != nil {
			return err
		}
	}
	if h.Flags&flagAnswer != 0 {
		f.sync = true
	}
	return nil
}

// Pending reports whether AppendFrames has something to say.
func (f *Flow) Pending() bool {
	if f.sync {
		return true
	}
	for i := range channels {
		if f.tx[i].sendable() > 0 || f.rx[i].ackDue() {
			return true
		}
	}
	return false
}

// AppendFrames appends encoded frames for the peer to dst, at most about budget
// bytes of stream.
func (f *Flow) AppendFrames(dst []byte, budget int) []byte {
	if f.sync {
		dst = f.appendSync(dst)
		for i := range channels {
			r := &f.rx[i]
			r.told, r.force = r.consumed, false
		}
		f.sync, f.answer = false, false
	}
	h := Header{Dst: f.peer, Src: f.self}
	for i := range channels {
		h.Channel = uint8(i)
		if r := &f.rx[i]; r.ackDue() {
			h.Type, h.Len, h.Offset = Ack, 0, r.consumed
			dst = h.Append(dst)
			r.told, r.force = r.consumed, false
		}
		for budget > 0 && f.tx[i].sendable() > 0 {
			var p []byte
			h.Type = Data
			h.Offset, p = f.tx[i].next(min(budget, MaxSegment))
			h.Len = len(p)
			dst = append(h.Append(dst), p...)
			budget -= len(p)
		}
	}
	return dst
}

// Hail appends a Sync that asks for an answer, to look for the peer on another
// path than the one that AppendFrames is for.
func (f *Flow) Hail(dst []byte) []byte {
	answer := f.answer
	f.answer = true
	dst = f.appendSync(dst)
	f.answer = answer
	return dst
}

func (f *Flow) appendSync(dst []byte) []byte {
	h := Header{Type: Sync, Dst: f.peer, Src: f.self, Len: syncLen}
	if f.answer {
		h.Flags = flagAnswer
	}
	dst = h.Append(dst)
	dst = binary.BigEndian.AppendUint64(dst, f.rx[Messages].window)
	for i := range channels {
		dst = binary.BigEndian.AppendUint64(dst, f.rx[i].received)
		dst = binary.BigEndian.AppendUint64(dst, f.rx[i].consumed)
	}
	return dst
}
