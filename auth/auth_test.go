package auth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
)

var t0 = time.Unix(1_700_000_000, 0).UTC()

func newToken(t *testing.T, tok Token) (Token, Secret) {
	t.Helper()
	if tok.Name == "" {
		tok.Name = "test"
	}
	if tok.Role == Nobody {
		tok.Role = Viewer
	}
	tok, s, err := NewToken(tok, t0)
	if err != nil {
		t.Fatal(err)
	}
	return tok, s
}

func TestToken(t *testing.T) {
	t.Parallel()
	var ts Tokens
	tok, secret := newToken(t, Token{Expires: t0.Add(time.Hour)})
	other, otherSecret := newToken(t, Token{})
	if _, err := ts.Find(secret, t0); !errors.Is(err, ErrTokenUnknown) {
		t.Errorf("in an empty table: %v", err)
	}
	ts.Update([]Token{tok, other}, nil)
	if got, err := ts.Find(secret, t0); err != nil || got.ID != tok.ID {
		t.Errorf("found %+v, %v", got, err)
	}
	if _, err := ts.Find(secret, t0.Add(time.Hour)); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("at its end: %v", err)
	}
	text := secret.Reveal()
	for cut := range len(text) {
		if _, err := ts.Find(Secret(text[:cut]), t0); !errors.Is(err, ErrTokenShape) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	// The id of one with the secret of another, and a check that is right.
	id, _, _ := splitToken(secret)
	_, foreign, _ := splitToken(otherSecret)
	body := tokenPrefix + id + "_" + foreign
	if _, err := ts.Find(Secret(body+"_"+check(body)), t0); !errors.Is(err, ErrTokenUnknown) {
		t.Errorf("with another's secret: %v", err)
	}
	tok.Revoked = t0
	ts.Update([]Token{tok}, nil)
	if _, err := ts.Find(secret, t0); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("revoked: %v", err)
	}
	ts.Update(nil, []string{tok.ID})
	if _, err := ts.Find(secret, t0); !errors.Is(err, ErrTokenUnknown) || ts.Len() != 1 {
		t.Errorf("removed: %v", err)
	}
	if b, err := json.Marshal(tok); err != nil || strings.Contains(string(b), foreign) || strings.Contains(string(b), secretPart(text)) {
		t.Error("the record holds the secret")
	}
}

func TestTokenAtFault(t *testing.T) {
	t.Parallel()
	for field, tok := range map[string]Token{
		"name":       {Role: Viewer},
		"name ":      {Role: Viewer, Name: "a\nb"},
		"role":       {Name: "x"},
		"role ":      {Name: "x", Role: Admin + 1},
		"namespaces": {Name: "x", Role: Viewer, Namespaces: []string{""}},
		"expires":    {Name: "x", Role: Viewer, Expires: t0},
	} {
		_, _, err := NewToken(tok, t0)
		var fe *rota.FieldError
		if !errors.As(err, &fe) || fe.Field != strings.TrimSpace(field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestSecretHides(t *testing.T) {
	t.Parallel()
	s := Secret("hunter2")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "a", s, "b", struct{ S Secret }{s}, "c", []Secret{s})
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "a", s, "b", struct{ S Secret }{s}, "c", &s)
	j, err := json.Marshal(map[string]any{"a": s, "b": &s})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %s %#v %q %+v %v", s, s, s, s, struct{ S Secret }{s}, []Secret{s}) + log.String() + string(j)
	if strings.Contains(all, "hunter2") || strings.Count(all, redacted) < 10 {
		t.Errorf("shown: %s", all)
	}
	if s.Reveal() != "hunter2" {
		t.Error("not even revealed")
	}
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	var ts Tokens
	if _, err := OpenTokenFile(path, &ts); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	a, secretA := newToken(t, Token{Name: "a", Role: Admin})
	b, secretB := newToken(t, Token{Name: "b", Namespaces: []string{"x"}, Expires: t0.Add(time.Hour)})
	add := func(tok Token) {
		t.Helper()
		if err := EditTokenFile(path, func(all []Token) ([]Token, error) { return append(all, tok), nil }); err != nil {
			t.Fatal(err)
		}
	}
	add(a)
	f, err := OpenTokenFile(path, &ts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ts.Find(secretA, t0); err != nil {
		t.Error(err)
	}
	if changed, err := f.Reload(&ts); changed || err != nil {
		t.Errorf("reloaded for nothing: %v", err)
	}
	add(b)
	if changed, err := f.Reload(&ts); !changed || err != nil {
		t.Errorf("not reloaded: %v", err)
	}
	if got, err := ts.Find(secretB, t0); err != nil || !got.Expires.Equal(b.Expires) || got.Namespaces[0] != "x" {
		t.Errorf("%+v, %v", got, err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	// Garbage leaves what was.
	if err := os.WriteFile(path, []byte("{\"id\":\"x\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Reload(&ts); err == nil || !strings.Contains(err.Error(), ":1:") {
		t.Errorf("garbage: %v", err)
	}
	if _, err := ts.Find(secretA, t0); err != nil {
		t.Errorf("after garbage: %v", err)
	}
	// One that is taken out of the file is gone at once.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	add(b)
	if _, err := f.Reload(&ts); err != nil {
		t.Fatal(err)
	}
	if _, err := ts.Find(secretA, t0); !errors.Is(err, ErrTokenUnknown) || len(ts.List()) != 1 {
		t.Errorf("taken out: %v", err)
	}
	for _, bad := range []string{"x", `{"id":"a","unknown":1}`, `{"id":"a","name":"b","role":"king","hash":"00"}`, `{"id":"a","name":"b","role":"admin","hash":"00"}`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenTokenFile(path, &Tokens{}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	p, err := Merge(Policy{"/s/public": {Public: true}, "/s/view": {Role: Viewer}}, Policy{
		"/s/write": {Role: Operator, Writes: true}, "/s/session": {Worker: true}, "/s/peer": {Scheduler: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	anon := From(t.Context())
	viewer := Identity{Kind: ByToken, Role: Viewer, Name: "v"}
	admin := Identity{Kind: ByToken, Role: Admin, Name: "a"}
	elsewhere := Identity{Kind: ByToken, Role: Admin, Name: "e", Namespaces: []string{"other"}}
	worker := Identity{Kind: ByCert, Worker: "w"}
	scheduler := Identity{Kind: ByCert, Scheduler: true}
	local := Identity{Kind: Local, Role: Admin}
	ok, unknown, denied := codes.OK, codes.Unauthenticated, codes.PermissionDenied
	for _, c := range []struct {
		method string
		want   [7]codes.Code // anon, viewer, admin, elsewhere, worker, scheduler, local
	}{
		{"/s/public", [7]codes.Code{ok, ok, ok, ok, ok, ok, ok}},
		{"/s/view", [7]codes.Code{unknown, ok, ok, denied, denied, denied, ok}},
		{"/s/write", [7]codes.Code{unknown, denied, ok, denied, denied, denied, ok}},
		{"/s/session", [7]codes.Code{unknown, denied, denied, denied, ok, denied, ok}},
		{"/s/peer", [7]codes.Code{unknown, denied, denied, denied, denied, ok, ok}},
		{"/s/nowhere", [7]codes.Code{denied, denied, denied, denied, denied, denied, denied}},
		{"/s/view/", [7]codes.Code{denied, denied, denied, denied, denied, denied, denied}},
		{"", [7]codes.Code{denied, denied, denied, denied, denied, denied, denied}},
	} {
		for i, who := range []Identity{anon, viewer, admin, elsewhere, worker, scheduler, local} {
			if got := status.Code(p.Allow(c.method, who, "default")); got != c.want[i] {
				t.Errorf("%q by %d: %v, want %v", c.method, i, got, c.want[i])
			}
		}
	}
	if _, err := Merge(p, Policy{"/s/view": {Role: Admin}}); err == nil {
		t.Error("a method in two tables")
	}
	if _, err := Merge(Policy{"/s/x": {}}); err == nil {
		t.Error("a rule for nobody")
	}
}

// jwt signs claims as an issuer would.
func jwt(t *testing.T, key ed25519.PrivateKey, alg string, claims map[string]any) string {
	t.Helper()
	body := unsigned(t, map[string]string{"alg": alg, "typ": "JWT"}, claims)
	return body + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(body)))
}

// unsigned is a JWT without its signature.
func unsigned(t *testing.T, header map[string]string, claims map[string]any) string {
	t.Helper()
	enc := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return enc(header) + "." + enc(claims)
}

func TestJWT(t *testing.T) {
	t.Parallel()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pub.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := JWTConfig{
		Issuer: "https://issuer.example", Audience: "rota", Keys: []string{path}, RoleClaim: "groups", NamespaceClaim: "ns",
		Roles: map[string]Role{"ops": Operator, "all": Viewer}, Now: func() time.Time { return t0 },
	}
	v, err := NewJWT(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	good := func() map[string]any {
		return map[string]any{
			"iss": cfg.Issuer, "aud": "rota", "sub": "123", "email": "a@b.c", "exp": t0.Add(time.Minute).Unix(), "iat": t0.Unix(),
			"groups": []string{"all", "ops", "unknown"}, "ns": "default",
		}
	}
	id, err := v.Verify(t.Context(), Secret(jwt(t, key, "EdDSA", good())))
	if err != nil || id.Role != Operator || id.Name != "a@b.c" || id.ID != "123" || !id.In("default") || id.In("other") {
		t.Errorf("%+v, %v", id, err)
	}
	for name, change := range map[string]func(map[string]any){
		"expired":          func(c map[string]any) { c["exp"] = t0.Add(-time.Minute).Unix() },
		"without end":      func(c map[string]any) { delete(c, "exp") },
		"other issuer":     func(c map[string]any) { c["iss"] = "https://evil.example" },
		"other audience":   func(c map[string]any) { c["aud"] = "other" },
		"no role":          func(c map[string]any) { delete(c, "groups") },
		"no role it knows": func(c map[string]any) { c["groups"] = []string{"admin"} },
		"role of no text":  func(c map[string]any) { c["groups"] = 4 },
		"no namespace":     func(c map[string]any) { delete(c, "ns") },
	} {
		claims := good()
		change(claims)
		if id, err := v.Verify(t.Context(), Secret(jwt(t, key, "EdDSA", claims))); err == nil {
			t.Errorf("%s: %+v", name, id)
		}
	}
	for name, bearer := range map[string]string{
		"another's key": jwt(t, otherKey, "EdDSA", good()),
		"alg none":      jwt(t, key, "none", good()),
		"alg HS256":     jwt(t, key, "HS256", good()),
		"no JWT":        "x.y.z",
		"cut short":     strings.TrimSuffix(jwt(t, key, "EdDSA", good()), "A")[:100],
		"nothing":       "",
	} {
		if id, err := v.Verify(t.Context(), Secret(bearer)); err == nil {
			t.Errorf("%s: %+v", name, id)
		}
	}
	for field, c := range map[string]JWTConfig{"oidc.issuer": {Audience: "x"}, "oidc.audience": {Issuer: "x"}} {
		var fe *rota.FieldError
		if _, err := NewJWT(t.Context(), c); !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := NewJWT(t.Context(), JWTConfig{Issuer: "x", Audience: "y", Keys: []string{"/no/such"}}); err == nil {
		t.Error("keys that are not there")
	}
}

func TestClientToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	one, two := file("one", "ONE\n"), file("two", "TWO")
	for _, c := range []struct {
		flag string
		env  map[string]string
		want string
	}{
		{"", nil, ""},
		{"", map[string]string{EnvToken: "X"}, "X"},
		{"", map[string]string{EnvToken: "X", EnvTokenFile: one}, "ONE"},
		{two, map[string]string{EnvToken: "X", EnvTokenFile: one}, "TWO"},
		{file("empty", "\n"), nil, "!"},
		{file("many", "a b"), nil, "!"},
		{"/no/such", nil, "!"},
	} {
		got, err := ClientToken(c.flag, func(k string) (string, bool) { v, ok := c.env[k]; return v, ok })
		if (err != nil) != (c.want == "!") || err == nil && got.Reveal() != c.want {
			t.Errorf("%+v: %q, %v", c, got.Reveal(), err)
		}
	}
	if _, err := PerRPC("x", false).GetRequestMetadata(t.Context()); !errors.Is(err, ErrNoTLS) {
		t.Errorf("in the open: %v", err)
	}
}

func TestCheckListen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		addr           string
		tls, protected bool
		ok             bool
	}{
		{"127.0.0.1:1", false, false, true},
		{"localhost:1", false, false, true},
		{"[::1]:1", false, false, true},
		{"127.8.9.1:1", false, false, true},
		{":1", false, false, false},
		{"0.0.0.0:1", true, false, false},
		{"0.0.0.0:1", false, true, false},
		{"[::]:1", false, false, false},
		{"10.0.0.1:1", false, false, false},
		{"example.org:1", false, false, false},
		{"0.0.0.0:1", true, true, true},
	} {
		err := CheckListen(c.addr, c.tls, c.protected)
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
		var open *OpenError
		// The address that it proposes is there with IPv4, with IPv6, and with both.
		if err != nil && (!strings.HasSuffix(err.Error(), "or listen on localhost") || !Loopback("localhost:1") || !errors.As(err, &open) || strings.Contains(err.Error(), "cert init") == c.tls) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	for r := Viewer; r <= Admin; r++ {
		b, _ := r.MarshalText()
		var back Role
		if err := back.UnmarshalText(b); err != nil || back != r {
			t.Errorf("%v became %v, %v", r, back, err)
		}
	}
	if _, err := ParseRole("nobody"); err == nil {
		t.Error("nobody is a role")
	}
	if From(context.Background()).Kind != Anonymous || Role(9).String() != "role 9" {
		t.Error("defaults")
	}
}

// secretPart is what of a token's text nobody else may see. It may have the
// mark that divides a token.
func secretPart(text string) string {
	rest := strings.SplitN(text, "_", 3)[2]
	return rest[:strings.LastIndex(rest, "_")]
}
