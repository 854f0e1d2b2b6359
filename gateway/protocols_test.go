package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// What follows holds in whatever way a call comes.

// everyWay runs a test in each of the ways.
func everyWay(t *testing.T, cfg gateway.Config, do func(t *testing.T, g *gateway.Gateway, client *http.Client, base string)) {
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, addr := serve(t, cfg)
			client, base := reach(addr)
			do(t, g, client, base)
			eventually(t, "no call in flight", func() bool { return idle(g) })
		})
	}
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestEventsAreFlushedAtOnce(t *testing.T) {
	t.Parallel()
	steps := make(chan chan string, 10)
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for ev := range <-steps {
			fmt.Fprintf(w, "data: %s\n\n", ev)
			w.(http.Flusher).Flush()
		}
	})
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, simple(up))
			client, base := reach(addr)
			next := make(chan string, 1)
			steps <- next
			next <- "0"
			resp, err := client.Do(request(t, "GET", base+"/run/f", nil))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body := bufio.NewReader(resp.Body)
			for i := range 5 { // each is read before the next is written
				l, err := body.ReadString('\n')
				if err != nil || l != fmt.Sprintf("data: %d\n", i) {
					t.Fatalf("event %d: %q, %v", i, l, err)
				}
				body.ReadString('\n')
				if i < 4 {
					next <- fmt.Sprint(i + 1)
				}
			}
			close(next)
			if _, err := body.ReadString('\n'); err != io.EOF {
				t.Errorf("end: %v", err)
			}
		})
	}
}

func TestAnswersWithoutBody(t *testing.T) {
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
				io.WriteString(c, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n")
			default:
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})
	everyWay(t, simple(up), func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		for range 2 {
			for _, tc := range []struct {
				method, path string
				status       int
				length       int64
			}{{"HEAD", "/run/f", 200, 12345}, {"GET", "/run/f/204", 204, 0}, {"GET", "/run/f/304", 304, 0}, {"GET", "/run/f/empty", 200, 0}} {
				resp, err := client.Do(request(t, tc.method, base+tc.path, nil))
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || len(b) > 0 || resp.StatusCode != tc.status || tc.status == 200 && resp.ContentLength != tc.length {
					t.Errorf("%s %s: %d, length %d, body %q, %v", tc.method, tc.path, resp.StatusCode, resp.ContentLength, b, err)
				}
			}
		}
	})
}

func TestTrailersAndEarlyHints(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "X-Checked")
		fmt.Fprintf(w, "%s ", b)
		w.(http.Flusher).Flush()
		fmt.Fprint(w, r.Trailer.Get("X-Sum"))
		w.Header().Set("X-Checked", "yes")
	})
	everyWay(t, simple(up), func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		for _, size := range []int{3, 100_000} {
			body := bytes.Repeat([]byte("x"), size)
			var hints atomic.Value
			req := request(t, "POST", base+"/run/f", struct{ io.Reader }{bytes.NewReader(body)})
			req.Trailer = http.Header{"X-Sum": {"7"}}
			req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints.Store(fmt.Sprint(code, h.Get("Link")))
				return nil
			}}))
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(got) != string(body)+" 7" || resp.Trailer.Get("X-Checked") != "yes" {
				t.Errorf("%d bytes, %.20q, trailer %v, %v", len(got), got, resp.Trailer, err)
			}
			if hints.Load() != "103</style.css>" {
				t.Errorf("hints: %v", hints.Load())
			}
		}
	})
}

func TestBodiesThatWaitForContinue(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/no") {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d", len(b))
	})
	everyWay(t, simple(up), func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		for path, want := range map[string]string{"/run/f": "2005", "/run/f/no": "417"} {
			req := request(t, "POST", base+path, strings.NewReader("hello"))
			req.Header.Set("Expect", "100-continue")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if got := fmt.Sprint(resp.StatusCode, string(b)); got != want && got != want[:3]+" "+want[3:] {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	})
}

// A body that breaks off must not look whole.
func TestBrokenAnswersShow(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		h, err := readHead(r)
		switch {
		case err != nil:
		case strings.Contains(h, "/chunked"):
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		case strings.Contains(h, "/malformed"):
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
		default:
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
		}
	})
	everyWay(t, simple(up), func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		for _, path := range []string{"/run/f/chunked", "/run/f/length", "/run/f/malformed"} {
			resp, err := client.Do(request(t, "POST", base+path, nil))
			if err != nil {
				continue // that shows too
			}
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s: %q looks whole", path, b)
			}
			resp.Body.Close()
		}
	})
}

// An answer may come before the request's body has ended, and is not lost.
func TestEarlyAnswers(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	})
	everyWay(t, simple(up), func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		body, more := io.Pipe()
		go more.Write([]byte("beginning")) // and no end
		defer more.Close()
		resp, err := client.Do(request(t, "POST", base+"/run/f", body))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge || string(b) != "big" || err != nil {
			t.Errorf("%d %q, %v", resp.StatusCode, b, err)
		}
	})
}

// Large bodies both ways at once, byte for byte, sized and not; many at a time.
func TestEchoOfLargeBodies(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	data := make([]byte, 3<<20)
	rand.Read(data)
	everyWay(t, simple(up), func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				var body io.Reader = bytes.NewReader(data)
				if i%2 == 0 {
					body = struct{ io.Reader }{body}
				}
				resp, err := client.Do(request(t, "POST", base+"/run/f", body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("call %d: %d bytes of %d came back, %v", i, len(got), len(data), err)
				}
			})
		}
		wg.Wait()
	})
}

// A client that goes away ends its call on the worker too: before the answer,
// within it, and within its own body.
func TestClientsThatLeave(t *testing.T) {
	t.Parallel()
	began, left := make(chan bool, 100), make(chan bool, 100)
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		began <- true
		defer func() { left <- true }()
		if strings.HasSuffix(r.URL.Path, "/upload") {
			io.Copy(io.Discard, r.Body)
			return
		}
		io.Copy(io.Discard, r.Body) // or net/http does not look whether the caller is there
		if strings.HasSuffix(r.URL.Path, "/stream") {
			for r.Context().Err() == nil {
				fmt.Fprint(w, "data\n")
				w.(http.Flusher).Flush()
			}
		}
		<-r.Context().Done()
	})
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			g, addr := serve(t, simple(up))
			client, base := reach(addr)
			for _, how := range []string{"", "/stream", "/upload"} {
				ctx, cancel := context.WithCancel(t.Context())
				body, more := io.Pipe()
				go func() {
					if how == "/upload" {
						more.Write([]byte("beginning"))
						<-ctx.Done()
						more.CloseWithError(context.Canceled)
						return
					}
					more.Close()
				}()
				done := make(chan bool)
				go func() {
					defer close(done)
					resp, err := client.Do(request(t, "POST", base+"/run/f"+how, body).WithContext(ctx))
					if err == nil {
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
				}()
				<-began
				if idle(g) {
					t.Fatal("nothing is counted in flight")
				}
				cancel()
				<-done
				select {
				case <-left: // the worker is told too
				case <-time.After(patience):
					t.Fatalf("%q: the worker never learned that the client has gone", how)
				}
				eventually(t, "no call in flight", func() bool { return idle(g) })
			}
		})
	}
}

// Headers on their way: those for one hop stay behind, forwarding headers are
// ours, cookies are whole, everything else passes, both ways.
func TestHeadersInEveryWay(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 10)
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			h, err := readHead(r)
			if err != nil {
				return
			}
			heads <- h
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"+
				"Proxy-Authenticate: none\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, simple(up))
			client, base := reach(addr)
			req := request(t, "GET", base+"/run/f?q=%20x", nil)
			req.Host = "example.org"
			for k, v := range map[string]string{
				"X-Other": "a  b", "Proxy-Authorization": "p", "Te": "trailers", "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "gopher",
				"X-Real-Ip": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Forwarded-Host": "evil", "X-Forwarded-Port": "1", "Cookie": "a=1; b=2",
				"Traceparent": "00-1-2-01", "User-Agent": "test", "Accept-Encoding": "x",
			} {
				req.Header.Set(k, v)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			resp.Header.Del("Date")
			want := http.Header{"X-A": {"1", "2"}, "Set-Cookie": {"a=1", "b=2"}, "Content-Type": {"text/x"}, "Content-Length": {"2"}}
			if fmt.Sprint(resp.Header) != fmt.Sprint(want) || string(b) != "ok" {
				t.Errorf("the client got %v %q\nwant %v", resp.Header, b, want)
			}
			lines := strings.Split(strings.TrimSuffix(strings.ToLower(<-heads), "\r\n\r\n"), "\r\n")
			if lines[0] != "get /run/f?q=%20x http/1.1" {
				t.Errorf("request line %q", lines[0])
			}
			proto := "http"
			if strings.HasPrefix(base, "https") {
				proto = "https"
			}
			got := slices.DeleteFunc(lines[1:], func(l string) bool { return strings.HasPrefix(l, "via: ") })
			if len(got) != len(lines)-2 {
				t.Errorf("no Via, or several: %q", lines)
			}
			slices.Sort(got)
			wantUp := []string{
				"accept-encoding: x", "cookie: a=1; b=2", "forwarded: for=127.0.0.1;proto=" + proto + `;host="example.org"`, "host: example.org",
				"traceparent: 00-1-2-01", "user-agent: test", "x-forwarded-for: 127.0.0.1", "x-forwarded-host: example.org",
				"x-forwarded-proto: " + proto, "x-other: a  b",
			}
			if !slices.Equal(got, wantUp) {
				t.Errorf("the worker got\n%q\nwant\n%q", got, wantUp)
			}
		})
	}
}

// maxLost is how many POSTs may be answered 502 because a worker that hung up had
// them in its system's buffer, which nobody can tell from having read them: one in
// some hundred thousand on a machine that is overloaded.
const maxLost = 1

// A worker that closes idle connections whenever it likes, by FIN or by reset,
// never makes a POST fail, and none runs twice (golang/go#22158, caddy#6452,
// traefik#8137).
func TestPostsRunOnceInEveryWay(t *testing.T) {
	t.Parallel()
	for name, serve := range ways {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reset %v", name, reset), func(t *testing.T) {
				t.Parallel()
				postsRunOnce(t, serve, reset)
			})
		}
	}
}

func postsRunOnce(t *testing.T, serve func(testing.TB, gateway.Config) (*gateway.Gateway, string), reset bool) {
	var mu sync.Mutex
	var lost atomic.Int64
	runs := map[string]int{}
	up := script(t, func(n int, c net.Conn, r *bufio.Reader) {
		for i := 0; ; i++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			mu.Lock()
			runs[string(b)]++
			mu.Unlock()
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if i >= n%3 { // without a word
				if reset {
					c.(*net.TCPConn).SetLinger(0)
				}
				return
			}
		}
	})
	g, addr := serve(t, simple(up))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				status, body := call(t, "POST", addr, "/run/f", fmt.Appendf(nil, "%d-%d", w, i))
				if status == 502 && lost.Add(1) <= maxLost {
					t.Logf("POST %d-%d was acknowledged by a system and never read", w, i)
				} else if status != 200 {
					t.Errorf("POST %d-%d: %d %s", w, i, status, body)
				}
			}
		})
	}
	wg.Wait()
	for id, n := range runs {
		if n != 1 {
			t.Errorf("POST %s ran %d times", id, n)
		}
	}
	if len(runs) < 800-int(lost.Load()) {
		t.Errorf("%d of 800 ran", len(runs))
	}
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

// A call that a worker has read is sent again only if that does no harm.
func TestRepetitionInEveryWay(t *testing.T) {
	t.Parallel()
	for name, serve := range ways {
		for method, retried := range map[string]bool{"GET": true, "DELETE": true, "POST": false, "PATCH": false} {
			t.Run(name+"/"+method, func(t *testing.T) {
				t.Parallel()
				var read atomic.Int64
				breaks := script(t, func(_ int, _ net.Conn, r *bufio.Reader) {
					if req, err := http.ReadRequest(r); err == nil {
						io.Copy(io.Discard, req.Body)
						read.Add(1)
					}
				})
				g, addr := serve(t, simple(breaks, named(t, "fine")))
				status, body := call(t, method, addr, "/run/f", []byte("x"))
				if retried && body != "fine" || !retried && status != 502 {
					t.Errorf("%d %q", status, body)
				}
				if read.Load() != 1 {
					t.Errorf("read %d times", read.Load())
				}
				eventually(t, "no call in flight", func() bool { return idle(g) })
			})
		}
	}
}

// A body on which nothing moves, in either direction, is cut off.
func TestStandstillIsCutOff(t *testing.T) {
	t.Parallel()
	stuck := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if h, _ := readHead(r); strings.Contains(h, "/upload") {
			io.Copy(io.Discard, r)
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
		io.Copy(io.Discard, r)
	})
	cfg := simple(stuck)
	cfg.Defaults.IdleTimeout = 200 * time.Millisecond
	everyWay(t, cfg, func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		resp, err := client.Do(request(t, "GET", base+"/run/f", nil))
		if err == nil {
			var b []byte
			if b, err = io.ReadAll(resp.Body); err == nil {
				t.Errorf("%q looks whole", b)
			}
			resp.Body.Close()
		}
		if !strings.Contains(t.Name(), "HTTP/2") {
			return // net/http's client does not notice over HTTP/1: TestSlowClientsAreCutOff does
		}
		for _, size := range []int64{100, 1_000_000} {
			body, more := io.Pipe()
			req := request(t, "POST", base+"/run/f/upload", body)
			req.ContentLength = size
			go more.Write([]byte("beginning"))
			resp, err := client.Do(req)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode < 400 {
					t.Errorf("half a body of %d bytes was answered %d", size, resp.StatusCode)
				}
			} else if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("half a body of %d bytes is waited for", size)
			}
			more.Close()
		}
	})
}

// A whole call, and its queue, in every way: what the gateway says itself.
func TestOwnAnswersInEveryWay(t *testing.T) {
	t.Parallel()
	cfg := simple()
	cfg.Defaults.Rate, cfg.Defaults.Burst = 0.001, 1
	everyWay(t, cfg, func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		for i, tc := range []struct {
			method, path string
			status       int
		}{
			{"GET", "/run/f", 503},
			{"GET", "/run/f", 429},
			{"HEAD", "/run/f", 429},
			{"POST", "/run/f", 429},
			{"GET", "/status", 200},
			{"GET", "/nothing", 404},
			{"GET", "/run/", 400},
			{"GET", "/run/a/%2e%2e/b", 400},
			{"GET", "/api/v1/gateway", 403},
		} {
			req := request(t, tc.method, base+tc.path, strings.NewReader(strings.Repeat("x", 1000*(i%2))))
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != tc.status || (tc.status == 429 || tc.status == 503) != (resp.Header.Get("Retry-After") != "") {
				t.Errorf("%s %s: %d %q %v, want %d", tc.method, tc.path, resp.StatusCode, b, err, tc.status)
			}
		}
	})
}

// Where the answer comes before the body's end, the client is told that the connection
// ends with it, whatever the worker speaks.
func TestEarlyAnswersSayThatTheyAreTheLast(t *testing.T) {
	t.Parallel()
	h := func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // or net/http reads on
		w.Header().Set("Connection", "close")                // or it stumbles over the rest
		fmt.Fprint(w, "early")
	}
	for kind, worker := range workersOf(t, h) {
		_, addr := start(t, simple(worker))
		c := dial(t, addr)
		c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 100_000))
		if resp, body := c.response(http.MethodPost); resp.StatusCode != http.StatusOK || body != "early" || !resp.Close {
			t.Errorf("%s: %d %q, close %v", kind, resp.StatusCode, body, resp.Close)
		}
	}
}
