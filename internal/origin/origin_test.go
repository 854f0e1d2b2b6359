package origin_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/origin"
)

func guard(t testing.TB, c origin.Config) *origin.Guard {
	t.Helper()
	g, err := origin.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestHosts(t *testing.T) {
	t.Parallel()
	local := guard(t, origin.Config{Addrs: []string{"localhost:80", "127.0.0.1:80", "[::1]:80"}})
	open := guard(t, origin.Config{Addrs: []string{"127.0.0.1:80", "0.0.0.0:80"}})
	named := guard(t, origin.Config{Addrs: []string{"gw.internal:80"}, Hosts: []string{"API.example.org", "*.fn.example.org"}})
	anyone := guard(t, origin.Config{Hosts: []string{"*"}})
	for host, want := range map[string][4]bool{
		"localhost":              {true, true, true, true},
		"LocalHost:9080":         {true, true, true, true},
		"localhost.":             {true, true, true, true},
		"127.0.0.1:9080":         {true, true, true, true},
		"127.1.2.3":              {true, true, true, true},
		"[::1]:9080":             {true, true, true, true},
		"[::ffff:127.0.0.1]":     {true, true, true, true},
		"10.0.0.5:9080":          {false, true, true, true},
		"[fd00::1]":              {false, true, true, true},
		"0.0.0.0:9080":           {false, false, false, true},
		"[::]":                   {false, false, false, true},
		"gw.internal":            {false, false, true, true},
		"api.example.org:443":    {false, false, true, true},
		"api.example.org.":       {false, false, true, true},
		"a.fn.example.org":       {false, false, true, true},
		"a.b.fn.example.org":     {false, false, true, true},
		"fn.example.org":         {false, false, false, true},
		".fn.example.org":        {false, false, false, true},
		"evil-fn.example.org":    {false, false, false, true},
		"evil.example":           {false, false, false, true},
		"localhost.evil.example": {false, false, false, true},
		"127.0.0.1.evil.example": {false, false, false, true},
		"127.0.0.1.":             {true, true, true, true},
		"2130706433":             {false, false, false, true},
		"0x7f.1":                 {false, false, false, true},
		"":                       {},
	} {
		for i, g := range []*origin.Guard{local, open, named, anyone} {
			refusal := g.Check(origin.Request{Method: http.MethodGet, Host: host})
			if (refusal == nil) != want[i] {
				t.Errorf("guard %d, %q: %v", i, host, refusal)
			}
		}
	}
}

// foreigners are what browsers, or what pretends to be one, say of requests that
// a page of another origin makes.
var foreigners = map[string]http.Header{
	"another origin":                   {"Origin": {"https://evil.example"}},
	"another port":                     {"Origin": {"http://localhost:9081"}},
	"another scheme's port":            {"Origin": {"https://localhost"}},
	"null":                             {"Origin": {"null"}},
	"an empty one":                     {"Origin": {""}},
	"a word":                           {"Origin": {"evil"}},
	"about:blank":                      {"Origin": {"about:blank"}},
	"file://":                          {"Origin": {"file://"}},
	"a file of that host":              {"Origin": {"file://localhost:9080"}},
	"an extension":                     {"Origin": {"chrome-extension://localhost:9080"}},
	"a user in it":                     {"Origin": {"http://localhost:9080@evil.example"}},
	"that user":                        {"Origin": {"http://evil@localhost:9080"}},
	"a path in it":                     {"Origin": {"http://localhost:9080/x"}},
	"a list":                           {"Origin": {"http://localhost:9080 https://evil.example"}},
	"two":                              {"Origin": {"http://localhost:9080", "https://evil.example"}},
	"what does not parse":              {"Origin": {"http://[::1"}},
	"no host":                          {"Origin": {"http://"}},
	"cross-site":                       {"Sec-Fetch-Site": {"cross-site"}},
	"same-site":                        {"Sec-Fetch-Site": {"same-site"}},
	"two sites":                        {"Sec-Fetch-Site": {"same-origin", "cross-site"}},
	"an unknown site":                  {"Sec-Fetch-Site": {"x"}},
	"null and said to be of this site": {"Origin": {"null"}, "Sec-Fetch-Site": {"same-origin"}},
	"ours and said to be foreign":      {"Origin": {"http://localhost:9080"}, "Sec-Fetch-Site": {"cross-site"}},
}

var natives = map[string]http.Header{
	"no browser":     {},
	"this origin":    {"Origin": {"http://localhost:9080"}},
	"TLS before us":  {"Origin": {"https://localhost:9080"}},
	"same origin":    {"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://localhost:9080"}},
	"the user's own": {"Sec-Fetch-Site": {"none"}},
}

func TestPagesOfOthers(t *testing.T) {
	t.Parallel()
	g := guard(t, origin.Config{Addrs: []string{"localhost:9080"}, Hosts: []string{"api.example"}, Origins: []string{"https://app.example"}})
	status := func(method, host string, header http.Header) int {
		r := httptest.NewRequest(method, "/", nil)
		r.Host, r.Header = host, header
		w := httptest.NewRecorder()
		g.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), nil).ServeHTTP(w, r)
		return w.Code
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "X"} {
		for name, header := range foreigners {
			if got := status(method, "localhost:9080", header); got != 403 {
				t.Errorf("%s by %s: %d", method, name, got)
			}
		}
		for name, header := range natives {
			if got := status(method, "localhost:9080", header); got != 200 {
				t.Errorf("%s by %s: %d", method, name, got)
			}
		}
		if got := status(method, "localhost:9080", http.Header{"Origin": {"https://APP.example:443"}, "Sec-Fetch-Site": {"cross-site"}}); got != 200 {
			t.Errorf("%s by an origin that may: %d", method, got)
		}
	}
	for name, header := range foreigners {
		if got := status("GET", "localhost:9080", header); got != 200 {
			t.Errorf("reading by %s: %d", name, got)
		}
		for host, may := range map[string]bool{"localhost:9080": false, "api.example": header.Get("Origin") == "" && header["Origin"] == nil} {
			r := origin.Request{Method: http.MethodGet, Host: host, Origin: header["Origin"], Site: header["Sec-Fetch-Site"], Acts: true}
			if got := g.Check(r); (got == nil) != may {
				t.Errorf("running by %s under %s: %v", name, host, got)
			}
		}
		header = header.Clone()
		header.Set("Upgrade", "websocket")
		if got := status("GET", "localhost:9080", header); got != 403 {
			t.Errorf("a websocket by %s: %d", name, got)
		}
	}
}

// TestPagesRunNothingHere: whatever is configured, a page of another origin runs nothing
// under a name by which every browser reaches its own machine. Certificates name
// localhost as a rule.
func TestPagesRunNothingHere(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:9080", "0.0.0.0:9080", ":9080", "[::1]:9080"} {
		for _, hosts := range [][]string{nil, {"localhost", "127.0.0.1", "::1", "127.0.0.2"}, {"LOCALHOST."}, {"app.localhost", "*.localhost"}, {"*"}} {
			g := guard(t, origin.Config{Addrs: []string{addr}, Hosts: hosts})
			for _, host := range []string{"localhost:9080", "LocalHost.:9080", "127.0.0.1:9080", "127.0.0.2:9080", "[::1]:9080", "[::ffff:127.0.0.1]:9080", "app.localhost:9080"} {
				for name, header := range foreigners {
					r := origin.Request{Method: http.MethodGet, Host: host, Origin: header["Origin"], Site: header["Sec-Fetch-Site"], Acts: true}
					if g.Check(r) == nil {
						t.Errorf("%s, with %q: a GET by %s runs something under %s", addr, hosts, name, host)
					}
				}
			}
		}
	}
}

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for _, h := range []string{"", "a:80", "http://a", "a/b", "*a", "a.*", "*.", "**", "a b", "[::1]:80"} {
		_, err := origin.New(origin.Config{Hosts: []string{"ok", h}})
		var fe *rota.FieldError
		if !errors.As(err, &fe) || fe.Field != "hosts[1]" {
			t.Errorf("host %q: %v", h, err)
		}
	}
	for _, o := range []string{"", "null", "app.example", "https://", "https://a/", "https://a/b", "https://u@a", "file://a", "https://*.a"} {
		_, err := origin.New(origin.Config{Origins: []string{o}})
		var fe *rota.FieldError
		if !errors.As(err, &fe) || fe.Field != "origins[0]" {
			t.Errorf("origin %q: %v", o, err)
		}
	}
}

// FuzzOrigin: no Origin but the server's own gets through, whatever it looks like
// to whoever parses it.
func FuzzOrigin(f *testing.F) {
	for _, header := range foreigners {
		f.Add(header.Get("Origin"), "localhost:9080")
	}
	g := guard(f, origin.Config{Addrs: []string{"localhost:9080"}})
	f.Fuzz(func(t *testing.T, from, host string) {
		r := origin.Request{Method: http.MethodPost, Host: host, Origin: []string{from}}
		if g.Check(r) != nil {
			return
		}
		switch origin.Name(host) {
		case "localhost":
		default:
			if !loopback(origin.Name(host)) {
				t.Errorf("host %q passes", host)
			}
		}
		if origin.Name(from[len("http://"):]) != origin.Name(host) && origin.Name(from[len("https://"):]) != origin.Name(host) {
			t.Errorf("origin %q passes at %q", from, host)
		}
	})
}

func loopback(name string) bool {
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}
