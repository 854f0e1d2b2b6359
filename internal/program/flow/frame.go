package flow

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Limits of the protocol.
const (
	// MaxMessage is the most bytes of one message.
	MaxMessage = 1 << 20
	// MinWindow is the window that every receiver grants before it has said
	// more, and MaxWindow the most that it may grant. A window bounds what one
	// end holds of what the other sent and nobody has read.
	MinWindow = 16 << 10
	MaxWindow = 4 << 20
	// MaxSegment is the most bytes of a stream in one frame: how long one
	// conversation may hold up the others on the same path.
	MaxSegment = 32 << 10
	// MaxPayload is the most bytes behind a header.
	MaxPayload = 64 << 10
	// HeaderLen is the length of an encoded Header.
	HeaderLen = 48
)

// Addr names an end. Addresses are made from a secret of the program, so that
// nobody can send to an end that it was not told of.
type Addr [16]byte

func (a Addr) String() string { return hex.EncodeToString(a[:4]) }

// Type says what a frame is.
type Type uint8

// Frames between a node and its relay. Their addresses are the end they speak of.
const (
	Hello   Type = 1 // node → relay, first: Offset is the version, payload the node's id and credentials
	Welcome Type = 2 // relay → node: Offset is the version
	Refused Type = 3 // relay → node: the payload says why; the connection ends, or, with an address, the Bind failed
	Bind    Type = 4 // node → relay: Src lives here
	Unbind  Type = 5 // node → relay: Src is gone
	Ping    Type = 6 // either way, answered by Pong with the same Offset
	Pong    Type = 7
)

// Frames between ends, passed on by relays unopened.
const (
	Data Type = 16 // Offset is the stream position of the payload's first byte
	Ack  Type = 17 // Offset is the position up to which Dst's bytes were consumed
	Sync Type = 18 // how far Src got, see Flow; flagAnswer asks for the same
)

// flagAnswer is the flag of a Sync that wants one back.
const flagAnswer = 1

// Header begins every frame. Its encoding is fixed, big-endian:
//
//	type 1 | channel 1 | flags 2 | payload length 4 | dst 16 | src 16 | offset 8
type Header struct {
	Type     Type
	Channel  uint8
	Flags    uint16
	Len      int // of the payload
	Dst, Src Addr
	Offset   uint64
}

// Routed reports whether a relay passes the frame on to Dst.
func (h *Header) Routed() bool { return h.Type >= Data }

// Append appends the encoded header to b.
func (h *Header) Append(b []byte) []byte {
	b = append(b, byte(h.Type), h.Channel)
	b = binary.BigEndian.AppendUint16(b, h.Flags)
	b = binary.BigEndian.AppendUint32(b, uint32(h.Len))
	b = append(b, h.Dst[:]...)
	b = append(b, h.Src[:]...)
	return binary.BigEndian.AppendUint64(b, h.Offset)
}

// ErrProtocol is wrapped by every error about what the other side sent.
var ErrProtocol = errors.New("protocol error")

// ParseHeader reads the header at the start of b, which has at least HeaderLen bytes.
func ParseHeader(b []byte) (Header, error) {
	h := Header{
		Type:    Type(b[0]),
		Channel: b[1],
		Flags:   binary.BigEndian.Uint16(b[2:]),
		Dst:     Addr(b[8:24]),
		Src:     Addr(b[24:40]),
		Offset:  binary.BigEndian.Uint64(b[40:]),
	}
	n := binary.BigEndian.Uint32(b[4:])
	if n > MaxPayload {
		return h, fmt.Errorf("%w: a frame of %d bytes, at most %d are allowed", ErrProtocol, n, MaxPayload)
	}
	h.Len = int(n)
	if t := h.Type; t < Hello || t > Sync || (t > Pong && t < Data) {
		return h, fmt.Errorf("%w: unknown frame type %d", ErrProtocol, t)
	}
	return h, nil
}
