package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What clients or workers could do to others by keeping to the letter of the
// protocol, or nearly.

// A body that was announced and never asked for is nobody's: neither the client's
// connection nor the worker's goes on, where it would be read as a request.
func TestBodiesThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	var second atomic.Bool
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for n := 0; ; n++ {
			if _, err := readHead(r); err != nil {
				return
			}
			if n > 0 {
				second.Store(true)
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // and keeps the connection
		}
	})
	head := "POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\nExpect: 100-continue\r\n\r\n"
	inside := "GET /run/evil HTTP/1.1\r\nHost: a\r\nX: 12\r\n\r\n"
	t.Run("HTTP/1", func(t *testing.T) {
		_, addr := start(t, simple(up))
		c := dial(t, addr)
		c.send(head)
		resp, body := c.response("POST")
		if resp.StatusCode != http.StatusOK || body != "ok" || !resp.Close {
			t.Errorf("%d %q, close %v", resp.StatusCode, body, resp.Close)
		}
		io.WriteString(c.Conn, inside)
		if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
			t.Errorf("the body was answered: %q", rest)
		}
		get(t, addr, "/run/f")
	})
	t.Run("HTTP/2", func(t *testing.T) {
		_, addr := start(t, simple(up))
		f := dialHTTP2(t, addr)
		f.request(1, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/run/f", "content-length", "40", "expect", "100-continue")
		f.await("DATA 1 ok")
		f.await("RST_STREAM 1 NO_ERROR")
		f.get(3)
		f.await("DATA 3 ok")
	})
	if second.Load() {
		t.Error("the worker's connection was used again: what is next on it is the body's")
	}
}

// h2cWorker is a worker that speaks HTTP/2 in clear.
func h2cWorker(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Protocols: &p, Handler: h, ErrorLog: quietLog}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return "h2c://" + ln.Addr().String()
}

// A body that has been carried once is gone: nobody gets the call without it.
func TestStreamedBodiesAreNotSentAgain(t *testing.T) {
	t.Parallel()
	empty, began := make(chan bool, 10), make(chan bool, 10)
	handler := func(_ http.ResponseWriter, r *http.Request) {
		began <- true
		if n, err := io.Copy(io.Discard, r.Body); n == 0 && err == nil {
			empty <- true
		}
		panic(http.ErrAbortHandler)
	}
	cfg := simple(h2cWorker(t, handler), h2cWorker(t, handler))
	cfg.Defaults.Attempts = 3
	cfg.Defaults.IdleTimeout = 10 * time.Second
	_, addr := start(t, cfg)
	c := dial(t, addr)
	c.send("PUT /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	<-began
	c.send("3\r\nabc\r\n0\r\n\r\n")
	if resp, _ := c.response("PUT"); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("HTTP/1: %d", resp.StatusCode)
	}
	f := dialHTTP2(t, addr)
	f.request(1, false, ":method", "PUT", ":scheme", "http", ":authority", "a", ":path", "/run/f")
	<-began
	f.WriteData(1, true, []byte("abc"))
	f.await("HEADERS 1 502")
	if len(empty) > 0 {
		t.Error("a worker was called without the body")
	}
}

// A client that holds its body back does not keep a worker that speaks HTTP/2.
func TestStandstillTowardsHTTP2Workers(t *testing.T) {
	t.Parallel()
	cfg := simple(h2cWorker(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	cfg.Defaults.IdleTimeout = 300 * time.Millisecond
	g, addr := start(t, cfg)
	f := dialHTTP2(t, addr)
	f.request(1, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/run/f")
	f.WriteData(1, false, []byte("abc"))
	f.await("HEADERS 1 408")
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

// Who does not take the answer is cut off whatever else has ended meanwhile: the
// time of the call, or the request's body.
func TestAnswersNobodyTakesAreCutOff(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall")
			io.Copy(io.Discard, r)
		}
	})
	noRoom := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}
	t.Run("after the call's time", func(t *testing.T) {
		t.Parallel()
		cfg := simple(up)
		cfg.Defaults.IdleTimeout = 600 * time.Millisecond
		cfg.Defaults.CallTimeout = 100 * time.Millisecond
		g, addr := start(t, cfg)
		f := dialHTTP2(t, addr, noRoom)
		f.get(1)
		f.await("RST_STREAM 1 CANCEL")
		eventually(t, "no call in flight", func() bool { return idle(g) })
	})
	t.Run("after the request's end", func(t *testing.T) {
		t.Parallel()
		cfg := simple(up)
		cfg.Defaults.IdleTimeout = 600 * time.Millisecond
		g, addr := start(t, cfg)
		f := dialHTTP2(t, addr, noRoom)
		f.request(1, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/run/f")
		f.await("HEADERS 1 200")
		f.WriteData(1, false, []byte("x"))
		f.WriteData(1, true, []byte("y"))
		f.await("RST_STREAM 1 CANCEL")
		eventually(t, "no call in flight", func() bool { return idle(g) })
	})
}

// A client that asks without end and reads nothing is asked to wait: answers that
// are heads only do not pile up either.
func TestHTTP2HeadsDoNotPileUp(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	big := strings.Repeat("x", 8<<10)
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("X-Big", big)
	})
	cfg := simple(up)
	cfg.Defaults.IdleTimeout = 2 * time.Second
	_, addr := start(t, cfg)
	f := dialHTTP2(t, addr)
	f.c.(*net.TCPConn).SetReadBuffer(4 << 10)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	asked := int64(0)
	for ; asked < 20_000; asked++ { // 160 MB of answers
		deadline := time.Now().Add(time.Second)
		for asked-calls.Load() > 100 && time.Now().Before(deadline) {
			<-tick.C
		}
		if asked-calls.Load() > 100 { // it waits for its answers to be read
			break
		}
		b := f.block(":method", "HEAD", ":scheme", "http", ":authority", "a", ":path", "/run/f")
		if f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*asked + 1), BlockFragment: b, EndStream: true, EndHeaders: true}) != nil {
			break
		}
	}
	if n := calls.Load(); n > 3000 {
		t.Errorf("%d answers of 8 KB were fetched for a client that reads none", n)
	}
}

// The second worker of a hedged call is cut off in time like the first.
func TestHedgedCallsEnd(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	worker := func(_ http.ResponseWriter, r *http.Request) {
		if slow.Load() {
			<-r.Context().Done()
		}
	}
	cfg := simple(backend(t, worker), backend(t, worker))
	cfg.Defaults.Hedge = true
	cfg.Defaults.HeaderTimeout = 500 * time.Millisecond
	cfg.Defaults.Attempts = 1
	g, addr := start(t, cfg)
	for range 200 {
		get(t, addr, "/run/f")
	}
	slow.Store(true)
	if status, _ := get(t, addr, "/run/f"); status != 504 {
		t.Errorf("%d, want 504", status)
	}
	c := dial(t, addr) // and with the client
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "the call is on its way", func() bool { return !idle(g) })
	c.Close()
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

// The host of a target is held to the same rules as the Host header: it gets into
// the headers that workers trust.
func TestHostsOfTargetsAreChecked(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		h, _ := readHead(r)
		got <- h
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	_, addr := start(t, simple(up))
	for _, host := range []string{`b";for=1.2.3.4;by="x`, `b\`, "b#c", "<b>", "[::1", "b:x", "[b]"} {
		c := dial(t, addr)
		c.send("GET http://" + host + "/run/f HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, _ := c.response("GET"); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %d, the worker got %q", host, resp.StatusCode, <-got)
		}
	}
}

// A worker cannot be talked into HTTP/2 behind the gateway's back, where nobody
// would look at the calls, and a call with a body is not upgraded at all.
func TestUpgradesThatAreNotPassedOn(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		h, _ := readHead(r)
		if strings.Contains(h, "chunked") {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			io.Copy(io.Discard, r)
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(h), h)
	})
	_, addr := start(t, simple(up))
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
	if _, body := c.response("GET"); strings.Contains(body, "h2c") {
		t.Errorf("the worker got %q", body)
	}
	c = dial(t, addr)
	c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%v, %v", resp, err)
	}
}

// A client that goes while an answer without end is silent does not keep its worker.
func TestClientsThatLeaveSilence(t *testing.T) {
	t.Parallel()
	silent := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	for name, url := range map[string]string{"HTTP/1": backend(t, silent), "HTTP/2": h2cWorker(t, silent)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, addr := start(t, simple(url))
			c := dial(t, addr)
			c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
			for line := ""; !strings.HasPrefix(line, "data"); {
				var err error
				if line, err = c.r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			eventually(t, "no call in flight", func() bool { return idle(g) })
		})
	}
}

// An informational answer, too, leaves behind what is for one hop, and can say
// nothing of a body.
func TestInformationalAnswersAreCleaned(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: x-a\r\nX-A: b\r\nContent-Length: 5\r\n\r\n"+
				"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
	})
	_, addr := start(t, simple(up))
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
	if h, _ := readHead(c.r); h != "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" {
		t.Errorf("the client got %q", h)
	}
}

// one is a listener with one connection.
type one struct {
	net.Listener
	c chan net.Conn
}

func (l one) Accept() (net.Conn, error) {
	if c, ok := <-l.c; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// Who does not even take that its request is malformed is cut off.
func TestRefusalsNobodyTakesAreCutOff(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "w"))
	cfg.Defaults.IdleTimeout = 300 * time.Millisecond
	cfg.Limits.HeadTimeout = 2 * time.Second
	g, _ := start(t, cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := net.Pipe() // nothing is taken that is not read
	defer theirs.Close()
	l := one{ln, make(chan net.Conn, 1)}
	l.c <- ours
	close(l.c)
	go g.Serve(l)
	_ = theirs.SetDeadline(time.Now().Add(patience))
	io.WriteString(theirs, "GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
	r := bufio.NewReader(theirs)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	io.WriteString(theirs, "GET\r\n\r\n")
	if _, err := io.WriteString(theirs, "x"); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("still open: %v", err)
	}
}

// Frames that arrive in two pieces each are not one that never ends.
func TestHTTP2FramesInPieces(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "w"))
	cfg.Limits.HeadTimeout = 3 * time.Second
	_, addr := start(t, cfg)
	f := dialHTTP2(t, addr)
	ping := "\x00\x00\x08\x06\x00\x00\x00\x00\x00" + "12345678"
	io.WriteString(f.c, ping[:9])
	f.await("SETTINGS 0")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < 2*cfg.Limits.HeadTimeout; {
		<-tick.C
		io.WriteString(f.c, ping[9:]+ping[:9])
		f.await("PING 0")
	}
}

// A status that is none, from a worker on HTTP/2, does not get into the frames or
// lines of others.
func TestStatusOfHTTP2WorkersIsChecked(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		f := &framer{Framer: http2.NewFramer(c, r), t: t}
		f.enc = hpack.NewEncoder(&f.buf)
		if _, err := r.Discard(len(http2.ClientPreface)); err != nil {
			return
		}
		f.WriteSettings()
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := fr.(*http2.HeadersFrame); ok {
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: f.block(":status", "101"), EndHeaders: true})
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: f.block(":status", "20000"), EndStream: true, EndHeaders: true})
			}
		}
	})
	_, addr := start(t, simple("h2c"+strings.TrimPrefix(up, "http")))
	f := dialHTTP2(t, addr)
	f.get(1)
	f.await("HEADERS 1 502")
	if status, _ := get(t, addr, "/run/f"); status != 502 {
		t.Errorf("%d, want 502", status)
	}
}

// The limit of a head is one over every protocol, however it comes in.
func TestHeadBytesAreALimit(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1024, 10_000, 64 << 10} {
		cfg := simple(named(t, "x"))
		cfg.Limits.HeadBytes = most
		g, addr := start(t, cfg)
		mounted := httptest.NewServer(g.Handler())
		t.Cleanup(mounted.Close)
		for _, via := range []string{addr, mounted.Listener.Addr().String()} {
			for size, want := range map[int]int{most / 2: 200, most: 431, most + most/2: 431, 100_000: 431, 300_000: 431} {
				one := "GET /run/f HTTP/1.1\r\nHost: a\r\nX-Large: " + strings.Repeat("v", size) + "\r\n\r\n"
				many := "GET /run/f HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-Line: "+strings.Repeat("v", max(1, size/100))+"\r\n", 100) + "\r\n"
				for form, head := range map[string]string{"one line": one, "many lines": many} {
					if form == "many lines" && size < most { // the lines' names count
						continue
					}
					c := dial(t, via)
					go io.WriteString(c.Conn, head)
					if resp, _ := c.response("GET"); resp.StatusCode != want {
						t.Errorf("limit %d, %d bytes in %s: %d, want %d", most, size, form, resp.StatusCode, want)
					}
				}
			}
		}
		h := sharedH2C
		for size, want := range map[int]int{most / 2: 200, most: 431, 3 * most: 431} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/run/f", http.NoBody)
			req.Header.Set("X-Large", strings.Repeat("~", size))
			resp, err := h.Do(req)
			if err != nil {
				// Longer than any name or value that is decoded: the connection ends.
				if want == 200 {
					t.Error(err)
				}
				continue
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("limit %d, %d bytes over HTTP/2: %d, want %d", most, size, resp.StatusCode, want)
			}
		}
	}
}

// TRACE answers with what came in: whatever proxies and browsers have added.
func TestMethodsThatAreNotPassedOn(t *testing.T) {
	t.Parallel()
	_, addr := start(t, simple(backend(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s got through", r.Method) })))
	for _, method := range []string{"TRACE", "TRACK", "CONNECT"} {
		for _, target := range []string{"/run/f", "/t/x", "http://a/run/f", "a:80"} {
			c := dial(t, addr)
			c.send(method + " " + target + " HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, _ := c.response(method)
			if resp.StatusCode != http.StatusMethodNotAllowed || strings.Contains(resp.Header.Get("Allow"), method) {
				t.Errorf("%s %s: %d", method, target, resp.StatusCode)
			}
		}
	}
}

// Trailers cannot say what a header would have had to.
func TestTrailersThatAreRefused(t *testing.T) {
	t.Parallel()
	_, addr := start(t, simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Trailer)
	})))
	for trailer, want := range map[string]int{"X-Sum: 1": 200, "Authorization: Bearer x": 400, "X-Forwarded-For: 6.6.6.6": 400, "Cookie: a=b": 400} {
		c := dial(t, addr)
		c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + trailer + "\r\n\r\n")
		if resp, body := c.response("POST"); resp.StatusCode != want {
			t.Errorf("%s: %d %s", trailer, resp.StatusCode, body)
		}
	}
}
