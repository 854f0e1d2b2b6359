package gateway_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/rota-project/rota/gateway"
)

// A route of every host does not swallow the gateway's own paths, however it is written
// and whichever way a call comes; a route that names a host has all paths of that host,
// and with admin addresses of their own none of them is the gateway's on the others.
func TestRoutesDoNotSwallowTheGatewaysOwnPaths(t *testing.T) {
	t.Parallel()
	own := []string{"/status", "/metrics", "/admin/workers/add", "/admin/workers/remove", "/api/v1/routes", "/api/v1/routes/f", "/api/v1/failures", "/api/v1/gateway", "/run", "/runLambda"}
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			up := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "the function got "+r.URL.Path) })
			for _, prefix := range []string{"/", "/status", "/admin", "/api/v1/", "/metrics", "/run"} {
				for _, strip := range []bool{false, true} {
					for _, apart := range []bool{false, true} {
						cfg := simple(up)
						cfg.Routes = []gateway.Route{{Prefix: prefix, Function: "f", Strip: strip, Methods: []string{"GET"}}, {Prefix: prefix, Function: "f", Methods: []string{"PUT"}}, {Host: "img.example", Prefix: "/", Function: "f"}}
						if apart {
							cfg.AdminListen = []string{"127.0.0.1:0"}
						}
						_, addr := serve(t, cfg)
						for _, path := range own {
							_, body := send(t, http.MethodGet, addr, path, nil, false)
							routed := path == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
							if got, want := strings.HasPrefix(body, "the function got"), apart && routed; got != want {
								t.Errorf("prefix %s, admin apart %v: %s: the function has it %v, want %v: %.60q", prefix, apart, path, got, want, body)
							}
							if _, body := send(t, http.MethodGet, addr, path, nil, false, "Host", "img.example"); body != "the function got "+path {
								t.Errorf("a host's own route: %s: %.60q", path, body)
							}
						}
						if prefix == "/" {
							for _, path := range []string{"/", "/statusx", "/status/", "/metrics/x", "/admin", "/admin/workers", "/api/v1/routesx"} {
								if _, body := send(t, http.MethodGet, addr, path, nil, false); !strings.HasPrefix(body, "the function got") {
									t.Errorf("%s is nobody's: %.60q", path, body)
								}
							}
						}
					}
				}
			}
		})
	}
}

// elsewhere is a listener whose connections come in at an address that is not of loopback.
type elsewhere struct{ net.Listener }

func (l elsewhere) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return abroad{nc}, err
}

type abroad struct{ net.Conn }

func (abroad) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80} }

// With RequireTLS nothing is answered in the clear that does not come over loopback: not
// HTTP/1, not HTTP/2, not what is malformed. Over TLS both are, and a reload changes it.
func TestRequireTLS(t *testing.T) {
	t.Parallel()
	cert, _ := certificate(t)
	for _, near := range []bool{true, false} {
		cfg := simple(named(t, "a"))
		cfg.TLS, cfg.Logger = &tls.Config{Certificates: []tls.Certificate{cert}}, quiet()
		g, err := gateway.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		at := ln
		if !near {
			at = elsewhere{ln}
		}
		go func() { defer close(served); _ = g.Serve(at) }()
		t.Cleanup(func() { g.Close(); <-served })
		for _, require := range []bool{false, true, false} {
			cfg.RequireTLS = require
			if err := g.Reload(cfg); err != nil {
				t.Fatal(err)
			}
			for proto, ask := range protocolsOnTop {
				got := ask(t, dial(t, ln.Addr().String()).Conn)
				if want := strings.Contains(proto, "TLS") || near || !require; (got == "a") != want {
					t.Errorf("loopback %v, required %v, %s: %q", near, require, proto, got)
				}
			}
			for _, what := range []string{"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", "nonsense\r\n\r\n", "\x00"} {
				c := dial(t, ln.Addr().String())
				c.send(what)
				if !near && require {
					if n, err := c.r.Read(make([]byte, 1)); n > 0 || err == nil {
						t.Errorf("%q was answered in the clear", what)
					}
				}
			}
		}
	}
}
