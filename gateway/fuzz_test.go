package gateway_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// heard is a request as net/http's server has understood it.
type heard struct {
	from   string // the client's address
	what   string // method, target, host and headers, but for those of one hop and ours
	body   string
	broken bool // the body did not come to its end
}

// ear is a server that notes what it hears.
type ear struct {
	*httptest.Server
	mu    sync.Mutex
	heard []heard
}

func listen(t testing.TB, through bool) *ear {
	e := &ear{}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		h := heard{body: string(body), broken: err != nil}
		if h.from = r.Header.Get("X-Forwarded-For"); !through {
			h.from, _, _ = net.SplitHostPort(r.RemoteAddr)
		}
		uri := r.RequestURI
		if !strings.HasPrefix(uri, "/") { // absolute form
			uri = r.URL.RequestURI()
		}
		drop := []string{
			"Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
			"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-Ip", "Forwarded",
			"Content-Length", "Expect", "Host", "Via", "Max-Forwards",
		}
		for _, v := range r.Header["Connection"] {
			for opt := range strings.SplitSeq(v, ",") {
				drop = append(drop, textproto.CanonicalMIMEHeaderKey(strings.Trim(opt, " \t")))
			}
		}
		var lines []string
		for name, values := range r.Header {
			if !slices.Contains(drop, name) && !strings.HasPrefix(name, "X-Forwarded-") {
				lines = append(lines, fmt.Sprintf("%s: %q", name, values))
			}
		}
		slices.Sort(lines)
		h.what = fmt.Sprintf("%s %s %s\n%s", r.Method, uri, r.Host, strings.Join(lines, "\n"))
		e.mu.Lock()
		e.heard = append(e.heard, h)
		e.mu.Unlock()
		w.WriteHeader(http.StatusOK)
	}))
	e.Config.ErrorLog = log.New(io.Discard, "", 0)
	e.Start()
	t.Cleanup(e.Close)
	return e
}

// take returns what it has heard from that client, and forgets everything: what a
// client has broken off may be heard late.
func (e *ear) take(from string) (hs []heard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.heard {
		if h.from == from {
			hs = append(hs, h)
		}
	}
	e.heard = nil
	return hs
}

// tell sends bytes to a server and waits until it has closed the connection.
func tell(t *testing.T, addr string, raw []byte) (from string) {
	n := clients.Add(1)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(n>>16)|1, byte(n>>8), byte(n))}} // each has its own
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	go func() {
		c.Write(raw)
		c.(*net.TCPConn).CloseWrite()
	}()
	var ne net.Error
	if _, err := io.Copy(io.Discard, c); errors.As(err, &ne) && ne.Timeout() {
		t.Fatalf("it hangs: %q", raw)
	}
	from, _, _ = net.SplitHostPort(c.LocalAddr().String())
	return from
}

var clients atomic.Uint32

// sameAsNetHTTP checks that what a worker hears through the gateway is what
// net/http would have heard from the same bytes: never another request, never
// another body, never one more.
func sameAsNetHTTP(t *testing.T, addr string, worker, direct *ear, raw []byte) {
	got := worker.take(tell(t, addr, raw))
	own := worker.Listener.Addr().String()
	for i := range got { // a request without a host gets the worker's
		got[i].what = strings.Replace(got[i].what, " "+own+"\n", " \n", 1)
	}
	if len(got) == 0 {
		return
	}
	want := direct.take(tell(t, direct.Listener.Addr().String(), raw))
	if !among(got, want) {
		// Empty lines before a request are to be ignored (RFC 9112, 2.2), which
		// net/http does now and then.
		lean := bytes.TrimLeft(raw, "\r\n")
		for bytes.Contains(lean, []byte("\r\n\r\n\r\n")) {
			lean = bytes.ReplaceAll(lean, []byte("\r\n\r\n\r\n"), []byte("\r\n\r\n"))
		}
		if !among(got, direct.take(tell(t, direct.Listener.Addr().String(), lean))) {
			t.Fatalf("%q\nthe worker heard %+v\nnet/http hears %+v", raw, got, want)
		}
	}
}

// among says whether all of got are in want, in that order.
func among(got, want []heard) bool {
	for _, h := range got {
		same := func(w heard) bool {
			return h.what == w.what && (h.body == w.body && h.broken == w.broken || h.broken && strings.HasPrefix(w.body, h.body))
		}
		at := slices.IndexFunc(want, same)
		if at < 0 {
			return false
		}
		want = want[at+1:]
	}
	return true
}

// streams are what clients might send to make two readers disagree.
func streams() []string {
	list := []string{
		"GET /run/f HTTP/1.1\r\nHost: a\r\n\r\nGET /run/g HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX-T: 1\r\n\r\nGET /y HTTP/1.0\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"GET http://b:80/x?y HTTP/1.1\r\nHost: a\r\nConnection: x-a, close\r\nX-A: 1\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nrest",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: content-length\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx",
		"\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost:\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
		"GET /x y HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET  /x HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET //x HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
		"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
		"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000003\r\nabc\r\n0\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n0\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nHost: b\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nab",
		"POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /x HTTP/1.2\r\nHost: a\r\n\r\n", "GET /x HTTP/2.0\r\nHost: a\r\n\r\n", "GET /x\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: a\r\nX-A\x00: b\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\nX-A: b\x00\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: a\r\nX-A: \xff\r\n\r\n", "GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "G\xffT / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: b=2\r\nAccept: x\r\nAccept: y\r\n\r\n",
	}
	for _, raw := range smuggling {
		list = append(list, raw, raw+"GET /run/after HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	return list
}

func FuzzWholeEngine(f *testing.F) {
	for _, s := range streams() {
		f.Add([]byte(s))
	}
	worker, direct := listen(f, true), listen(f, false)
	cfg := simple(worker.URL)
	cfg.Routes = []gateway.Route{{Prefix: "/", Function: "f"}}
	g, addr := start(f, cfg)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if bytes.HasPrefix(raw, []byte("PRI * HTTP/2.0")) || len(raw) > 1<<17 {
			return // another protocol: FuzzSession's
		}
		sameAsNetHTTP(t, addr, worker, direct, raw)
		eventually(t, "no call in flight", func() bool { return idle(g) })
	})
}
