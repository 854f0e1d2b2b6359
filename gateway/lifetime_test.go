package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// counted is a worker that says on which of its connections a call came.
func counted(t *testing.T, h2 bool) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.RemoteAddr)
	}))
	url := "http://"
	if h2 {
		url = "h2c://"
		s.Config.Protocols = &http.Protocols{}
		s.Config.Protocols.SetUnencryptedHTTP2(true)
	}
	s.Start()
	t.Cleanup(s.Close)
	return url + s.Listener.Addr().String()
}

// A client connection that has carried its calls, or is old, ends with an answer that
// says so; no call is lost.
func TestClientConnectionsThatHaveHadTheirTime(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]gateway.Limits{"calls": {ConnectionCalls: 3}, "age": {ConnectionAge: 150 * time.Millisecond}} {
		for way, serve := range ways {
			if way == "net/http" {
				continue // its connections are its own
			}
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				cfg := simple(counted(t, false))
				cfg.Limits = limits
				_, addr := serve(t, cfg)
				client, base := reach(addr)
				seen := map[string]int{}
				trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { seen[i.Conn.LocalAddr().String()]++ }}
				eventually(t, "a third connection", func() bool {
					req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, base+"/run/f", stringReader("x"))
					if err != nil {
						t.Fatal(err)
					}
					resp, err := client.Do(req)
					if err != nil {
						t.Fatalf("a call was lost: %v", err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					return len(seen) >= 3
				})
				for _, n := range seen {
					if name == "calls" && way == "HTTP/1" && n > 3 {
						t.Errorf("%d calls on one connection: %v", n, seen)
					}
				}
			})
		}
	}
}

// An idle connection that is old is closed; a long answer on one is finished.
func TestOldConnections(t *testing.T) {
	t.Parallel()
	begun, end := make(chan bool, 1), make(chan bool)
	cfg := simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/run/long" {
			_ = http.NewResponseController(w).Flush()
			begun <- true
			<-end
		}
		fmt.Fprint(w, "done")
	}))
	cfg.Limits.ConnectionAge = 50 * time.Millisecond
	g, addr := start(t, cfg)
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
	c.response(http.MethodGet)
	if n, err := c.r.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	c = dial(t, addr)
	c.send("GET /run/long HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	for range 5 { // it is old by now, and swept
		time.Sleep(50 * time.Millisecond)
	}
	close(end)
	if _, body := c.response(http.MethodGet); body != "done" {
		t.Errorf("%q", body)
	}
	eventually(t, "it ends", func() bool { return g.Status().Connections == 0 })
}

// Connections to workers end after their calls, or when they are old, over both protocols.
func TestWorkerConnectionsThatHaveHadTheirTime(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]gateway.Limits{
		"none": {}, "calls": {WorkerConnectionCalls: 3}, "age": {WorkerConnectionAge: 100 * time.Millisecond},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/h2 %v", name, h2), func(t *testing.T) {
				t.Parallel()
				cfg := simple(counted(t, h2))
				cfg.Limits = limits
				_, addr := start(t, cfg)
				seen := map[string]int{}
				for range 12 {
					status, from := call(t, http.MethodPost, addr, "/run/f", []byte("x"))
					if status != http.StatusOK {
						t.Fatal(status, from)
					}
					seen[from]++
					if name == "age" {
						time.Sleep(30 * time.Millisecond)
					}
				}
				switch {
				case name == "none" && len(seen) != 1, name == "calls" && len(seen) != 4, name == "age" && len(seen) < 2:
					t.Errorf("calls by connection: %v", seen)
				}
			})
		}
	}
}

// What was upgraded goes on however old its connection is.
func TestUpgradedConnectionsGoOn(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Upgrade", "x")
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer nc.Close()
		_, _ = io.Copy(nc, rw)
	})
	cfg := simple(up)
	cfg.Limits = gateway.Limits{ConnectionAge: time.Millisecond, ConnectionCalls: 1, WorkerConnectionAge: time.Millisecond, WorkerConnectionCalls: 1}
	_, addr := start(t, cfg)
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	if h, _ := readHead(c.r); len(h) == 0 {
		t.Fatal("no answer")
	}
	for range 4 {
		time.Sleep(70 * time.Millisecond)
		c.send("ping\n")
		if l, err := bufio.NewReader(io.LimitReader(c.r, 5)).ReadString('\n'); l != "ping\n" {
			t.Fatalf("%q, %v", l, err)
		}
	}
}
