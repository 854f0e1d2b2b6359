package server_test

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/test/issuer"
	"github.com/rota-project/rota/scheduler/server"
)

// atIssuer is a node at which people sign in at an issuer.
func atIssuer(t *testing.T) (*closed, *issuer.Issuer, issuer.Client) {
	t.Helper()
	i := issuer.New(t)
	listeners := []net.Listener{listen(t), listen(t)}
	client := issuer.Client{ID: "rota-console", Secret: "s3cret", RedirectURL: "https://" + listeners[1].Addr().String() + auth.CallbackPath}
	flow, err := auth.NewCodeFlow(t.Context(), auth.JWTConfig{Issuer: i.URL, RoleClaim: "groups", Roles: map[string]auth.Role{"sre": auth.Operator, "all": auth.Viewer}, NamespaceClaim: ""},
		auth.CodeFlowConfig{ClientID: client.ID, Secret: auth.Secret(client.Secret), RedirectURL: client.RedirectURL})
	if err != nil {
		t.Fatal(err)
	}
	return newClosed(t, server.Config{GRPC: listeners[0], HTTP: listeners[1], CodeFlow: flow}), i, client
}

// navigate follows one redirect, as a browser that comes from where it was sent.
func (b *browser) navigate(to string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, to, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp, resp.Header.Get("Location")
}

// TestSignInAtAnIssuer goes through the authorization code flow with an issuer, and
// every way that I know to have somebody else's sign-in taken for it.
func TestSignInAtAnIssuer(t *testing.T) {
	t.Parallel()
	c, i, client := atIssuer(t)
	conf := c.source(t, pki.Request{}).Client("")
	sre := map[string]any{"groups": []string{"others", "sre"}, "email": "ada@example.org"}
	i.Trust(client, sre)

	b := c.browser(t, conf)
	if _, text := b.send(http.MethodGet, "/v1/signin"); !strings.Contains(text, `"oidc"`) || !strings.Contains(text, i.URL) {
		t.Errorf("ways: %s", text)
	}
	// begin is what brings a browser to the issuer and back to the callback.
	begin := func(b *browser) string {
		t.Helper()
		resp, to := b.navigate(c.http + "/v1/signin/oidc?return=" + url.QueryEscape("/tasks?state=waiting"))
		if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, i.URL+"/authorize?") {
			t.Fatalf("%d %s", resp.StatusCode, to)
		}
		for _, kept := range resp.Cookies() {
			if !kept.HttpOnly || !kept.Secure || kept.SameSite != http.SameSiteLaxMode || kept.Path != "/" || kept.MaxAge > 600 {
				t.Errorf("%+v", kept)
			}
		}
		if q := must(url.Parse(to)).Query(); q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || q.Get("client_secret") != "" {
			t.Errorf("the issuer is asked %v", q)
		}
		if _, to = b.navigate(to); !strings.HasPrefix(to, client.RedirectURL+"?") {
			t.Fatalf("the issuer sends to %s", to)
		}
		return to
	}
	back := begin(b)
	resp, to := b.navigate(back)
	if resp.StatusCode != http.StatusSeeOther || to != c.http+"/tasks?state=waiting" {
		t.Fatalf("%d %s", resp.StatusCode, to)
	}
	_, text := b.send(http.MethodGet, "/v1/whoami")
	if who := readWhoAmI(t, text); who.Name != "ada@example.org" || who.Role != "operator" || who.Kind != "jwt" || !who.Session || time.Until(who.Expires) > time.Hour+time.Minute {
		t.Errorf("%s", text)
	}
	fails := func(name string, b *browser, at, want string) {
		t.Helper()
		resp, to := b.navigate(at)
		if resp.StatusCode != http.StatusSeeOther || to != c.http+"/signin?error="+want {
			t.Errorf("%s: %d %s", name, resp.StatusCode, to)
		}
		if resp, text := b.send(http.MethodGet, "/v1/whoami"); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: somebody is signed in: %s", name, text)
		}
	}
	fails("an answer once more, elsewhere", c.browser(t, conf), back, "answer")
	b = c.browser(t, conf)
	fails("the answer of another browser", b, begin(c.browser(t, conf)), "answer")
	b = c.browser(t, conf)
	begin(b)
	fails("the answer of another browser while one waits", b, begin(c.browser(t, conf)), "issuer")
	b = c.browser(t, conf)
	to = begin(b)
	q := must(url.Parse(to)).Query()
	fails("without a state", b, client.RedirectURL+"?code="+q.Get("code"), "issuer")
	fails("and again, now that nothing waits", b, to, "answer")
	b = c.browser(t, conf)
	fails("refused by the issuer", b, client.RedirectURL+"?error=access_denied&state="+must(url.Parse(begin(b))).Query().Get("state"), "issuer")
	b = c.browser(t, conf)
	fails("a code that was made up", b, client.RedirectURL+"?code=x&state="+must(url.Parse(begin(b))).Query().Get("state"), "issuer")

	for name, claims := range map[string]map[string]any{
		"without a role":                 {"groups": []string{"others"}},
		"of a role's own name, unmapped": {"groups": "admin"},
		"without the claim":              {"role": "admin"},
	} {
		i.Trust(client, claims)
		b := c.browser(t, conf)
		fails(name, b, begin(b), "role")
	}
	for name, claims := range map[string]map[string]any{
		"of another nonce":   {"groups": "sre", "nonce": "other"},
		"without a nonce":    {"groups": "sre", "nonce": ""},
		"for another client": {"groups": "sre", "aud": "other"},
		"of another issuer":  {"groups": "sre", "iss": "https://other.example"},
		"of the past":        {"groups": "sre", "exp": time.Now().Add(-time.Minute).Unix()},
	} {
		i.Trust(client, claims)
		b := c.browser(t, conf)
		fails("an ID token "+name, b, begin(b), "issuer")
	}
	other := client
	other.Secret = "another"
	i.Trust(other, sre)
	b = c.browser(t, conf)
	fails("an issuer that does not know our secret", b, begin(b), "issuer")

	for _, away := range []string{"https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "tasks"} {
		if resp, to := c.browser(t, conf).navigate(c.http + "/v1/signin/oidc?return=" + url.QueryEscape(away)); resp.StatusCode != http.StatusBadRequest || to != "" {
			t.Errorf("return=%s: %d %s", away, resp.StatusCode, to)
		}
	}
}

// TestNoIssuer: where none is configured nobody is sent to one.
func TestNoIssuer(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	b := c.browser(t, c.source(t, pki.Request{}).Client(""))
	for _, path := range []string{"/v1/signin/oidc", "/v1/signin/oidc/callback?code=x&state=y"} {
		if resp, to := b.navigate(c.http + path); resp.StatusCode != http.StatusNotFound || to != "" || len(resp.Cookies()) > 0 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, to)
		}
	}
}
