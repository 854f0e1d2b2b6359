package h2_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/rota-project/rota/gateway/internal/h2"
)

var config = h2.Config{Streams: 4, HeadBytes: 4096, StreamWindow: 1000, ConnWindow: 100_000}

// peer is a client's end of a session, with frames by another hand.
type peer struct {
	t     *testing.T
	s     *h2.Session
	buf   bytes.Buffer // what the client sends
	fr    *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
	calls map[uint32]*h2.Stream
}

func newPeer(t *testing.T) *peer {
	p := &peer{t: t, s: h2.New(config), calls: map[uint32]*h2.Stream{}}
	p.fr = http2.NewFramer(&p.buf, nil)
	p.fr.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.block)
	p.fr.WriteSettings()
	if evs, err := p.step(); err != nil || len(evs) != 0 {
		t.Fatal(evs, err)
	}
	p.out()
	return p
}

// step feeds what was written, byte by byte split where it hurts, and tells the
// events in words. Requests are accepted.
func (p *peer) step() (events []string, err error) {
	b := p.buf.Bytes()
	for n := 0; ; {
		var ev h2.Event
		k, err := p.s.Next(b[:n], &ev)
		if err != nil {
			return events, err
		}
		if k == 0 {
			if n == len(b) {
				break
			}
			n++
			continue
		}
		b, n = b[k:], 0
		switch ev.Kind {
		case h2.Request:
			text := fmt.Sprintf("request %d", ev.ID)
			for name, value := range ev.All() {
				text += fmt.Sprintf(" %s=%s", name, value)
			}
			if ev.TooLarge {
				text = fmt.Sprintf("request %d too large", ev.ID)
			}
			events = append(events, text)
			st := &h2.Stream{}
			p.s.Accept(&ev, st, -1)
			p.calls[ev.ID] = st
		case h2.Data:
			events = append(events, fmt.Sprintf("data %d %d", ev.ID, len(ev.Data)))
		case h2.Trailers:
			events = append(events, fmt.Sprintf("trailers %d", ev.ID))
		case h2.Gone:
			events = append(events, fmt.Sprintf("gone %d", ev.ID))
		case h2.Room:
			events = append(events, fmt.Sprintf("room %d", ev.ID))
		case h2.None:
		}
		if ev.End && (ev.Kind == h2.Request || ev.Kind == h2.Data || ev.Kind == h2.Trailers) {
			events = append(events, "end")
		}
	}
	p.buf.Reset()
	return events, nil
}

// out is what the session sends, in words.
func (p *peer) out() (frames []string) {
	fr := http2.NewFramer(io.Discard, bytes.NewReader(p.s.Out))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			p.s.Out = p.s.Out[:0]
			if !errors.Is(err, io.EOF) {
				p.t.Fatalf("it sent what is no frame: %v", err)
			}
			return frames
		}
		text := fmt.Sprint(f.Header().Type, " ", f.Header().StreamID)
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			text += " " + f.ErrCode.String()
		case *http2.GoAwayFrame:
			text += fmt.Sprint(" last ", f.LastStreamID, " ", f.ErrCode)
		case *http2.WindowUpdateFrame:
			text += fmt.Sprint(" ", f.Increment)
		case *http2.SettingsFrame:
			if f.IsAck() {
				text += " ack"
			}
		case *http2.PingFrame:
			text += fmt.Sprint(" ack ", f.IsAck(), " ", string(f.Data[:]))
		case *http2.DataFrame:
			text += fmt.Sprint(" ", len(f.Data()), " end ", f.StreamEnded())
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				text += " " + h.Name + "=" + h.Value
			}
			text += fmt.Sprint(" end ", f.StreamEnded())
		}
		frames = append(frames, text)
	}
}

func (p *peer) headerBlock(kv ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(kv); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return bytes.Clone(p.block.Bytes())
}

func (p *peer) request(id uint32, end bool) {
	p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.headerBlock(":method", "GET", ":path", "/"), EndStream: end, EndHeaders: true})
}

// rules are what a client does, and what must come of it: events, frames sent,
// or the end of the connection by a code. RFC 9113 by section.
var rules = map[string]struct {
	do     func(p *peer)
	events string
	sends  string
	fails  h2.Code
}{
	"8.1 a request":                     {func(p *peer) { p.request(1, true) }, "request 1 :method=GET :path=/, end", "", 0},
	"8.1 a body, trailers":              {func(p *peer) { p.request(1, false); p.fr.WriteData(1, false, []byte("abc")); p.trailers(1, true) }, "request 1 :method=GET :path=/, data 1 3, trailers 1, end", "", 0},
	"8.1 trailers that are not the end": {func(p *peer) { p.request(1, false); p.trailers(1, false) }, "request 1 :method=GET :path=/, gone 1", "RST_STREAM 1 PROTOCOL_ERROR", 0},
	"4.1 unknown frames":                {func(p *peer) { p.fr.WriteRawFrame(0xee, 0xff, 3, []byte("x")) }, "", "", 0},
	"4.2 frame too large":               {func(p *peer) { p.fr.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 16385)) }, "", "", h2.FrameSize},
	"4.3 broken block": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
	}, "", "", h2.Compression},
	"4.3 index of nothing": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x80 | 70}, EndHeaders: true})
	}, "", "", h2.Compression},
	"4.3 block cut short": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 5, 'a'}, EndHeaders: true})
	}, "", "", h2.Compression},
	"5.1 DATA on idle":      {func(p *peer) { p.fr.WriteData(1, true, nil) }, "", "", h2.ProtocolError},
	"5.1 RST on idle":       {func(p *peer) { p.fr.WriteRSTStream(1, 0) }, "", "", h2.ProtocolError},
	"5.1 window on idle":    {func(p *peer) { p.fr.WriteWindowUpdate(1, 1) }, "", "", h2.ProtocolError},
	"5.1 DATA after end":    {func(p *peer) { p.request(1, true); p.fr.WriteData(1, false, []byte("x")) }, "request 1 :method=GET :path=/, end, gone 1", "RST_STREAM 1 STREAM_CLOSED", 0},
	"5.1 HEADERS after end": {func(p *peer) { p.request(1, true); p.trailers(1, true) }, "request 1 :method=GET :path=/, end, gone 1", "RST_STREAM 1 STREAM_CLOSED", 0},
	"5.1 HEADERS after RST": {func(p *peer) { p.request(1, false); p.fr.WriteRSTStream(1, http2.ErrCodeCancel); p.request(1, true) }, "request 1 :method=GET :path=/, gone 1", "", h2.StreamClosed},
	"5.1.1 even stream":     {func(p *peer) { p.request(2, true) }, "", "", h2.ProtocolError},
	"5.1.1 stream 0":        {func(p *peer) { p.request(0, true) }, "", "", h2.ProtocolError},
	"5.1.1 smaller stream":  {func(p *peer) { p.request(5, true); p.request(3, true) }, "request 5 :method=GET :path=/, end", "", h2.StreamClosed},
	"5.1.2 too many streams": {func(p *peer) {
		for i := range uint32(5) {
			p.request(2*i+1, false)
		}
	}, "request 1 :method=GET :path=/, request 3 :method=GET :path=/, request 5 :method=GET :path=/, request 7 :method=GET :path=/", "RST_STREAM 9 REFUSED_STREAM", 0},
	"5.1.2 cancelled calls count until they are over": {func(p *peer) {
		for i := range uint32(5) {
			p.request(2*i+1, false)
			p.fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}
	}, "request 1 :method=GET :path=/, gone 1, request 3 :method=GET :path=/, gone 3, request 5 :method=GET :path=/, gone 5, request 7 :method=GET :path=/, gone 7", "RST_STREAM 9 REFUSED_STREAM", 0},
	"6.1 padding": {func(p *peer) { p.request(1, false); p.fr.WriteDataPadded(1, true, []byte("ab"), make([]byte, 9)) }, "request 1 :method=GET :path=/, data 1 2, end", "", 0},
	"6.1 more padding than data": {func(p *peer) {
		p.request(1, false)
		p.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{9, 0})
	}, "request 1 :method=GET :path=/", "", h2.ProtocolError},
	"6.1 padding missing": {func(p *peer) { p.request(1, false); p.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, nil) }, "request 1 :method=GET :path=/", "", h2.FrameSize},
	"6.2 priority is skipped": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.headerBlock("a", "b"), EndHeaders: true, PadLength: 3, Priority: http2.PriorityParam{StreamDep: 9, Weight: 1}})
	}, "request 1 a=b", "", 0},
	"6.3 PRIORITY":               {func(p *peer) { p.fr.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }, "", "", 0},
	"6.3 PRIORITY of 4 bytes":    {func(p *peer) { p.fr.WriteRawFrame(http2.FramePriority, 0, 1, make([]byte, 4)) }, "", "", h2.FrameSize},
	"6.3 PRIORITY of nothing":    {func(p *peer) { p.fr.WriteRawFrame(http2.FramePriority, 0, 0, make([]byte, 5)) }, "", "", h2.ProtocolError},
	"6.4 RST":                    {func(p *peer) { p.request(1, false); p.fr.WriteRSTStream(1, http2.ErrCodeCancel) }, "request 1 :method=GET :path=/, gone 1", "", 0},
	"6.4 RST of 3 bytes":         {func(p *peer) { p.request(1, false); p.fr.WriteRawFrame(http2.FrameRSTStream, 0, 1, make([]byte, 3)) }, "request 1 :method=GET :path=/", "", h2.FrameSize},
	"6.5 SETTINGS":               {func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: 99, Val: 1}) }, "", "SETTINGS 0 ack", 0},
	"6.5 SETTINGS on a stream":   {func(p *peer) { p.fr.WriteRawFrame(http2.FrameSettings, 0, 1, nil) }, "", "", h2.ProtocolError},
	"6.5 SETTINGS of 5 bytes":    {func(p *peer) { p.fr.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) }, "", "", h2.FrameSize},
	"6.5 ACK with payload":       {func(p *peer) { p.fr.WriteRawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, make([]byte, 6)) }, "", "", h2.FrameSize},
	"6.5.2 ENABLE_PUSH 2":        {func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2}) }, "", "", h2.ProtocolError},
	"6.5.2 window too large":     {func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) }, "", "", h2.FlowControl},
	"6.5.2 frames too small":     {func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16383}) }, "", "", h2.ProtocolError},
	"6.6 PUSH_PROMISE":           {func(p *peer) { p.fr.WriteRawFrame(http2.FramePushPromise, 4, 1, make([]byte, 4)) }, "", "", h2.ProtocolError},
	"6.7 PING":                   {func(p *peer) { p.fr.WritePing(false, [8]byte{'p', 'i', 'n', 'g', 'p', 'o', 'n', 'g'}) }, "", "PING 0 ack true pingpong", 0},
	"6.7 PING answered":          {func(p *peer) { p.fr.WritePing(true, [8]byte{}) }, "", "", 0},
	"6.7 PING of 7 bytes":        {func(p *peer) { p.fr.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) }, "", "", h2.FrameSize},
	"6.7 PING on a stream":       {func(p *peer) { p.fr.WriteRawFrame(http2.FramePing, 0, 1, make([]byte, 8)) }, "", "", h2.ProtocolError},
	"6.8 GOAWAY":                 {func(p *peer) { p.fr.WriteGoAway(0, 0, nil); p.request(1, true) }, "request 1 :method=GET :path=/, end", "", 0},
	"6.8 GOAWAY on a stream":     {func(p *peer) { p.fr.WriteRawFrame(http2.FrameGoAway, 0, 1, make([]byte, 8)) }, "", "", h2.ProtocolError},
	"6.9 window of a stream":     {func(p *peer) { p.request(1, false); p.fr.WriteWindowUpdate(1, 10) }, "request 1 :method=GET :path=/, room 1", "", 0},
	"6.9 window of all":          {func(p *peer) { p.fr.WriteWindowUpdate(0, 10) }, "room 0", "", 0},
	"6.9 by nothing":             {func(p *peer) { p.fr.WriteWindowUpdate(0, 0) }, "", "", h2.ProtocolError},
	"6.9 a stream's by nothing":  {func(p *peer) { p.request(1, false); p.fr.WriteWindowUpdate(1, 0) }, "request 1 :method=GET :path=/, gone 1", "RST_STREAM 1 PROTOCOL_ERROR", 0},
	"6.9.1 overflow":             {func(p *peer) { p.fr.WriteWindowUpdate(0, 1<<31-1) }, "", "", h2.FlowControl},
	"6.9.1 a stream's overflow":  {func(p *peer) { p.request(1, false); p.fr.WriteWindowUpdate(1, 1<<31-1) }, "request 1 :method=GET :path=/, gone 1", "RST_STREAM 1 FLOW_CONTROL_ERROR", 0},
	"6.9.1 more than the window": {func(p *peer) { p.request(1, false); p.fr.WriteData(1, false, make([]byte, 1001)) }, "request 1 :method=GET :path=/, gone 1", "RST_STREAM 1 FLOW_CONTROL_ERROR", 0},
	"6.10 CONTINUATION": {func(p *peer) {
		b := p.headerBlock("a", "b", "c", "d")
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:2], EndStream: true})
		p.fr.WriteContinuation(1, false, b[2:3])
		p.fr.WriteContinuation(1, true, b[3:])
	}, "request 1 a=b c=d, end", "", 0},
	"6.10 interrupted": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
		p.fr.WritePing(false, [8]byte{})
	}, "", "", h2.ProtocolError},
	"6.10 of another stream": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
		p.fr.WriteContinuation(3, true, nil)
	}, "", "", h2.ProtocolError},
	"6.10 of nothing": {func(p *peer) { p.fr.WriteContinuation(1, true, nil) }, "", "", h2.ProtocolError},
	"10.5.1 header list too long": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.headerBlock("a", strings.Repeat("x", 3000), "b", strings.Repeat("y", 1100)), EndHeaders: true})
	}, "request 1 too large", "", 0},
	"10.5.1 one field too long": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.headerBlock("a", strings.Repeat("~", 16000)), EndHeaders: true}) // 13 bits each: as it is
		block := p.headerBlock("a", strings.Repeat("a", 30_000))                                                                                 // 5 bits each
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:16000]})
		p.fr.WriteContinuation(3, true, block[16000:])
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: p.headerBlock("a", "b"), EndHeaders: true})
	}, "request 1 too large, request 3 too large, request 5 a=b", "", 0},
	"CONTINUATION flood": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
		for range 100 {
			p.fr.WriteContinuation(1, false, nil)
		}
	}, "", "", h2.EnhanceYourCalm},
	"CONTINUATION of many bytes": {func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
		for range 3 {
			p.fr.WriteContinuation(1, false, make([]byte, 16384))
		}
	}, "", "", h2.EnhanceYourCalm},
	"PING flood": {func(p *peer) {
		for range 3000 {
			p.fr.WritePing(false, [8]byte{})
		}
	}, "", "", h2.EnhanceYourCalm},
	"SETTINGS flood": {func(p *peer) {
		for range 3000 {
			p.fr.WriteSettings()
		}
	}, "", "", h2.EnhanceYourCalm},
	"flood of empty DATA": {func(p *peer) {
		p.request(1, false)
		for range 3000 {
			p.fr.WriteData(1, false, nil)
		}
	}, "-", "", h2.EnhanceYourCalm},
}

func (p *peer) trailers(id uint32, end bool) {
	p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.headerBlock("x-sum", "1"), EndStream: end, EndHeaders: true})
}

func TestRules(t *testing.T) {
	t.Parallel()
	for name, tc := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			tc.do(p)
			evs, err := p.step()
			if got := strings.Join(evs, ", "); got != tc.events && tc.events != "-" {
				t.Errorf("events: %s\nwant    %s", got, tc.events)
			}
			var ce *h2.ConnError
			switch {
			case errors.As(err, &ce):
				if ce.Code != tc.fails || tc.fails == 0 {
					t.Errorf("failed: %d %v, want code %d", ce.Code, err, tc.fails)
				}
				p.out()
				p.s.Fail(err)
				if got := strings.Join(p.out(), ", "); !strings.HasPrefix(got, "GOAWAY 0 last ") || !strings.HasSuffix(got, http2.ErrCode(ce.Code).String()) {
					t.Errorf("it says %s", got)
				}
				return
			case err != nil:
				t.Fatal(err)
			case tc.fails != 0:
				t.Fatalf("accepted, want code %d", tc.fails)
			}
			if got := strings.Join(p.out(), ", "); got != tc.sends {
				t.Errorf("sends %q, want %q", got, tc.sends)
			}
		})
	}
}

func TestTheFirstFrameIsSettings(t *testing.T) {
	t.Parallel()
	p := &peer{t: t, s: h2.New(config), calls: map[uint32]*h2.Stream{}}
	p.fr = http2.NewFramer(&p.buf, nil)
	p.fr.WritePing(false, [8]byte{})
	var ce *h2.ConnError
	if _, err := p.step(); !errors.As(err, &ce) || ce.Code != h2.ProtocolError {
		t.Errorf("got %v", err)
	}
	if got := p.out(); len(got) != 2 || got[0] != "SETTINGS 0" || got[1] != "WINDOW_UPDATE 0 34465" {
		t.Errorf("it begins with %q", got)
	}
}

// Rapid reset (CVE-2023-44487) ends the connection; a client that cancels now and
// then, beside calls that it lets finish, goes on for ever.
func TestRapidReset(t *testing.T) {
	t.Parallel()
	for name, finished := range map[string]bool{"only resets": false, "half of them": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			for i := range uint32(2000) {
				p.request(4*i+1, true)
				p.fr.WriteRSTStream(4*i+1, http2.ErrCodeCancel)
				p.request(4*i+3, true)
				if !finished {
					p.fr.WriteRSTStream(4*i+3, http2.ErrCodeCancel)
				}
				_, err := p.step()
				var ce *h2.ConnError
				if !finished && errors.As(err, &ce) && ce.Code == h2.EnhanceYourCalm {
					return
				}
				if err != nil {
					t.Fatalf("after %d: %v", i, err)
				}
				if finished {
					p.s.Head(p.calls[4*i+3], nil, true)
				}
				p.s.Release(p.calls[4*i+1], 0)
				p.s.Release(p.calls[4*i+3], 0)
			}
			if !finished {
				t.Error("it went on for ever")
			}
			if n := p.s.Calls(); n != 0 {
				t.Errorf("%d calls open", n)
			}
		})
	}
}

// Resets that a client provokes by breaking rules count like its own
// (CVE-2025-8671).
func TestProvokedResets(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	for i := range uint32(2000) {
		p.request(2*i+1, true)
		p.fr.WriteWindowUpdate(2*i+1, 0)
		_, err := p.step()
		var ce *h2.ConnError
		if errors.As(err, &ce) && ce.Code == h2.EnhanceYourCalm {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p.s.Release(p.calls[2*i+1], 0)
	}
	t.Error("it went on for ever")
}

// What costs a client nothing and the session something ends the connection,
// kind by kind: small frames at 10,000 a second, heads at 200.
func TestFloodsAreEnded(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("v", 1500)
	for name, flood := range map[string]func(p *peer, i uint32){
		"settings":                        func(p *peer, _ uint32) { p.fr.WriteSettings() },
		"settings acknowledged":           func(p *peer, _ uint32) { p.fr.WriteSettingsAck() },
		"pings":                           func(p *peer, _ uint32) { p.fr.WritePing(false, [8]byte{}) },
		"pings answered":                  func(p *peer, _ uint32) { p.fr.WritePing(true, [8]byte{}) },
		"priorities":                      func(p *peer, _ uint32) { p.fr.WritePriority(1, http2.PriorityParam{StreamDep: 3}) },
		"room on the connection":          func(p *peer, _ uint32) { p.fr.WriteWindowUpdate(0, 1) },
		"room on a stream":                func(p *peer, _ uint32) { p.fr.WriteWindowUpdate(1, 1) },
		"room on a stream that has ended": func(p *peer, _ uint32) { p.fr.WriteWindowUpdate(3, 1) },
		"empty data":                      func(p *peer, _ uint32) { p.fr.WriteData(1, false, nil) },
		"padding only":                    func(p *peer, _ uint32) { p.fr.WriteDataPadded(1, false, nil, nil) },
		"resets of what has ended":        func(p *peer, _ uint32) { p.fr.WriteRSTStream(3, http2.ErrCodeCancel) },
		"unknown frames":                  func(p *peer, _ uint32) { p.fr.WriteRawFrame(0xee, 0, 0, nil) },
		"goaways":                         func(p *peer, _ uint32) { p.fr.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"heads in crumbs": func(p *peer, i uint32) {
			b := p.headerBlock(":method", "GET", ":path", "/")
			p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 5, EndStream: true})
			for range 30 {
				p.fr.WriteContinuation(2*i+5, false, nil)
			}
			p.fr.WriteContinuation(2*i+5, true, b)
		},
		"heads that are too long": func(p *peer, i uint32) {
			b := p.headerBlock(":method", "GET", "a", large, "b", large, "c", large)
			p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 5, EndStream: true, EndHeaders: true, BlockFragment: b})
		},
		"a head that is short and unfolds": func(p *peer, i uint32) {
			kv := []string{":method", "GET"}
			for range 200 {
				kv = append(kv, "a-name-that-is-in-the-table", "a value that is in the table, too")
			}
			p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 5, EndStream: true, EndHeaders: true, BlockFragment: p.headerBlock(kv...)})
		},
		"trailers that are too long": func(p *peer, i uint32) {
			p.request(2*i+5, false)
			p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 5, EndStream: true, EndHeaders: true, BlockFragment: p.headerBlock("a", large, "b", large, "c", large)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			perTick := uint32(1000)
			if strings.Contains(name, "head") || strings.Contains(name, "trailers") {
				perTick = 20
			}
			p.request(1, false)
			p.request(3, true)
			p.step()
			p.s.Head(p.calls[3], nil, true)
			p.s.Release(p.calls[3], 0)
			for i := range uint32(10_000) {
				flood(p, i)
				_, err := p.step()
				var ce *h2.ConnError
				if errors.As(err, &ce) && ce.Code == h2.EnhanceYourCalm {
					p.s.Fail(err)
					if out := p.out(); !strings.HasSuffix(out[len(out)-1], "ENHANCE_YOUR_CALM") {
						t.Errorf("it ends with %q", out[len(out)-1])
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if st := p.calls[2*i+5]; st != nil { // the owner answers each
					p.s.Head(st, nil, true)
					p.s.Release(st, 0)
				}
				p.s.Out = p.s.Out[:0]
				if i%perTick == perTick-1 {
					p.s.Tick()
				}
			}
			t.Error("it went on for ever")
		})
	}
}

// Who reads a large answer in small pieces may say so.
func TestRoomForDataIsNoFlood(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	p.request(1, true)
	p.step()
	for range 20_000 {
		p.s.Data(p.calls[1], make([]byte, 1000), false)
		p.s.Out = p.s.Out[:0]
		for range 4 {
			p.fr.WriteWindowUpdate(0, 125)
			p.fr.WriteWindowUpdate(1, 125)
		}
		p.fr.WriteWindowUpdate(0, 500)
		p.fr.WriteWindowUpdate(1, 500)
		if _, err := p.step(); err != nil {
			t.Fatal(err)
		}
		p.s.Tick()
	}
}

// So may who has not read it yet when its stream is reset.
func TestRoomAfterTheEndIsNoFlood(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	p.request(1, true)
	p.step()
	const pieces = 5000
	for range pieces {
		p.s.Data(p.calls[1], make([]byte, 1000), false)
		p.s.Out = p.s.Out[:0]
	}
	p.s.Reset(p.calls[1], h2.Cancel)
	for range pieces {
		p.fr.WriteWindowUpdate(0, 1000)
		p.fr.WriteWindowUpdate(1, 1000)
	}
	if _, err := p.step(); err != nil {
		t.Fatal(err)
	}
}

// Allowances fill up again.
func TestCalmReturns(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	for range 100 {
		for range 150 {
			p.fr.WritePing(false, [8]byte{})
		}
		if _, err := p.step(); err != nil {
			t.Fatal(err)
		}
		p.out()
		p.s.Tick()
	}
}

func TestSendingObeysTheWindows(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	p.request(1, true)
	p.request(3, true)
	p.step()
	p.out()
	a, b := p.calls[1], p.calls[3]
	if n := p.s.Room(a); n != 100 {
		t.Fatalf("room for %d, want 100", n)
	}
	p.s.Head(a, h2.AppendStatus(nil, 200), false)
	p.s.Data(a, make([]byte, 100), false)
	if n := p.s.Room(a); n != 0 {
		t.Errorf("room for %d, want none", n)
	}
	// A smaller initial window makes a stream's negative, until it has caught up.
	p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 40})
	p.fr.WriteWindowUpdate(1, 50)
	p.step()
	if n := p.s.Room(a); n != 0 {
		t.Errorf("room for %d, want none: the window is -10", n)
	}
	p.fr.WriteWindowUpdate(1, 15)
	p.step()
	if n := p.s.Room(a); n != 5 {
		t.Errorf("room for %d, want 5", n)
	}
	if n := p.s.Room(b); n != 40 {
		t.Errorf("room for %d on another stream, want 40", n)
	}
	p.fr.WriteWindowUpdate(3, 100_000)
	p.step()
	sent := 0
	for p.s.Room(b) > 0 {
		n := p.s.Room(b)
		if n > h2.MaxFrame {
			t.Fatalf("a frame of %d bytes", n)
		}
		p.s.Data(b, make([]byte, n), false)
		sent += n
	}
	if sent != 65535-100 {
		t.Errorf("%d bytes were sent, the connection's window allows %d", sent, 65535-100)
	}
	p.s.Data(b, nil, true) // the end needs no room
	if out := p.out(); out[len(out)-1] != "DATA 3 0 end true" {
		t.Errorf("sent %q", out)
	}
}

// What is consumed is given back: of a stream, of all, and of streams that are no
// more.
func TestReceivingGivesRoom(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	p.request(1, false)
	p.fr.WriteData(1, false, make([]byte, 600))
	p.step()
	p.out()
	st := p.calls[1]
	p.s.Consume(st, 499)
	if out := p.out(); len(out) != 0 {
		t.Errorf("too early: %q", out)
	}
	p.s.Consume(st, 101)
	if out := fmt.Sprint(p.out()); out != "[WINDOW_UPDATE 1 600]" {
		t.Errorf("got %s", out)
	}
	p.s.Reset(st, h2.Cancel)
	p.s.Release(st, 0)
	// The client does not know yet.
	for range 99 {
		p.fr.WriteData(1, false, make([]byte, 500))
	}
	if _, err := p.step(); err != nil {
		t.Fatal(err)
	}
	if out := fmt.Sprint(p.out()); out != "[RST_STREAM 1 CANCEL WINDOW_UPDATE 0 50100]" {
		t.Errorf("got %s", out)
	}
}

func TestContentLengthIsHeldTo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		length int64
		frames []int
		gone   bool
	}{{5, []int{2, 3}, false}, {5, []int{2, 2}, true}, {5, []int{2, 4}, true}, {0, []int{1}, true}} {
		s := h2.New(config)
		var buf bytes.Buffer
		fr := http2.NewFramer(&buf, nil)
		fr.WriteSettings()
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true})
		for i, n := range tc.frames {
			fr.WriteData(1, i == len(tc.frames)-1, make([]byte, n))
		}
		gone := false
		st := &h2.Stream{}
		for b := buf.Bytes(); len(b) > 0; {
			var ev h2.Event
			n, err := s.Next(b, &ev)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			b = b[n:]
			if ev.Kind == h2.Request {
				s.Accept(&ev, st, tc.length)
			}
			gone = gone || ev.Kind == h2.Gone
		}
		if gone != tc.gone {
			t.Errorf("%+v: refused %v", tc, gone)
		}
	}
}

// A shutdown names the last call that is taken; what comes after it is not.
func TestLeaving(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	p.request(1, false)
	p.step()
	p.s.Warn()
	p.request(3, true)
	p.step()
	p.s.Leave()
	p.s.Leave()
	p.request(5, true)
	evs, err := p.step()
	if err != nil || len(evs) != 0 {
		t.Errorf("after the end: %q, %v", evs, err)
	}
	if out := fmt.Sprint(p.out()); out != "[GOAWAY 0 last 2147483647 NO_ERROR GOAWAY 0 last 3 NO_ERROR]" {
		t.Errorf("said %s", out)
	}
	// Calls that were taken go on.
	p.fr.WriteData(1, true, []byte("x"))
	if evs, _ := p.step(); fmt.Sprint(evs) != "[data 1 1 end]" {
		t.Errorf("got %q", evs)
	}
}

// A request that is answered before it has ended may end by itself: a reset that
// follows an answer at once makes several clients lose it. Who does not end it is told
// to stop. An answer that breaks off says so at once.
func TestAnswersThatEndEarly(t *testing.T) {
	t.Parallel()
	early := func(t *testing.T) *peer {
		p := newPeer(t)
		p.request(1, false)
		p.request(3, false)
		p.step()
		p.s.Head(p.calls[1], h2.AppendStatus(nil, 413), true)
		p.s.Release(p.calls[1], 0)
		p.s.Release(p.calls[3], 0)
		if out := fmt.Sprint(p.out()); out != "[HEADERS 1 :status=413 end true RST_STREAM 3 CANCEL]" {
			t.Errorf("sent %s", out)
		}
		return p
	}
	tick := func(p *peer, n int) {
		for range n {
			p.s.Tick()
		}
	}
	const stop = "[RST_STREAM 1 NO_ERROR]"
	for name, c := range map[string]struct {
		then func(p *peer)
		want string
	}{
		"it ends":                 {func(p *peer) { p.fr.WriteData(1, false, make([]byte, 500)); p.fr.WriteData(1, true, make([]byte, 500)) }, "[]"},
		"it ends with an empty":   {func(p *peer) { p.fr.WriteData(1, true, nil) }, "[]"},
		"it ends with trailers":   {func(p *peer) { p.trailers(1, true) }, "[]"},
		"it is taken back":        {func(p *peer) { p.fr.WriteRSTStream(1, http2.ErrCodeCancel) }, "[]"},
		"it goes on to its room":  {func(p *peer) { p.fr.WriteData(1, false, make([]byte, 999)); p.fr.WriteData(1, false, make([]byte, 1)) }, stop},
		"it goes on past it":      {func(p *peer) { p.fr.WriteData(1, false, make([]byte, 1001)) }, stop},
		"nothing comes":           {func(*peer) {}, stop},
		"it goes on after an end": {func(p *peer) { p.fr.WriteData(1, true, nil); p.fr.WriteData(1, true, nil) }, "[RST_STREAM 1 STREAM_CLOSED]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := early(t)
			c.then(p)
			if evs, err := p.step(); err != nil || len(evs) > 0 {
				t.Errorf("%q, %v", evs, err)
			}
			if strings.Contains(name, "to its room") && len(p.s.Out) > 0 {
				t.Error("a client that cannot send any more is told to stop while it may be reading the answer")
			}
			tick(p, 100)
			p.trailers(1, true) // was on its way
			if evs, err := p.step(); (err != nil || len(evs) > 0) && c.want == stop {
				t.Errorf("%q, %v", evs, err)
			}
			if out := fmt.Sprint(p.out()); out != c.want {
				t.Errorf("sent %s, want %s", out, c.want)
			}
		})
	}
	t.Run("pieces are no flood, and give the connection room", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t)
		updates := 0
		for id := uint32(1); id < 401; id += 2 {
			p.request(id, false)
			p.step()
			p.s.Head(p.calls[id], h2.AppendStatus(nil, 413), true)
			p.s.Release(p.calls[id], 0)
			for range 999 {
				p.fr.WriteData(id, false, []byte("x"))
			}
			p.fr.WriteData(id, true, []byte("x"))
			if evs, err := p.step(); err != nil || len(evs) > 0 {
				t.Fatalf("%q, %v", evs, err)
			}
			for _, f := range p.out() {
				if strings.HasPrefix(f, "WINDOW_UPDATE 0 ") {
					updates++
				} else if strings.HasPrefix(f, "RST") {
					t.Fatal(f)
				}
			}
		}
		if updates < 3 {
			t.Errorf("%d updates of the connection's window", updates)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t)
		resets := 0
		for id := uint32(1); id < 2001; id += 2 {
			p.request(id, false)
			p.step()
			p.s.Head(p.calls[id], h2.AppendStatus(nil, 413), true)
			p.s.Release(p.calls[id], 0)
			for _, f := range p.out() {
				if strings.HasPrefix(f, "RST") {
					resets++
				}
			}
		}
		if resets < 900 {
			t.Errorf("of 1,000 early answers %d clients were told to stop", resets)
		}
		tick(p, 100)
		if resets += len(p.out()); resets != 1000 {
			t.Errorf("of 1,000 early answers %d clients were told to stop at last", resets)
		}
	})
}

// What is encoded is what another hand decodes, over all lengths of names and
// values, large blocks and a client without a table.
func TestHeaderBlocks(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	p.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	p.request(1, true)
	p.step()
	p.out()
	block := h2.AppendStatus(nil, 299)
	block = h2.AppendLength(block, 1234567890123)
	want := "HEADERS 1 :status=299 content-length=1234567890123"
	for _, f := range [][2]string{{"Content-Type", "a/b"}, {"SET-Cookie", "a=b"}, {"X-" + strings.Repeat("n", 200), "v"}, {"x-empty", ""}, {"x-long", strings.Repeat("v", 40_000)}} {
		block = h2.AppendField(block, []byte(f[0]), []byte(f[1]))
		want += " " + strings.ToLower(f[0]) + "=" + f[1]
	}
	p.s.Head(p.calls[1], block, true)
	dec := hpack.NewDecoder(4096, nil)
	dec.SetAllowedMaxDynamicTableSize(0)
	if !bytes.Contains(p.s.Out[:20], []byte{0x20}) {
		t.Error("a client that has shrunk its table is not told that it is not used")
	}
	if got := p.out(); len(got) != 1 || got[0] != want+" end true" {
		t.Errorf("got %.200q", got)
	}
	for status := 100; status < 1000; status++ {
		fs, err := dec.DecodeFull(h2.AppendStatus(nil, status))
		if err != nil || len(fs) != 1 || fs[0].Name != ":status" || fs[0].Value != fmt.Sprint(status) {
			t.Errorf("%d: %v, %v", status, fs, err)
		}
	}
	for _, name := range []string{
		"accept-ranges", "age", "access-control-allow-origin", "allow", "cache-control", "content-disposition", "content-encoding",
		"content-language", "content-length", "content-location", "content-range", "content-type", "date", "etag", "expires",
		"last-modified", "link", "location", "retry-after", "server", "set-cookie", "strict-transport-security", "vary", "via", "www-authenticate",
	} {
		fs, err := dec.DecodeFull(h2.AppendField(nil, []byte(name), []byte("v")))
		if err != nil || len(fs) != 1 || fs[0].Name != name || fs[0].Value != "v" {
			t.Errorf("%s: %v, %v", name, fs, err)
		}
	}
}

func TestACallAllocatesNothing(t *testing.T) {
	p := newPeer(t)
	var ev h2.Event
	st := &h2.Stream{}
	p.buf.Reset()
	p.request(1, true)
	p.request(3, true) // by now all headers are in the table
	p.step()
	p.s.Release(p.calls[1], 0)
	p.s.Release(p.calls[3], 0)
	id := uint32(5)
	p.request(id, true)
	frame := bytes.Clone(p.buf.Bytes())
	block := h2.AppendStatus(nil, 200)
	n := testing.AllocsPerRun(1000, func() {
		frame[7], frame[8] = byte(id>>8), byte(id)
		if k, err := p.s.Next(frame, &ev); err != nil || k != len(frame) || ev.Kind != h2.Request {
			t.Fatal(k, err, ev.Kind)
		}
		p.s.Accept(&ev, st, -1)
		p.s.Head(st, block, false)
		p.s.Data(st, block, true)
		p.s.Release(st, 0)
		p.s.Out = p.s.Out[:0]
		p.s.Tick()
		id += 2
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzSession: whatever comes, what is sent are frames, and nothing is kept
// without bound.
func FuzzSession(f *testing.F) {
	for _, tc := range rules {
		p := &peer{s: h2.New(config), calls: map[uint32]*h2.Stream{}}
		p.fr = http2.NewFramer(&p.buf, nil)
		p.fr.AllowIllegalWrites = true
		p.enc = hpack.NewEncoder(&p.block)
		p.fr.WriteSettings()
		tc.do(p)
		if p.buf.Len() < 1<<14 {
			f.Add(bytes.Clone(p.buf.Bytes()))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := &peer{t: t, s: h2.New(config), calls: map[uint32]*h2.Stream{}}
		calls := map[*h2.Stream]int64{}
		for len(raw) > 0 {
			var ev h2.Event
			n, err := p.s.Next(raw, &ev)
			if err != nil {
				p.s.Fail(err)
				break
			}
			if n == 0 {
				break
			}
			raw = raw[n:]
			switch ev.Kind {
			case h2.Request:
				st := &h2.Stream{}
				p.s.Accept(&ev, st, -1)
				calls[st] = 0
			case h2.Data:
				calls[ev.Stream] += int64(len(ev.Data))
				if calls[ev.Stream] > config.StreamWindow {
					t.Fatalf("%d bytes that nobody has consumed", calls[ev.Stream])
				}
			case h2.Trailers, h2.Gone:
				p.s.Release(ev.Stream, calls[ev.Stream])
				delete(calls, ev.Stream)
			case h2.None, h2.Room:
			}
			if len(calls) != p.s.Calls() || len(calls) > config.Streams {
				t.Fatalf("%d calls, the session says %d", len(calls), p.s.Calls())
			}
		}
		for st := range calls {
			if n := p.s.Room(st); n > 0 {
				p.s.Data(st, make([]byte, n), true)
			}
		}
		p.out()
	})
}

// What comes on calls that were too late is of no interest, and does not end the
// connection: others are still being answered on it.
func TestLateCallsDoNoHarm(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	p.request(1, false)
	p.step()
	p.s.Leave()
	p.out()
	p.request(3, false)
	p.fr.WriteData(3, false, []byte("abc"))
	p.fr.WriteWindowUpdate(3, 10)
	p.fr.WriteData(3, true, nil)
	p.fr.WriteRSTStream(3, http2.ErrCodeCancel)
	if evs, err := p.step(); err != nil || len(evs) > 0 {
		t.Errorf("got %q, %v", evs, err)
	}
	if out := p.out(); len(out) > 0 {
		t.Errorf("said %q", out)
	}
	p.s.Fail(io.EOF)
	if out := fmt.Sprint(p.out()); out != "[GOAWAY 0 last 1 INTERNAL_ERROR]" {
		t.Errorf("said %s", out)
	}
}
