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

// CallbackPath is what the address ends with that an issuer sends browsers back to.
const CallbackPath = "/v1/signin/oidc/callback"

// CodeFlowConfig says how people sign in at the issuer of JWTs.
type CodeFlowConfig struct {
	// ClientID is what the issuer knows this cluster by. Secret may be empty: there is
	// PKCE in any case.
	ClientID string
	Secret   Secret
	// RedirectURL is where the issuer sends browsers back to: the console's address
	// and CallbackPath.
	RedirectURL string
}

// CodeFlow has people sign in at an issuer, by the authorization code flow of OpenID
// Connect with PKCE (RFC 7636). What their ID tokens are good for is what JWTs are:
// the same claims give the same role, and none gives none. It keeps nothing: what has
// to be known when a browser comes back, the browser keeps.
type CodeFlow struct {
	verifier *jwtVerifier
	oauth    oauth2.Config
	client   *http.Client
	issuer   string
	console  string
}

// Pending is a sign-in that the issuer has to decide about.
type Pending struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"` // of PKCE
	Return   string `json:"r"` // the path of the console to go on with
}

// How often an issuer is asked about people who come back from it.
const (
	exchangeEvery = 100 * time.Millisecond
	exchangeBurst = 50
)

// NewCodeFlow returns the flow at the issuer that c names, whose JWTs a Verifier that
// NewJWT made from the same configuration takes too. It asks the issuer where it has
// what. Its error is a *rota.FieldError, or says what the issuer answered.
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

// CheckRedirectURL returns a *rota.FieldError unless an issuer may send browsers back
// to s: over TLS or to this machine, to CallbackPath below the console.
func CheckRedirectURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Host)) ||
		!strings.HasSuffix(s, CallbackPath) || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return &rota.FieldError{Field: "oidc.redirect_url", Value: address.Text(s), Want: "the console's address, https://..., and " + CallbackPath}
	}
	return nil
}

// Issuer is where people sign in.
func (f *CodeFlow) Issuer() string { return f.issuer }

// Console is the address of the console, without a slash at its end.
func (f *CodeFlow) Console() string { return f.console }

// Begin begins a sign-in: the browser goes to address, and keeps what is pending.
func (f *CodeFlow) Begin(back string) (address string, p Pending) {
	p = Pending{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Return: back}
	return f.oauth.AuthCodeURL(p.State, oidc.Nonce(p.Nonce), oauth2.S256ChallengeOption(p.Verifier)), p
}

// ErrIssuer says that the issuer does not say who somebody is: it does not answer, or
// refuses the code.
var ErrIssuer = errors.New("auth: the issuer refuses the caller")

// ErrNoRole says that somebody is who they are, and has no role here.
var ErrNoRole = errors.New("auth: the JWT gives no role")

// Finish is who comes back from the issuer with the code and the state.
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
