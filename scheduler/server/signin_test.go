package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
)

const (
	plainCookie  = "rota-default"
	secureCookie = "__Host-rota-default"
)

// browser keeps cookies, and says of its requests what browsers say.
type browser struct {
	t    *testing.T
	base string
	http.Client
}

func (c *closed) browser(t *testing.T, conf *tls.Config) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, base: c.http, Client: http.Client{
		Jar: jar, Transport: &http.Transport{TLSClientConfig: conf},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(b.CloseIdleConnections)
	return b
}

// send makes a request of a page of the console. Headers come in pairs; an empty
// value leaves one out.
func (b *browser) send(method, path string, header ...string) (*http.Response, string) {
	b.t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", b.base)
	}
	for i := 0; i < len(header); i += 2 {
		switch {
		case header[i] == "Host":
			req.Host = header[i+1]
		case header[i+1] == "":
			req.Header.Del(header[i])
		case header[i] == "Cookie":
			req.Header.Add(header[i], header[i+1])
		default:
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(text)
}

type whoami struct {
	Name, Role, Kind, Namespace string
	Kinds, May                  []string
	Session                     bool
	Expires                     time.Time
}

func (b *browser) signIn(header ...string) whoami {
	b.t.Helper()
	resp, text := b.send(http.MethodPost, "/v1/signin", header...)
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%d %s", resp.StatusCode, text)
	}
	return readWhoAmI(b.t, text)
}

func readWhoAmI(t *testing.T, text string) (who whoami) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &who); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return who
}

// reason is what an answer's error names.
func reason(t *testing.T, text string) string {
	t.Helper()
	var body struct{ Error struct{ Reason string } }
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return body.Error.Reason
}

func bearer(s auth.Secret) string { return "Bearer " + s.Reveal() }

// token makes one of a role.
func (c *closed) token(t *testing.T, tok auth.Token) (auth.Token, auth.Secret) {
	t.Helper()
	tok.Name = "somebody"
	tok, secret, err := auth.NewToken(tok, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c.tokens.Update([]auth.Token{tok}, nil)
	return tok, secret
}

// TestSignIn exchanges a token of each role for a session, looks at its cookie, at
// what it may, and signs out.
func TestSignIn(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	conf := c.source(t, pki.Request{}).Client("")
	for role := auth.Viewer; role <= auth.Admin; role++ {
		b := c.browser(t, conf)
		if resp, text := b.send(http.MethodGet, "/v1/whoami"); resp.StatusCode != http.StatusUnauthorized || reason(t, text) != auth.ReasonMissing {
			t.Errorf("nobody: %d %s", resp.StatusCode, text)
		}
		resp, text := b.send(http.MethodPost, "/v1/signin", "Authorization", bearer(c.secrets[role]))
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
		set := resp.Cookies()
		if len(set) != 1 || set[0].Name != secureCookie || !set[0].HttpOnly || !set[0].Secure || set[0].SameSite != http.SameSiteStrictMode ||
			set[0].Path != "/" || set[0].Domain != "" || set[0].MaxAge <= 0 || set[0].MaxAge > 12*3600 {
			t.Errorf("cookies: %+v", set)
		}
		if strings.Contains(text, set[0].Value) || strings.Contains(text, c.secrets[role].Reveal()) {
			t.Error("the answer holds a secret")
		}
		who := readWhoAmI(t, text)
		resp, text = b.send(http.MethodGet, "/v1/whoami")
		again := readWhoAmI(t, text)
		if resp.StatusCode != http.StatusOK || !slices.Equal(who.May, again.May) || again.Role != role.String() || again.Name != role.String() ||
			again.Kind != "token" || again.Namespace != "default" || !again.Session || again.Expires.Before(time.Now()) || again.Expires.After(time.Now().Add(13*time.Hour)) {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
		for op, least := range map[string]auth.Role{
			"Tasks_ListTasks": auth.Viewer, "Cluster_GetStatus": auth.Viewer, "Jobs_RunJob": auth.Submitter,
			"Workers_DrainWorker": auth.Operator, "Tasks_ApplyTasks": auth.Operator,
			"Functions_ListFunctions": auth.Admin + 1, // there is no gateway
		} {
			if got, want := slices.Contains(who.May, op), role >= least; got != want {
				t.Errorf("%s may %s: %v", role, op, got)
			}
		}
		resp, text = b.send(http.MethodPost, "/v1/schedule:notify")
		if got, want := resp.StatusCode == http.StatusOK, role >= auth.Operator; got != want {
			t.Errorf("%s notifies: %d %s", role, resp.StatusCode, text)
		}
		other := c.browser(t, conf)
		other.signIn("Authorization", bearer(c.secrets[role]))
		stolen := set[0]
		if resp, text := b.send(http.MethodPost, "/v1/signout"); resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 1 || resp.Cookies()[0].MaxAge >= 0 {
			t.Errorf("signs out: %d %s %v", resp.StatusCode, text, resp.Cookies())
		}
		thief := c.browser(t, conf)
		if resp, text := thief.send(http.MethodGet, "/v1/whoami", "Cookie", stolen.Name+"="+stolen.Value); resp.StatusCode != http.StatusUnauthorized || reason(t, text) != auth.ReasonEnded {
			t.Errorf("a cookie that signed out: %d %s", resp.StatusCode, text)
		}
		if resp, text := other.send(http.MethodGet, "/v1/status"); resp.StatusCode != http.StatusOK {
			t.Errorf("another browser: %d %s", resp.StatusCode, text)
		}
	}
	limited := c.browser(t, conf)
	_, secret := c.token(t, auth.Token{Role: auth.Operator, Kinds: []string{"feed-*"}})
	if who := limited.signIn("Authorization", bearer(secret)); !slices.Equal(who.Kinds, []string{"feed-*"}) || slices.Contains(who.May, "Workers_DrainWorker") {
		t.Errorf("%+v", who)
	}
}

// TestPublicPagesTakeNoCookie: a session that is no good keeps nobody from the page
// on which to sign in again.
func TestPublicPagesTakeNoCookie(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	b := c.browser(t, c.source(t, pki.Request{}).Client(""))
	for _, path := range []string{"/", "/signin", "/signin.js", "/v1/signin", "/v1/openapi.json", "/healthz", "/readyz"} {
		resp, text := b.send(http.MethodGet, path, "Cookie", secureCookie+"=no.good")
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
		head := resp.Header
		if head.Get("X-Frame-Options") != "DENY" || head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: %v", path, head)
		}
		if strings.HasPrefix(head.Get("Content-Type"), "text/html") && !strings.Contains(head.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s may be framed", path)
		}
	}
}

// TestSessionsEnd: a session ends with what it was signed in with, and so does what
// it follows at that moment; nothing else ends it, not even the scheduler.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	st := memory.New()
	t.Cleanup(func() { st.Close() })
	c := newClosed(t, server.Config{Scheduler: scheduler.Config{Store: st}})
	conf := c.source(t, pki.Request{}).Client("")
	for name, end := range map[string]func(*browser, auth.Token){
		"token revoked": func(_ *browser, tok auth.Token) {
			tok.Revoked = time.Now()
			c.tokens.Update([]auth.Token{tok}, nil)
		},
		"token removed": func(_ *browser, tok auth.Token) { c.tokens.Update(nil, []string{tok.ID}) },
		"token expired": func(_ *browser, tok auth.Token) {
			tok.Expires = time.Now()
			c.tokens.Update([]auth.Token{tok}, nil)
		},
		"signed out": func(b *browser, _ auth.Token) { b.send(http.MethodPost, "/v1/signout") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tok, secret := c.token(t, auth.Token{Role: auth.Viewer})
			b := c.browser(t, conf)
			b.signIn("Authorization", bearer(secret))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.http+"/v1/tasks:watch", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := b.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			lines := bufio.NewScanner(resp.Body)
			if !lines.Scan() || !strings.Contains(lines.Text(), "synced") {
				t.Fatalf("%d %s %v", resp.StatusCode, lines.Text(), lines.Err())
			}
			kept := b.Jar.Cookies(req.URL)
			end(b, tok)
			last := ""
			for lines.Scan() {
				last = lines.Text()
			}
			if r := reason(t, last); r != auth.ReasonEnded {
				t.Errorf("the stream ends with %s", last)
			}
			if len(kept) != 1 {
				t.Fatalf("%v", kept)
			}
			resp, text := c.browser(t, conf).send(http.MethodGet, "/v1/whoami", "Cookie", kept[0].Name+"="+kept[0].Value)
			if resp.StatusCode != http.StatusUnauthorized || reason(t, text) != auth.ReasonEnded {
				t.Errorf("%d %s", resp.StatusCode, text)
			}
		})
	}
	t.Run("a session's own time", func(t *testing.T) {
		t.Parallel()
		// The end of the credentials is that of the session.
		_, secret := c.token(t, auth.Token{Role: auth.Viewer, Expires: time.Now().Add(2 * time.Second)})
		b := c.browser(t, conf)
		who := b.signIn("Authorization", bearer(secret))
		if time.Until(who.Expires) > 2*time.Second {
			t.Errorf("until %v", who.Expires)
		}
		u, err := url.Parse(c.http)
		if err != nil {
			t.Fatal(err)
		}
		kept := b.Jar.Cookies(u)
		time.Sleep(time.Until(who.Expires) + time.Second) // a cookie says so in whole seconds
		resp, text := c.browser(t, conf).send(http.MethodGet, "/v1/whoami", "Cookie", kept[0].Name+"="+kept[0].Value)
		if resp.StatusCode != http.StatusUnauthorized || reason(t, text) != auth.ReasonExpired {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	})
}

// TestSessionsAreOfTheCluster: a session that one scheduler made is good at all others
// at once, and after they have been started again.
func TestSessionsAreOfTheCluster(t *testing.T) {
	t.Parallel()
	st := memory.New()
	t.Cleanup(func() { st.Close() })
	one := newClosed(t, server.Config{Scheduler: scheduler.Config{Store: st, Name: "one"}})
	two := newClosed(t, server.Config{Scheduler: scheduler.Config{Store: st, Name: "two"}, Authenticator: &auth.Authenticator{Tokens: one.tokens}})
	confOne, confTwo := one.source(t, pki.Request{}).Client(""), two.source(t, pki.Request{}).Client("")
	u, err := url.Parse(one.http)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		_, secret := one.token(t, auth.Token{Role: auth.Viewer})
		b := one.browser(t, confOne)
		b.signIn("Authorization", bearer(secret))
		value := b.Jar.Cookies(u)[0].Value
		other := two.browser(t, confTwo)
		if resp, text := other.send(http.MethodGet, "/v1/whoami", "Cookie", secureCookie+"="+value); resp.StatusCode != http.StatusOK || readWhoAmI(t, text).Role != "viewer" {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
		if resp, text := other.send(http.MethodPost, "/v1/signout", "Cookie", secureCookie+"="+value); resp.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
		for { // the other learns of it within moments
			if resp, _ := b.send(http.MethodGet, "/v1/whoami"); resp.StatusCode == http.StatusUnauthorized {
				break
			}
		}
	}
	_, secret := one.token(t, auth.Token{Role: auth.Submitter})
	b := one.browser(t, confOne)
	b.signIn("Authorization", bearer(secret))
	value := b.Jar.Cookies(u)[0].Value
	three := newClosed(t, server.Config{Scheduler: scheduler.Config{Store: st, Name: "three"}, Authenticator: &auth.Authenticator{Tokens: one.tokens}})
	resp, text := three.browser(t, three.source(t, pki.Request{}).Client("")).send(http.MethodGet, "/v1/whoami", "Cookie", secureCookie+"="+value)
	if resp.StatusCode != http.StatusOK || readWhoAmI(t, text).Role != "submitter" {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

// TestForeignRequests: a cookie counts in requests of pages of the console only.
func TestForeignRequests(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	conf := c.source(t, pki.Request{}).Client("")
	b := c.browser(t, conf)
	b.signIn("Authorization", bearer(c.secrets[auth.Admin]))
	good := b.Jar.Cookies(must(url.Parse(c.http)))[0]
	for name, ask := range map[string]struct {
		method, path string
		header       []string
		let          bool
	}{
		"a page of the console":                    {http.MethodPost, "/v1/schedule:notify", nil, true},
		"an old browser that says its origin":      {http.MethodPost, "/v1/schedule:notify", []string{"Sec-Fetch-Site", ""}, true},
		"a browser that says no origin":            {http.MethodPost, "/v1/schedule:notify", []string{"Origin", ""}, true},
		"JSON in a charset":                        {http.MethodPost, "/v1/schedule:notify", []string{"Content-Type", "application/json; charset=utf-8"}, true},
		"what says nothing of itself":              {http.MethodPost, "/v1/schedule:notify", []string{"Sec-Fetch-Site", "", "Origin", ""}, false},
		"a page of another site":                   {http.MethodPost, "/v1/schedule:notify", []string{"Sec-Fetch-Site", "cross-site"}, false},
		"a page of another port of this host":      {http.MethodPost, "/v1/schedule:notify", []string{"Sec-Fetch-Site", "same-site"}, false},
		"another port, an old browser":             {http.MethodPost, "/v1/schedule:notify", []string{"Sec-Fetch-Site", "", "Origin", "https://127.0.0.1:1"}, false},
		"a page without an origin":                 {http.MethodPost, "/v1/schedule:notify", []string{"Sec-Fetch-Site", "", "Origin", "null"}, false},
		"an origin that only begins like this one": {http.MethodPost, "/v1/schedule:notify", []string{"Sec-Fetch-Site", "", "Origin", c.http + ".evil.example"}, false},
		"a form":                                   {http.MethodPost, "/v1/schedule:notify", []string{"Content-Type", "application/x-www-form-urlencoded"}, false},
		"text":                                     {http.MethodPost, "/v1/schedule:notify", []string{"Content-Type", "text/plain"}, false},
		"a type that begins like JSON":             {http.MethodPost, "/v1/schedule:notify", []string{"Content-Type", "application/jsonp"}, false},
		"no type":                                  {http.MethodPost, "/v1/schedule:notify", []string{"Content-Type", ""}, false},
		"a deletion without a type":                {http.MethodDelete, "/v1/tasks/x", []string{"Content-Type", ""}, false},
		"an old job call of another site":          {http.MethodPost, "/start", []string{"Sec-Fetch-Site", "cross-site"}, false},
		"reads":                                    {http.MethodGet, "/v1/status", nil, true},
		"reads by the address bar":                 {http.MethodGet, "/v1/status", []string{"Sec-Fetch-Site", "none"}, true},
		"reads by a page of another port":          {http.MethodGet, "/v1/status", []string{"Sec-Fetch-Site", "same-site"}, false},
		"reads by a page of another site":          {http.MethodGet, "/v1/status", []string{"Sec-Fetch-Site", "cross-site"}, false},
		"reads metrics by a page of another site":  {http.MethodGet, "/metrics", []string{"Sec-Fetch-Site", "cross-site"}, false},
		"signs out by a page of another site":      {http.MethodPost, "/v1/signout", []string{"Sec-Fetch-Site", "cross-site"}, false},
		"signs out by what says nothing of itself": {http.MethodPost, "/v1/signout", []string{"Sec-Fetch-Site", "", "Origin", ""}, false},
		"under another name":                       {http.MethodGet, "/v1/status", []string{"Host", "evil.example"}, false},
	} {
		client := c.browser(t, conf)
		resp, text := client.send(ask.method, ask.path, append(ask.header, "Cookie", good.Name+"="+good.Value)...)
		if let := resp.StatusCode == http.StatusOK; let != ask.let {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	for name, cookies := range map[string][]string{
		"two, of which one is good":        {secureCookie + "=other.9999999999", good.Name + "=" + good.Value},
		"two good ones":                    {good.Name + "=" + good.Value, good.Name + "=" + good.Value},
		"under a name that others may set": {plainCookie + "=" + good.Value},
		"cut":                              {good.Name + "=" + good.Value[:20]},
		"without its time":                 {good.Name + "=" + good.Value[:43]},
		"empty":                            {good.Name + "="},
	} {
		var header []string
		for _, one := range cookies {
			header = append(header, "Cookie", one)
		}
		if resp, text := c.browser(t, conf).send(http.MethodGet, "/v1/status", header...); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	// A cookie is none beside a token, and gives nobody a place over gRPC.
	if resp, _ := b.send(http.MethodGet, "/v1/status", "Authorization", "Bearer rota_no"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a bad token beside a good cookie: %d", resp.StatusCode)
	}
	if resp, text := c.browser(t, conf).send(http.MethodGet, "/v1/status", "Rota-Session", good.Value, "Grpc-Metadata-Rota-Session", good.Value); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("in another header: %d %s", resp.StatusCode, text)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), auth.SessionKey, good.Value)
	if _, err := rotav1.NewClusterClient(c.dial(t, c.source(t, pki.Request{}).Credentials(""))).GetStatus(ctx, &rotav1.GetStatusRequest{}); err == nil {
		t.Error("a session over gRPC")
	}
	if resp, _ := b.send(http.MethodGet, "/v1/status"); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestSignInTakesOverNothing: a session that a browser brings is not the one that it
// gets, whoever made it, and ends.
func TestSignInTakesOverNothing(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	conf := c.source(t, pki.Request{}).Client("")
	mine := c.browser(t, conf)
	mine.signIn("Authorization", bearer(c.secrets[auth.Viewer]))
	planted := mine.Jar.Cookies(must(url.Parse(c.http)))[0]
	victim := c.browser(t, conf)
	resp, text := victim.send(http.MethodPost, "/v1/signin", "Authorization", bearer(c.secrets[auth.Admin]), "Cookie", planted.Name+"="+planted.Value)
	if resp.StatusCode != http.StatusOK || resp.Cookies()[0].Value == planted.Value {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if resp, text := mine.send(http.MethodGet, "/v1/whoami"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

// TestSignInsThatFail are answered without a body read, and not without end.
func TestSignInsThatFail(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	conf := c.source(t, pki.Request{}).Client("")
	b := c.browser(t, conf)
	for name, ask := range map[string]struct {
		header []string
		code   int
		reason string
	}{
		"nothing":             {nil, http.StatusUnauthorized, auth.ReasonMissing},
		"no token":            {[]string{"Authorization", "Bearer x"}, http.StatusUnauthorized, auth.ReasonBad},
		"a basic password":    {[]string{"Authorization", "Basic eDp5"}, http.StatusUnauthorized, auth.ReasonBad},
		"a token cut short":   {[]string{"Authorization", bearer(c.secrets[auth.Admin][:40])}, http.StatusUnauthorized, auth.ReasonBad},
		"a page elsewhere":    {[]string{"Authorization", bearer(c.secrets[auth.Admin]), "Sec-Fetch-Site", "cross-site"}, http.StatusForbidden, ""},
		"a token in a form":   {[]string{"Authorization", bearer(c.secrets[auth.Admin]), "Content-Type", "text/plain"}, http.StatusBadRequest, ""},
		"a token in a cookie": {[]string{"Cookie", secureCookie + "=" + c.secrets[auth.Admin].Reveal()}, http.StatusUnauthorized, auth.ReasonMissing},
	} {
		resp, text := b.send(http.MethodPost, "/v1/signin", ask.header...)
		if resp.StatusCode != ask.code || reason(t, text) != ask.reason || len(resp.Cookies()) > 0 {
			t.Errorf("%s: %d %s %v", name, resp.StatusCode, text, resp.Cookies())
		}
	}
	for path, verb := range map[string]string{"/v1/signout": http.MethodGet, "/v1/whoami": http.MethodPost, "/v1/signin": http.MethodPut, "/v1/signin/code": http.MethodGet, "/v1/signin/oidc": http.MethodPost} {
		if resp, text := b.send(verb, path); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d %s", verb, path, resp.StatusCode, text)
		}
	}
	if resp, text := b.send(http.MethodGet, "/v1/signin/nowhere"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	often := 0
	for n := range 100 {
		resp, _ := c.browser(t, conf).send(http.MethodPost, "/v1/signin", "Authorization", "Bearer x")
		if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "" {
			often = n
			break
		}
	}
	if often == 0 {
		t.Error("one may fail without end")
	}
	b.signIn("Authorization", bearer(c.secrets[auth.Viewer])) // whose token is good is let in for all that
}

// TestSignInCode: a code of rota ui is good once, at one of all schedulers, for the
// role of whoever asked for it.
func TestSignInCode(t *testing.T) {
	t.Parallel()
	st := memory.New()
	t.Cleanup(func() { st.Close() })
	one := newClosed(t, server.Config{Scheduler: scheduler.Config{Store: st, Name: "one"}})
	two := newClosed(t, server.Config{Scheduler: scheduler.Config{Store: st, Name: "two"}, Authenticator: &auth.Authenticator{Tokens: one.tokens}})
	browsers := []*browser{one.browser(t, one.source(t, pki.Request{}).Client("")), two.browser(t, two.source(t, pki.Request{}).Client(""))}
	client := rotav1.NewSignInsClient(one.dial(t, one.source(t, pki.Request{}).Credentials("")))
	code := func(secret auth.Secret) string {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", bearer(secret))
		got, err := client.CreateSignInCode(ctx, &rotav1.CreateSignInCodeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(got.GetExpires().AsTime()); left <= 0 || left > time.Minute || got.GetConsole() != one.http {
			t.Fatalf("%v", got)
		}
		return got.GetCode()
	}
	tok, secret := one.token(t, auth.Token{Role: auth.Admin})
	late := code(secret)
	tok.Revoked = time.Now()
	one.tokens.Update([]auth.Token{tok}, nil)
	if resp, text := browsers[1].send(http.MethodPost, "/v1/signin/code", "Rota-Code", late); resp.StatusCode != http.StatusUnauthorized || len(resp.Cookies()) > 0 {
		t.Errorf("a code of a revoked token: %d %s", resp.StatusCode, text)
	}
	for role := auth.Viewer; role <= auth.Admin; role++ {
		was := code(one.secrets[role])
		var good atomic.Int32
		var all sync.WaitGroup
		for n := range 16 {
			all.Go(func() {
				b := *browsers[n%2]
				b.Jar = nil
				resp, text := b.send(http.MethodPost, "/v1/signin/code", "Rota-Code", was)
				if resp.StatusCode == http.StatusOK {
					good.Add(1)
					if who := readWhoAmI(t, text); who.Role != role.String() || !who.Session {
						t.Errorf("%s", text)
					}
				}
			})
		}
		all.Wait()
		if good.Load() != 1 {
			t.Fatalf("a code was good %d times", good.Load())
		}
	}
	if resp, text := browsers[1].send(http.MethodPost, "/v1/signin/code"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("no code: %d %s", resp.StatusCode, text)
	}
	if resp, text := browsers[0].send(http.MethodPost, "/v1/signin/code", "Rota-Code", code(one.secrets[auth.Viewer]), "Sec-Fetch-Site", "cross-site"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a page elsewhere: %d %s", resp.StatusCode, text)
	}
}

// TestClientCertificates sign in where their name has a role, and are nobody for
// anything else over HTTP.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	alice := c.source(t, pki.Request{Role: pki.Client, Name: "alice"})
	b := c.browser(t, alice.Client(""))
	if resp, text := b.send(http.MethodGet, "/v1/status"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a certificate alone: %d %s", resp.StatusCode, text)
	}
	if resp, text := b.send(http.MethodPost, "/v1/signin", "Sec-Fetch-Site", "cross-site"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a page elsewhere: %d %s", resp.StatusCode, text)
	}
	if who := b.signIn(); who.Name != "alice" || who.Role != "operator" || who.Kind != "client" {
		t.Errorf("%+v", who)
	}
	kept := b.Jar.Cookies(must(url.Parse(c.http)))[0]
	plain := c.browser(t, c.source(t, pki.Request{}).Client(""))
	if resp, text := plain.send(http.MethodPost, "/v1/schedule:notify", "Cookie", kept.Name+"="+kept.Value); resp.StatusCode != http.StatusOK {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	for name, r := range map[string]pki.Request{"another name": {Role: pki.Client, Name: "bob"}, "a worker of that name": {Role: pki.Worker, Name: "alice"}, "a scheduler": {Role: pki.Scheduler, Name: "alice", Hosts: []string{"127.0.0.1"}}} {
		if resp, text := c.browser(t, c.source(t, r).Client("")).send(http.MethodPost, "/v1/signin"); resp.StatusCode == http.StatusOK || len(resp.Cookies()) > 0 {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	revoke(t, c.dir+"/"+pki.RevokedFile, pki.Revocation{Role: pki.Client, Name: "alice"})
	for { // the list is looked at once a second
		resp, text := plain.send(http.MethodGet, "/v1/status", "Cookie", kept.Name+"="+kept.Value)
		if resp.StatusCode == http.StatusUnauthorized {
			if reason(t, text) != auth.ReasonEnded {
				t.Error(text)
			}
			return
		}
	}
}
