package auth

import (
	"context"
	"crypto"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/wholefile"
)

// JWTConfig says which JWTs are valid and what they allow.
type JWTConfig struct {
	// Issuer is the required issuer (iss) of a token. Without Keys, its keys are found by
	// OpenID Connect discovery at this URL.
	Issuer string
	// Audience is a required audience (aud) of a token.
	Audience string
	// Keys are PEM files of public keys, for issuers without discovery.
	Keys []string
	// RoleClaim is the claim with the role: a string or a list. Empty means "role".
	RoleClaim string
	// Roles maps values of that claim to roles. Nil means the roles' own names. Of several
	// roles, the greatest counts.
	Roles map[string]Role
	// NamespaceClaim is the claim with the list of namespaces. Empty means all namespaces.
	NamespaceClaim string
	// KindClaim is the claim with patterns of kinds of task, like Identity.Kinds. Empty
	// means all kinds.
	KindClaim string
	// NameClaim is the claim with the person's name. Empty means "email", then "sub".
	NameClaim string
	// Client is the HTTP client for requests to the issuer. Nil means one with a timeout of
	// 10 s.
	Client *http.Client
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// algorithms that a JWT may be signed with: no "none", nothing symmetric.
var algorithms = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}

// issuerTimeout is how long an issuer may take to answer: callers wait for it.
const issuerTimeout = 10 * time.Second

type jwtVerifier struct {
	cfg      JWTConfig
	verifier *oidc.IDTokenVerifier
}

// NewJWT returns a Verifier. With discovery, it requests the issuer's configuration, and
// fetches its keys when they change until ctx ends.
func NewJWT(ctx context.Context, c JWTConfig) (Verifier, error) {
	v, _, err := newJWT(ctx, c)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// newJWT also returns what the issuer said of itself; nil where it was not asked.
func newJWT(ctx context.Context, c JWTConfig) (*jwtVerifier, *oidc.Provider, error) {
	if c.Issuer == "" {
		return nil, nil, &rota.FieldError{Field: "oidc.issuer", Value: "", Want: "the issuer's address; it is missing"}
	}
	if c.Audience == "" {
		return nil, nil, &rota.FieldError{Field: "oidc.audience", Value: "", Want: "this cluster's client id; it is missing"}
	}
	if c.RoleClaim == "" {
		c.RoleClaim = "role"
	}
	conf := &oidc.Config{ClientID: c.Audience, SupportedSigningAlgs: algorithms, Now: c.Now}
	v := &jwtVerifier{cfg: c}
	if len(c.Keys) == 0 {
		if at, err := url.Parse(c.Issuer); err != nil || checkIssuerURL(at) != nil {
			return nil, nil, &rota.FieldError{Field: "oidc.issuer", Value: text.Clip(c.Issuer, text.Short), Want: "https://...: without TLS anybody could answer in its place"}
		}
		if c.Client == nil {
			c.Client = &http.Client{Timeout: issuerTimeout}
		}
		client := *c.Client
		client.Transport = limitedTransport(client.Transport, askEvery, askBurst)
		ctx = oidc.ClientContext(ctx, &client)
		p, err := oidc.NewProvider(ctx, c.Issuer)
		if err != nil {
			return nil, nil, fmt.Errorf("oidc: ask the issuer: %w", err)
		}
		v.verifier = p.VerifierContext(ctx, conf)
		return v, p, nil
	}
	set := &oidc.StaticKeySet{}
	for _, path := range c.Keys {
		key, err := readPublicKey(path)
		if err != nil {
			return nil, nil, err
		}
		set.PublicKeys = append(set.PublicKeys, key)
	}
	v.verifier = oidc.NewVerifier(c.Issuer, set, conf)
	return v, nil, nil
}

// patient asks an issuer only so often: whoever makes up a JWT with an unknown key has
// its keys asked for. It asks over TLS only, wherever the issuer says that something is
// or sends on to, and takes no answer that is too long to be one.
type patient struct {
	http.RoundTripper
	bucket *rate.Limiter
}

// How often an issuer is asked, after the first few times.
const (
	askEvery = time.Second
	askBurst = 5
)

// maxIssuerAnswer is the most bytes of an answer of an issuer: those with hundreds of keys
// have a tenth of it.
const maxIssuerAnswer = 1 << 20

var errLongAnswer = fmt.Errorf("the issuer's answer is longer than %d bytes", maxIssuerAnswer)

// limitedTransport asks an issuer over t; nil is the default one.
func limitedTransport(t http.RoundTripper, every time.Duration, burst int) http.RoundTripper {
	if t == nil {
		t = http.DefaultTransport
	}
	return &patient{t, rate.NewLimiter(rate.Every(every), burst)}
}

// checkIssuerURL refuses an address at which somebody else could answer for the issuer.
func checkIssuerURL(at *url.URL) error {
	if at.Scheme != "https" && (at.Scheme != "http" || !Loopback(at.Host)) {
		return fmt.Errorf("the issuer names %s: want https://...: without TLS anybody could answer there", text.Clip(address.Text(at.String()), text.Short))
	}
	return nil
}

func (p *patient) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := checkIssuerURL(r.URL); err != nil {
		return nil, err
	}
	if !p.bucket.Allow() {
		return nil, errors.New("the issuer was asked a moment ago")
	}
	resp, err := p.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &issuerAnswer{resp.Body, maxIssuerAnswer}
	}
	return resp, err
}

// issuerAnswer ends with an error where it is too long.
type issuerAnswer struct {
	io.ReadCloser
	left int
}

func (a *issuerAnswer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if a.left -= n; a.left < 0 {
		return 0, errLongAnswer
	}
	return n, err
}

func readPublicKey(path string) (crypto.PublicKey, error) {
	b, err := wholefile.Read(path, wholefile.Most)
	if err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("oidc: %s: no PEM", path)
	}
	if block.Type == "CERTIFICATE" {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("oidc: %s: %w", path, err)
		}
		return cert.PublicKey, nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("oidc: %s: %w", path, err)
	}
	return key, nil
}

// Verify checks signature, issuer, audience and times, and reads the role.
func (v *jwtVerifier) Verify(ctx context.Context, bearer Secret) (Identity, error) {
	return v.verify(ctx, bearer, "")
}

// verify also checks the nonce, unless it is empty.
func (v *jwtVerifier) verify(ctx context.Context, bearer Secret, nonce string) (Identity, error) {
	t, err := v.verifier.Verify(ctx, bearer.Reveal())
	if err != nil {
		return Identity{}, fmt.Errorf("auth: %w", err)
	}
	if nonce != "" && subtle.ConstantTimeCompare([]byte(t.Nonce), []byte(nonce)) != 1 {
		return Identity{}, errors.New("auth: the JWT does not belong to this sign-in")
	}
	claims := map[string]any{}
	if err := t.Claims(&claims); err != nil {
		return Identity{}, fmt.Errorf("auth: %w", err)
	}
	id := Identity{Kind: ByJWT, ID: t.Subject, Name: t.Subject, Expires: t.Expiry}
	for _, claim := range []string{v.cfg.NameClaim, "email"} {
		if s, ok := claims[claim].(string); ok && s != "" {
			id.Name = s
			break
		}
	}
	for _, value := range texts(claims[v.cfg.RoleClaim]) {
		r := v.cfg.Roles[value]
		if v.cfg.Roles == nil {
			r, _ = ParseRole(value)
		}
		id.Role = max(id.Role, r)
	}
	if id.Role == Nobody {
		return Identity{}, ErrNoRole
	}
	if v.cfg.NamespaceClaim != "" {
		id.Namespaces = texts(claims[v.cfg.NamespaceClaim])
		if len(id.Namespaces) == 0 {
			return Identity{}, errors.New("auth: the JWT gives no namespace")
		}
	}
	if v.cfg.KindClaim != "" {
		id.Kinds = texts(claims[v.cfg.KindClaim])
		if len(id.Kinds) == 0 {
			return Identity{}, errors.New("auth: the JWT gives no kind of task")
		}
		if err := checkKinds(id.Kinds); err != nil {
			return Identity{}, fmt.Errorf("auth: the JWT: %w", err)
		}
	}
	return id, nil
}

// texts reads a claim that is a text or a list of texts.
func texts(claim any) []string {
	switch c := claim.(type) {
	case string:
		return []string{c}
	case []any:
		var out []string
		for _, v := range c {
			if s, ok := v.(string); ok && s != "" && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
