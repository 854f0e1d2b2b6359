package upstream

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// clients is a worker's client of net/http: for calls that it wants over HTTP/2, and
// for active checks. It is made when it is first needed.
type clients struct {
	mu      sync.Mutex
	now     *http.Transport
	made    time.Time
	carried int // calls
}

// worn says whether the client's connections are to be used no more.
func (c *clients) worn(most Life) bool {
	return c.now != nil && (most.Calls > 0 && c.carried >= most.Calls || most.Age > 0 && time.Since(c.made) > most.Age)
}

// Transport is the client of the worker as it is reached now.
func (w *Worker) Transport(most Life) *http.Transport {
	w.clients.mu.Lock()
	defer w.clients.mu.Unlock()
	if w.clients.worn(most) {
		w.clients.now.CloseIdleConnections()
		w.clients.now = nil
	}
	w.clients.carried++
	if w.clients.now == nil {
		w.clients.made, w.clients.carried = time.Now(), 1
		t := &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return w.connect(ctx) },
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     IdleFor,
			DisableCompression:  true, // bodies pass as they are
			ForceAttemptHTTP2:   true,
		}
		if w.TLS {
			t.DialTLSContext = w.connectTLS
		}
		if w.H2C {
			t.Protocols = &http.Protocols{}
			t.Protocols.SetUnencryptedHTTP2(true)
		}
		w.clients.now = t
	}
	return w.clients.now
}

// reset closes the client's idle connections and has later calls use others; those
// under way go on.
func (c *clients) reset() {
	c.mu.Lock()
	old := c.now
	c.now = nil
	c.mu.Unlock()
	if old != nil {
		old.CloseIdleConnections()
	}
}
