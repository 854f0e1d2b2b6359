package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/test/ports"
)

// fleet is a set of workers that are killed, restarted, drained, added and
// removed. It counts how often each call ran.
type fleet struct {
	t    *testing.T
	mu   sync.Mutex
	runs map[string]int
}

// member is one worker of a fleet, at one address for ever.
type member struct {
	f    *fleet
	addr string
	mu   sync.Mutex
	srv  *http.Server
}

func (f *fleet) add() *member {
	m := &member{f: f}
	ln := ports.Listen(f.t)
	m.addr = ln.Addr().String()
	m.serve(ln)
	return m
}

func (m *member) url() string { return "http://" + m.addr }

func (m *member) serve(ln net.Listener) {
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			io.WriteString(w, "ready\n")
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		m.f.mu.Lock()
		m.f.runs[string(body)]++
		m.f.mu.Unlock()
		w.Write(body)
	})}
	m.mu.Lock()
	m.srv = srv
	m.mu.Unlock()
	go srv.Serve(ln)
}

// kill drops the listener and every connection at once.
func (m *member) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.srv != nil {
		m.srv.Close()
		m.srv = nil
	}
}

// stop finishes what has begun, as an orderly stop does.
func (m *member) stop() {
	m.mu.Lock()
	srv := m.srv
	m.srv = nil
	m.mu.Unlock()
	if srv != nil {
		srv.Shutdown(context.Background())
	}
}

func (m *member) start() {
	m.mu.Lock()
	up := m.srv != nil
	m.mu.Unlock()
	if up {
		return
	}
	if ln, err := net.Listen("tcp", m.addr); err == nil {
		m.serve(ln)
	}
}

// churnFor is two seconds, or what ROTA_TORTURE says.
func churnFor(t *testing.T) time.Duration {
	s := os.Getenv("ROTA_TORTURE")
	if s == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("ROTA_TORTURE: %v", err)
	}
	return d
}

// Workers stopped, started, drained, added and removed and the configuration
// reloaded every 100 ms under load: no call fails, none runs twice, nothing
// stays counted, and an upgraded connection lives through all of it. Workers are
// killed too: then a POST may fail, with 502, but only if it may have run, and
// still none runs twice.
func TestChurn(t *testing.T) {
	for _, kills := range []bool{false, true} {
		t.Run(fmt.Sprint("kills ", kills), func(t *testing.T) {
			t.Parallel()
			churn(t, kills)
		})
	}
}

// leastCalls is how many calls mean anything.
const leastCalls = 200

func churn(t *testing.T, kills bool) {
	f := &fleet{t: t, runs: map[string]int{}}
	var fixed []*member
	for range 5 {
		fixed = append(fixed, f.add())
	}
	echo := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(c, r)
		}
	})
	config := func(i int) gateway.Config {
		cfg := simple()
		cfg.Logger = quiet()
		cfg.Health.Quarantine = 20 * time.Millisecond
		cfg.Defaults.QueueTimeout = patience
		cfg.Defaults.Balancer = []string{"smart", "least-loaded", "round-robin", "p2c", "pull", "hashing-bounded"}[i%6]
		for j, m := range fixed {
			if j != i%7 { // one of them is missing most of the time
				cfg.Workers = append(cfg.Workers, gateway.Worker{URL: m.url(), Functions: []string{"f"}})
			}
		}
		cfg.Workers = append(cfg.Workers, gateway.Worker{URL: echo, Functions: []string{"echo"}})
		return cfg
	}
	g, addr := start(t, config(0))
	ws := dial(t, addr)
	_ = ws.SetDeadline(time.Time{})
	ws.send("GET /run/echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if h, err := readHead(ws.r); err != nil || !strings.HasPrefix(h, "HTTP/1.1 101") {
		t.Fatalf("%q, %v", h, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), churnFor(t))
	defer cancel()
	var sent, failed atomic.Int64
	var callers, churners sync.WaitGroup
	clients := []*http.Client{shared, sharedH2C}
	for w := range 8 {
		client := clients[w%2]
		callers.Go(func() {
			for i := 0; ctx.Err() == nil || sent.Load() < leastCalls; i++ {
				id := fmt.Sprintf("%d-%d", w, i)
				req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/run/f", stringReader(id))
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("call %s: %v", id, err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				sent.Add(1)
				switch {
				case err == nil && resp.StatusCode == http.StatusOK && string(body) == id:
				case kills && (resp.StatusCode == http.StatusBadGateway || err != nil):
					failed.Add(1) // it may have run
				default:
					t.Errorf("call %s: %d %q %v", id, resp.StatusCode, body, err)
				}
			}
		})
	}
	churners.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := 1; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := g.Reload(config(i)); err != nil {
				t.Errorf("reload %d: %v", i, err)
			}
			// All down but never two at once, so that a call has somewhere to go.
			m := fixed[rnd.IntN(len(fixed))]
			extra := f.add()
			if err := g.AddWorkers(extra.url()); err != nil {
				t.Error(err)
			}
			if kills && i%2 == 0 {
				m.kill()
			} else {
				// An orderly end: out of the gateway first, then down.
				if err := g.RemoveWorkers(m.url()); err != nil {
					t.Error(err)
				}
				m.stop()
			}
			m.start()
			if err := g.AddWorkers(m.url()); err != nil {
				t.Error(err)
			}
			if err := g.RemoveWorkers(extra.url()); err != nil {
				t.Error(err)
			}
			extra.stop()
			msg := fmt.Sprintf("still there %d", i)
			ws.send(msg)
			got := make([]byte, len(msg))
			if _, err := io.ReadFull(ws.r, got); err != nil || string(got) != msg {
				t.Errorf("the upgraded connection broke at reload %d: %q, %v", i, got, err)
				return
			}
		}
	})
	callers.Wait()
	cancel()
	churners.Wait()
	ws.Close()
	eventually(t, "no call in flight", func() bool { return idle(g) })
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, n := range f.runs {
		if n > 1 {
			t.Errorf("call %s ran %d times", id, n)
		}
	}
	if sent.Load() < leastCalls {
		t.Errorf("only %d calls: too few to mean anything", sent.Load())
	}
	if failed.Load() > sent.Load()/20+8 {
		t.Errorf("%d of %d calls failed", failed.Load(), sent.Load())
	}
	t.Logf("%d calls, %d failed that may have run, %d reloads", sent.Load(), failed.Load(), g.Status().Reloads)
	for _, m := range fixed {
		m.kill()
	}
}
