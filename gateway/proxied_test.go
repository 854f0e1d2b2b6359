package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// headerV2 is a PROXY header of version 2 for a client over IPv4.
func headerV2(ip [4]byte, port uint16) string {
	return "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + string(ip[:]) + "\x7f\x00\x00\x01" + string([]byte{byte(port >> 8), byte(port)}) + "\x00\x50"
}

// proxiedGateway believes PROXY headers of this machine.
func proxiedGateway(t *testing.T, change func(*gateway.Config)) (*gateway.Gateway, string, *accessLog) {
	t.Helper()
	cfg := simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Proto, r.Header.Get("X-Forwarded-For"))
	}))
	cfg.ProxyProtocol = prefixes(t, "127.0.0.0/8")
	cert, _ := certificate(t)
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	if change != nil {
		change(&cfg)
	}
	cfg, log := logging(cfg)
	g, addr := start(t, cfg)
	return g, addr, log
}

// protocolsOnTop are what follows a PROXY header: the call, and who the worker heard it is from.
var protocolsOnTop = map[string]func(t *testing.T, nc net.Conn) string{
	"HTTP/1": askHTTP1,
	"HTTP/1 over TLS": func(t *testing.T, nc net.Conn) string {
		return askHTTP1(t, tls.Client(nc, &tls.Config{InsecureSkipVerify: true}))
	},
	"HTTP/2": askHTTP2,
	"HTTP/2 over TLS": func(t *testing.T, nc net.Conn) string {
		return askHTTP2(t, tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}))
	},
}

func askHTTP1(t *testing.T, nc net.Conn) string {
	t.Helper()
	fmt.Fprint(nc, "GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

func askHTTP2(t *testing.T, nc net.Conn) string {
	t.Helper()
	tr := transport(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return nc, nil } // whatever is below
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a/run/f", http.NoBody)
	if err != nil {
		return err.Error()
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// Whom a trusted proxy names in a PROXY header is the client, for workers, logs and rates,
// whatever is spoken behind it and however it comes.
func TestProxyHeaders(t *testing.T) {
	t.Parallel()
	for proto, ask := range protocolsOnTop {
		for name, tc := range map[string]struct{ header, want string }{
			"version 1":         {"PROXY TCP4 10.1.2.3 127.0.0.1 4660 80\r\n", "10.1.2.3"},
			"version 1, IPv6":   {"PROXY TCP6 2001:db8::1 ::1 4660 80\r\n", "2001:db8::1"},
			"version 2":         {headerV2([4]byte{10, 1, 2, 3}, 4660), "10.1.2.3"},
			"unknown":           {"PROXY UNKNOWN\r\n", "127.0.0.1"},
			"the proxy's check": {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1"},
		} {
			for _, whole := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/whole %v", proto, name, whole), func(t *testing.T) {
					t.Parallel()
					_, addr, log := proxiedGateway(t, nil)
					c := dial(t, addr)
					if whole {
						c.send(tc.header)
					} else {
						for i := range tc.header {
							c.send(tc.header[i : i+1])
						}
					}
					if got := ask(t, c.Conn); got != "HTTP/1.1 "+tc.want {
						t.Errorf("the worker heard %q, want %s", got, tc.want)
					}
					eventually(t, "the call is logged", func() bool { return len(log.calls(t)) == 1 })
					if got := log.calls(t)[0]["client"]; got != tc.want {
						t.Errorf("the log says %v, want %s", got, tc.want)
					}
				})
			}
		}
	}
}

// A header together with the request is one message for the kernel, and two for us.
func TestProxyHeaderWithTheRequest(t *testing.T) {
	t.Parallel()
	_, addr, _ := proxiedGateway(t, func(c *gateway.Config) { c.Defaults.Rate, c.Defaults.Burst = 0.001, 1 })
	for i, want := range []int{200, 200, 429} { // each client has its own rate
		c := dial(t, addr)
		c.send(headerV2([4]byte{10, 0, 0, byte(min(i, 1))}, 1) + "GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, _ := c.response(http.MethodGet); resp.StatusCode != want {
			t.Errorf("%d: %d, want %d", i, resp.StatusCode, want)
		}
	}
}

// Nothing is guessed: a proxy without a header is cut off, and so is anybody else with one.
func TestProxyHeadersAreNotGuessed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		trusted bool
		send    string
	}{
		"none":           {true, "GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n"},
		"TLS at once":    {true, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
		"malformed":      {true, "PROXY TCP4 a b c d\r\nGET /run/f HTTP/1.1\r\nHost: a\r\n\r\n"},
		"too long":       {true, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"},
		"two":            {true, "PROXY UNKNOWN\r\nPROXY UNKNOWN\r\nGET /run/f HTTP/1.1\r\nHost: a\r\n\r\n"},
		"a stranger's":   {false, "PROXY TCP4 10.1.2.3 127.0.0.1 4660 80\r\nGET /run/f HTTP/1.1\r\nHost: a\r\n\r\n"},
		"a stranger's 2": {false, headerV2([4]byte{10, 1, 2, 3}, 1) + "GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, addr, log := proxiedGateway(t, func(c *gateway.Config) {
				if !tc.trusted {
					c.ProxyProtocol = prefixes(t, "10.0.0.0/8")
				}
			})
			c := dial(t, addr)
			c.send(tc.send)
			b, _ := io.ReadAll(c.Conn)
			if strings.Contains(string(b), " 200 ") {
				t.Errorf("%q", b)
			}
			for _, call := range log.calls(t) {
				if call["client"] != "127.0.0.1" {
					t.Errorf("%v", call)
				}
			}
			eventually(t, "the connection is over", func() bool { return g.Status().Connections == 0 })
		})
	}
}

// A proxy that begins and does not go on is cut off when the head's time is over.
func TestProxyHeadersThatDoNotCome(t *testing.T) {
	t.Parallel()
	g, addr, _ := proxiedGateway(t, func(c *gateway.Config) { c.Limits.HeadTimeout = 50 * time.Millisecond })
	c := dial(t, addr)
	c.send("PROXY TCP4 10.")
	if b, err := io.ReadAll(c.Conn); len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	eventually(t, "the connection is over", func() bool { return g.Status().Connections == 0 })
}

// What is open to those on loopback is not open to those behind a proxy there: not the
// plain port, not calls without credentials, not the admin paths.
func TestProxiedClientsAreNotLocal(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"PROXY TCP4 127.0.0.1 127.0.0.1 4660 80\r\n", "PROXY UNKNOWN\r\n"} {
		_, addr, _ := proxiedGateway(t, func(c *gateway.Config) {
			c.LocalAdmin = true
			c.Admit = func(_ context.Context, _ netip.AddrPort, _ []string) error {
				return &gateway.CallerError{Status: 401, Text: "no"}
			}
		})
		for path, want := range map[string]int{"GET /run/f": 401, "POST /admin/workers/add?workers=a:80": 403} {
			c := dial(t, addr)
			c.send(header + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
			if resp, body := c.response(http.MethodGet); resp.StatusCode != want {
				t.Errorf("%s: %d %q, want %d", path, resp.StatusCode, body, want)
			}
		}
		_, addr, _ = proxiedGateway(t, func(c *gateway.Config) { c.RequireTLS = true })
		c := dial(t, addr)
		c.send(header)
		if got := askHTTP1(t, c.Conn); strings.HasPrefix(got, "HTTP/1.1 ") {
			t.Errorf("in the clear: %s", got)
		}
		c = dial(t, addr)
		c.send(header)
		if got := protocolsOnTop["HTTP/1 over TLS"](t, c.Conn); !strings.HasPrefix(got, "HTTP/1.1 ") {
			t.Errorf("over TLS: %s", got)
		}
	}
}
