package wire_test

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// TestPatienceIsProportional: however a head comes, all parses of it together read
// no more than a few times its length, and its end is never missed.
func TestPatienceIsProportional(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"X: y\r\n", "X-Much: " + strings.Repeat("v", 5000) + "\r\n"} {
		for _, size := range []int{100, 3000, 64 << 10} {
			head := "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat(line, max(size/len(line), 1))
			for _, end := range []string{"\r\n", "\n"} {
				for _, step := range []int{1, 2, 3, 7, 1000, len(head) + 2} {
					whole := []byte(head + end)
					read, found := 0, false
					var p wire.Patience
					for n := 0; n < len(whole); {
						n = min(n+step, len(whole))
						if p.Over(whole[:n]) {
							read += n
							found = n == len(whole)
						}
					}
					// Each byte up to the first 2 KiB, then by quarters.
					if most := 2<<20 + 6*len(whole); !found || read > most {
						t.Errorf("%d bytes by %d: %d were parsed, at most %d are to be; the end was found: %v", len(whole), step, read, most, found)
					}
				}
			}
		}
	}
}

// TestConnectionOptionsAreFew: what Connection lists is looked for among all headers,
// so it may not list much, in whatever form.
func TestConnectionOptionsAreFew(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"in one line":  {strings.Repeat("a,", 65) + "a"},
		"of many":      slices.Repeat([]string{"a, b"}, 33),
		"after others": {"close", strings.Repeat("x ,\t", 64)},
	} {
		head := "GET / HTTP/1.1\r\nHost: a\r\n"
		for _, l := range lines {
			head += "Connection: " + l + "\r\n"
		}
		var r wire.Request
		var refused *wire.Error
		if _, err := r.Parse([]byte(head + "\r\n")); !errors.As(err, &refused) || refused.Status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %v", name, err)
		}
		r.Begin()
		if err := r.Take(map[string][]string{"Connection": lines}); err == nil {
			t.Errorf("%s, from net/http: no error", name)
		}
		var a wire.Response
		if _, err := a.Parse([]byte(strings.Replace(head, "GET / HTTP/1.1\r\nHost: a", "HTTP/1.1 200 OK", 1) + "\r\n")); err == nil {
			t.Errorf("%s, in an answer: no error", name)
		}
	}
	var r wire.Request
	if _, err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: " + strings.Repeat("a,", 63) + "x-mine\r\nX-Mine: 1\r\n\r\n")); err != nil || !r.Fields[2].Drop {
		t.Errorf("64 options: %v", err)
	}
}

// TestProxyIsNeverPassedOn: CGI hands Proxy to programs as HTTP_PROXY.
func TestProxyIsNeverPassedOn(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Proxy", "PROXY", "proxy"} {
		var r wire.Request
		if _, err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\n" + name + ": http://evil\r\n\r\n")); err != nil || !r.Fields[1].Drop {
			t.Errorf("HTTP/1 passes %s on (%v)", name, err)
		}
		r.Begin()
		if err := r.Add(bytes.ToLower([]byte(name)), []byte("http://evil")); err != nil || !r.Fields[0].Drop {
			t.Errorf("HTTP/2 passes %s on (%v)", name, err)
		}
		if f := wire.NewField([]byte(name), nil); !f.Drop {
			t.Errorf("net/http passes %s on", name)
		}
	}
}

func BenchmarkHeadByteByByte(b *testing.B) {
	whole := []byte("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: "+strings.Repeat("v", 300)+"\r\n", 200) + "\r\n")
	for b.Loop() {
		var r wire.Request
		var p wire.Patience
		for n := range len(whole) + 1 {
			if p.Over(whole[:n]) {
				_, _ = r.Parse(whole[:n])
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/head")
}
