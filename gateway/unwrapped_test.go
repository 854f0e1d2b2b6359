package gateway_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// hidden is a ResponseWriter as middleware makes it that knows of no Unwrap.
type hidden struct{ w http.ResponseWriter }

func (h hidden) Header() http.Header         { return h.w.Header() }
func (h hidden) Write(p []byte) (int, error) { return h.w.Write(p) }
func (h hidden) WriteHeader(status int)      { h.w.WriteHeader(status) }

// flushing can be flushed, too.
type flushing struct{ hidden }

func (f flushing) Flush() { f.w.(http.Flusher).Flush() }

// Behind middleware through which no read can be cut short, a call ends all the same when it
// has its answer, or when its client is slow, while some of its body is missing.
func TestHandlerEndsBehindMiddleware(t *testing.T) {
	t.Parallel()
	early := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
			_, _ = io.Copy(io.Discard, r)
		}
	})
	patient := backend(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	for name, middleware := range map[string]func(http.Handler) http.Handler{
		"plain": func(h http.Handler) http.Handler { return h },
		"hidden": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(hidden{w}, r) })
		},
		"flushing": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(flushing{hidden{w}}, r) })
		},
		"in time": func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Hour, "") },
	} {
		for what, worker := range map[string]string{"answered early": early, "slow": patient} {
			for size, length := range map[string]string{"short": "Content-Length: 1000", "long": "Content-Length: 1000000", "chunked": "Transfer-Encoding: chunked"} {
				if what == "answered early" && size == "short" {
					continue // it is read whole before a worker is asked
				}
				t.Run(strings.Join([]string{name, what, size}, "/"), func(t *testing.T) {
					t.Parallel()
					cfg := simple(worker)
					if cfg.Logger = quiet(); what == "slow" {
						cfg.Defaults.IdleTimeout = 50 * time.Millisecond
					}
					g, err := gateway.New(cfg)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(g.Close)
					over := make(chan struct{})
					h := middleware(g.Handler())
					s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						defer close(over)
						h.ServeHTTP(w, r)
					}))
					s.Config.ErrorLog = quietLog
					s.Start()
					t.Cleanup(s.Close)
					c := dial(t, s.Listener.Addr().String())
					c.send("POST /run/f HTTP/1.1\r\nHost: localhost\r\n" + length + "\r\n\r\n")
					if size == "chunked" {
						c.send("3\r\nabc\r\n")
					} else {
						c.send("abc")
					}
					select {
					case <-over:
					case <-time.After(patience):
						t.Fatal("the call does not end")
					}
					if what == "answered early" && (name == "plain" || name == "flushing") {
						if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != http.StatusForbidden {
							t.Errorf("%v %v", resp, err)
						}
					}
					eventually(t, "no call is in flight", func() bool { return idle(g) })
				})
			}
		}
	}
}
