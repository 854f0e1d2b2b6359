package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota"
)

// issuer is an OpenID provider on this machine.
type issuer struct {
	*httptest.Server
	mu   sync.Mutex
	keys map[string]ed25519.PublicKey // by kid, as they are published
	// asked is how often its keys were asked for.
	asked atomic.Int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{keys: map[string]ed25519.PublicKey{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"EdDSA", "HS256", "none"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()

		var keys []map[string]string
		for kid, key := range i.keys {
			keys = append(keys, map[string]string{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(key)})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

// publish makes a key, under its own name only.
func (i *issuer) publish(t *testing.T, kid string) ed25519.PrivateKey {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = map[string]ed25519.PublicKey{kid: pub}
	return key
}

// TestDiscovery has an issuer that is found by its address, over TLS, and that
// changes its keys while the scheduler runs.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	old := i.publish(t, "k1")
	v, err := NewJWT(t.Context(), JWTConfig{Issuer: i.URL, Audience: "rota", Client: i.Client()})
	if err != nil {
		t.Fatal(err)
	}
	claims := func() map[string]any {
		return map[string]any{
			"iss": i.URL, "aud": []string{"other", "rota"}, "sub": "ada", "role": "operator",
			"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		}
	}
	verify := func(key ed25519.PrivateKey, alg, kid string, change func(map[string]any)) (Identity, error) {
		c := claims()
		if change != nil {
			change(c)
		}
		body := unsigned(t, map[string]string{"alg": alg, "kid": kid}, c)
		return v.Verify(t.Context(), Secret(body+"."+base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(body)))))
	}
	if id, err := verify(old, "EdDSA", "k1", nil); err != nil || id.Role != Operator || id.Name != "ada" || id.Kind != ByJWT {
		t.Errorf("%+v, %v", id, err)
	}
	for name, change := range map[string]func(map[string]any){
		"of another issuer":      func(c map[string]any) { c["iss"] = "https://other.example" },
		"for another audience":   func(c map[string]any) { c["aud"] = "other" },
		"for no audience":        func(c map[string]any) { delete(c, "aud") },
		"expired":                func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() },
		"not good yet":           func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() },
		"of a role that is none": func(c map[string]any) { c["role"] = "root" },
	} {
		if id, err := verify(old, "EdDSA", "k1", change); err == nil {
			t.Errorf("%s: %+v", name, id)
		}
	}
	// What the issuer says of algorithms does not count: only asymmetric ones do.
	for _, alg := range []string{"none", "HS256", "RS256"} {
		if id, err := verify(old, alg, "k1", nil); err == nil {
			t.Errorf("alg %s: %+v", alg, id)
		}
	}
	body := unsigned(t, map[string]string{"alg": "HS256", "kid": "k1"}, claims())
	mac := hmac.New(sha256.New, old[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
	mac.Write([]byte(body))
	if id, err := v.Verify(t.Context(), Secret(body+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))); err == nil {
		t.Errorf("the public key used as a secret: %+v", id)
	}

	// A new key is fetched when it is first seen; the old one is no good any more.
	// A fetch that is just ending still answers what it found, and who waits for
	// one goes on a moment before its keys are those that count.
	eventually := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); !holds(); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	next := i.publish(t, "k2")
	eventually("a key that came later is not taken", func() bool {
		id, err := verify(next, "EdDSA", "k2", nil)
		return err == nil && id.Role == Operator
	})
	eventually("a key that was withdrawn is taken", func() bool {
		_, err := verify(old, "EdDSA", "k1", nil)
		return err != nil
	})
	if id, err := verify(old, "EdDSA", "k2", nil); err == nil {
		t.Errorf("with the old key under the new name: %+v", id)
	}

	if _, err := NewJWT(t.Context(), JWTConfig{Issuer: i.URL, Audience: "rota"}); err == nil {
		t.Error("an issuer that no authority vouches for")
	}
	if _, err := NewJWT(t.Context(), JWTConfig{Issuer: i.URL + "/other", Audience: "rota", Client: i.Client()}); err == nil {
		t.Error("an issuer without discovery")
	}
	var fe *rota.FieldError
	if _, err := NewJWT(t.Context(), JWTConfig{Issuer: "http://issuer.example", Audience: "rota"}); !errors.As(err, &fe) || fe.Field != "oidc.issuer" {
		t.Errorf("an issuer in the clear: %v", err)
	}
}

// TestIssuersAreHeldToTLS: whatever an issuer says that something is at, or sends on to, it
// is asked over TLS only, and an answer that does not end is none.
func TestIssuersAreHeldToTLS(t *testing.T) {
	t.Parallel()
	const away = "http://issuer.example"
	var plain atomic.Int64
	send := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"keys":[`)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat(" ", 1<<20)); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		change func(doc map[string]any)
		at     map[string]http.HandlerFunc
		flow   bool // the code flow is refused, else the keys
		want   string
	}{
		"keys in the clear":           {change: func(d map[string]any) { d["jwks_uri"] = away }, want: "want https://"},
		"keys elsewhere in the clear": {at: map[string]http.HandlerFunc{"/keys": send(away)}, want: "want https://"},
		"keys in a file":              {change: func(d map[string]any) { d["jwks_uri"] = "file:///etc/passwd" }, want: "want https://"},
		"discovery in the clear":      {at: map[string]http.HandlerFunc{"/.well-known/openid-configuration": send(away)}, want: "want https://"},
		"people in the clear":         {change: func(d map[string]any) { d["authorization_endpoint"] = away }, flow: true, want: "want https://"},
		"people to a script":          {change: func(d map[string]any) { d["authorization_endpoint"] = "javascript:alert(1)" }, flow: true, want: "want https://"},
		"the secret in the clear":     {change: func(d map[string]any) { d["token_endpoint"] = away }, flow: true, want: "want https://"},
		"keys without end":            {at: map[string]http.HandlerFunc{"/keys": endless}, want: "longer than"},
		"discovery without end":       {at: map[string]http.HandlerFunc{"/.well-known/openid-configuration": endless}, want: "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *httptest.Server
			s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if h := c.at[r.URL.Path]; h != nil {
					h(w, r)
					return
				}
				doc := map[string]any{"issuer": s.URL, "jwks_uri": s.URL + "/keys", "authorization_endpoint": s.URL + "/auth", "token_endpoint": s.URL + "/token"}
				if c.change != nil {
					c.change(doc)
				}
				_ = json.NewEncoder(w).Encode(doc)
			}))
			defer s.Close()
			over := s.Client().Transport
			client := &http.Client{Timeout: time.Minute, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Scheme != "https" {
					plain.Add(1)
				}
				return over.RoundTrip(r)
			})}
			conf := JWTConfig{Issuer: s.URL, Audience: "rota", Client: client}
			var err error
			if c.flow {
				_, err = NewCodeFlow(t.Context(), conf, CodeFlowConfig{ClientID: "rota", RedirectURL: "https://console.example" + CallbackPath})
			} else {
				var v Verifier
				if v, err = NewJWT(t.Context(), conf); err == nil {
					claims := map[string]any{"iss": s.URL, "aud": "rota", "sub": "ada", "role": "operator", "exp": time.Now().Add(time.Hour).Unix()}
					_, err = v.Verify(t.Context(), Secret(unsigned(t, map[string]string{"alg": "EdDSA", "kid": "k"}, claims)+"."+base64.RawURLEncoding.EncodeToString(make([]byte, 64))))
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %q", err, c.want)
			}
			if plain.Load() > 0 {
				t.Error("somebody was asked in the clear")
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestIssuerIsAskedSeldom: whoever makes up JWTs does not have the issuer asked
// for each, and whose key is known does not wait for that.
func TestIssuerIsAskedSeldom(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	key := i.publish(t, "k1")
	v, err := NewJWT(t.Context(), JWTConfig{Issuer: i.URL, Audience: "rota", Client: i.Client()})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(kid string) Secret {
		body := unsigned(t, map[string]string{"alg": "EdDSA", "kid": kid}, map[string]any{
			"iss": i.URL, "aud": "rota", "sub": "ada", "role": "operator", "exp": time.Now().Add(time.Hour).Unix(),
		})
		return Secret(body + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(body))))
	}
	began := time.Now()
	for n := range 200 {
		if _, err := v.Verify(t.Context(), sign("k1")); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), sign(fmt.Sprint("made up ", n))); err == nil {
			t.Fatal("a key that nobody published")
		}
	}
	if n, most := i.asked.Load(), askBurst+int64(time.Since(began)/askEvery)+1; n > most {
		t.Errorf("asked %d times, at most %d", n, most)
	}
}
