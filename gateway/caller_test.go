package gateway_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/rota-project/rota/gateway"
)

// Callers are asked who they are, those over loopback too: a proxy on this machine calls
// so for strangers. What they say of that stops at the gateway.
func TestCallersAreAsked(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "got ", r.Header["Authorization"]) })
	cfg := simple(up)
	cfg.Admit = func(_ context.Context, from netip.AddrPort, said []string) error {
		if from.Addr() == netip.MustParseAddr("10.0.0.9") && len(said) == 1 && said[0] == "Bearer good" {
			return nil
		}
		return &gateway.CallerError{Status: 401, Text: "who are you"}
	}
	g := newGateway(t, cfg)
	call := func(g *gateway.Gateway, at, header string) string {
		r := httptest.NewRequest(http.MethodGet, "/run/f", http.NoBody)
		r.RemoteAddr = "10.0.0.9:1"
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP(at), Port: 1})))
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, r)
		return fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String()))
	}
	for _, tc := range [][3]string{
		{"10.0.0.1", "", "401 who are you"},
		{"10.0.0.1", "Bearer bad", "401 who are you"},
		{"10.0.0.1", "Bearer good", "200 got []"},
		{"127.0.0.1", "", "401 who are you"},
		{"127.0.0.1", "Basic x", "401 who are you"},
		{"127.0.0.1", "Bearer good", "200 got []"},
	} {
		if got := call(g, tc[0], tc[1]); got != tc[2] {
			t.Errorf("%q at %s: %s, want %s", tc[1], tc[0], got, tc[2])
		}
	}
	cfg = simple(up)
	cfg.DropAuthorization = true
	if got := call(newGateway(t, simple(up)), "127.0.0.1", "Basic x"); got != "200 got [Basic x]" {
		t.Errorf("where nobody is asked: %s", got)
	}
	if got := call(newGateway(t, cfg), "127.0.0.1", "Basic x"); got != "200 got []" {
		t.Errorf("dropped: %s", got)
	}
}
