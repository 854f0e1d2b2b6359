package gateway_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/rota-project/rota/gateway"
)

// A call over HTTP/2 whose worker, which asks for certificates, breaks while it runs the call
// is not sent to another worker, whatever the broken one is like for new connections.
func TestCallThatHasRunIsNotRepeated(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, mine := ca.issue(t, "worker.internal"), ca.issue(t, "gateway")
	for then, breaks := range map[string]func(s *httptest.Server, gone *atomic.Bool){
		"nobody listens":  func(s *httptest.Server, _ *atomic.Bool) { _ = s.Listener.Close() },
		"no TLS any more": func(_ *httptest.Server, gone *atomic.Bool) { gone.Store(true) },
		"it is as it was": func(*httptest.Server, *atomic.Bool) {},
	} {
		for _, body := range []string{"Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"} {
			t.Run(then, func(t *testing.T) {
				t.Parallel()
				var ran atomic.Int64
				var gone atomic.Bool
				conf := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert}
				conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
					if gone.Load() {
						return nil, errors.New("gone")
					}
					return nil, nil
				}
				cfg := simple()
				for range 2 {
					var s *httptest.Server
					s = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						_, _ = io.Copy(io.Discard, r.Body)
						ran.Add(1)
						breaks(s, &gone)
						s.CloseClientConnections()
					}))
					s.EnableHTTP2, s.TLS, s.Config.ErrorLog = true, conf.Clone(), quietLog
					s.StartTLS()
					t.Cleanup(s.Close)
					cfg.Workers = append(cfg.Workers, gateway.Worker{URL: s.URL})
				}
				cfg.WorkerTLS = &tls.Config{RootCAs: ca.pool(), ServerName: "worker.internal", Certificates: []tls.Certificate{mine}}
				_, addr := start(t, cfg)
				c := dial(t, addr)
				c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n" + body)
				if resp, body := c.response(http.MethodPost); resp.StatusCode != http.StatusBadGateway || ran.Load() != 1 {
					t.Errorf("%d %q, it ran %d times", resp.StatusCode, body, ran.Load())
				}
			})
		}
	}
}
