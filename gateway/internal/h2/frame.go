// Package h2 is the server's side of an HTTP/2 connection (RFC 9113) without
// the connection: frames, streams, flow control and what must be refused.
//
// The gateway feeds a Session the bytes that came and gets Events; what has to be
// sent collects in Out. It is pure: it has no socket, no clock and no goroutine,
// and allocates nothing for a call. It must never buffer bodies, trust a length
// before it is checked, or let a client make it work or remember without bound:
// header lists, concurrent streams, resets and frames that ask for nothing but
// work are all counted.
//
// Header blocks are read by golang.org/x/net/http2/hpack. They are written
// without a dynamic table, so that streams may encode theirs side by side.
package h2

import "encoding/binary"

// Preface is what a client sends first.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	headLen = 9
	// MaxFrame is the most bytes that a frame carries in either direction: the
	// protocol's initial value, which is never raised here.
	MaxFrame = 16384
)

// Types of frames.
const (
	typeData         = 0
	typeHeaders      = 1
	typePriority     = 2
	typeReset        = 3
	typeSettings     = 4
	typePushPromise  = 5
	typePing         = 6
	typeGoAway       = 7
	typeWindowUpdate = 8
	typeContinuation = 9
)

// Flags of frames.
const (
	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings.
const (
	settingTableSize     = 1
	settingEnablePush    = 2
	settingMaxStreams    = 3
	settingInitialWindow = 4
	settingMaxFrame      = 5
	settingMaxHeaderList = 6
)

// Code is an error code (RFC 9113, 7).
type Code uint32

// Codes that are used here.
const (
	NoError          Code = 0
	ProtocolError    Code = 1
	InternalError    Code = 2
	FlowControl      Code = 3
	StreamClosed     Code = 5
	FrameSize        Code = 6
	RefusedStream    Code = 7
	Cancel           Code = 8
	Compression      Code = 9
	EnhanceYourCalm  Code = 11
	HTTP11Required   Code = 13
	maxWindow             = 1<<31 - 1
	initialWindow         = 65535
	initialTableSize      = 4096
	maxSettingsEntry      = 32
	continuationsMax      = 64
	rememberedResets      = 128
)

// ConnError ends a connection: the peer is told Code in a GOAWAY.
type ConnError struct {
	Code   Code
	Reason string
}

func (e *ConnError) Error() string { return e.Reason }

// frame is a frame's head and its payload.
type frame struct {
	kind, flags uint8
	id          uint32
	payload     []byte
}

func appendHead(b []byte, length int, kind, flags uint8, id uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendReset(b []byte, id uint32, code Code) []byte {
	b = appendHead(b, 4, typeReset, 0, id)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendWindowUpdate(b []byte, id uint32, n int64) []byte {
	b = appendHead(b, 4, typeWindowUpdate, 0, id)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// unpad removes the padding of a DATA or HEADERS frame.
func (f *frame) unpad() error {
	if f.flags&flagPadded == 0 {
		return nil
	}
	if len(f.payload) == 0 {
		return &ConnError{FrameSize, "a padded frame without its length"}
	}
	pad := int(f.payload[0])
	f.payload = f.payload[1:]
	if pad > len(f.payload) {
		return &ConnError{ProtocolError, "more padding than frame"}
	}
	f.payload = f.payload[:len(f.payload)-pad]
	return nil
}
