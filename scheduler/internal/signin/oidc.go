package signin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/rest"
)

// pendingLife is how long somebody may take to sign in at the issuer.
const pendingLife = 10 * time.Minute

// maxReturn is the most bytes of a path to go on with.
const maxReturn = 2 << 10

// Errors that the page of the sign-in is told of, by the parameter error.
const (
	errorIssuer = "issuer"  // it does not vouch for the caller, or does not answer
	errorRole   = "role"    // the caller has no role here
	errorAnswer = "answer"  // this is not the answer to what the browser asked
	errorOften  = "often"   // too many sign-ins have failed
	errorSignIn = "session" // no session could be made
)

// serveOIDC sends the browser to the issuer.
func (h *Handler) serveOIDC(_ context.Context, w http.ResponseWriter, r *http.Request) {
	if h.cfg.Flow == nil {
		rest.WriteError(w, status.Error(codes.NotFound, "no issuer is configured: --oidc-client-id"))
		return
	}
	back := r.URL.Query().Get("return")
	if back == "" {
		back = "/"
	}
	if !local(back) {
		rest.WriteError(w, status.Error(codes.InvalidArgument, "return: want a path of the console, such as /tasks"))
		return
	}
	address, pending := h.cfg.Flow.Begin(back)
	text, err := json.Marshal(pending)
	if err != nil { // it always marshals
		rest.WriteError(w, status.Error(codes.Internal, err.Error()))
		return
	}
	h.setPending(w, r, base64.RawURLEncoding.EncodeToString(text))
	w.Header().Set("Location", address)
	w.WriteHeader(http.StatusSeeOther)
}

// local reports whether a browser that is sent to a path below the console's address
// stays there, whatever it makes of the path.
func local(path string) bool {
	if len(path) > maxReturn || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") ||
		strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f || r > 0x7e }) {
		return false
	}
	u, err := url.Parse(path)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil
}

// serveCallback is where the browser comes back to from the issuer.
func (h *Handler) serveCallback(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	if h.cfg.Flow == nil {
		rest.WriteError(w, status.Error(codes.NotFound, "no issuer is configured: --oidc-client-id"))
		return
	}
	pending, ok := h.pending(r)
	h.setPending(w, r, "")
	if !h.fails.left(address(r), h.now()) {
		h.back(w, r, "/signin?error="+errorOften)
		return
	}
	what, err := errorAnswer, status.Error(codes.Unauthenticated, "no sign-in was started in this browser, or it took too long")
	if ok {
		what, err = h.finish(ctx, w, r, pending)
	}
	if err == nil {
		h.back(w, r, pending.Return)
		return
	}
	h.refuse(ctx, r, ByOIDCMethod, err)
	h.back(w, r, "/signin?error="+what)
}

func (h *Handler) finish(ctx context.Context, w http.ResponseWriter, r *http.Request, pending auth.Pending) (what string, err error) {
	query := r.URL.Query()
	if said := query.Get("error"); said != "" {
		return errorIssuer, status.Error(codes.Unauthenticated, "the issuer refused")
	}
	who, err := h.cfg.Flow.Finish(ctx, pending, query.Get("state"), query.Get("code"))
	switch {
	case errors.Is(err, auth.ErrNoRole):
		return errorRole, status.Error(codes.PermissionDenied, err.Error())
	case err != nil:
		h.cfg.Log.Warn("sign-in failed", "issuer", h.cfg.Flow.Issuer(), "error", err)
		return errorIssuer, status.Error(codes.Unauthenticated, err.Error())
	}
	if !who.In(h.cfg.Guard.Namespace()) {
		return errorRole, status.Error(codes.PermissionDenied, "the JWT is not valid in this namespace")
	}
	value, s, err := h.cfg.Keeper.begin(ctx, who)
	if err == nil {
		_, err = h.begun(ctx, w, r, ByOIDCMethod, value, s)
	}
	return errorSignIn, err
}

// back sends the browser to a path of the console. Where that is the configuration
// says, and never the request.
func (h *Handler) back(w http.ResponseWriter, _ *http.Request, path string) {
	if !local(path) {
		path = "/"
	}
	w.Header().Set("Location", h.cfg.Flow.Console()+path)
	w.WriteHeader(http.StatusSeeOther)
}

// pendingName is the name of the cookie that keeps what is pending while the browser
// is at the issuer. It comes back from another site, so the cookie is not a strict one.
func (h *Handler) pendingName(tls bool) string { return h.cookieName(tls) + "-oidc" }

func (h *Handler) setPending(w http.ResponseWriter, r *http.Request, value string) {
	c := &http.Cookie{ //nolint:gosec // as that of the session
		Name: h.pendingName(r.TLS != nil), Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(pendingLife / time.Second),
		Secure: r.TLS != nil || strings.HasPrefix(h.cfg.Flow.Console(), "https://"),
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// pending is what the browser has kept.
func (h *Handler) pending(r *http.Request) (p auth.Pending, ok bool) {
	values := r.CookiesNamed(h.pendingName(r.TLS != nil))
	if len(values) != 1 {
		return p, false
	}
	text, err := base64.RawURLEncoding.DecodeString(values[0].Value)
	if err != nil || json.Unmarshal(text, &p) != nil {
		return p, false
	}
	return p, true
}
