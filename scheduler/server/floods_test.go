package server_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/scheduler/server"
)

// flood sends frames over and over.
type flood func(f *http2.Framer, n int) error

// head is the header of a call that a stranger may not make.
func head(path string, more ...hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "localhost"},
		{Name: ":path", Value: path},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	}, more...) {
		_ = e.WriteField(h) // to memory
	}
	return b.Bytes()
}

// floods are frames that ask nothing, or nothing that is counted as a call: header
// blocks that are larger than may be are refused before anything looks at them.
func floods(path string) map[string]flood {
	// begun opens a stream with the first frame, and goes on with frames.
	begun := func(whole bool, frames flood) flood {
		return func(f *http2.Framer, n int) error {
			if n > 0 {
				return frames(f, n)
			}
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head(path), EndHeaders: whole})
		}
	}
	blocks := func(block []byte) flood {
		return func(f *http2.Framer, n int) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 1), BlockFragment: block, EndHeaders: true, EndStream: true})
		}
	}
	large := head(path, hpack.HeaderField{Name: "x-much", Value: strings.Repeat("much", 4000)})
	bomb := append(head(path, hpack.HeaderField{Name: "x-again", Value: strings.Repeat("b", 3900)}), bytes.Repeat([]byte{0x80 | 62}, 10_000)...)
	return map[string]flood{
		"settings": func(f *http2.Framer, n int) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(n % 60_000)})
		},
		"windows": func(f *http2.Framer, _ int) error { return f.WriteWindowUpdate(0, 1) },
		"priorities": func(f *http2.Framer, n int) error {
			return f.WritePriority(uint32(2*n+1), http2.PriorityParam{Weight: 1})
		},
		"pings":          func(f *http2.Framer, _ int) error { return f.WritePing(false, [8]byte{}) },
		"answers":        func(f *http2.Framer, _ int) error { return f.WritePing(true, [8]byte{}) },
		"unknown":        func(f *http2.Framer, _ int) error { return f.WriteRawFrame(0xbb, 0, 0, make([]byte, 1000)) },
		"resets":         func(f *http2.Framer, n int) error { return f.WriteRSTStream(uint32(2*n+1), http2.ErrCodeCancel) },
		"farewells":      func(f *http2.Framer, _ int) error { return f.WriteGoAway(0, http2.ErrCodeNo, make([]byte, 1000)) },
		"empty data":     begun(true, func(f *http2.Framer, _ int) error { return f.WriteData(1, false, nil) }),
		"padding":        begun(true, func(f *http2.Framer, _ int) error { return f.WriteDataPadded(1, false, nil, make([]byte, 255)) }),
		"continuations":  begun(false, func(f *http2.Framer, _ int) error { return f.WriteContinuation(1, false, nil) }),
		"large headers":  blocks(large),
		"headers' bombs": blocks(bomb),
	}
}

// TestStrangersFloods: a connection without credentials that goes on sending, over
// gRPC or HTTP, is closed by the server, whatever it sends.
func TestStrangersFloods(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	conf := c.source(t, pki.Request{}).Client("", "h2")
	for addr, path := range map[string]string{c.grpc: rotav1.Tasks_ApplyTasks_FullMethodName, strings.TrimPrefix(c.http, "https://"): "/v1/tasks:apply"} {
		for name, send := range floods(path) {
			t.Run(name+" "+path, func(t *testing.T) {
				t.Parallel()
				conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				answers := sync.WaitGroup{}
				answers.Go(func() { _, _ = io.Copy(io.Discard, conn) })
				defer answers.Wait()
				defer conn.Close()
				sent := &sentBytes{Conn: conn}
				f := http2.NewFramer(sent, nil)
				f.AllowIllegalWrites = true
				_, err = io.WriteString(conn, http2.ClientPreface)
				if err == nil {
					err = f.WriteSettings()
				}
				// What a kernel holds between both is sent, too.
				for n := 0; err == nil && sent.n < 64<<20; n++ {
					err = send(f, n)
				}
				if err == nil {
					t.Errorf("open after %d bytes", sent.n)
				}
			})
		}
	}
}

type sentBytes struct {
	net.Conn
	n int
}

func (s *sentBytes) Write(p []byte) (int, error) {
	if err := s.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	n, err := s.Conn.Write(p)
	s.n += n
	return n, err
}

// metered counts what its connections bring.
type metered struct {
	net.Listener
	brought atomic.Int64
}

func (l *metered) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &meteredConn{c, &l.brought}, nil
}

type meteredConn struct {
	net.Conn
	brought *atomic.Int64
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.brought.Add(int64(n))
	return n, err
}

// TestOpenCallsBringLittle: a connection without credentials that makes calls as anybody
// may is read no further than such calls need, whatever length their messages say.
func TestOpenCallsBringLittle(t *testing.T) {
	t.Parallel()
	var methods []string
	for m, rule := range server.Policy() {
		if rule.Public && !strings.HasPrefix(m, "/rota.HTTP/") {
			methods = append(methods, m)
		}
	}
	if len(methods) < 3 { // health has two, joins one
		t.Fatalf("anybody may call only %v", methods)
	}
	for _, method := range methods {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			in := &metered{Listener: listen(t)}
			c := newClosed(t, server.Config{GRPC: in, HTTP: listen(t)})
			conn, err := (&tls.Dialer{Config: c.source(t, pki.Request{}).Client("", "h2")}).DialContext(t.Context(), "tcp", c.grpc)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				_, _ = io.Copy(io.Discard, conn)
			}()
			f := http2.NewFramer(&sentBytes{Conn: conn}, nil)
			_, err = io.WriteString(conn, http2.ClientPreface)
			if err == nil {
				err = f.WriteSettings()
			}
			// The windows have room for all of it, and nobody reads it.
			for n := 0; err == nil && n < 15; n++ {
				id := uint32(2*n + 1)
				err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head(method), EndHeaders: true})
				begun := append([]byte{0, 0, 0x40, 0, 0}, make([]byte, 60<<10)...) // of 4 MiB
				for ; err == nil && len(begun) > 0; begun = begun[min(len(begun), 16<<10):] {
					err = f.WriteData(id, false, begun[:min(len(begun), 16<<10)])
				}
			}
			<-closed
			if n := in.brought.Load(); n > 256<<10 {
				t.Errorf("%d bytes were read", n)
			}
		})
	}
}
