package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// framings are the ways in which a worker's answer can end, and one that has its
// connection change protocols. Each begins and says how to go on.
var framings = map[string]func(w http.ResponseWriter, r *http.Request) io.Writer{
	"a length": func(w http.ResponseWriter, _ *http.Request) io.Writer {
		w.Header().Set("Content-Length", fmt.Sprint(int64(1)<<40))
		return begun(w)
	},
	"chunks": func(w http.ResponseWriter, _ *http.Request) io.Writer { return begun(w) },
	"events": func(w http.ResponseWriter, _ *http.Request) io.Writer {
		w.Header().Set("Content-Type", "text/event-stream")
		return begun(w)
	},
	"an error": func(w http.ResponseWriter, _ *http.Request) io.Writer { // it may be one that says that nothing ran
		w.WriteHeader(http.StatusInternalServerError)
		return begun(w)
	},
	"the connection's end": func(w http.ResponseWriter, _ *http.Request) io.Writer {
		return hijacked(w, "HTTP/1.1 200 OK\r\n\r\nbegun")
	},
	"another protocol": func(w http.ResponseWriter, _ *http.Request) io.Writer {
		return hijacked(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbegun")
	},
}

func begun(w http.ResponseWriter) io.Writer {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()
	_, _ = io.WriteString(w, "begun")
	_ = rc.Flush()
	return w
}

func hijacked(w http.ResponseWriter, head string) io.Writer {
	nc, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return io.Discard
	}
	_, _ = io.WriteString(nc, head)
	return nc
}

// idlers are what the worker does after it has begun.
var idlers = map[string]func(out io.Writer, r *http.Request){
	"is silent": func(io.Writer, *http.Request) {},
	"never ends": func(out io.Writer, _ *http.Request) {
		for b := make([]byte, 32<<10); ; {
			if _, err := out.Write(b); err != nil {
				return
			}
		}
	},
	"echoes": func(out io.Writer, r *http.Request) {
		from := io.Reader(r.Body)
		if nc, ok := out.(net.Conn); ok {
			from = nc
		}
		b := make([]byte, 32<<10)
		for {
			n, err := from.Read(b)
			if _, werr := out.Write(b[:n]); err != nil || werr != nil {
				return
			}
			if f, ok := out.(http.Flusher); ok {
				f.Flush()
			}
		}
	},
}

// idleWorkers are workers of each protocol that answer /run/<function>/<framing>/<idler>, and
// do nothing more until the test is over.
func idleWorkers(t *testing.T) map[string]string {
	t.Helper()
	over := make(chan bool)
	urls := workersOf(t, func(w http.ResponseWriter, r *http.Request) {
		part := strings.Split(r.URL.Path, "/")[3:] // after /run/<function>
		if part[0] == "unread" {
			<-over
			return
		}
		out := framings[part[0]](w, r)
		idlers[part[1]](out, r)
		<-over
		nc, ok := out.(net.Conn)
		if !ok {
			panic(http.ErrAbortHandler)
		}
		nc.Close()
	})
	t.Cleanup(func() { close(over) })
	return urls
}

// endless is a body that is there as fast as it is taken.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// pausing is a body that begins and then stands still until it is closed.
type pausing struct {
	sent bool
	stop context.Context
}

func (p *pausing) Read(b []byte) (int, error) {
	if !p.sent {
		p.sent = true
		return copy(b, "hello"), nil
	}
	<-p.stop.Done()
	return 0, io.ErrUnexpectedEOF
}

// Nothing moves in either direction for timeouts.idle: the call is over, whatever
// framing and protocols it has, by the fault of the side that it waits for. It is
// logged once, and nothing of it is left.
func TestStandstillEndsEveryFraming(t *testing.T) {
	t.Parallel()
	type what struct {
		framing, does string
		body          func(ctx context.Context) io.Reader
		reads         bool // does the client take the answer?
		cause, blame  string
	}
	none := func(context.Context) io.Reader { return http.NoBody }
	slow := func(ctx context.Context) io.Reader { return &pausing{stop: ctx} }
	var cases []what
	for framing := range framings {
		if framing == "another protocol" {
			continue // TestStandstillEndsTunnels
		}
		cases = append(cases, what{framing, "is silent", none, true, "worker-stalled", "worker"}, what{framing, "never ends", none, false, "client-deaf", "client"})
	}
	cases = append(cases,
		what{"chunks", "echoes", slow, true, "client-slow", "client"},
		what{"unread", "", slow, true, "client-slow", "client"},
		// The last: a connection over HTTP/2 has room for no other body then.
		what{"unread", "", func(context.Context) io.Reader { return endless{} }, true, "worker-stalled", "worker"})
	for worker, url := range idleWorkers(t) {
		for _, way := range []string{"HTTP/1", "HTTP/2", "HTTP/2 over TLS", "net/http"} {
			t.Run(way+" to "+worker, func(t *testing.T) {
				t.Parallel()
				judged(t, func(standstill time.Duration, wrong func(string, ...any)) {
					cfg, log := logging(simple(url))
					cfg.Defaults.IdleTimeout = standstill
					g, addr := ways[way](t, cfg)
					client, base := reach(addr)
					var calls sync.WaitGroup
					defer calls.Wait()
					for i, tc := range cases {
						if worker == "h2c" && tc.framing == "the connection's end" {
							continue // there is no such thing
						}
						if i == len(cases)-1 {
							calls.Wait()
						}
						path := fmt.Sprintf("/run/f%d/%s/%s", i, tc.framing, tc.does)
						calls.Go(func() {
							ctx, cancel := context.WithCancel(t.Context())
							defer cancel()
							method, body := "GET", tc.body(ctx)
							if body != http.NoBody {
								method = "POST"
							}
							req := request(t, method, base+strings.ReplaceAll(path, " ", "%20"), body).WithContext(ctx)
							done := make(chan bool)
							go func() {
								defer close(done)
								resp, err := client.Do(req)
								if err != nil {
									t.Logf("%s: %v", path, err)
									return
								}
								defer resp.Body.Close()
								if !tc.reads {
									<-ctx.Done()
								}
								if _, err := io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode < 300 {
									t.Errorf("%s: the answer looks whole", path)
								}
							}()
							endedBy(t, log, path, tc.cause, tc.blame, wrong)
							cancel()
							<-done
						})
					}
					calls.Wait()
					eventually(t, "nothing is in flight", func() bool { return idle(g) })
				})
			})
		}
	}
}

// judged has calls stand still, and end otherwise than they should nowhere. Who gets no
// processor for as long as standstill is blamed for it, rightly; which a busy machine
// does to tests: then all is tried once more with a time that is no such pause.
func judged(t *testing.T, try func(standstill time.Duration, wrong func(string, ...any))) {
	t.Helper()
	times := []time.Duration{700 * time.Millisecond, 6 * time.Second}
	for n, standstill := range times {
		var mu sync.Mutex
		var all []string
		try(standstill, func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, fmt.Sprintf(format, args...))
		})
		for _, text := range all {
			if t.Logf("within %s: %s", standstill, text); n == len(times)-1 {
				t.Fail()
			}
		}
		if len(all) == 0 {
			return
		}
	}
}

// endedBy waits for the end of the call of a path, and says what is wrong with its only line.
func endedBy(t *testing.T, log *accessLog, path, cause, blame string, wrong func(string, ...any)) map[string]any {
	t.Helper()
	path = strings.ReplaceAll(path, " ", "%20")
	lines := func() (out []map[string]any) {
		for _, m := range log.calls(t) {
			if m["target"] == path {
				out = append(out, m)
			}
		}
		return out
	}
	eventually(t, path+" is logged", func() bool { return len(lines()) > 0 })
	got := lines()
	if m := got[0]; len(got) != 1 || m["cause"] != cause || m["blame"] != blame {
		wrong("%v, want one line of %s", got, cause)
	}
	return got[0]
}

// dialTunnel switches protocols and returns the connection.
func dialTunnel(t *testing.T, addr, path string) *client {
	t.Helper()
	c := dial(t, addr[strings.LastIndex(addr[:strings.LastIndex(addr, ":")], ":")+1:])
	if strings.HasPrefix(addr, "h2:") {
		tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
		c.Conn, c.r = tc, bufio.NewReader(tc)
	}
	c.send("GET " + strings.ReplaceAll(path, " ", "%20") + " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	h, err := readHead(c.r)
	if err != nil || !strings.HasPrefix(h, "HTTP/1.1 101") {
		t.Fatalf("%q, %v", h, err)
	}
	if b, err := io.ReadAll(io.LimitReader(c.r, 5)); err != nil || string(b) != "begun" {
		t.Fatalf("%q, %v", b, err)
	}
	return c
}

// tunnels are the ways in which a connection can change protocols.
func tunnels() map[string]func(testing.TB, gateway.Config) (*gateway.Gateway, string) {
	out := maps.Clone(ways)
	delete(out, "HTTP/2")
	out["HTTP/1 over TLS"] = out["HTTP/2 over TLS"] // whose client asks for nothing else
	delete(out, "HTTP/2 over TLS")
	return out
}

// The same holds of connections that have switched protocols.
func TestStandstillEndsTunnels(t *testing.T) {
	t.Parallel()
	write := func(c *client) {
		for b := make([]byte, 32<<10); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
	end := func(c *client) { _ = c.Conn.(interface{ CloseWrite() error }).CloseWrite() }
	for worker, url := range idleWorkers(t) {
		if worker == "h2c" {
			continue // there is no such thing
		}
		for way, serve := range tunnels() {
			t.Run(way+" to "+worker, func(t *testing.T) {
				t.Parallel()
				judged(t, func(standstill time.Duration, wrong func(string, ...any)) {
					cfg, log := logging(simple(url))
					cfg.Defaults.IdleTimeout = standstill
					g, addr := serve(t, cfg)
					var calls sync.WaitGroup
					defer calls.Wait()
					for i, tc := range []struct {
						idler        string
						do           func(*client)
						cause, blame string
					}{
						{"is silent", func(*client) {}, "client-slow", "client"},
						{"echoes", func(c *client) { c.send("hello") }, "client-slow", "client"},
						{"is silent", end, "worker-stalled", "worker"},
						{"never ends", func(*client) {}, "client-deaf", "client"},
						{"is silent", write, "worker-stalled", "worker"},
						{"echoes", write, "client-deaf", "client"},
					} {
						path := fmt.Sprintf("/run/f%d/another protocol/%s", i, tc.idler)
						calls.Go(func() {
							c := dialTunnel(t, addr, path)
							tc.do(c)
							m := endedBy(t, log, path, tc.cause, tc.blame, wrong)
							if m["sent"] != 101.0 || i == 1 && (m["bytes_in"] != 5.0 || m["bytes_out"] != 10.0) {
								wrong("%v", m)
							}
							if _, err := io.Copy(io.Discard, c.r); errors.Is(err, os.ErrDeadlineExceeded) {
								t.Errorf("%s: the client's connection is open", path)
							}
						})
					}
					calls.Wait()
					eventually(t, "nothing is in flight", func() bool { return idle(g) })
				})
			})
		}
	}
}

// As long as something moves in one direction the other may be silent.
func TestMovementInOneDirectionIsEnough(t *testing.T) {
	t.Parallel()
	const moves, every, most = 10, 250 * time.Millisecond, 2 * time.Second // more than most in all
	tick := func(t *testing.T, do func()) {
		tk := time.NewTicker(every)
		defer tk.Stop()
		for range moves {
			do()
			select {
			case <-tk.C:
			case <-t.Context().Done():
			}
		}
	}
	over := make(chan bool)
	t.Cleanup(func() { close(over) })
	urls := workersOf(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/tunnel"):
			nc, _ := hijacked(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbegun").(net.Conn)
			n, _ := io.Copy(io.Discard, nc)
			fmt.Fprint(nc, n)
			nc.Close()
		case strings.HasSuffix(r.URL.Path, "/down"):
			_, _ = io.Copy(io.Discard, r.Body)
			tick(t, func() { begun(w) })
		default:
			begun(w)
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n)
		}
	})
	var calls sync.WaitGroup
	defer calls.Wait()
	for worker, url := range urls {
		for _, way := range []string{"HTTP/1", "HTTP/2", "net/http"} {
			cfg := simple(url)
			cfg.Defaults.IdleTimeout = most
			_, addr := ways[way](t, cfg)
			for _, path := range []string{"up", "down", "tunnel"} {
				if path == "tunnel" && (worker == "h2c" || way == "HTTP/2") {
					continue
				}
				name := way + " to " + worker + "/" + path
				calls.Go(func() {
					if path == "tunnel" {
						c := dialTunnel(t, addr, "/run/f/tunnel")
						tick(t, func() { c.send("x") })
						_ = c.Conn.(*net.TCPConn).CloseWrite()
						if b, err := io.ReadAll(c.r); err != nil || string(b) != fmt.Sprint(moves) {
							t.Errorf("%s: %q, %v", name, b, err)
						}
						return
					}
					body, more := io.Pipe()
					go func() {
						if path == "up" {
							tick(t, func() { _, _ = io.WriteString(more, "x") })
						}
						more.Close()
					}()
					client, base := reach(addr)
					resp, err := client.Do(request(t, "POST", base+"/run/f/"+path, body))
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					defer resp.Body.Close()
					if b, err := io.ReadAll(resp.Body); err != nil || path == "up" && string(b) != "begun"+fmt.Sprint(moves) {
						t.Errorf("%s: %q, %v", name, b, err)
					}
				})
			}
		}
	}
}
