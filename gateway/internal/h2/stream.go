package h2

import (
	"slices"
)

// headers reads a HEADERS frame: a request, or its trailers.
func (s *Session) headers(f *frame, ev *Event) error {
	if f.id&1 == 0 {
		return &ConnError{ProtocolError, "HEADERS on a stream that is not a client's"}
	}
	if err := f.unpad(); err != nil {
		return err
	}
	if f.flags&flagPriority != 0 {
		if len(f.payload) < 5 {
			return &ConnError{FrameSize, "malformed HEADERS"}
		}
		f.payload = f.payload[5:]
	}
	if f.flags&flagEndHeaders == 0 {
		s.block = append(s.block[:0], f.payload...)
		s.blockOf, s.expecting, s.continuations = *f, true, 0
		s.blockOf.payload = nil
		return nil
	}
	return s.head(f, f.payload, ev)
}

func (s *Session) continuation(f *frame, ev *Event) error {
	s.continuations++
	if len(s.block)+len(f.payload) > s.cfg.HeadBytes+MaxFrame || s.continuations > continuationsMax {
		return &ConnError{EnhanceYourCalm, "a header block without end"}
	}
	s.block = append(s.block, f.payload...)
	if err := s.bother(); err != nil || f.flags&flagEndHeaders == 0 {
		return err // one frame would hold most heads
	}
	s.expecting = false
	err := s.head(&s.blockOf, s.block, ev)
	if cap(s.block) > MaxFrame {
		s.block = nil
	}
	return err
}

// head decodes a whole header block. It must be decoded whatever becomes of it,
// because the blocks build upon each other.
func (s *Session) head(f *frame, block []byte, ev *Event) error {
	s.heads, s.fields, s.listSize, s.tooLarge = s.heads[:0], s.fields[:0], 0, false
	if _, err := s.dec.Write(block); err != nil {
		return &ConnError{Compression, "malformed header block"}
	}
	if err := s.dec.Close(); err != nil {
		return &ConnError{Compression, "malformed header block"}
	}
	ev.ID, ev.Head, ev.Fields, ev.TooLarge = f.id, s.heads, s.fields, s.tooLarge
	ev.End = f.flags&flagEndStream != 0
	if s.tooLarge {
		if err := s.spend(tooLargeCost, "too many header lists that are too long"); err != nil {
			return err
		}
	}
	if st := s.streams[f.id]; st != nil {
		return s.trailers(st, ev)
	}
	if f.id <= s.last {
		if s.isLate(f.id, 0, ev.End) || s.wasReset(f.id) {
			return s.bother()
		}
		return &ConnError{StreamClosed, "HEADERS on a stream that has ended"}
	}
	s.last = f.id
	if s.leaving {
		s.remember(f.id) // it knows that this one was not taken: what follows is ignored
		return s.bother()
	}
	if s.open >= s.cfg.Streams {
		s.Out = appendReset(s.Out, f.id, RefusedStream)
		s.remember(f.id)
		return s.bother()
	}
	ev.Kind = Request
	return nil
}

func (s *Session) trailers(st *Stream, ev *Event) error {
	ev.Stream = st
	switch {
	case st.recvClosed:
		return s.broken(st, StreamClosed, ev)
	case !ev.End, ev.TooLarge, st.want >= 0 && st.want != st.got:
		return s.broken(st, ProtocolError, ev)
	}
	ev.Kind = Trailers
	s.received(st)
	return nil
}

func (s *Session) data(f *frame, ev *Event) error {
	if f.id == 0 || f.id > s.last {
		return &ConnError{ProtocolError, "DATA on an idle stream"}
	}
	size := int64(len(f.payload)) // padding counts
	if size > s.recv {
		return &ConnError{FlowControl, "more data than the window"}
	}
	s.recv -= size
	if err := f.unpad(); err != nil {
		return err
	}
	st := s.streams[f.id]
	if st == nil {
		s.consumed(size)
		switch end := f.flags&flagEndStream != 0; {
		case s.isLate(f.id, size, end):
			if size > 0 || end {
				return nil // its room bounds it
			}
		case !s.wasReset(f.id):
			s.Out = appendReset(s.Out, f.id, StreamClosed)
			s.remember(f.id)
		}
		return s.bother()
	}
	ev.ID, ev.Stream, ev.End = f.id, st, f.flags&flagEndStream != 0
	switch {
	case st.recvClosed:
		s.consumed(size)
		return s.broken(st, StreamClosed, ev)
	case size > st.recv:
		s.consumed(size)
		return s.broken(st, FlowControl, ev)
	}
	st.recv -= size
	st.got += int64(len(f.payload))
	if st.want >= 0 && (st.got > st.want || ev.End && st.got != st.want) {
		s.consumed(size)
		return s.broken(st, ProtocolError, ev)
	}
	s.Consume(st, size-int64(len(f.payload)))
	ev.Kind, ev.Data = Data, f.payload
	if ev.End {
		s.received(st)
	} else if len(f.payload) == 0 {
		return s.bother()
	}
	return nil
}

// received notes that the client's side of a stream has ended.
func (s *Session) received(st *Stream) {
	st.recvClosed = true
	if st.sendClosed {
		delete(s.streams, st.id)
	}
}

// Accept takes the call that a Request event has begun. length is its
// Content-Length, -1 if there is none. Each must be Released once.
func (s *Session) Accept(ev *Event, st *Stream, length int64) {
	*st = Stream{Owner: st.Owner, id: ev.ID, send: s.peerWindow, recv: s.cfg.StreamWindow, want: length, recvClosed: ev.End}
	s.streams[st.id] = st
	s.open++
}

// Refuse ends the call that a Request event has begun, unheard: its head is
// malformed.
func (s *Session) Refuse(id uint32, code Code) error {
	s.Out = appendReset(s.Out, id, code)
	s.remember(id)
	return s.reseted()
}

// Release ends the owner's interest in a call. unread is how much of its body
// has come and was not consumed.
func (s *Session) Release(st *Stream, unread int64) {
	switch {
	case st.dropped:
	case st.sendClosed && st.recvClosed:
		s.spare = min(s.spare+1, spareMost)
	case st.sendClosed: // answered in full: the rest of the request is of no use
		s.outlast(st)
	default:
		s.Reset(st, Cancel)
	}
	s.consumed(unread)
	s.open--
}

// Consume gives the client room for n more bytes of a request's body.
func (s *Session) Consume(st *Stream, n int64) {
	s.consumed(n)
	if st.recvClosed {
		return
	}
	if st.credit += n; st.credit >= s.cfg.StreamWindow/2 {
		s.Out = appendWindowUpdate(s.Out, st.id, st.credit)
		st.recv += st.credit
		st.credit = 0
	}
}

func (s *Session) consumed(n int64) {
	if s.credit += n; s.credit >= s.cfg.ConnWindow/2 {
		s.Out = appendWindowUpdate(s.Out, 0, s.credit)
		s.recv += s.credit
		s.credit = 0
	}
}

// Reset ends a stream from here.
func (s *Session) Reset(st *Stream, code Code) {
	if s.streams[st.id] != st {
		return
	}
	s.Out = appendReset(s.Out, st.id, code)
	s.remember(st.id)
	s.drop(st)
}

func (s *Session) remember(id uint32) {
	s.resets[s.reset] = id
	s.reset = (s.reset + 1) % len(s.resets)
}

func (s *Session) wasReset(id uint32) bool { return slices.Contains(s.resets[:], id) }

// Room is how many bytes of a body may be sent now, a frame at most.
func (s *Session) Room(st *Stream) int {
	return int(max(0, min(st.send, s.send, MaxFrame)))
}

// Head appends a header block: an informational answer, the head of an answer,
// or its trailers.
func (s *Session) Head(st *Stream, block []byte, end bool) {
	if st.sendClosed {
		return
	}
	prefix := 0
	if s.shrinkTable {
		prefix = 1
	}
	kind, flags := uint8(typeHeaders), uint8(0)
	if end {
		flags = flagEndStream
	}
	for first := true; first || len(block) > 0; first = false {
		n := min(len(block), MaxFrame-prefix)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		s.Out = appendHead(s.Out, n+prefix, kind, flags, st.id)
		if prefix > 0 {
			s.Out = append(s.Out, 0x20) // a table of no size
			s.shrinkTable, prefix = false, 0
		}
		s.Out = append(s.Out, block[:n]...)
		block = block[n:]
		kind, flags = typeContinuation, 0
	}
	if end {
		s.sent(st)
	}
}

// Data appends a piece of a body, which must fit into Room.
func (s *Session) Data(st *Stream, p []byte, end bool) {
	if st.sendClosed {
		return
	}
	flags := uint8(0)
	if end {
		flags = flagEndStream
	}
	s.send -= int64(len(p))
	st.send -= int64(len(p))
	s.updates = min(s.updates+updatesPerFrame, updatesMost)
	s.Out = appendHead(s.Out, len(p), typeData, flags, st.id)
	s.Out = append(s.Out, p...)
	if end {
		s.sent(st)
	}
}

func (s *Session) sent(st *Stream) {
	st.sendClosed = true
	if st.recvClosed {
		delete(s.streams, st.id)
	}
}
