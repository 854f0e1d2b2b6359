package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// Verifier verifies bearer tokens that are not ours: JWTs.
type Verifier interface {
	// Verify returns the identity of the bearer.
	Verify(ctx context.Context, bearer Secret) (Identity, error)
}

// Authenticator identifies callers.
type Authenticator struct {
	// Tokens are the known tokens. Nil means none.
	Tokens *Tokens
	// JWT verifies other bearer tokens. Nil means that they are refused.
	JWT Verifier
	// Names returns the worker, or the scheduler, of a verified client certificate. Nil
	// means that certificates identify nobody.
	Names func(*x509.Certificate) (worker string, scheduler bool)
	// Clients returns the name and role for a verified client certificate that Names does
	// not know. Nil, or the role Nobody, means that such a certificate allows nothing.
	Clients func(*x509.Certificate) (name string, role Role)
	// Sessions finds sessions. Nil means that there are none.
	Sessions Sessions
	// Verify returns nil while a client certificate that a handshake accepted is still
	// valid: it has neither expired nor been revoked. A nil function means that it stays
	// valid as long as its connection; see pki.Source.Verify.
	Verify func(tls.ConnectionState) error
	// OpenLocally makes callers from loopback and from within the process admins without
	// credentials. Use it only if the scheduler listens only on loopback.
	OpenLocally bool
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// errCredentials is what a caller is told of credentials that are no good: not
// which part of them.
var errCredentials = unauthenticated(ReasonBad, "invalid credentials: unknown, expired or revoked")

// Identify returns the identity of a caller. Its error has the status Unauthenticated.
// Invalid bearer credentials are never ignored in favour of others.
func (a *Authenticator) Identify(ctx context.Context) (Identity, error) {
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 0 {
		if len(values) > 1 {
			return Identity{}, unauthenticated(ReasonBad, "more than one authorization")
		}
		return a.Bearer(ctx, values[0])
	}
	if c, ok := sessionOf(ctx); ok && !a.OpenLocally {
		return a.signedIn(ctx, c)
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return a.local(), nil // within the process
	}
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 && a.Names != nil {
		leaf := info.State.VerifiedChains[0][0]
		valid := func() error {
			if a.Verify != nil && a.Verify(info.State) != nil || a.now().After(leaf.NotAfter) {
				return errCredentials
			}
			return nil
		}
		if err := valid(); err != nil {
			return Identity{}, err
		}
		if worker, scheduler := a.Names(leaf); worker != "" || scheduler {
			id := Identity{Kind: ByCert, ID: leaf.SerialNumber.Text(16), Name: worker, Worker: worker, Scheduler: scheduler, Expires: leaf.NotAfter, valid: valid}
			if id.Name == "" {
				id.Name = leaf.Subject.CommonName
			}
			return id, nil
		}
		if a.Clients != nil {
			if name, role := a.Clients(leaf); role != Nobody {
				return Identity{
					Kind: ByClient, ID: leaf.SerialNumber.Text(16), Name: name, Role: role, Expires: leaf.NotAfter,
					Chain: info.State.VerifiedChains[0], valid: valid,
				}, nil
			}
		}
	}
	if loopback(p.Addr) {
		return a.local(), nil
	}
	return From(context.Background()), nil
}

// Bearer returns the identity for the value of an Authorization header.
func (a *Authenticator) Bearer(ctx context.Context, header string) (Identity, error) {
	scheme, value, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return Identity{}, unauthenticated(ReasonBad, "authorization must be \"Bearer TOKEN\"")
	}
	bearer := Secret(strings.TrimSpace(value))
	if isToken(bearer) {
		if a.Tokens == nil {
			return Identity{}, errCredentials
		}
		t, err := a.Tokens.Find(bearer, a.now())
		switch {
		case errors.Is(err, ErrTokenShape):
			return Identity{}, unauthenticated(ReasonBad, err.Error())
		case err != nil:
			return Identity{}, errCredentials
		}
		return t.identity(), nil
	}
	if a.JWT == nil {
		return Identity{}, errCredentials
	}
	id, err := a.JWT.Verify(ctx, bearer)
	if err != nil {
		return Identity{}, errCredentials
	}
	return id, nil
}

// knows reports whether Identify can answer at once: it asks nobody but for the
// keys of what looks like a JWT.
func (a *Authenticator) knows(ctx context.Context) bool {
	if a.JWT == nil {
		return true
	}
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return true
	}
	_, value, _ := strings.Cut(values[0], " ")
	return isToken(Secret(strings.TrimSpace(value))) || strings.Count(value, ".") != 2
}

// Still returns nil if an identity that Identify returned before is still valid: its token
// or certificate has not been revoked or expired. Streams call it before each message;
// operations without messages call it repeatedly.
func (a *Authenticator) Still(who Identity) error {
	if who.Session != "" {
		return who.valid()
	}
	switch who.Kind {
	case Anonymous, Local:
	case ByToken:
		if t, ok := a.Tokens.Get(who.ID); !ok || t.ended(a.now()) != nil {
			return errCredentials
		}
	case ByJWT:
		if !who.Expires.IsZero() && !a.now().Before(who.Expires) {
			return errCredentials
		}
	case ByCert, ByClient:
		if who.valid != nil {
			return who.valid()
		}
	default:
		return errCredentials
	}
	return nil
}

func (a *Authenticator) local() Identity {
	if a.OpenLocally {
		return Identity{Kind: Local, ID: "local", Name: "local", Role: Admin}
	}
	return From(context.Background())
}

func (a *Authenticator) now() time.Time {
	if a.Now != nil {
		return a.Now()
	}
	return time.Now()
}

// loopback reports whether only this machine can be at addr.
func loopback(addr net.Addr) bool {
	switch addr := addr.(type) {
	case *net.TCPAddr:
		return addr.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	case nil:
		return false
	}
	return addr.Network() == "bufconn" || addr.Network() == "pipe"
}
