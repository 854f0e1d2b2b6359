package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// adminPaths are those that are not for everybody.
var adminPaths = [][2]string{
	{"POST", "/admin/workers/add?workers=http://127.0.0.1:1"},
	{"POST", "/admin/workers/remove?workers=http://127.0.0.1:2"},
	{"GET", "/api/v1/routes"},
	{"GET", "/api/v1/routes/f"},
	{"GET", "/api/v1/gateway"},
}

// ask asks a handler as somebody on this machine would.
func ask(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:5", "localhost:9080"
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9080})))
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func newGateway(t *testing.T, cfg gateway.Config) *gateway.Gateway {
	t.Helper()
	cfg.Logger = quiet()
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// That somebody is on this machine is no credential: a proxy, a web page and every
// other user are.
func TestAdminPathsNeedMoreThanLoopback(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]gateway.Config{
		"no token": {}, "a token": {AdminToken: "secret"}, "a program of the user": {LocalAdmin: true}, "both": {LocalAdmin: true, AdminToken: "secret"},
	} {
		cfg.Functions = map[string]gateway.Function{"f": {}}
		g := newGateway(t, cfg)
		for _, p := range adminPaths {
			for from, header := range map[string][]string{
				"loopback":         {},
				"nginx":            {"X-Forwarded-For", "10.0.0.9"},
				"a wrong token":    {"Authorization", "Bearer secre"},
				"an empty token":   {"Authorization", "Bearer "},
				"a proxy":          {"Forwarded", "for=10.0.0.9"},
				"one that says so": {"Via", "1.1 proxy"},
			} {
				if w := ask(g.Handler(), p[0], p[1], header...); w.Code != 403 {
					t.Errorf("%s: %s %s by %s: %d %s", name, p[0], p[1], from, w.Code, w.Body)
				}
			}
			want := 403
			if cfg.AdminToken != "" {
				want = 200
			}
			if w := ask(g.Handler(), p[0], p[1], "Authorization", "Bearer secret", "X-Forwarded-For", "10.0.0.9"); w.Code != want {
				t.Errorf("%s: %s %s with the token: %d %s", name, p[0], p[1], w.Code, w.Body)
			}
			if w := ask(g.AdminHandler(), p[0], p[1]); w.Code != 200 {
				t.Errorf("%s: %s %s on the admin handler: %d %s", name, p[0], p[1], w.Code, w.Body)
			}
		}
		if s := g.Status(); cfg.AdminToken == "" && len(s.Workers) > 1 {
			t.Errorf("%s: %v", name, s.Workers)
		}
	}
}

func TestAdminPathsCheckWhatTheyAreTold(t *testing.T) {
	t.Parallel()
	g := newGateway(t, gateway.Config{})
	for path, want := range map[string]int{
		"/admin/workers/add": 400, "/admin/workers/add?workers=http://a/b?c": 400, "/admin/workers/add?workers=%3a": 400,
		"/admin/workers/remove": 400, "/admin/workers/remove?workers=http://nobody:1": 200, "/admin/workers/add?workers=localhost:9031": 200,
	} {
		if w := ask(g.AdminHandler(), "POST", path); w.Code != want {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
	if w := ask(g.AdminHandler(), "GET", "/admin/workers/add?workers=http://a"); w.Code != 405 {
		t.Errorf("GET: %d", w.Code)
	}
	if w := ask(g.AdminHandler(), "POST", "/admin/workers/add?workers=http://a", "Host", "evil.example"); w.Code != 421 {
		t.Errorf("a rebound name: %d", w.Code)
	}
}

// No call gets anywhere under a name that is not the gateway's, or for a page of
// another origin, over any protocol.
func TestPagesOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	ran := func(t *testing.T) string {
		return backend(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s ran, %v", r.Method, r.URL, r.Header) })
	}
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := simple(ran(t))
			cfg.Hosts = []string{"only.example"}
			cfg.Routes = []gateway.Route{{Prefix: "/site", Function: "f"}}
			_, addr := serve(t, cfg)
			client, base := reach(addr)
			for what, header := range map[string][2]string{
				"null":          {"Origin", "null"},
				"a word":        {"Origin", "evil"},
				"about:blank":   {"Origin", "about:blank"},
				"a file":        {"Origin", "file://"},
				"another":       {"Origin", "https://evil.example"},
				"another port":  {"Origin", "http://127.0.0.1:1"},
				"cross-site":    {"Sec-Fetch-Site", "cross-site"},
				"same-site":     {"Sec-Fetch-Site", "same-site"},
				"a rebound one": {"Host", "evil.example"},
			} {
				for _, method := range []string{"GET", "POST", "PUT", "OPTIONS"} {
					for _, path := range []string{"/run/f", "/runLambda/f", "/t/x", "/site"} {
						req := request(t, method, base+path, strings.NewReader("x"))
						want := 403
						if header[0] == "Host" {
							req.Host, want = header[1], 421
						} else {
							req.Header.Set(header[0], header[1])
						}
						resp, err := client.Do(req)
						if err != nil {
							t.Fatal(err)
						}
						resp.Body.Close()
						if resp.StatusCode != want || resp.Header.Get("Access-Control-Allow-Origin") != "" {
							t.Errorf("%s %s by %s: %d, want %d", method, path, what, resp.StatusCode, want)
						}
					}
				}
			}
			for _, path := range []string{"/status", "/metrics", "/nothing"} { // nothing is shown under another name either
				req := request(t, "GET", base+path, nil)
				req.Host = "evil.example"
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusMisdirectedRequest {
					t.Errorf("%s under another name: %d", path, resp.StatusCode)
				}
			}
		})
	}
	_, addr := start(t, simple(ran(t)))
	for _, head := range []string{"GET /run/f HTTP/1.1\r\nHost:\r\n\r\n", "GET /run/f HTTP/1.0\r\n\r\n", "GET /status HTTP/1.1\r\nHost: \r\n\r\n"} {
		c := dial(t, addr)
		c.send(head)
		if resp, _ := c.response("GET"); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %d", head, resp.StatusCode)
		}
	}
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: https://evil.example\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a websocket: %d", resp.StatusCode)
	}
}

func TestHostsThatAreConfigured(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "ran"))
	cfg.Hosts = []string{"api.example", "*.fn.example"}
	cfg.Routes = []gateway.Route{{Host: "img.example", Prefix: "/", Function: "f"}}
	g := newGateway(t, cfg)
	for host, want := range map[string]int{"api.example:80": 200, "a.fn.example": 200, "img.example": 200, "fn.example": 421, "localhost": 200} {
		if w := ask(g.Handler(), "GET", "/run/f", "Host", host); w.Code != want {
			t.Errorf("%s: %d, want %d", host, w.Code, want)
		}
	}
	// Pages may link to what is public, and not post to it.
	for method, want := range map[string]int{"GET": 200, "POST": 403} {
		if w := ask(g.Handler(), method, "/run/f", "Host", "api.example", "Sec-Fetch-Site", "cross-site"); w.Code != want {
			t.Errorf("%s from another site: %d, want %d", method, w.Code, want)
		}
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("X-Sum", "1")
		fmt.Fprint(w, r.Method)
	})
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := simple(up)
			cfg.Defaults.QueueTimeout = time.Millisecond
			cfg.CORS = gateway.CORS{Origins: []string{"https://app.example"}, Credentials: true, Expose: []string{"X-Sum"}}
			_, addr := serve(t, cfg)
			client, base := reach(addr)
			do := func(method, path, origin string, header ...string) *http.Response {
				req := request(t, method, base+path, nil)
				req.Header.Set("Origin", origin)
				for i := 0; i < len(header); i += 2 {
					req.Header.Set(header[i], header[i+1])
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				return resp
			}
			r := do("OPTIONS", "/run/f", "https://app.example", "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-a")
			h := r.Header
			if r.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Methods") != "PUT" || h.Get("Access-Control-Allow-Headers") != "x-a" ||
				h.Get("Access-Control-Allow-Origin") != "https://app.example" || h.Get("Access-Control-Max-Age") != "600" {
				t.Errorf("preflight: %d %v", r.StatusCode, h)
			}
			for path, want := range map[string]int{"/run/f": 200, "/t/nobodys": 503} {
				r = do("PUT", path, "https://app.example")
				h = r.Header
				if r.StatusCode != want || !slices.Equal(h.Values("Access-Control-Allow-Origin"), []string{"https://app.example"}) ||
					h.Get("Access-Control-Allow-Credentials") != "true" || h.Get("Access-Control-Expose-Headers") != "X-Sum" || h.Get("Vary") != "Origin" {
					t.Errorf("%s: %d %v", path, r.StatusCode, h)
				}
			}
			if r = do("PUT", "/run/f", "https://evil.example"); r.StatusCode != http.StatusForbidden || r.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("another: %d %v", r.StatusCode, r.Header)
			}
			if r = do("GET", "/status", "https://app.example"); r.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("the gateway's own paths: %v", r.Header)
			}
			if r = do("POST", "/admin/workers/add?workers=http://a", "https://app.example"); r.StatusCode != http.StatusForbidden {
				t.Errorf("admin: %d", r.StatusCode)
			}
		})
	}
	for name, bad := range map[string]gateway.CORS{
		"origins[0]": {Origins: []string{"app.example"}}, "cors.credentials": {Origins: []string{"*"}, Credentials: true},
		"cors.headers[0]": {Headers: []string{"a b"}}, "cors.expose[0]": {Expose: []string{"x\r\ny"}}, "cors.max_age": {MaxAge: -1},
	} {
		if _, err := gateway.New(gateway.Config{CORS: bad}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Addresses at which no worker is are refused wherever workers come from.
func TestSpecialAddressesAreNoWorkers(t *testing.T) {
	t.Parallel()
	special := []string{
		"http://169.254.169.254", "http://169.254.1.1:80", "http://0.0.0.0:80", "http://[::]:80", "http://224.0.0.1", "http://255.255.255.255",
		"http://[fe80::1]:80", "http://[ff02::1]:80", "http://[::ffff:169.254.169.254]", "http://[::ffff:0.0.0.0]:1", "http://[fd00:ec2::254]", "http://100.100.100.200",
		"http://[64:ff9b::a9fe:a9fe]", "http://0.1.2.3", "http://240.0.0.1", "http://metadata.google.internal", "http://METADATA.google.internal.:80",
		"https://169.254.169.254", "h2c://169.254.169.254",
		// The same in forms that some read and others do not.
		"http://2852039166", "http://2852039166:80/", "http://0xA9FEA9FE", "http://0Xa9fea9fe", "http://0xa9.0xfe.0xa9.0xfe", "http://0251.0376.0251.0376",
		"http://025177524776", "http://169.254.43518", "http://169.16689662", "http://169.254.169.0xfe", "http://169.254.169.0376", "http://0169.254.169.254",
		"http://169.254.169.254.", "http://169.254.169.254..", "http://127.0.0.1.", "http://127.1", "http://0", "http://0x", "http://1.2.3.4.5", "http://worker.1", "http://worker.0x7f",
		"http://①⑥⑨.254.169.254", "http://１６９.２５４.１６９.２５４", "http://169。254。169。254", "http://%EF%BC%91%EF%BC%96%EF%BC%99.254.169.254", "http://169%2e254.169.254",
		"http://metadata。google。internal", "http://ｍetadata.google.internal", "http://a..b", "http://.", "http://a b", "http://a,b",
		"http://[::ffff:a9fe:a9fe]", "http://[0:0:0:0:0:ffff:169.254.169.254]:80", "http://[::169.254.169.254]", "http://[::a9fe:a9fe]", "http://[::ffff:0:169.254.169.254]",
		"http://[64:ff9b::169.254.169.254]", "http://[64:ff9b:1::a9fe:a9fe]", "http://[2002:a9fe:a9fe::1]", "http://[2001:0:a9fe:a9fe::1]", "http://[fd00::5efe:a9fe:a9fe]", "http://[fd00::200:5efe:a9fe:a9fe]",
		"http://[fe80::1%25eth0]", "http://[169.254.169.254]", "http://[::ffff:2852039166]", "169.254.169.254", "2852039166:80",
	}
	members := &gateway.MemoryMembers{}
	g := newGateway(t, gateway.Config{Members: members})
	for _, u := range special {
		if w := ask(g.AdminHandler(), "POST", "/admin/workers/add?workers="+url.QueryEscape(u)); w.Code != 400 {
			t.Errorf("%s is added: %d", u, w.Code)
		}
		if _, err := gateway.New(simple(u)); err == nil || !strings.Contains(err.Error(), "workers[0].url") {
			t.Errorf("%s is taken from a configuration: %v", u, err)
		}
	}
	// A name may turn out to be of one when it is dialled.
	n := &names{}
	n.set("169.254.169.254")
	cfg := simple("http://worker.test:80")
	cfg.Defaults.Attempts = 1
	cfg.ResolveWith(n.resolver(t))
	_, addr := start(t, cfg)
	if status, _ := get(t, addr, "/run/f"); status < 500 {
		t.Errorf("a name of a special address: %d", status)
	}
	// A member with one is left out, and is no reason to refuse anything else.
	members.Set(gateway.Member{Name: "evil", URL: "http://169.254.169.254"}, gateway.Member{Name: "good", URL: "http://127.0.0.1:1"})
	eventually(t, "the members", func() bool { return len(g.Status().Workers) == 1 })
	cfg = simple("http://127.0.0.1:1")
	cfg.Members = members
	if _, addr := start(t, cfg); addr == "" {
		t.Error("no gateway beside such a member")
	}
	allowed := gateway.Config{SpecialWorkers: []netip.Prefix{netip.MustParsePrefix("169.254.7.0/24")}}
	allowed.Workers = []gateway.Worker{{URL: "http://169.254.7.1"}}
	newGateway(t, allowed)
	allowed.Workers = []gateway.Worker{{URL: "http://169.254.8.1"}}
	if _, err := gateway.New(allowed); err == nil {
		t.Error("more is allowed than was said")
	}
	for _, u := range []string{"http://worker", "http://Worker-1.example.org.:80", "http://node_2", "http://10.0.0.1", "http://[fd00::1]:80", "http://[::1]", "http://127.0.0.9:1", "http://0a.b0x", "http://3f2a9c", "http://1.2.3.4.example", "http://xn--bcher-kva.example/base"} {
		if w := ask(g.AdminHandler(), "POST", "/admin/workers/add?workers="+url.QueryEscape(u)); w.Code != 200 {
			t.Errorf("%s is refused: %s", u, w.Body)
		}
	}
}

// Who may not steer learns how the workers are, not where, and does not make the
// gateway ask them.
func TestStatusForEverybody(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			asked.Add(1)
		}
		fmt.Fprintln(w, "ready")
	})
	dead := deadURL(t)
	cfg := simple(up, dead)
	cfg.AdminToken = "secret"
	g, addr := start(t, cfg)
	for range 20 {
		status, body := get(t, addr, "/status")
		lines := strings.Split(strings.TrimSpace(body), "\n")
		if status != 200 || len(lines) != 2 || !strings.HasPrefix(lines[0], "worker 1 not asked [ready") || strings.Contains(body, "127.0.0.1") {
			t.Fatalf("%d\n%s", status, body)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the worker was asked %d times", n)
	}
	w := ask(g.AdminHandler(), "GET", "/status")
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	if w.Code != 200 || len(lines) != 2 || !strings.Contains(lines[0], up+" reachable 200 ready") || !strings.Contains(lines[1], dead+" unreachable") {
		t.Fatalf("%d\n%s", w.Code, w.Body)
	}
	for range 20 { // an answer is good for a moment, whoever asks
		req := request(t, "GET", "http://"+addr+"/status", nil)
		req.Header.Set("Authorization", "Bearer secret")
		resp, err := shared.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if n := asked.Load(); n > 5 {
		t.Errorf("21 questions were %d", n)
	}
	_, body := get(t, addr, "/status")
	if !strings.Contains(body, "worker 1 reachable 200 ready") || !strings.Contains(body, "worker 2 unreachable (connection refused)") || strings.Contains(body, "127.0.0.1") {
		t.Errorf("what is known:\n%s", body)
	}
}
