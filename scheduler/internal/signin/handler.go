package signin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/api/rest"
	"github.com/rota-project/rota/internal/origin"
	"github.com/rota-project/rota/internal/unread"
)

// Names, as of gRPC methods, of the routes.
const (
	WaysMethod    = "/rota.HTTP/SignInWays"
	SignInMethod  = "/rota.HTTP/SignIn"
	ByCodeMethod  = "/rota.HTTP/SignInByCode"
	ByOIDCMethod  = "/rota.HTTP/SignInByOIDC"
	SignOutMethod = "/rota.HTTP/SignOut"
	WhoAmIMethod  = "/rota.HTTP/WhoAmI"
)

// codeHeader is the header of a one-time code: no page of another origin can send
// it, and it is in no address.
const codeHeader = "Rota-Code"

// How often one address may fail to sign in. Then nobody is asked about its codes and
// answers of issuers; a token that is good is never refused for that.
const (
	failEvery = 2 * time.Second
	failBurst = 30
)

// Config says what a Handler needs. All but Flow must be set.
type Config struct {
	Keeper        *Keeper
	Guard         *auth.Guard
	Authenticator *auth.Authenticator
	// Admit decides about a request from its header; see rest.Config.
	Admit func(r *http.Request, method string) (context.Context, error)
	// Refused is told of whoever fails to sign in, after Admit let them ask.
	Refused func(r *http.Request)
	// Flow signs people in at an issuer. Nil: nobody.
	Flow *auth.CodeFlow
	// Offered says whether this scheduler can answer a method at all; those that it cannot
	// are not among what somebody may call. Nil: all.
	Offered func(method string) bool
	// Console is where the console is, as others reach it.
	Console string
	// Log is told why an issuer's answers were refused. Nil: nobody is.
	Log *slog.Logger
}

// Handler answers /signin, /v1/signin and what is below it, /v1/signout and
// /v1/whoami; docs/console.md describes them. It is the gRPC service SignIns, too.
type Handler struct {
	rotav1.UnimplementedSignInsServer
	cfg   Config
	fails *attempts // by address
	page  map[string]file
	now   func() time.Time
}

// NewHandler returns a handler. Its error can only be a fault of the build.
func NewHandler(c Config) (*Handler, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	files, err := pageFiles()
	if err != nil {
		return nil, err
	}
	return &Handler{cfg: c, fails: newAttempts(failEvery, failBurst), page: files, now: time.Now}, nil
}

// CreateSignInCode implements the gRPC method.
func (h *Handler) CreateSignInCode(ctx context.Context, _ *rotav1.CreateSignInCodeRequest) (*rotav1.SignInCode, error) {
	out := &rotav1.SignInCode{Console: h.cfg.Console}
	who := auth.From(ctx)
	if who.Kind == auth.Local {
		return out, nil // nobody has to sign in
	}
	code, ends, err := h.cfg.Keeper.makeCode(ctx, who)
	h.cfg.Guard.AuditSignIn(ctx, who, rotav1.SignIns_CreateSignInCode_FullMethodName, err)
	if err != nil {
		return nil, err
	}
	out.Code, out.Expires = code.Reveal(), timestamppb.New(ends)
	return out, nil
}

// ServeHTTP answers the routes. None of them reads a body.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	w.Header().Set("Cache-Control", "no-store")
	for _, to := range []struct {
		path, verb, method string
		serve              func(context.Context, http.ResponseWriter, *http.Request)
	}{
		{"/signin", http.MethodGet, WaysMethod, h.servePage},
		{"/signin.js", http.MethodGet, WaysMethod, h.servePage},
		{"/v1/signin", http.MethodGet, WaysMethod, h.serveWays},
		{"/v1/signin", http.MethodPost, SignInMethod, h.serveSignIn},
		{"/v1/signin/code", http.MethodPost, ByCodeMethod, h.serveCode},
		{"/v1/signin/oidc", http.MethodGet, ByOIDCMethod, h.serveOIDC},
		{"/v1/signin/oidc/callback", http.MethodGet, ByOIDCMethod, h.serveCallback},
		{"/v1/signout", http.MethodPost, SignOutMethod, h.serveSignOut},
		{"/v1/whoami", http.MethodGet, WhoAmIMethod, h.serveWhoAmI},
	} {
		if to.path != path || to.verb != r.Method && (to.verb != http.MethodGet || r.Method != http.MethodHead) {
			continue
		}
		if r.ContentLength != 0 {
			unread.Close(w, r)
		}
		ctx, err := h.cfg.Admit(r, to.method)
		if err == nil && to.verb == http.MethodPost && !isJSON(r) {
			err = errNotJSON
		}
		switch {
		case err == nil:
			to.serve(ctx, w, r)
		case to.method == SignInMethod && !h.fails.take(address(r), h.now()):
			tooOften(w)
		default:
			rest.WriteError(w, err)
		}
		return
	}
	switch path {
	case "/signin", "/signin.js", "/v1/signin", "/v1/signin/code", "/v1/signin/oidc", "/v1/signin/oidc/callback", "/v1/signout", "/v1/whoami":
		rest.NoSuchVerb(w, r)
	default:
		rest.WriteError(w, status.Error(codes.NotFound, "nothing is at "+path))
	}
}

// errNotJSON refuses what no page of another origin could send with another type
// without asking first.
var errNotJSON = status.Error(codes.InvalidArgument, "Content-Type: want application/json")

func isJSON(r *http.Request) bool {
	values := r.Header["Content-Type"]
	if len(values) != 1 {
		return false
	}
	kind, _, err := mime.ParseMediaType(values[0])
	return err == nil && kind == "application/json"
}

// Foreign says why a request with the cookie of a session may be one that a page of
// somebody else has made; empty if it is not.
func Foreign(r *http.Request) string {
	switch {
	case !origin.Own(origin.Of(r)):
		return "a session is valid only for pages of this server: the browser does not say that this request comes from one (Sec-Fetch-Site, Origin)"
	case r.Method != http.MethodGet && r.Method != http.MethodHead && !isJSON(r):
		return "with a session, a request that changes something needs Content-Type: application/json"
	}
	return ""
}

// tooOften answers whoever has failed too often.
func tooOften(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(int(failEvery/time.Second)))
	rest.WriteError(w, status.Error(codes.ResourceExhausted, "too many sign-ins from this address have failed: wait some seconds"))
}

// address is whom a failure is counted against: the address, or the network that one
// machine has of IPv6.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		if net, err := ip.Prefix(64); err == nil {
			return net.String()
		}
	}
	return ip.String()
}

// ways are how one can sign in.
type ways struct {
	// Needed is false where everybody on this machine is an admin.
	Needed bool `json:"needed"`
	// Ways are "token", "code", "certificate" and "oidc".
	Ways []string `json:"ways"`
	// Issuer is where "oidc" leads to; empty without.
	Issuer string `json:"issuer"`
}

func (h *Handler) serveWays(_ context.Context, w http.ResponseWriter, _ *http.Request) {
	out := ways{Needed: !h.cfg.Authenticator.OpenLocally, Ways: []string{}}
	if out.Needed {
		out.Ways = append(out.Ways, "token", "code")
		if h.cfg.Authenticator.Clients != nil {
			out.Ways = append(out.Ways, "certificate")
		}
		if h.cfg.Flow != nil {
			out.Ways, out.Issuer = append(out.Ways, "oidc"), h.cfg.Flow.Issuer()
		}
	}
	writeJSON(w, out)
}

// serveSignIn makes a session of a token, a JWT or a client certificate.
func (h *Handler) serveSignIn(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	who := auth.From(ctx)
	if who.Kind == auth.Local {
		h.writeWhoAmI(ctx, w)
		return
	}
	value, s, err := h.cfg.Keeper.begin(ctx, who)
	if err != nil {
		auth.Audit(ctx, "", err)
		rest.WriteError(w, err)
		return
	}
	h.signedIn(ctx, w, r, SignInMethod, value, s)
}

// serveCode makes a session of a one-time code.
func (h *Handler) serveCode(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	values := r.Header[codeHeader]
	if len(values) != 1 {
		rest.WriteError(w, convert.FieldStatus(codeHeader, codeHeader+": want the code once in this header"))
		return
	}
	if !h.fails.left(address(r), h.now()) {
		h.cfg.Refused(r)
		tooOften(w)
		return
	}
	value, s, err := h.cfg.Keeper.redeem(ctx, auth.Secret(values[0]), h.good)
	if err != nil {
		h.refuse(ctx, r, ByCodeMethod, err)
		rest.WriteError(w, err)
		return
	}
	h.signedIn(ctx, w, r, ByCodeMethod, value, s)
}

// good is nil if a session of this identity would be good now.
func (h *Handler) good(who auth.Identity) error {
	_, err := h.cfg.Authenticator.SignedIn(auth.Session{Who: who, Expires: h.now().Add(codeLife)})
	return err
}

// refuse notes a sign-in that has failed after its request was let in.
func (h *Handler) refuse(ctx context.Context, r *http.Request, method string, err error) {
	if status.Code(err) == codes.Unavailable {
		return // it says nothing about whoever asks
	}
	h.fails.take(address(r), h.now())
	h.cfg.Refused(r)
	h.cfg.Guard.AuditSignIn(ctx, auth.From(ctx), method, err)
}

// signedIn gives the browser its cookie, and says who it is now. A session that it
// had before ends: none is ever taken over.
func (h *Handler) signedIn(ctx context.Context, w http.ResponseWriter, r *http.Request, method string, value auth.Secret, s auth.Session) {
	who, err := h.begun(ctx, w, r, method, value, s)
	if err != nil {
		rest.WriteError(w, err)
		return
	}
	h.writeWhoAmI(auth.With(ctx, who), w)
}

func (h *Handler) begun(ctx context.Context, w http.ResponseWriter, r *http.Request, method string, value auth.Secret, s auth.Session) (auth.Identity, error) {
	who, err := h.cfg.Authenticator.SignedIn(s)
	if err != nil {
		return who, errors.Join(err, h.cfg.Keeper.end(ctx, s.ID))
	}
	if before, ok := h.of(r); ok {
		_ = h.cfg.Keeper.end(ctx, before) // it ends by itself otherwise
	}
	h.setCookie(w, r, value, s.Expires)
	h.cfg.Guard.AuditSignIn(ctx, who, method, nil)
	return who, nil
}

// serveSignOut ends the session of the browser, if it has one.
func (h *Handler) serveSignOut(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	if id, ok := h.of(r); ok {
		if text := Foreign(r); text != "" {
			rest.WriteError(w, auth.ForeignRequest(text))
			return
		}
		if s, ok := h.cfg.Keeper.known(id); ok {
			if err := h.cfg.Keeper.end(ctx, id); err != nil {
				rest.WriteError(w, err)
				return
			}
			h.cfg.Guard.AuditSignIn(ctx, s.Who, SignOutMethod, nil)
		}
	}
	h.setCookie(w, r, "", time.Time{})
	writeJSON(w, struct{}{})
}

// of is the id of the session whose cookie a request brings.
func (h *Handler) of(r *http.Request) (id string, ok bool) {
	value := h.Cookie(r)
	if value == "" {
		return "", false
	}
	id, _, ok = split(value)
	return id, ok
}

// whoami is who asks, and what they may.
type whoami struct {
	Name string `json:"name"`
	Role string `json:"role"`
	// Kind is how they proved themselves: "token", "jwt", "client", or "local" where
	// nobody has to.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	// Kinds are patterns of kinds of task that the caller is limited to; none for all.
	Kinds []string `json:"kinds"`
	// Session says that they are signed in, rather than showing a token each time.
	Session bool `json:"session"`
	// Expires is when that ends; null if it does not. Now is this scheduler's clock.
	Expires *time.Time `json:"expires"`
	Now     time.Time  `json:"now"`
	// May are the operations of openapi.json that they may call.
	May []string `json:"may"`
}

func (h *Handler) serveWhoAmI(ctx context.Context, w http.ResponseWriter, _ *http.Request) {
	h.writeWhoAmI(ctx, w)
}

func (h *Handler) writeWhoAmI(ctx context.Context, w http.ResponseWriter) {
	who := auth.From(ctx)
	out := whoami{
		Name: who.Name, Role: who.Role.String(), Kind: string(who.Kind), Namespace: h.cfg.Guard.Namespace(), Kinds: []string{},
		Session: who.Session != "", Now: h.now().UTC(), May: []string{},
	}
	out.Kinds = append(out.Kinds, who.Kinds...)
	if !who.Expires.IsZero() {
		ends := who.Expires.UTC()
		out.Expires = &ends
	}
	for _, method := range h.cfg.Guard.Allowed(ctx) {
		if op, ok := rest.Operation(method); ok && (h.cfg.Offered == nil || h.cfg.Offered(method)) {
			out.May = append(out.May, op)
		}
	}
	writeJSON(w, out)
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil { // it always marshals
		rest.WriteError(w, status.Error(codes.Internal, err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// Cookie is the value of the cookie of a session that a request brings; empty
// without one. Of several none is taken: somebody else may have set one of them.
func (h *Handler) Cookie(r *http.Request) auth.Secret {
	values := r.CookiesNamed(h.cookieName(r.TLS != nil))
	switch len(values) {
	case 0:
		return ""
	case 1:
		return auth.Secret(values[0].Value)
	}
	return "ambiguous"
}

// cookieName is the name of the cookie of a session. Over TLS browsers keep others
// from setting one of this name: it is of this host, of all its paths, and secure.
// The namespace keeps clusters apart that share a host: cookies know no ports.
func (h *Handler) cookieName(tls bool) string {
	name := "rota-" + h.cfg.Guard.Namespace()
	if tls {
		return "__Host-" + name
	}
	return name
}

// setCookie sets the cookie of a session; without a value it removes it.
func (h *Handler) setCookie(w http.ResponseWriter, r *http.Request, value auth.Secret, ends time.Time) {
	c := &http.Cookie{ //nolint:gosec // without TLS, which only loopback is for, a secure one would not come back
		Name: h.cookieName(r.TLS != nil), Value: value.Reveal(), Path: "/", HttpOnly: true, Secure: secure(r), SameSite: http.SameSiteStrictMode, MaxAge: -1,
	}
	if value != "" {
		c.MaxAge = max(int(ends.Sub(h.now())/time.Second), 1)
	}
	http.SetCookie(w, c)
}

// secure reports whether the browser reaches this server over TLS, which may end in
// front of it.
func secure(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(strings.ToLower(r.Header.Get("Origin")), "https://")
}
