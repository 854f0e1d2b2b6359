package h2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2/hpack"
)

// Config bounds what a client may take.
type Config struct {
	// Streams is the most calls at once.
	Streams int
	// HeadBytes is the most bytes of a header list, counted as RFC 9113, 10.5.1
	// says: each header as its name, its value and 32.
	HeadBytes int
	// StreamWindow and ConnWindow are how many bytes of bodies may be under way
	// that nobody has consumed: of one call, of all.
	StreamWindow, ConnWindow int64
}

// Kind says what has happened.
type Kind uint8

// Kinds of events.
const (
	// None is a frame that asks nothing of the caller.
	None Kind = iota
	// Request begins a call: Accept or Refuse it.
	Request
	// Data is a piece of a request's body. It must be consumed in time.
	Data
	// Trailers end a request.
	Trailers
	// Gone means that a call is over before its end: the client has cancelled it,
	// or has broken a rule that ends only this call.
	Gone
	// Room means that more may be sent than before.
	Room
)

// Field is one header: the offsets of the ends of its name and value in Head.
// It begins where the one before it ends.
type Field struct{ Name, Value int }

// Event is what a frame has brought. What it points to holds until the next one.
type Event struct {
	Kind Kind
	ID   uint32
	// Stream is the call, except for Request.
	Stream *Stream
	// Head and Fields are the header list of Request and Trailers.
	Head   []byte
	Fields []Field
	// TooLarge says that the list was too long: Head has only its beginning.
	TooLarge bool
	Data     []byte
	// End says that the request ends here.
	End bool
	// Broken says that a call is Gone because the client has broken a rule.
	Broken bool
}

// All iterates over the header list.
func (ev *Event) All() func(yield func(name, value []byte) bool) {
	return func(yield func(name, value []byte) bool) {
		at := 0
		for _, f := range ev.Fields {
			if !yield(ev.Head[at:f.Name], ev.Head[f.Name:f.Value]) {
				return
			}
			at = f.Value
		}
	}
}

// Stream is one call. The zero value is ready for Accept.
type Stream struct {
	// Owner is whatever the caller wants to find again.
	Owner any

	id         uint32
	send       int64 // what may be sent
	recv       int64 // what may come
	credit     int64 // consumed and not yet given back
	want, got  int64 // Content-Length, -1 if there is none, and what has come
	recvClosed bool
	sendClosed bool
	dropped    bool // it was reset, from here or there
}

// Closed says whether nothing more can be sent.
func (st *Stream) Closed() bool { return st.sendClosed }

// Session is one connection. It is used under its owner's lock.
type Session struct {
	// Out is what has to be sent. The owner takes it away.
	Out []byte

	cfg     Config
	streams map[uint32]*Stream // those on which something may come or go
	open    int                // calls that the owner has not Released
	last    uint32             // the highest stream that has been begun
	dec     *hpack.Decoder

	greeted  bool // the client's SETTINGS has come
	leaving  bool // GOAWAY with a final number has been sent
	final    uint32
	heads    []byte  // the header list as it is decoded
	fields   []Field // of it
	listSize int
	tooLarge bool

	block         []byte // a header block that goes on in CONTINUATION
	blockOf       frame
	continuations int
	expecting     bool

	send, recv, credit int64
	peerWindow         int64
	shrinkTable        bool // say at the next header block that no table is used

	resets [rememberedResets]uint32 // streams that were reset from here, a ring
	reset  int

	calm, spare int // how much useless work, and how many resets, are left
	updates     int // how many more window updates the data that was sent explains

	late []lateStream // the oldest first
}

// Allowances of what costs a client nothing and the server something. They fill
// up with Tick; well-behaved clients stay far below.
const (
	calmMost  = 2000
	calmTick  = 200
	spareMost = 256
	spareTick = 20
	// tooLargeCost is what a header list that is too long costs of spare: it is
	// decoded to its end for nothing.
	tooLargeCost = 16
	// updatesPerFrame is how many window updates a frame of data that was sent may
	// bring, for nothing: a client that gives room piece by piece sends several.
	updatesPerFrame, updatesMost = 8, 1 << 16
)

// New begins a session: the preface has been read, our settings are in Out.
func New(cfg Config) *Session {
	s := &Session{
		cfg: cfg, streams: map[uint32]*Stream{}, send: initialWindow, recv: cfg.ConnWindow, peerWindow: initialWindow,
		calm: calmMost, spare: spareMost,
	}
	s.dec = hpack.NewDecoder(initialTableSize, s.emit)
	s.dec.SetMaxStringLength(2 * (cfg.HeadBytes + MaxFrame)) // more than a block has: what is too long is told by emit
	set := func(id uint16, v uint32) {
		s.Out = binary.BigEndian.AppendUint16(s.Out, id)
		s.Out = binary.BigEndian.AppendUint32(s.Out, v)
	}
	s.Out = appendHead(s.Out, 18, typeSettings, 0, 0)
	set(settingMaxStreams, uint32(cfg.Streams))
	set(settingInitialWindow, uint32(cfg.StreamWindow))
	set(settingMaxHeaderList, uint32(cfg.HeadBytes))
	s.Out = appendWindowUpdate(s.Out, 0, cfg.ConnWindow-initialWindow)
	return s
}

// Tick refills the allowances, and ends what has had its time. The owner calls it ten
// times a second.
func (s *Session) Tick() {
	s.tickLate()
	s.calm = min(s.calm+calmTick, calmMost)
	s.spare = min(s.spare+spareTick, spareMost)
}

// Calls says how many calls are not yet over.
func (s *Session) Calls() int { return s.open }

// Busy says whether a header block has begun and not ended.
func (s *Session) Busy() bool { return s.expecting || !s.greeted }

func (s *Session) emit(f hpack.HeaderField) {
	s.listSize += len(f.Name) + len(f.Value) + 32
	if s.listSize > s.cfg.HeadBytes {
		s.tooLarge = true
		return
	}
	s.heads = append(s.heads, f.Name...)
	name := len(s.heads)
	s.heads = append(s.heads, f.Value...)
	s.fields = append(s.fields, Field{name, len(s.heads)})
}

// Next takes one frame from the beginning of b. n is its length; 0 means that
// there is not a whole one yet. An error ends the connection: see Fail.
func (s *Session) Next(b []byte, ev *Event) (n int, err error) {
	*ev = Event{}
	if len(b) < headLen {
		return 0, nil
	}
	length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if length > MaxFrame {
		return 0, &ConnError{FrameSize, "a frame larger than allowed"}
	}
	if len(b) < headLen+length {
		return 0, nil
	}
	f := frame{kind: b[3], flags: b[4], id: binary.BigEndian.Uint32(b[5:]) & maxWindow, payload: b[headLen : headLen+length]}
	if err := s.frame(&f, ev); err != nil {
		return 0, err
	}
	return headLen + length, nil
}

func (s *Session) frame(f *frame, ev *Event) error {
	if s.expecting != (f.kind == typeContinuation) || s.expecting && f.id != s.blockOf.id {
		return &ConnError{ProtocolError, "a header block is interrupted"}
	}
	if !s.greeted && f.kind != typeSettings {
		return &ConnError{ProtocolError, "the first frame is not SETTINGS"}
	}
	switch f.kind {
	case typeData:
		return s.data(f, ev)
	case typeHeaders:
		return s.headers(f, ev)
	case typeContinuation:
		return s.continuation(f, ev)
	case typePriority:
		return s.priority(f)
	case typeReset:
		return s.resetBy(f, ev)
	case typeSettings:
		return s.settings(f, ev)
	case typePushPromise:
		return &ConnError{ProtocolError, "a client may not promise"}
	case typePing:
		return s.ping(f)
	case typeGoAway:
		if f.id != 0 || len(f.payload) < 8 {
			return &ConnError{ProtocolError, "malformed GOAWAY"}
		}
		return s.bother()
	case typeWindowUpdate:
		return s.windowUpdate(f, ev)
	}
	return s.bother() // unknown frames are ignored
}

// bother counts work that brings the client nothing.
func (s *Session) bother() error {
	if s.calm--; s.calm < 0 {
		return &ConnError{EnhanceYourCalm, "too many frames that ask for nothing"}
	}
	return nil
}

// Fail appends a GOAWAY for an error of Next.
func (s *Session) Fail(err error) {
	code := InternalError
	var ce *ConnError
	if errors.As(err, &ce) {
		code = ce.Code
	}
	last := s.last
	if s.leaving {
		last = s.final
	}
	s.goAway(last, code)
}

func (s *Session) goAway(last uint32, code Code) {
	s.Out = appendHead(s.Out, 8, typeGoAway, 0, 0)
	s.Out = binary.BigEndian.AppendUint32(s.Out, last)
	s.Out = binary.BigEndian.AppendUint32(s.Out, uint32(code))
}

// Warn tells the client that the connection will end, but not yet where: calls
// that are on their way are still taken.
func (s *Session) Warn() { s.goAway(maxWindow, NoError) }

// Leave tells the client which call was the last. Later ones are not taken, and
// the client knows that it may send them elsewhere.
func (s *Session) Leave() {
	if !s.leaving {
		s.leaving, s.final = true, s.last
		s.goAway(s.last, NoError)
	}
}

func (s *Session) ping(f *frame) error {
	if len(f.payload) != 8 {
		return &ConnError{FrameSize, "malformed PING"}
	}
	if f.id != 0 {
		return &ConnError{ProtocolError, "PING on a stream"}
	}
	if f.flags&flagAck == 0 {
		s.Out = appendHead(s.Out, 8, typePing, flagAck, 0)
		s.Out = append(s.Out, f.payload...)
	}
	return s.bother()
}

func (s *Session) priority(f *frame) error {
	if f.id == 0 {
		return &ConnError{ProtocolError, "PRIORITY without a stream"}
	}
	if len(f.payload) != 5 {
		return &ConnError{FrameSize, "malformed PRIORITY"}
	}
	return s.bother()
}

func (s *Session) settings(f *frame, ev *Event) error {
	switch {
	case f.id != 0:
		return &ConnError{ProtocolError, "SETTINGS on a stream"}
	case f.flags&flagAck != 0 && len(f.payload) != 0, len(f.payload)%6 != 0:
		return &ConnError{FrameSize, "malformed SETTINGS"}
	case f.flags&flagAck != 0:
		if !s.greeted {
			return &ConnError{ProtocolError, "the first frame is not SETTINGS"}
		}
		return s.bother()
	case len(f.payload)/6 > maxSettingsEntry:
		return &ConnError{EnhanceYourCalm, "too many settings"}
	}
	s.greeted = true
	for p := f.payload; len(p) > 0; p = p[6:] {
		v := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingTableSize:
			s.shrinkTable = s.shrinkTable || v < initialTableSize
		case settingEnablePush:
			if v > 1 {
				return &ConnError{ProtocolError, "malformed ENABLE_PUSH"}
			}
		case settingInitialWindow:
			if v > maxWindow {
				return &ConnError{FlowControl, "a window too large"}
			}
			delta := int64(v) - s.peerWindow
			s.peerWindow = int64(v)
			for _, st := range s.streams {
				if st.send += delta; st.send > maxWindow {
					return &ConnError{FlowControl, "a window too large"}
				}
			}
			ev.Kind = Room
		case settingMaxFrame:
			if v < MaxFrame || v > 1<<24-1 {
				return &ConnError{ProtocolError, "malformed MAX_FRAME_SIZE"}
			}
		}
	}
	s.Out = appendHead(s.Out, 0, typeSettings, flagAck, 0)
	return s.bother()
}

func (s *Session) windowUpdate(f *frame, ev *Event) error {
	if len(f.payload) != 4 {
		return &ConnError{FrameSize, "malformed WINDOW_UPDATE"}
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & maxWindow)
	if f.id == 0 {
		if n == 0 {
			return &ConnError{ProtocolError, "a window that grows by nothing"}
		}
		if s.send += n; s.send > maxWindow {
			return &ConnError{FlowControl, "a window too large"}
		}
		ev.Kind = Room
		return s.updated()
	}
	if f.id > s.last {
		return &ConnError{ProtocolError, "WINDOW_UPDATE on an idle stream"}
	}
	st := s.streams[f.id]
	if st == nil {
		return s.updated() // who has much of it unread gives room for a while after a stream has ended
	}
	if n == 0 {
		return s.broken(st, ProtocolError, ev)
	}
	if st.send += n; st.send > maxWindow {
		return s.broken(st, FlowControl, ev)
	}
	ev.Kind, ev.ID, ev.Stream = Room, f.id, st
	return s.updated()
}

// updated counts a window update: those that follow data are free.
func (s *Session) updated() error {
	if s.updates > 0 {
		s.updates--
		return nil
	}
	return s.bother()
}

func (s *Session) resetBy(f *frame, ev *Event) error {
	switch {
	case len(f.payload) != 4:
		return &ConnError{FrameSize, "malformed RST_STREAM"}
	case f.id == 0 || f.id > s.last:
		return &ConnError{ProtocolError, "RST_STREAM on an idle stream"}
	}
	st := s.streams[f.id]
	if st == nil {
		s.isLate(f.id, 0, true)
		return s.bother()
	}
	s.drop(st)
	ev.Kind, ev.ID, ev.Stream = Gone, f.id, st
	return s.reseted()
}

// reseted counts a call that a client has begun and made end early.
func (s *Session) reseted() error { return s.spend(1, "too many calls are cancelled") }

func (s *Session) spend(n int, reason string) error {
	if s.spare -= n; s.spare < 0 {
		return &ConnError{EnhanceYourCalm, reason}
	}
	return nil
}

// broken ends a stream on which the client has broken a rule.
func (s *Session) broken(st *Stream, code Code, ev *Event) error {
	s.Reset(st, code)
	ev.Kind, ev.ID, ev.Stream, ev.Broken = Gone, st.id, st, true
	return s.reseted()
}

// drop forgets a stream: nothing comes or goes on it any more.
func (s *Session) drop(st *Stream) {
	st.recvClosed, st.sendClosed, st.dropped = true, true, true
	delete(s.streams, st.id)
}
