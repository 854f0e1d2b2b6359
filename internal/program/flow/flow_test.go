package flow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

var (
	addrA = Addr{1}
	addrB = Addr{2}
)

// side is one end of a conversation under test: what it sent, what it read.
type side struct {
	f    *Flow
	path []byte // encoded frames on their way to the other side
	sent [channels]uint64
	read [channels]uint64
}

// message is what was sent as the nth on a channel: any other content at its
// place shows as a lost, doubled or reordered message.
func message(n uint64, channel uint8) []byte {
	size := int(n*n*31+uint64(channel)*7) % 300
	switch n % 97 {
	case 13:
		size = MinWindow + int(n) // larger than the window
	case 14:
		size = 0
	}
	b := bytes.Repeat([]byte{byte(n), '^', channel}, size/3+1)[:size]
	if size >= 8 {
		binary.BigEndian.PutUint64(b, n)
	}
	return b
}

func (s *side) send(channel uint8) {
	if !s.f.Full(channel) {
		s.f.Append(channel, s.sent[channel]<<1|uint64(channel), message(s.sent[channel], channel))
		s.sent[channel]++
	}
}

func (s *side) take(t interface{ Fatalf(string, ...any) }, channel uint8) {
	tag, data, ok, err := s.f.Take(channel)
	if err != nil {
		t.Fatalf("Take: %v", err)
	}
	if !ok {
		return
	}
	n := s.read[channel]
	if tag != n<<1|uint64(channel) || !bytes.Equal(data, message(n, channel)) {
		t.Fatalf("channel %d: read tag %d with %d bytes as message %d", channel, tag, len(data), n)
	}
	s.read[channel]++
}

// deliver hands up to n frames that are under way from s to other.
func (s *side) deliver(t interface{ Fatalf(string, ...any) }, other *side, n int) {
	for ; n > 0 && len(s.path) > 0; n-- {
		h, err := ParseHeader(s.path)
		if err != nil {
			t.Fatalf("ParseHeader: %v", err)
		}
		if err := other.f.Frame(h, s.path[HeaderLen:HeaderLen+h.Len]); err != nil {
			t.Fatalf("Frame: %v", err)
		}
		s.path = s.path[HeaderLen+h.Len:]
	}
}

// TestExactlyOnceInOrder cuts the path between two ends at any frame, in one or
// both directions, and lets either end notice alone, as a relay does that
// forwards to nobody. What is read is what was sent, whole and in order; what
// both hold stays within the windows; and when the cuts end everything arrives.
func TestExactlyOnceInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.IntRange(0, 2*MinWindow).Draw(t, "window")
		a, b := &side{f: New(addrA, addrB, window)}, &side{f: New(addrB, addrA, window)}
		a.f.Connected()
		both := [2]*side{a, b}
		for range rapid.IntRange(50, 600).Draw(t, "steps") {
			i := rapid.IntRange(0, 1).Draw(t, "side")
			s, other := both[i], both[1-i]
			channel := uint8(rapid.IntRange(0, channels-1).Draw(t, "channel"))
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			case 0, 1, 2:
				for range rapid.IntRange(1, 50).Draw(t, "messages") {
					s.send(channel)
				}
			case 3, 4:
				s.path = s.f.AppendFrames(s.path, rapid.IntRange(1, 4*MaxSegment).Draw(t, "budget"))
			case 5, 6:
				s.deliver(t, other, rapid.IntRange(1, 20).Draw(t, "frames"))
			case 7, 8:
				for range rapid.IntRange(1, 80).Draw(t, "reads") {
					s.take(t, channel)
				}
			case 9: // s lost its connection: nothing under way to or from it arrives
				s.path, other.path = nil, nil
				s.f.Connected()
			case 10: // both did
				s.path, other.path = nil, nil
				s.f.Connected()
				other.f.Connected()
			case 11:
				s.f.AckNow(channel)
				s.f.Trim()
			}
			if n := s.f.Buffered(); n > 2*channels*(max(window, MinWindow)+MaxMessage) {
				t.Fatalf("%d bytes held", n)
			}
		}
		for range 100_000 {
			if !a.f.Pending() && !b.f.Pending() && len(a.path)+len(b.path) == 0 && a.read == b.sent && b.read == a.sent {
				break
			}
			for i, s := range both {
				s.path = s.f.AppendFrames(s.path, MaxSegment)
				s.deliver(t, both[1-i], 10)
				for c := range uint8(channels) {
					for range 100 {
						s.take(t, c)
					}
				}
			}
		}
		if a.read != b.sent || b.read != a.sent {
			t.Fatalf("a sent %v, b read %v; b sent %v, a read %v", a.sent, b.read, b.sent, a.read)
		}
		for _, s := range both {
			s.f.AckNow(Messages)
			s.f.AckNow(Replies)
		}
		for i, s := range both {
			s.path = s.f.AppendFrames(s.path, MaxSegment)
			s.deliver(t, both[1-i], 10)
		}
		if !a.f.Drained() || !b.f.Drained() {
			t.Fatalf("a drained: %v, b drained: %v", a.f.Drained(), b.f.Drained())
		}
	})
}

// TestLateSync has a Sync arrive after what it asks for was already on its way:
// it costs bytes that are sent twice, and nothing else.
func TestLateSync(t *testing.T) {
	t.Parallel()
	a, b := &side{f: New(addrA, addrB, 0)}, &side{f: New(addrB, addrA, 0)}
	for range 12 {
		a.send(Messages)
	}
	a.path = a.f.AppendFrames(nil, MaxSegment)
	b.f.Connected()
	b.path = b.f.AppendFrames(nil, MaxSegment) // "nothing received"
	a.deliver(t, b, 100)
	for range 8 {
		b.take(t, Messages)
	}
	b.f.AckNow(Messages)
	b.path = b.f.AppendFrames(b.path, MaxSegment) // "8 consumed"
	b.deliver(t, a, 100)
	a.path = a.f.AppendFrames(a.path, MaxSegment)
	a.deliver(t, b, 100)
	for range 100 {
		b.take(t, Messages)
	}
	if b.read != a.sent {
		t.Fatalf("read %v of %v", b.read, a.sent)
	}
}

// TestUnreadStaysWithinWindow has one end send for ever to one that never reads.
func TestUnreadStaysWithinWindow(t *testing.T) {
	t.Parallel()
	a, b := &side{f: New(addrA, addrB, MinWindow)}, &side{f: New(addrB, addrA, MinWindow)}
	for range 10_000 {
		a.send(Messages)
		a.path = a.f.AppendFrames(a.path, MaxSegment)
		a.deliver(t, b, 100)
	}
	if a.sent[0] == 10_000 {
		t.Fatal("nothing held the sender back")
	}
	if n := b.f.Buffered(); n > MinWindow {
		t.Fatalf("the receiver holds %d bytes", n)
	}
	if n := a.f.Buffered(); n > 2*MinWindow+MaxMessage {
		t.Fatalf("the sender holds %d bytes", n)
	}
	for range 10 { // the other channel is not held up
		a.send(Replies)
	}
	a.path = a.f.AppendFrames(a.path, MaxSegment)
	a.deliver(t, b, 100)
	for range 10 {
		b.take(t, Replies)
	}
	if b.read[Replies] != 10 {
		t.Fatalf("%d replies came through", b.read[Replies])
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	syncPayload := func(window, received, consumed uint64) []byte {
		var b []byte
		for _, v := range []uint64{window, received, consumed, 0, 0} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
		return b
	}
	for name, c := range map[string]struct {
		h Header
		p []byte
	}{
		"another source":       {Header{Type: Data, Src: addrA, Dst: addrA}, nil},
		"another destination":  {Header{Type: Data, Src: addrB, Dst: addrB}, nil},
		"channel":              {Header{Type: Data, Channel: 9, Src: addrB, Dst: addrA}, nil},
		"type":                 {Header{Type: Bind, Src: addrB, Dst: addrA}, nil},
		"over the window":      {Header{Type: Data, Src: addrB, Dst: addrA}, make([]byte, MinWindow+1)},
		"ack of nothing":       {Header{Type: Ack, Src: addrB, Dst: addrA, Offset: 1}, nil},
		"short sync":           {Header{Type: Sync, Src: addrB, Dst: addrA}, make([]byte, 7)},
		"sync of no window":    {Header{Type: Sync, Src: addrB, Dst: addrA}, syncPayload(0, 0, 0)},
		"sync of huge window":  {Header{Type: Sync, Src: addrB, Dst: addrA}, syncPayload(1<<40, 0, 0)},
		"sync beyond sent":     {Header{Type: Sync, Src: addrB, Dst: addrA}, syncPayload(MinWindow, 5, 0)},
		"sync beyond consumed": {Header{Type: Sync, Src: addrB, Dst: addrA}, syncPayload(MinWindow, 0, 5)},
	} {
		if err := New(addrA, addrB, 0).Frame(c.h, c.p); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := New(addrA, addrB, 0)
	if err := f.Frame(Header{Type: Data, Src: addrB, Dst: addrA}, binary.AppendUvarint([]byte{0}, MaxMessage+1)); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := f.Take(Messages); !errors.Is(err, ErrProtocol) {
		t.Errorf("a message over the limit: %v", err)
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := Header{
			Type:    rapid.SampledFrom([]Type{Hello, Welcome, Refused, Bind, Unbind, Ping, Pong, Data, Ack, Sync}).Draw(t, "type"),
			Channel: rapid.Uint8().Draw(t, "channel"),
			Flags:   rapid.Uint16().Draw(t, "flags"),
			Len:     rapid.IntRange(0, MaxPayload).Draw(t, "len"),
			Offset:  rapid.Uint64().Draw(t, "offset"),
		}
		copy(h.Dst[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "dst"))
		copy(h.Src[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "src"))
		b := h.Append(nil)
		if len(b) != HeaderLen {
			t.Fatalf("%d bytes", len(b))
		}
		if got, err := ParseHeader(b); err != nil || got != h {
			t.Fatalf("%+v became %+v, %v", h, got, err)
		}
	})
}

// FuzzFrames feeds a Flow whatever a broken or hostile peer may send: it
// refuses, and neither panics nor keeps more than it granted.
func FuzzFrames(f *testing.F) {
	a := New(addrB, addrA, 0)
	a.Append(Messages, 1, []byte("one"))
	a.Append(Replies, 2, make([]byte, 5000))
	a.Connected()
	f.Add(a.AppendFrames(nil, MaxSegment))
	f.Fuzz(func(t *testing.T, b []byte) {
		fl := New(addrA, addrB, 0)
		fl.Append(Messages, 7, []byte("something that was sent"))
		fl.AppendFrames(nil, MaxSegment)
		for len(b) >= HeaderLen {
			h, err := ParseHeader(b)
			if err != nil || h.Len > len(b)-HeaderLen {
				return
			}
			h.Src, h.Dst = addrB, addrA
			if fl.Frame(h, b[HeaderLen:HeaderLen+h.Len]) != nil {
				return
			}
			b = b[HeaderLen+h.Len:]
			for c := range uint8(channels) {
				for {
					_, data, ok, err := fl.Take(c)
					if err != nil {
						return
					}
					if !ok {
						break
					}
					if len(data) > MaxMessage {
						t.Fatalf("a message of %d bytes", len(data))
					}
				}
			}
			if n := fl.Buffered(); n > channels*(MinWindow+MaxMessage)+1024 {
				t.Fatalf("%d bytes held", n)
			}
			fl.AppendFrames(nil, MaxSegment)
		}
	})
}
