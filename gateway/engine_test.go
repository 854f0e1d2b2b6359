package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// smuggling are requests that two readers could understand differently.
var smuggling = map[string]string{
	"length and chunked":      "POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /run/evil HTTP/1.1\r\nHost: a\r\n\r\n",
	"two lengths":             "POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /run/evil HTTP/1.1\r\nHost: a\r\n\r\n",
	"bare line feed":          "GET /run/f HTTP/1.1\nHost: a\n\n",
	"space before colon":      "POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	"two hosts":               "GET /run/f HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"obscured coding":         "POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
	"folded coding":           "POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
	"chunk size with a sign":  "POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
	"chunk without line end":  "POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
	"length among trailers":   "POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n",
	"path that climbs":        "GET /run/f/../evil HTTP/1.1\r\nHost: a\r\n\r\n",
	"path that climbs hidden": "GET /run/f/%2e%2E/evil HTTP/1.1\r\nHost: a\r\n\r\n",
}

func TestRequestSmugglingIsRefused(t *testing.T) {
	t.Parallel()
	reached := make(chan string, 100)
	up := backend(t, func(w http.ResponseWriter, r *http.Request) { reached <- r.URL.Path })
	_, addr := start(t, simple(up))
	for name, raw := range smuggling {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			c.send(raw)
			resp, _ := c.response("GET")
			if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusNotImplemented {
				t.Fatalf("answered %d, want a refusal", resp.StatusCode)
			}
			select {
			case p := <-reached:
				t.Fatalf("the worker was called: %s", p)
			default:
			}
		})
	}
}

func TestHeadersOnTheirWay(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 10)
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			h, err := readHead(r)
			if err != nil {
				return
			}
			heads <- h
			io.WriteString(c, "HTTP/1.1 200 All Right\r\nX-CaSe: Kept\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"+
				"Proxy-Authenticate: none\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	_, addr := start(t, simple(up))
	c := dial(t, addr)
	c.send("GET /run/f?q=%20x HTTP/1.1\r\nHost: example.org\r\nX-mIXed: a  b\r\nConnection: keep-alive, X-Secret\r\nConnection: X-Other\r\n" +
		"X-Secret: 1\r\nX-Other: 2\r\nKeep-Alive: 9\r\nProxy-Authorization: p\r\nTE: trailers\r\nUpgrade: h2c\r\n" +
		"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\ntraceparent: 00-1-2-01\r\n\r\n")
	raw, err := readHead(c.r)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 2)
	if _, err := io.ReadFull(c.r, body); err != nil || string(body) != "ok" {
		t.Fatalf("body %q, %v", body, err)
	}
	want := "HTTP/1.1 200 All Right\r\nX-CaSe: Kept\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\n"
	if raw = without(raw, "Date"); raw != want {
		t.Errorf("the client got\n%s\nwant\n%s", raw, want)
	}
	got := <-heads
	wantUp := "GET /run/f?q=%20x HTTP/1.1\r\nHost: example.org\r\nX-mIXed: a  b\r\ntraceparent: 00-1-2-01\r\n" +
		"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: example.org\r\nX-Forwarded-Proto: http\r\n" +
		"Forwarded: for=127.0.0.1;proto=http;host=\"example.org\"\r\n\r\n"
	if got = without(got, "Via"); got != wantUp {
		t.Errorf("the worker got\n%s\nwant\n%s", got, wantUp)
	}
}

// without takes a header's only line out of a head; a head without it comes back empty.
func without(head, name string) string {
	before, after, found := strings.Cut(head, name+": ")
	_, after, whole := strings.Cut(after, "\r\n")
	if !found || !whole {
		return ""
	}
	return before + after
}

func TestForwardedIsBelievedFromTrustedProxies(t *testing.T) {
	t.Parallel()
	heads := make(chan http.Header, 1)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { heads <- r.Header })
	cfg := simple(up)
	cfg.TrustedProxies = prefixes(t, "127.0.0.0/8")
	_, addr := start(t, cfg)
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nForwarded: for=1.2.3.4\r\n\r\n")
	c.response("GET")
	h := <-heads
	if h.Get("X-Forwarded-For") != "1.2.3.4, 127.0.0.1" || h.Get("X-Forwarded-Proto") != "https" || len(h["Forwarded"]) != 2 {
		t.Errorf("got %v", h)
	}
}

// Answers without a body stay without, whatever their headers say, and the
// connection goes on.
func TestBodylessAnswers(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			h, err := readHead(r)
			if err != nil {
				return
			}
			switch {
			case strings.HasPrefix(h, "HEAD"):
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
			case strings.Contains(h, "/204"):
				io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			case strings.Contains(h, "/304"):
				io.WriteString(c, "HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\nETag: \"x\"\r\n\r\n")
			case strings.Contains(h, "/empty"):
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})
	_, addr := start(t, simple(up))
	c := dial(t, addr)
	for range 2 {
		for _, tc := range []struct {
			method, path string
			status       int
			length       string
		}{{"HEAD", "/run/f", 200, "12345"}, {"GET", "/run/f/204", 204, ""}, {"GET", "/run/f/304", 304, "999"}, {"GET", "/run/f/empty", 200, "0"}} {
			c.send(tc.method + " " + tc.path + " HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, body := c.response(tc.method)
			if resp.StatusCode != tc.status || body != "" || resp.Header.Get("Content-Length") != tc.length {
				t.Errorf("%s %s: %d, length %q, body %q", tc.method, tc.path, resp.StatusCode, resp.Header.Get("Content-Length"), body)
			}
		}
	}
}

func TestChunkedTrailersAndEarlyHints(t *testing.T) {
	t.Parallel()
	got := make(chan string, 2)
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b) + " " + r.Trailer.Get("X-Sum")
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "X-Checked")
		fmt.Fprint(w, "hello ")
		w.(http.Flusher).Flush()
		fmt.Fprint(w, "world")
		w.Header().Set("X-Checked", "yes")
	})
	_, addr := start(t, simple(up))
	for _, whole := range []bool{true, false} {
		c := dial(t, addr)
		c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nabcd\r\n")
		if !whole {
			eventuallyIdleConn(t) // the body's end comes in a packet of its own
		}
		c.send("3\r\nefg\r\n0\r\nX-Sum: 7\r\n\r\n")
		if g := <-got; g != "abcdefg 7" {
			t.Errorf("the worker got %q", g)
		}
		tp := textproto.NewReader(c.r)
		line, _ := tp.ReadLine()
		if line != "HTTP/1.1 103 Early Hints" {
			t.Fatalf("first came %q", line)
		}
		if h, _ := tp.ReadMIMEHeader(); h.Get("Link") != "</style.css>" {
			t.Errorf("early hints %v", h)
		}
		resp, body := c.response("POST")
		if body != "hello world" || resp.Trailer.Get("X-Checked") != "yes" {
			t.Errorf("body %q, trailer %v", body, resp.Trailer)
		}
	}
}

// eventuallyIdleConn gives a packet time to be sent on its own; nothing depends
// on it but which of two ways through the code a test takes.
func eventuallyIdleConn(t *testing.T) {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-t.Context().Done():
	}
}

func TestContinue(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/no") {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		b, _ := io.ReadAll(r.Body) // net/http sends 100 at the first read
		fmt.Fprintf(w, "%d", len(b))
	})
	mute := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, r, 5); err == nil { // never says 100
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n5")
		}
	})
	for name, tc := range map[string]struct {
		up, path string
		status   int
		body     string
	}{"asked for": {up, "/run/f", 200, "5"}, "refused": {up, "/run/f/no", 417, ""}, "by us": {mute, "/run/f", 200, "5"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, addr := start(t, simple(tc.up))
			c := dial(t, addr)
			c.send("POST " + tc.path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
			if tc.status == 200 {
				line, err := c.r.ReadString('\n')
				if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
					t.Fatalf("got %q, %v, want 100", line, err)
				}
				if _, err := readHead(c.r); err != nil {
					t.Fatal(err)
				}
				c.send("hello")
			}
			resp, body := c.response("POST")
			if resp.StatusCode != tc.status || body != tc.body {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
		})
	}
}

func TestUntilCloseAndOldClients(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		h, err := readHead(r)
		if err != nil {
			return
		}
		if strings.Contains(h, "/chunked") {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nabc")
		io.WriteString(c, "de")
	})
	_, addr := start(t, simple(up))
	c := dial(t, addr)
	for range 3 { // the client's connection goes on though the worker's does not
		c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, body := c.response("GET"); body != "abcde" || resp.Close {
			t.Fatalf("%q, close %v", body, resp.Close)
		}
	}
	for _, path := range []string{"/run/f", "/run/f/chunked"} {
		c := dial(t, addr)
		c.send("GET " + path + " HTTP/1.0\r\nHost: a\r\n\r\n")
		raw, err := io.ReadAll(c.r)
		if err != nil || !bytes.HasSuffix(raw, []byte("\r\n\r\nabcde")) || bytes.Contains(raw, []byte("chunked")) {
			t.Errorf("%s: HTTP/1.0 client got %q, %v", path, raw, err)
		}
	}
	c = dial(t, addr)
	c.send("GET /status HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
	if resp, _ := c.response("GET"); resp.Header.Get("Connection") != "keep-alive" {
		t.Errorf("HTTP/1.0 keep-alive: %v", resp.Header)
	}
}

// A body that breaks off must not look whole.
func TestTruncatedAnswersShow(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		h, err := readHead(r)
		if err != nil {
			return
		}
		if strings.Contains(h, "/chunked") {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		} else {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
		}
	})
	g, addr := start(t, simple(up))
	for _, path := range []string{"/run/f/chunked", "/run/f/length"} {
		c := dial(t, addr)
		c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: %q looks whole", path, b)
		}
	}
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

func TestEarlyAnswerWhileUploading(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	})
	g, addr := start(t, simple(up))
	c := dial(t, addr)
	c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nbeginning")
	if resp, body := c.response("POST"); resp.StatusCode != http.StatusRequestEntityTooLarge || body != "big" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

// A client that looks for no answer before it has sent its body gets the one that was
// there at once: what nobody wants of the body is taken.
func TestAnswersToClientsThatSendEverythingFirst(t *testing.T) {
	t.Parallel()
	_, addr := start(t, simple(named(t, "a")))
	c := dial(t, addr)
	c.send("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 14000000\r\n\r\n" + strings.Repeat("x", 14_000_000))
	if resp, _ := c.response("POST"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("%d", resp.StatusCode)
	}
}

// Large bodies both ways at once, byte for byte, sized and chunked.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	_, addr := start(t, simple(up))
	data := make([]byte, 20<<20)
	rand.Read(data)
	for _, chunked := range []bool{false, true} {
		var body io.Reader = bytes.NewReader(data)
		if chunked {
			body = struct{ io.Reader }{body}
		}
		resp, err := http.Post("http://"+addr+"/run/f", "application/octet-stream", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("chunked %v: %d bytes of %d came back, %v", chunked, len(got), len(data), err)
		}
	}
}

func TestPipelinedRequests(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.URL.RawQuery, b)
	})
	_, addr := start(t, simple(up))
	c := dial(t, addr)
	var all strings.Builder
	for i := range 20 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&all, "GET /run/f?%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
		case 1:
			fmt.Fprintf(&all, "POST /run/f?%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", i)
		case 2:
			fmt.Fprintf(&all, "POST /run/f?%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", i)
		}
	}
	c.send(all.String())
	for i := range 20 {
		_, body := c.response("GET")
		want := fmt.Sprintf("%d abc", i)
		if i%3 == 0 {
			want = fmt.Sprintf("%d ", i)
		}
		if body != want {
			t.Fatalf("answer %d: %q, want %q", i, body, want)
		}
	}
}

func TestConnectAndOddTargets(t *testing.T) {
	t.Parallel()
	_, addr := start(t, simple(named(t, "w")))
	for raw, want := range map[string]int{
		"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n":               405,
		"GET * HTTP/1.1\r\nHost: a\r\n\r\n":                         400,
		"GET http://b/run/f HTTP/1.1\r\nHost: a\r\n\r\n":            200,
		"GET http://u@b/run/f HTTP/1.1\r\nHost: a\r\n\r\n":          400,
		"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n":                  404,
		"GET /run/ HTTP/1.1\r\nHost: a\r\n\r\n":                     400,
		"GET /run HTTP/1.1\r\nHost: a\r\n\r\n":                      400,
		"GET /runLambda/ HTTP/1.1\r\nHost: a\r\n\r\n":               400,
		"GET /runLambda/a/b HTTP/1.1\r\nHost: a\r\n\r\n":            400,
		"GET /run/f HTTP/1.1\r\nHost: a\r\nExpect: much\r\n\r\n":    417,
		"GET /run/a%62 HTTP/1.1\r\nHost: a\r\n\r\n":                 400,
		"GET /run/f.o-o_1/rest/of/it?x HTTP/1.1\r\nHost: a\r\n\r\n": 200,
	} {
		c := dial(t, addr)
		c.send(raw)
		if resp, body := c.response("GET"); resp.StatusCode != want {
			t.Errorf("%q: %d %q, want %d", raw, resp.StatusCode, body, want)
		}
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "w"))
	cfg.Limits = gateway.Limits{HeadTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond}
	cfg.Defaults.IdleTimeout = 300 * time.Millisecond
	g, addr := start(t, cfg)
	for name, beginning := range map[string]string{
		"silent": "", "half a head": "GET /run/f HTTP/1.1\r\nHo", "half a body": "POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
		"half a large body": "POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc",
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
	t.Cleanup(func() { eventually(t, "no call in flight", func() bool { return idle(g) }) })
}

// A client that asks and asks and never reads an answer is cut off too.
func TestClientsThatDoNotReadAreCutOff(t *testing.T) {
	t.Parallel()
	answer := strings.Repeat("x", 3000)
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) })
	cfg := simple(up)
	cfg.Defaults.IdleTimeout = 300 * time.Millisecond
	g, addr := start(t, cfg)
	c := dial(t, addr)
	many := strings.Repeat("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n", 100)
	for {
		if _, err := io.WriteString(c.Conn, many); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("nobody has cut it off")
		} else if err != nil {
			break
		}
	}
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		h, err := readHead(r)
		if err != nil || !strings.Contains(h, "Connection: Upgrade\r\nUpgrade: echo\r\n") {
			io.WriteString(c, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhi ")
		io.Copy(c, r)
	})
	g, addr := start(t, simple(up))
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
	h, err := readHead(c.r)
	if err != nil || !strings.HasPrefix(h, "HTTP/1.1 101") || !strings.Contains(h, "Upgrade: echo") {
		t.Fatalf("%q, %v", h, err)
	}
	// A reload under it changes nothing.
	if err := g.Reload(func() gateway.Config { c := simple(up); c.Logger = quiet(); return c }()); err != nil {
		t.Fatal(err)
	}
	c.send("there")
	want := "hi early there"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v", got, err)
	}
	if idle(g) {
		t.Error("an upgraded connection is not counted as in flight")
	}
	c.Conn.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) != 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

// What net/http's client sees through the gateway is what it sees without it.
func TestSameAsWithoutTheGateway(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		w.Header()["x-lower"] = []string{"1", "2"}
		switch r.URL.Query().Get("as") {
		case "chunked":
			w.(http.Flusher).Flush()
		case "status":
			w.WriteHeader(299)
		case "error":
			w.WriteHeader(http.StatusInternalServerError)
		case "redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		fmt.Fprintf(w, "%s %d", r.URL, len(b))
	})
	_, addr := start(t, simple(up))
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"} {
		for _, as := range []string{"", "chunked", "status", "error", "redirect"} {
			for _, size := range []int{0, 1, 5000, 100_000, 1_000_000} {
				if size > 0 && (method == "GET" || method == "HEAD") {
					continue
				}
				show := func(base string) string {
					req, err := http.NewRequestWithContext(t.Context(), method, base+"/run/f?as="+as, bytes.NewReader(make([]byte, size)))
					if err != nil {
						t.Fatal(err)
					}
					resp, err := client.Do(req)
					if err != nil {
						return "error " + err.Error()
					}
					defer resp.Body.Close()
					b, err := io.ReadAll(resp.Body)
					resp.Header.Del("Date")
					return fmt.Sprint(resp.Status, resp.Header, resp.ContentLength, resp.TransferEncoding, string(b), err)
				}
				if direct, through := show(up), show("http://"+addr); direct != through {
					t.Errorf("%s %s %d bytes:\ndirect  %s\nthrough %s", method, as, size, direct, through)
				}
			}
		}
	}
}

func TestKeepAliveIsKept(t *testing.T) {
	t.Parallel()
	_, addr := start(t, simple(named(t, "w")))
	reused := 0
	client := &http.Client{Transport: &http.Transport{}}
	for range 10 {
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) {
				if i.Reused {
					reused++
				}
			},
		}), http.MethodGet, "http://"+addr+"/run/f", nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if reused != 9 {
		t.Errorf("%d of 10 requests came on a connection that was open, want 9", reused)
	}
}

// Bodies of any size pass through bounded memory, both ways: a sixteenth of a GiB,
// and a whole one under ROTA_TORTURE.
func TestMemoryIsBounded(t *testing.T) {
	size := int64(64 << 20)
	if os.Getenv("ROTA_TORTURE") != "" {
		size = 1 << 30
	}
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
		io.CopyN(c, zeros{}, n)
	})
	for _, way := range []string{"HTTP/1", "HTTP/2", "HTTP/2 over TLS"} {
		t.Run(way, func(t *testing.T) {
			_, addr := ways[way](t, simple(up))
			client, base := reach(addr)
			runtime.GC()
			var most uint64
			look := func() uint64 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse+m.StackInuse)
				return m.HeapInuse + m.StackInuse
			}
			before, rss := look(), resident()
			body, sent := io.LimitReader(zeros{}, size), int64(0)
			resp, err := client.Do(request(t, "POST", base+"/run/f", readerFunc(func(p []byte) (int, error) {
				n, err := body.Read(p)
				if sent += int64(n); sent&(8<<20-1) < int64(n) {
					look()
				}
				return n, err
			})))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var got int64
			for got < size {
				n, err := io.CopyN(io.Discard, resp.Body, 8<<20)
				got += n
				look()
				if err != nil {
					break
				}
			}
			if got != size {
				t.Fatalf("%d of %d bytes came back", got, size)
			}
			// Client and worker are in this process too.
			if most > before+20<<20 {
				t.Errorf("memory grew from %d to %d MB", before>>20, most>>20)
			}
			t.Logf("%d MiB each way: memory grew by %.1f MB, resident by %.1f MB", size>>20, float64(most-before)/1e6, float64(resident()-rss)/1e6)
		})
	}
}

// resident is how many bytes of this process are in memory, 0 where that is not
// known.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var total, pages int64
	fmt.Sscan(string(b), &total, &pages)
	return pages * int64(os.Getpagesize())
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
