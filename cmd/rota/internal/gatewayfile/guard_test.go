package gatewayfile_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/cmd/rota/internal/gatewayfile"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/apikey"
)

func put(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func keyLine(name string) string { return name + " " + apikey.HashOf([]byte(name)).String() + "\n" }

// A guard of the defaults holds for functions that say nothing else, and for none that
// is public.
func TestGuards(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "keys", keyLine("alice")+keyLine("bob"), 0o600)
	c, err := gatewayfile.Parse([]byte(`
defaults:
  keys: {file: keys, header: X-Token}
  forward_auth: {url: "https://auth/verify", timeout: 2s, request_headers: [Cookie], response_headers: [X-User], tls: {server_name: auth.internal}}
functions:
  same: {hedge: true}
  open: {public: true}
  own: {public: false, keys: {file: keys}}
routes:
  - {prefix: /, function: open, keys: {file: keys}}
`), dir)
	if err != nil {
		t.Fatal(err)
	}
	d := c.Defaults.Rules.Guard
	if len(d.Keys.Names) != 2 || d.Keys.Header != "X-Token" || d.Forward.Timeout != 2*time.Second || d.Forward.TLS.ServerName != "auth.internal" || len(d.Forward.RequestHeaders) != 1 {
		t.Errorf("%+v", d)
	}
	if c.Functions["same"].Policy.Rules.Guard != d || c.Functions["open"].Policy.Rules.Guard != (gateway.Guard{}) || c.Functions["own"].Policy.Rules.Guard.Keys.Header != "" || c.Functions["own"].Policy.Rules.Guard.Forward == nil {
		t.Errorf("%+v", c.Functions)
	}
	if c.Routes[0].Rules.Guard.Keys == nil {
		t.Errorf("%+v", c.Routes)
	}
	g, err := gateway.New(c)
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
}

func TestGuardsThatAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "keys", keyLine("alice"), 0o600)
	put(t, dir, "open", keyLine("alice"), 0o644)
	put(t, dir, "plain", "alice a-key-that-is-not-hashed\n", 0o600)
	put(t, dir, "none", "# nobody\n", 0o600)
	for text, want := range map[string]string{
		"defaults: {keys: {file: nowhere}}":                                                  "defaults.keys.file: ",
		"defaults: {keys: {}}":                                                               "defaults.keys.file: ",
		"functions: {f: {keys: {file: open}}}":                                               "functions.f.keys.file: ",
		"functions: {f: {keys: {file: plain}}}":                                              "functions.f.keys.file: plain: line 1",
		"routes: [{prefix: /, function: f, keys: {file: none}}]":                             "routes[0].keys.file: none: want at least one key",
		"functions: {f: {keys: {file: keys, header: Content-Length}}}":                       "functions.f.keys.header",
		"functions: {f: {public: true, keys: {file: keys}}}":                                 "functions.f.public",
		"routes: [{prefix: /, function: f, public: true}]":                                   "routes[0].public",
		"defaults: {forward_auth: {}}":                                                       "defaults.forward_auth.url",
		"defaults: {forward_auth: {url: 'ftp://a'}}":                                         "defaults.forward_auth.url",
		"defaults: {forward_auth: {url: 'http://a', tls: {ca: keys}}}":                       "defaults.forward_auth.tls.ca",
		"defaults: {forward_auth: {url: 'http://a', tls: {server_name: a}}}":                 "defaults.forward_auth.tls",
		"routes: [{prefix: /, function: f, forward_auth: {url: 'http://a', timeout: soon}}]": "routes[0].forward_auth.timeout",
		"routes: [{prefix: /, function: f, forward_auth: {url: 'http://a', timeout: -1s}}]":  "routes[0].forward_auth.timeout",
		"defaults: {forward_auth: {url: 'http://a', response_headers: [Connection]}}":        "defaults.forward_auth.response_headers",
	} {
		c, err := gatewayfile.Parse([]byte(text), dir)
		if err == nil {
			var g *gateway.Gateway
			if g, err = gateway.New(c); err == nil {
				g.Close()
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "a-key-that") {
			t.Errorf("%s: got %v, want one line with %q", text, err, want)
		}
	}
}

// A file of keys is followed: one that is wrong changes nothing.
func TestKeysAreFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "keys", keyLine("alice"), 0o600)
	path := put(t, dir, "gateway.yaml", "defaults: {keys: {file: keys}}", 0o600)
	cfg, err := gatewayfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	t.Cleanup(gatewayfile.Watch(t.Context(), path, g, cfg.Logger).Stop)
	may := func(name string) bool {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/run/f", http.NoBody)
		r.Header.Set("X-Api-Key", name)
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, r)
		return w.Code != http.StatusUnauthorized
	}
	if !may("alice") || may("bob") {
		t.Fatal("the first keys are not in force")
	}
	put(t, dir, "keys", "alice\n", 0o600)
	until(t, "the error never showed", func() bool { return strings.Contains(g.Status().ReloadError, "defaults.keys.file: keys: line 1") })
	if !may("alice") {
		t.Error("a wrong file changed something")
	}
	put(t, dir, "keys", keyLine("bob"), 0o600)
	until(t, "the new keys were never in force", func() bool { return may("bob") && !may("alice") })
}
