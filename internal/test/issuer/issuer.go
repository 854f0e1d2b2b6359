// Package issuer is an OpenID provider on loopback for tests of the sign-in at the
// console. Whoever comes to it is somebody at once, with the claims that the test
// says; it holds clients to what the standard asks of them.
package issuer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Client is who may ask.
type Client struct{ ID, Secret, RedirectURL string }

// Issuer is a running provider. Its URL is the issuer's name.
type Issuer struct {
	*httptest.Server
	key ed25519.PrivateKey

	mu     sync.Mutex
	client Client
	claims map[string]any
	codes  map[string]grant
}

// grant is what a code is good for.
type grant struct{ challenge, nonce string }

// New starts a provider that ends with the test.
func New(tb testing.TB) *Issuer {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	i := &Issuer{key: key, codes: map[string]grant{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys", i.keys)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.token)
	i.Server = httptest.NewServer(mux)
	tb.Cleanup(i.Close)
	return i
}

// Trust sets the client. Its claims are those of whoever signs in from now on; they
// win over those that the provider sets itself.
func (i *Issuer) Trust(c Client, claims map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.client, i.claims = c, claims
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{
		"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token",
		"id_token_signing_alg_values_supported": []string{"EdDSA"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"code_challenge_methods_supported": []string{"S256"},
	})
}

func (i *Issuer) keys(w http.ResponseWriter, _ *http.Request) {
	public, _ := i.key.Public().(ed25519.PublicKey)
	answer(w, map[string]any{"keys": []any{map[string]any{
		"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "k", "alg": "EdDSA", "x": base64.RawURLEncoding.EncodeToString(public),
	}}})
}

// authorize lets anybody in and sends them back with a code.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	i.mu.Lock()
	defer i.mu.Unlock()
	if q.Get("client_id") != i.client.ID || q.Get("redirect_uri") != i.client.RedirectURL || q.Get("response_type") != "code" ||
		q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("state") == "" || q.Get("nonce") == "" {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	i.codes[code] = grant{q.Get("code_challenge"), q.Get("nonce")}
	back := url.Values{"code": {code}, "state": {q.Get("state")}}
	http.Redirect(w, r, i.client.RedirectURL+"?"+back.Encode(), http.StatusFound)
}

// token gives out an ID token for a code, once.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	code := r.PostFormValue("code")
	g, ok := i.codes[code]
	delete(i.codes, code)
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	switch {
	case id != i.client.ID || subtle.ConstantTimeCompare([]byte(secret), []byte(i.client.Secret)) != 1:
		refuse(w, http.StatusUnauthorized, "invalid_client")
		return
	case !ok, r.PostFormValue("redirect_uri") != i.client.RedirectURL, base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge:
		refuse(w, http.StatusBadRequest, "invalid_grant")
		return
	}
	claims := map[string]any{
		"iss": i.URL, "aud": i.client.ID, "sub": "ada", "nonce": g.nonce,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range i.claims {
		claims[name] = value
	}
	answer(w, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 3600, "id_token": i.sign(claims)})
}

func (i *Issuer) sign(claims map[string]any) string {
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err) // plain values always marshal
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	body := part(map[string]any{"alg": "EdDSA", "kid": "k", "typ": "JWT"}) + "." + part(claims)
	return body + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(i.key, []byte(body)))
}

func refuse(w http.ResponseWriter, code int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(`{"error":"` + reason + `"}`))
}

func answer(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values always marshal
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}
