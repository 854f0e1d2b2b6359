package role

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/offer"
	testports "github.com/rota-project/rota/internal/test/ports"
)

// TestFunctionsWithoutAServer: of a function whose server does not answer, the gateway is
// told why, and whether the server may have had the call.
func TestFunctionsWithoutAServer(t *testing.T) {
	t.Parallel()
	hangsUp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangsUp.Close() })
	go func() {
		for {
			c, err := hangsUp.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	}()
	for name, tc := range map[string]struct{ addr, begins, has string }{
		"nobody listens": {testports.Addr(t), offer.NotReached, "refused"},
		"it hangs up":    {hangsUp.Addr().String(), offer.BrokeOff, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/run/f", strings.NewReader("x"))
			passOn(&url.URL{Scheme: "http", Host: tc.addr}).ServeHTTP(rec, r)
			if body := rec.Body.String(); rec.Code != http.StatusBadGateway || !strings.HasPrefix(body, tc.begins) || !strings.Contains(body, tc.has) {
				t.Errorf("%d %q", rec.Code, body)
			}
		})
	}
}
