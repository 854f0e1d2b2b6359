package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// MaxSessionLife is the longest configurable duration of sessions.
const MaxSessionLife = 30 * 24 * time.Hour

// Session is a signed-in person: what a cookie stands for.
type Session struct {
	ID      string   // no secret
	Who     Identity // at the time of the sign-in
	Expires time.Time
}

// Sessions finds sessions. It is safe for concurrent use.
type Sessions interface {
	// Find returns the session for a cookie's value; it may have expired. The error is one
	// of SessionExpired or SessionEnded, or says that the sessions cannot be read now.
	Find(ctx context.Context, value Secret) (Session, error)
	// Has reports whether the session with this id has not ended.
	Has(id string) bool
}

// Reasons why credentials are refused, which an answer names beside the status
// Unauthenticated.
const (
	ReasonMissing = "credentials_missing" // no credentials
	ReasonBad     = "credentials_bad"     // unknown, malformed, expired or revoked
	ReasonExpired = "session_expired"     // the session has expired
	ReasonEnded   = "session_ended"       // signed out, or the credentials of the sign-in were revoked
)

// ReasonForeign is the reason for refusing a request that has a session's cookie but does
// not come from a page of this server. Its status is PermissionDenied.
const ReasonForeign = "foreign_request"

// SessionExpired returns the error for a session that has expired.
func SessionExpired() error {
	return unauthenticated(ReasonExpired, "the session has expired: sign in again")
}

// SessionEnded returns the error for a session that no longer exists.
func SessionEnded() error {
	return unauthenticated(ReasonEnded, "the session has ended: sign in again")
}

// reasonDomain marks the details of errors that are ours.
const reasonDomain = "rota"

// ForeignRequest returns the error of a refused request with the reason ReasonForeign. The
// text is for people.
func ForeignRequest(text string) error {
	return withReason(codes.PermissionDenied, ReasonForeign, text)
}

func unauthenticated(reason, message string) error {
	return withReason(codes.Unauthenticated, reason, message)
}

func withReason(code codes.Code, reason, message string) error {
	st := status.New(code, message)
	detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: reasonDomain})
	if err != nil { // it always marshals
		return st.Err()
	}
	return detailed.Err()
}

// Reason returns the reason that an error names, or the empty string.
func Reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == reasonDomain {
			return info.GetReason()
		}
	}
	return ""
}

// SessionKey is the metadata key in which the HTTP side passes the value of a browser's
// cookie on within the process. It is ignored if it comes from anywhere else.
const SessionKey = "rota-session"

type sessionKey struct{}

// cookie is what a request brings of a session.
type cookie struct {
	value   Secret
	foreign string // why it is taken for one that a page of somebody else has sent
}

// WithSession returns a context for a request that has a session's cookie. If foreign is
// not empty, it says why the request may come from a page of another server, and the
// request is refused.
func WithSession(ctx context.Context, value Secret, foreign string) context.Context {
	return context.WithValue(ctx, sessionKey{}, cookie{value, foreign})
}

// sessionOf is the cookie that a call is made with.
func sessionOf(ctx context.Context) (cookie, bool) {
	if c, ok := ctx.Value(sessionKey{}).(cookie); ok {
		return c, true
	}
	if !within(ctx) {
		return cookie{}, false
	}
	values := metadata.ValueFromIncomingContext(ctx, SessionKey)
	if len(values) != 1 {
		return cookie{}, false
	}
	return cookie{value: Secret(values[0])}, true
}

// signedIn is who has signed in to the session of a cookie.
func (a *Authenticator) signedIn(ctx context.Context, c cookie) (Identity, error) {
	switch {
	case a.Sessions == nil:
		return Identity{}, SessionEnded()
	case c.foreign != "":
		return Identity{}, ForeignRequest(c.foreign)
	}
	s, err := a.Sessions.Find(ctx, c.value)
	if err != nil {
		return Identity{}, err
	}
	return a.SignedIn(s)
}

// SignedIn returns the identity for a session, as its credentials are now: a session allows
// nothing that they would not allow themselves.
func (a *Authenticator) SignedIn(s Session) (Identity, error) {
	now := a.now()
	if !now.Before(s.Expires) {
		return Identity{}, SessionExpired()
	}
	who := s.Who
	if !who.Expires.IsZero() && !now.Before(who.Expires) {
		return Identity{}, SessionExpired()
	}
	switch who.Kind {
	case ByToken:
		if a.Tokens == nil {
			return Identity{}, SessionEnded()
		}
		t, ok := a.Tokens.Get(who.ID)
		if !ok || t.ended(now) != nil {
			return Identity{}, SessionEnded()
		}
		who = t.identity()
	case ByClient:
		if len(who.Chain) == 0 || a.Clients == nil {
			return Identity{}, SessionEnded()
		}
		state := tls.ConnectionState{PeerCertificates: who.Chain, VerifiedChains: [][]*x509.Certificate{who.Chain}}
		if a.Verify != nil && a.Verify(state) != nil {
			return Identity{}, SessionEnded()
		}
		if who.Name, who.Role = a.Clients(who.Chain[0]); who.Role == Nobody {
			return Identity{}, SessionEnded()
		}
	case ByJWT:
	default:
		return Identity{}, SessionEnded()
	}
	who.Session = s.ID
	if who.Expires.IsZero() || s.Expires.Before(who.Expires) {
		who.Expires = s.Expires
	}
	who.valid = func() error {
		if !a.Sessions.Has(s.ID) {
			return SessionEnded()
		}
		_, err := a.SignedIn(s)
		return err
	}
	return who, nil
}
