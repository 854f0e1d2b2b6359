package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/rota-project/rota/gateway"
)

// framer is a raw HTTP/2 client.
type framer struct {
	*http2.Framer
	c   net.Conn
	t   testing.TB
	enc *hpack.Encoder
	buf bytes.Buffer
}

func dialHTTP2(t testing.TB, addr string, settings ...http2.Setting) *framer {
	t.Helper()
	c := dial(t, addr)
	c.send(http2.ClientPreface)
	f := &framer{Framer: http2.NewFramer(c, c.r), c: c.Conn, t: t}
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.encoder()
	if err := f.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *framer) encoder() { f.enc = hpack.NewEncoder(&f.buf) }

func (f *framer) block(kv ...string) []byte {
	f.buf.Reset()
	for i := 0; i < len(kv); i += 2 {
		f.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return bytes.Clone(f.buf.Bytes())
}

func (f *framer) request(id uint32, end bool, kv ...string) {
	f.t.Helper()
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block(kv...), EndStream: end, EndHeaders: true}); err != nil {
		f.t.Fatal(err)
	}
}

// get asks for a function with further headers.
func (f *framer) get(id uint32, kv ...string) {
	f.t.Helper()
	f.request(id, true, append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/run/f"}, kv...)...)
}

// await reads frames until one is what is waited for, in words: "HEADERS 1 200",
// "DATA 1 text", "RST_STREAM 1 CANCEL", "GOAWAY 1 NO_ERROR", "PING".
func (f *framer) await(want string) {
	f.t.Helper()
	var seen []string
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			f.t.Fatalf("waited for %q, got %q and %v", want, seen, err)
		}
		got := fmt.Sprint(fr.Header().Type, " ", fr.Header().StreamID)
		switch fr := fr.(type) {
		case *http2.RSTStreamFrame:
			got += " " + fr.ErrCode.String()
		case *http2.GoAwayFrame:
			got = fmt.Sprint("GOAWAY ", fr.LastStreamID, " ", fr.ErrCode)
		case *http2.MetaHeadersFrame:
			got += " " + fr.PseudoValue("status")
		case *http2.DataFrame:
			got += " " + string(fr.Data())
		}
		if got == want {
			return
		}
		if seen = append(seen, got); len(seen) > 100 {
			f.t.Fatalf("waited for %q, got %q", want, seen)
		}
	}
}

// A client that is still sending its request when the answer is there is left to end
// it: many lose an answer that a reset comes with, curl among them.
func TestHTTP2AnswersThatEndBeforeTheRequest(t *testing.T) {
	t.Parallel()
	_, addr := start(t, simple(named(t, "a")))
	f := dialHTTP2(t, addr)
	for id := uint32(1); id < 20; id += 2 {
		f.request(id, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/nothing", "content-length", "11")
		f.await(fmt.Sprintf("HEADERS %d 404", id))
		f.await(fmt.Sprintf("DATA %d not found\n", id))
		if err := f.WriteData(id, true, []byte("12345678901")); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.WritePing(false, [8]byte{}); err != nil {
		t.Fatal(err)
	}
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch fr.(type) {
		case *http2.RSTStreamFrame:
			t.Fatalf("a call that was answered is reset: %v", fr)
		case *http2.PingFrame:
			return
		}
	}
}

// What a worker on HTTP/1 could misunderstand never gets there.
func TestHTTP2SmugglingIsRefused(t *testing.T) {
	t.Parallel()
	reached := make(chan string, 100)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { reached <- r.URL.Path })
	g, addr := start(t, simple(up))
	base := []string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/run/f"}
	with := func(kv ...string) []string { return append(append([]string(nil), base...), kv...) }
	for name, fields := range map[string][]string{
		"transfer-encoding":       with("transfer-encoding", "chunked"),
		"connection":              with("connection", "close"),
		"keep-alive":              with("keep-alive", "1"),
		"proxy-connection":        with("proxy-connection", "close"),
		"upgrade":                 with("upgrade", "websocket"),
		"te":                      with("te", "gzip"),
		"upper case":              with("X-A", "b"),
		"line feed in a value":    with("x-a", "b\r\ncontent-length: 9"),
		"null in a value":         with("x-a", "b\x00"),
		"space around a value":    with("x-a", " b"),
		"line feed in a name":     with("x-a\r\nb", "c"),
		"space in a name":         with("x a", "c"),
		"colon in a name":         with("x:a", "c"),
		"empty name":              with("", "c"),
		"two lengths":             with("content-length", "0", "content-length", "0"),
		"a length with a sign":    with("content-length", "+1"),
		"a length without body":   with("content-length", "5"),
		"another host":            with("host", "b"),
		"no method":               {":scheme", "http", ":authority", "a", ":path", "/run/f"},
		"no scheme":               {":method", "GET", ":authority", "a", ":path", "/run/f"},
		"no path":                 {":method", "GET", ":scheme", "http", ":authority", "a"},
		"empty path":              {":method", "GET", ":scheme", "http", ":authority", "a", ":path", ""},
		"no host":                 {":method", "GET", ":scheme", "http", ":path", "/run/f"},
		"two paths":               with(":path", "/run/g"),
		"two methods":             {":method", "GET", ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/run/f"},
		"space in the path":       {":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/run/f HTTP/1.1\r\nx: y"},
		"full URL as path":        {":method", "GET", ":scheme", "http", ":authority", "a", ":path", "http://b/run/f"},
		"space in the method":     {":method", "GET /run/x HTTP/1.1", ":scheme", "http", ":authority", "a", ":path", "/run/f"},
		"line feed in the host":   {":method", "GET", ":scheme", "http", ":authority", "a\r\nx: y", ":path", "/run/f"},
		"user in the host":        {":method", "GET", ":scheme", "http", ":authority", "u@a", ":path", "/run/f"},
		"another scheme":          {":method", "GET", ":scheme", "file", ":authority", "a", ":path", "/run/f"},
		"an answer's pseudo":      with(":status", "200"),
		"an unknown pseudo":       with(":x", "200"),
		"a pseudo after a header": {":method", "GET", ":scheme", "http", "x-a", "b", ":authority", "a", ":path", "/run/f"},
	} {
		t.Run(name, func(t *testing.T) {
			f := dialHTTP2(t, addr)
			f.request(1, true, fields...)
			f.await("RST_STREAM 1 PROTOCOL_ERROR")
			f.get(3) // only that call was refused
			f.await("HEADERS 3 200")
			if p := <-reached; p != "/run/f" || len(reached) > 0 {
				t.Fatalf("the worker was called: %s", p)
			}
		})
	}
	for name, fields := range map[string][]string{
		"a path that climbs": {":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/run/f/../evil"},
	} {
		t.Run(name, func(t *testing.T) {
			f := dialHTTP2(t, addr)
			f.request(1, true, fields...)
			f.await("HEADERS 1 400")
		})
	}
	t.Run("CONNECT", func(t *testing.T) {
		f := dialHTTP2(t, addr)
		f.request(1, true, ":method", "CONNECT", ":authority", "a:80")
		f.await("HEADERS 1 405")
	})
	t.Run("a header list that is too long", func(t *testing.T) {
		f := dialHTTP2(t, addr)
		many := with()
		for range 600 {
			many = append(many, "x-a", strings.Repeat("b", 100))
		}
		f.request(1, true, many...) // a few hundred bytes on the way
		f.await("HEADERS 1 431")
		f.get(3)
		f.await("HEADERS 3 200")
		<-reached
	})
	t.Run("trailers that frame", func(t *testing.T) {
		f := dialHTTP2(t, addr)
		f.request(1, false, base...)
		f.request(1, true, "content-length", "5")
		f.await("RST_STREAM 1 PROTOCOL_ERROR")
	})
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

func TestHTTP2CookieCrumbsAreJoined(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { got <- strings.Join(r.Header["Cookie"], "|") })
	_, addr := start(t, simple(up))
	f := dialHTTP2(t, addr)
	f.get(1, "cookie", "a=1", "x-b", "2", "cookie", "b=2", "cookie", "c=3")
	f.await("HEADERS 1 200")
	if c := <-got; c != "a=1; b=2; c=3" {
		t.Errorf("the worker got %q", c)
	}
}

// All that comes with the first packet is read, however large the buffer was that
// the connection began with.
func TestHTTP2LargeFirstPacket(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	_, addr := start(t, simple(up))
	for range 20 {
		call(t, "POST", addr, "/run/f", make([]byte, 60<<10)) // leaves large buffers to be used again
		c := dial(t, addr)
		var buf bytes.Buffer
		f := &framer{Framer: http2.NewFramer(&buf, c.r), c: c.Conn, t: t}
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		f.enc = hpack.NewEncoder(&f.buf)
		buf.WriteString(http2.ClientPreface)
		f.WriteSettings()
		f.request(1, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/run/f")
		for i := range 3 {
			f.WriteData(1, i == 2, make([]byte, 16384))
		}
		c.send(buf.String())
		f.await("DATA 1 49152")
	}
}

// Clients that make work without end are sent away, and leave nothing behind.
func TestHTTP2FloodsEndTheConnection(t *testing.T) {
	t.Parallel()
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	g, addr := start(t, simple(up))
	for name, do := range map[string]func(f *framer, i int) error{
		"rapid reset": func(f *framer, i int) error {
			f.get(uint32(2*i + 1))
			return f.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		},
		"pings":          func(f *framer, _ int) error { return f.WritePing(false, [8]byte{}) },
		"settings":       func(f *framer, _ int) error { return f.WriteSettings() },
		"window updates": func(f *framer, _ int) error { return f.WriteWindowUpdate(0, 1) },
		"heads that are too long": func(f *framer, i int) error {
			kv := make([]string, 0, 40)
			for range 20 { // it is in the table: a small frame unfolds to 80 KB
				kv = append(kv, "x-large", strings.Repeat("v", 4000))
			}
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: f.block(kv...), EndStream: true, EndHeaders: true})
		},
		"continuations": func(f *framer, i int) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
			}
			return f.WriteContinuation(1, false, []byte{0x82})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := dialHTTP2(t, addr)
			f.t = discard{t}
			go func() {
				for i := 0; i < 1<<20 && do(f, i) == nil; i++ {
				}
			}()
			for {
				fr, err := f.ReadFrame()
				if err != nil {
					t.Fatalf("no GOAWAY: %v", err)
				}
				if ga, ok := fr.(*http2.GoAwayFrame); ok {
					if ga.ErrCode != http2.ErrCodeEnhanceYourCalm {
						t.Errorf("sent away with %v", ga.ErrCode)
					}
					break
				}
			}
		})
	}
	t.Cleanup(func() { eventually(t, "no call in flight", func() bool { return idle(g) }) })
}

// discard is a test that cannot fail from another goroutine.
type discard struct{ testing.TB }

func (discard) Fatal(...any) {}

// A client that does not read its answers holds back only those, then itself.
func TestHTTP2WindowsHoldBackOneAnswer(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("x"), 1<<20)
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("big") {
			w.Write(big)
			return
		}
		fmt.Fprint(w, "small")
	})
	cfg := simple(up)
	cfg.Defaults.IdleTimeout = 2 * time.Second
	g, addr := start(t, cfg)
	f := dialHTTP2(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	f.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/run/f?big")
	f.await("DATA 1 xxxxxxxxxx")
	f.get(3)
	f.await("DATA 3 small")
	f.WriteWindowUpdate(1, 5)
	f.await("DATA 1 xxxxx")
	f.await("RST_STREAM 1 CANCEL") // it stands still
	f.get(5)
	f.await("DATA 5 small")
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

// A client that gives no room at all does not hold a worker for ever, however
// small the answer is.
func TestHTTP2NoRoomForASmallAnswer(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "small")
		if r.URL.Query().Has("chunked") {
			w.(http.Flusher).Flush()
		}
	})
	cfg := simple(up)
	cfg.Defaults.IdleTimeout = 300 * time.Millisecond
	g, addr := start(t, cfg)
	for _, path := range []string{"/run/f", "/run/f?chunked"} {
		f := dialHTTP2(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		f.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", path)
		f.await("RST_STREAM 1 CANCEL")
	}
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

// The client learns of a shutdown in time: calls on their way are answered, new
// ones go elsewhere.
func TestHTTP2ShutdownSaysGoAway(t *testing.T) {
	t.Parallel()
	began, finish := make(chan bool), make(chan bool)
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		began <- true
		<-finish
		fmt.Fprint(w, "done")
	})
	g, addr := start(t, simple(up))
	f := dialHTTP2(t, addr)
	f.get(1)
	<-began
	down := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		down <- g.Shutdown(ctx)
	}()
	f.await("GOAWAY 2147483647 NO_ERROR")
	f.get(3) // was on its way
	<-began
	f.await("GOAWAY 3 NO_ERROR")
	finish <- true
	finish <- true
	f.await("DATA 1 done")
	if _, err := io.Copy(io.Discard, f.c); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("the connection ends with %v", err)
	}
	if err := <-down; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// Connections without calls are told to go, those in half a frame are cut off.
func TestHTTP2SlowClients(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "w"))
	cfg.Limits = gateway.Limits{HeadTimeout: 2 * time.Second, IdleTimeout: 2 * time.Second}
	_, addr := start(t, cfg)
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		f := dialHTTP2(t, addr)
		f.get(1)
		f.await("HEADERS 1 200")
		f.await("GOAWAY 1 NO_ERROR")
		io.Copy(io.Discard, f.c)
	})
	for name, beginning := range map[string]string{
		"silent": "", "no settings": http2.ClientPreface, "half a preface": http2.ClientPreface[:10],
		"half a frame": http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x08\x06\x00",
		"half a head":  http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x00\x01\x00\x00\x00\x00\x01",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, addr)
			c.send(beginning)
			if _, err := io.Copy(io.Discard, c.r); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("still open after %v", patience)
			}
		})
	}
}

// A worker that speaks HTTP/2 only gets HTTP/1 calls too, and those of other
// workers stay as they are.
func TestWorkersOfBothKinds(t *testing.T) {
	t.Parallel()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Protocols: &p, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-End")
		fmt.Fprintf(w, "%d %d", r.ProtoMajor, len(b))
		w.Header().Set("X-End", "yes")
	})}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	one := backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-End")
		fmt.Fprintf(w, "%d %d", r.ProtoMajor, len(b))
		w.Header().Set("X-End", "yes")
	})
	everyWay(t, simple("h2c://"+ln.Addr().String(), one), func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		seen := map[string]bool{}
		for _, size := range []int{0, 10, 300_000} {
			for range 2 {
				var body io.Reader = strings.NewReader(strings.Repeat("x", size))
				if size == 300_000 {
					body = struct{ io.Reader }{body}
				}
				resp, err := client.Do(request(t, "POST", base+"/run/f", body))
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.Trailer.Get("X-End") != "yes" || !strings.HasSuffix(string(b), fmt.Sprint(" ", size)) {
					t.Errorf("%d bytes: %q, trailer %v, %v", size, b, resp.Trailer, err)
				}
				seen[string(b)] = true
			}
		}
		if len(seen) != 6 {
			t.Errorf("seen %v, want each worker with each size", seen)
		}
	})
}
