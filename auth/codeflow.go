package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/text"
)

// CallbackPath is the end of the URL to which an issuer redirects browsers.
const CallbackPath = "/v1/signin/oidc/callback"

// CodeFlowConfig configures the sign-in of people at the issuer of JWTs.
type CodeFlowConfig struct {
	// ClientID is the name of this cluster at the issuer. Secret may be empty: PKCE is
	// always used.
	ClientID string
	Secret   Secret
	// RedirectURL is the URL to which the issuer redirects browsers: the console's URL
	// followed by CallbackPath.
	RedirectURL string
}

// CodeFlow signs people in at an issuer by the authorization code flow of OpenID Connect
// with PKCE (RFC 7636). Their ID tokens are treated like JWTs: the same claims give the
// same role, or none. It keeps no state: the browser keeps what is needed when it returns.
type CodeFlow struct {
	verifier *jwtVerifier
	oauth    oauth2.Config
	client   *http.Client
	issuer   string
	console  string
}

// Pending is the state of a sign-in at an issuer.
type Pending struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"` // of PKCE
	Return   string `json:"r"` // the path of the console to open afterwards
}

// How often an issuer is asked about people who come back from it.
const (
	exchangeEvery = 100 * time.Millisecond
	exchangeBurst = 50
)

// NewCodeFlow returns the flow for the issuer in c. A Verifier that NewJWT made from the
// same configuration accepts its tokens too. It requests the issuer's discovery document.
// Its error is a *rota.FieldError, or says what the issuer answered.
func NewCodeFlow(ctx context.Context, c JWTConfig, f CodeFlowConfig) (*CodeFlow, error) {
	if f.ClientID == "" {
		return nil, &rota.FieldError{Field: "oidc.client_id", Value: "", Want: "this cluster's client ID at the issuer; it is missing"}
	}
	if err := CheckRedirectURL(f.RedirectURL); err != nil {
		return nil, err
	}
	c.Audience = f.ClientID // of ID tokens; that of other JWTs may be another
	c.Keys = nil
	v, provider, err := newJWT(ctx, c)
	if err != nil {
		return nil, err
	}
	// Browsers are sent to the first, and the second is sent the secret.
	for _, end := range []string{provider.Endpoint().AuthURL, provider.Endpoint().TokenURL} {
		at, err := url.Parse(end)
		if err == nil {
			err = checkIssuerURL(at)
		}
		if err != nil {
			return nil, fmt.Errorf("oidc: %w", err)
		}
	}
	client := *cmp.Or(c.Client, &http.Client{Timeout: issuerTimeout})
	client.Transport = limitedTransport(client.Transport, exchangeEvery, exchangeBurst)
	return &CodeFlow{
		verifier: v, client: &client, issuer: c.Issuer, console: strings.TrimSuffix(f.RedirectURL, CallbackPath),
		oauth: oauth2.Config{
			ClientID: f.ClientID, ClientSecret: f.Secret.Reveal(), RedirectURL: f.RedirectURL, Endpoint: provider.Endpoint(),
			Scopes: []string{oidc.ScopeOpenID, "profile", "email"},
		},
	}, nil
}

// CheckRedirectURL returns a *rota.FieldError unless an issuer may redirect browsers to s:
// over TLS or to this machine, and to CallbackPath below the console.
func CheckRedirectURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Host)) ||
		!strings.HasSuffix(s, CallbackPath) || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return &rota.FieldError{Field: "oidc.redirect_url", Value: address.Text(s), Want: "the console's address, https://..., and " + CallbackPath}
	}
	return nil
}

// Issuer returns the issuer at which people sign in.
func (f *CodeFlow) Issuer() string { return f.issuer }

// Console returns the URL of the console, without a trailing slash.
func (f *CodeFlow) Console() string { return f.console }

// Begin starts a sign-in: the browser goes to address and keeps p.
func (f *CodeFlow) Begin(back string) (address string, p Pending) {
	p = Pending{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Return: back}
	return f.oauth.AuthCodeURL(p.State, oidc.Nonce(p.Nonce), oauth2.S256ChallengeOption(p.Verifier)), p
}

// ErrIssuer means that the issuer did not identify the person: it does not answer, or
// refuses the code.
var ErrIssuer = errors.New("auth: the issuer refuses the caller")

// ErrNoRole means that the identity is proven but has no role here.
var ErrNoRole = errors.New("auth: the JWT gives no role")

// Finish returns the identity of a person whom the issuer sent back with the code and the
// state.
func (f *CodeFlow) Finish(ctx context.Context, p Pending, state, code string) (Identity, error) {
	if p.State == "" || subtle.ConstantTimeCompare([]byte(p.State), []byte(state)) != 1 || p.Verifier == "" || p.Nonce == "" || code == "" {
		return Identity{}, fmt.Errorf("%w: it does not belong to this sign-in", ErrIssuer)
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, f.client), issuerTimeout)
	defer cancel()
	token, err := f.oauth.Exchange(ctx, code, oauth2.VerifierOption(p.Verifier))
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %s", ErrIssuer, refusedExchange(err))
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return Identity{}, fmt.Errorf("%w: there is no ID token", ErrIssuer)
	}
	return f.verifier.verify(ctx, Secret(raw), p.Nonce)
}

// refusedExchange is what an issuer's refusal may be said of: the texts of package
// oauth2 have the whole answer.
func refusedExchange(err error) string {
	if refused := (*oauth2.RetrieveError)(nil); errors.As(err, &refused) {
		return text.Clip(cmp.Or(refused.ErrorCode, refused.Response.Status), text.Short)
	}
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		return text.Clip(failed.Err.Error(), text.Short)
	}
	return "the answer is unreadable"
}

func random() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}
