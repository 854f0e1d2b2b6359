package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
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
