package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/rota-project/rota/gateway"
)

// Whoever reads the client's body says whose fault its end was: what clients do is
// over when they have gone, and never counts against a worker.

// workersOf are workers of each protocol with one handler.
func workersOf(t *testing.T, h http.HandlerFunc) map[string]string {
	t.Helper()
	secure := httptest.NewUnstartedServer(h)
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{workerCert}}
	secure.Config.ErrorLog = quietLog // clients that leave
	secure.StartTLS()
	t.Cleanup(secure.Close)
	return map[string]string{"http": backend(t, h), "https": secure.URL, "h2c": h2cWorker(t, h)}
}

// uploads are what the workers do with what they get.
var uploads = map[string]http.HandlerFunc{
	"reads all": func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	},
	"echoes": func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_, _ = io.Copy(w, r.Body)
	},
}

// sender sends one call and leaves, in a way that rnd chooses. It says what it did.
type sender func(t *testing.T, addr string, rnd *rand.Rand) string

// senders are the protocols of clients.
var senders = map[string]struct {
	serve func(testing.TB, gateway.Config) (*gateway.Gateway, string)
	send  sender
}{
	"HTTP/1":          {start, sendHTTP1},
	"HTTP/2":          {startHTTP2, sendHTTP2},
	"HTTP/2 over TLS": {startHTTP2TLS, sendHTTP2},
}

// bodySize is from 1 B to 1 MB, small ones as often as large ones.
func bodySize(rnd *rand.Rand) int {
	n := 1 << rnd.IntN(20)
	return n + rnd.IntN(n)
}

// chunked is a body in chunks, broken somewhere or whole.
func chunked(rnd *rand.Rand, size int) (wire []byte, what string) {
	broken := rnd.IntN(3)
	at := rnd.IntN(size)
	for n := 0; n < size; {
		k := min(size-n, 1+rnd.IntN(200_000))
		if broken == 0 && n+k > at {
			bad := []string{"ZZ\r\n", "5\r\nabcdefgh\r\n", "-1\r\n", "\r\n", "5;\x00\r\nabcde\r\n", strings.Repeat("f", 20) + "\r\n", strings.Repeat("1;x", 3000)}[rnd.IntN(7)]
			return append(wire, bad...), fmt.Sprintf("chunks broken by %.10q", bad)
		}
		wire = fmt.Appendf(wire, "%x\r\n%s\r\n", k, bytes.Repeat([]byte("x"), k))
		n += k
	}
	if broken == 1 && rnd.IntN(2) == 0 {
		return append(wire, "0\r\nX: "+strings.Repeat("a", 1+rnd.IntN(50_000))+"\r\nbad trailer\r\n\r\n"...), "a broken trailer"
	}
	return append(wire, "0\r\n\r\n"...), "chunks"
}

func sendHTTP1(t *testing.T, addr string, rnd *rand.Rand) string {
	size := bodySize(rnd)
	wire, what := bytes.Repeat([]byte("x"), size), "a length"
	head := fmt.Sprintf("POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
	if rnd.IntN(2) == 0 {
		wire, what = chunked(rnd, size)
		head = "POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	}
	if rnd.IntN(4) == 0 {
		head = strings.TrimSuffix(head, "\r\n") + "Expect: 100-continue\r\n\r\n"
		what += ", expecting"
	}
	wire = append([]byte(head), wire...)
	if rnd.IntN(2) == 0 {
		wire, what = wire[:rnd.IntN(len(wire))], what+", cut short"
	}
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return what
	}
	defer nc.Close()
	if rnd.IntN(2) == 0 {
		_ = nc.(*net.TCPConn).SetLinger(0)
		what += ", and reset"
	}
	for len(wire) > 0 {
		n := min(len(wire), 1+rnd.IntN(100_000))
		if _, err := nc.Write(wire[:n]); err != nil {
			return what
		}
		if wire = wire[n:]; rnd.IntN(4) == 0 {
			runtime.Gosched()
		}
	}
	if rnd.IntN(2) == 0 { // takes some of the answer
		_ = nc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = nc.Read(make([]byte, 1+rnd.IntN(1000)))
	}
	return what
}

func sendHTTP2(t *testing.T, addr string, rnd *rand.Rand) string {
	raw, err := net.Dial("tcp", addr[strings.Index(addr, ":")+1:])
	if err != nil {
		t.Error(err)
		return ""
	}
	nc := raw
	if strings.HasPrefix(addr, "h2:") {
		nc = tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, http2.ClientPreface)
	f := &framer{Framer: http2.NewFramer(nc, bufio.NewReader(nc)), c: nc, t: t}
	f.encoder()
	go func() { // credit comes unasked
		for {
			if _, err := f.ReadFrame(); err != nil {
				return
			}
		}
	}()
	_ = f.WriteSettings()
	size := min(bodySize(rnd), 200_000) // within the windows
	what := fmt.Sprint(size)
	kv := []string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/run/f"}
	if rnd.IntN(2) == 0 {
		kv = append(kv, "content-length", fmt.Sprint(size))
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(kv...), EndHeaders: true})
	stop := size
	if rnd.IntN(2) == 0 {
		stop = rnd.IntN(size)
	}
	for n := 0; n < stop; {
		k := min(stop-n, 1+rnd.IntN(16<<10))
		if f.WriteData(1, n+k == size, make([]byte, k)) != nil {
			return what
		}
		n += k
	}
	if stop < size {
		switch rnd.IntN(4) {
		case 0:
			what += ", reset"
			_ = f.WriteRSTStream(1, http2.ErrCodeCancel)
		case 1:
			what += ", a broken trailer"
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(":path", "/"), EndHeaders: true, EndStream: true})
		case 2:
			what += ", another length"
			_ = f.WriteData(1, true, nil)
		default:
			what += ", left"
		}
	}
	if rnd.IntN(2) == 0 {
		time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond) // takes some of the answer
	}
	return what
}

// A moment after every client has gone nothing is in flight, whatever they have
// sent of their bodies and however they left, and no worker is blamed.
func TestNothingIsLeftOfClientsThatHaveGone(t *testing.T) {
	t.Parallel()
	for does, h := range uploads {
		for worker, url := range workersOf(t, h) {
			for client := range senders {
				t.Run(client+" to "+worker+" that "+does, func(t *testing.T) {
					t.Parallel()
					nothingIsLeft(t, client, url, rand.Uint64(), 60)
				})
			}
		}
	}
}

// FuzzNothingIsLeft is the same, one client after another.
func FuzzNothingIsLeft(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		for _, h := range uploads {
			for _, url := range workersOf(t, h) {
				for client := range senders {
					nothingIsLeft(t, client, url, seed, 2)
				}
			}
		}
	})
}

func nothingIsLeft(t *testing.T, client, worker string, seed uint64, calls int) {
	t.Helper()
	cfg := simple(worker)
	cfg.Defaults.IdleTimeout, cfg.Defaults.QueueTimeout, cfg.Defaults.ConnectTimeout = time.Hour, time.Hour, time.Hour // no timer helps
	cfg.Defaults.Attempts = 1
	way := senders[client]
	g, addr := way.serve(t, cfg)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var did []string
	for range calls {
		did = append(did, way.send(t, addr, rnd))
	}
	eventually(t, fmt.Sprintf("nothing is left (seed %d)", seed), func() bool { return idle(g) && g.Status().Connections == 0 })
	r, _ := g.Route("f")
	if w := g.Status().Workers[0]; w.State != "ready" || w.Failures != 0 || len(r.Workers) > 0 && !r.Workers[0].May {
		t.Errorf("the worker is blamed (seed %d): %+v, %q\n%+v", seed, w, did, r.Failures)
	}
}

// What a client has broken is answered at once, and says so; nothing waits for what
// will not come.
func TestBrokenBodiesAreAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	for does, h := range uploads {
		if does == "echoes" {
			continue // the answer has begun
		}
		for worker, url := range workersOf(t, h) {
			for name, body := range map[string]string{
				"an endless trailer":           "0\r\nX: " + strings.Repeat("a", 50_000) + "\r\n\r\n",
				"garbage after a large chunk":  "30d40\r\n" + strings.Repeat("x", 200_000) + "\r\nZZ\r\n",
				"garbage at once":              "ZZ\r\n",
				"a chunk that is longer":       "3\r\nabcdef\r\n0\r\n\r\n",
				"a length that is negative":    "-5\r\nabcde\r\n0\r\n\r\n",
				"an endless size":              strings.Repeat("0", 10_000),
				"a header that may not trail":  "0\r\nContent-Length: 5\r\n\r\n",
				"garbage after a small one":    "3\r\nabc\r\nZZ\r\n",
				"a bare line feed after a one": "3\nabc\r\n0\r\n\r\n",
			} {
				t.Run(worker+"/"+name, func(t *testing.T) {
					t.Parallel()
					cfg := simple(url)
					cfg.Defaults.IdleTimeout, cfg.Defaults.MaxInFlight = time.Hour, 2
					g, addr := start(t, cfg)
					for i := range 5 {
						c := dial(t, addr)
						c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
						if i%2 == 0 { // it has reached the worker
							eventually(t, "the call has begun", func() bool { return !idle(g) })
						}
						go io.WriteString(c.Conn, body)
						if resp, text := c.response("POST"); resp.StatusCode != http.StatusBadRequest || !resp.Close {
							t.Errorf("%d %q, closes %v", resp.StatusCode, text, resp.Close)
						}
						c.Close()
					}
					eventually(t, "nothing is left", func() bool { return idle(g) && g.Status().Connections == 0 })
					if w := g.Status().Workers[0]; w.State != "ready" || w.Failures != 0 {
						t.Errorf("the worker is blamed: %+v", w)
					}
				})
			}
		}
	}
}

// Who is slow is told so, and is not the worker's failure.
func TestSlowBodiesAreTheClientsFault(t *testing.T) {
	t.Parallel()
	for worker, url := range workersOf(t, uploads["reads all"]) {
		for name, head := range map[string]string{
			"kept": "Content-Length: 10", "streamed": "Content-Length: 1000000", "chunked": "Transfer-Encoding: chunked",
		} {
			t.Run(worker+"/"+name, func(t *testing.T) {
				t.Parallel()
				cfg := simple(url)
				cfg.Defaults.IdleTimeout = 200 * time.Millisecond
				g, addr := start(t, cfg)
				c := dial(t, addr)
				c.send("POST /run/f HTTP/1.1\r\nHost: a\r\n" + head + "\r\n\r\n3\r\nabc\r\n")
				if resp, text := c.response("POST"); resp.StatusCode != http.StatusRequestTimeout {
					t.Errorf("%d %q", resp.StatusCode, text)
				}
				eventually(t, "nothing is left", func() bool { return idle(g) && g.Status().Connections == 0 })
				r, _ := g.Route("f")
				if w := g.Status().Workers[0]; w.Failures != 0 || len(r.Failures) != 1 || r.Failures[0].Cause != "client-slow" || r.Failures[0].Blame != "client" {
					t.Errorf("%+v, %+v", w, r.Failures)
				}
			})
		}
	}
}

// A client that leaves while its call is queued is missed although what it has sent
// of its body is unread.
func TestQueuedUploadsThatLeave(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("nothing else tells of an end behind what is unread")
	}
	busy, done := make(chan bool), make(chan bool)
	up := backend(t, func(http.ResponseWriter, *http.Request) { busy <- true; <-done })
	cfg := simple(up)
	cfg.Workers[0].MaxInFlight = 1
	cfg.Defaults.IdleTimeout, cfg.Defaults.QueueTimeout = time.Hour, time.Hour
	g, addr := start(t, cfg)
	first := dial(t, addr)
	first.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
	<-busy
	for range 3 {
		c := dial(t, addr)
		c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + strings.Repeat("x", 50_000))
		eventually(t, "it waits", func() bool { return waiting(g) == 1 })
		c.Close()
		eventually(t, "nobody waits", func() bool { return waiting(g) == 0 })
	}
	done <- true
	first.response("GET")
	first.Close()
	eventually(t, "nothing is left", func() bool { return idle(g) && g.Status().Connections == 0 })
}
