package auth

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kind is how an identity was proven.
type Kind string

// The kinds of identity.
const (
	Anonymous Kind = "anonymous" // not at all
	Local     Kind = "local"     // the caller is on this machine, and no credentials are required
	ByToken   Kind = "token"
	ByJWT     Kind = "jwt"
	ByCert    Kind = "certificate" // a worker or scheduler of the cluster
	ByClient  Kind = "client"      // a person or program with a client certificate
)

// Identity is the identity of a caller.
type Identity struct {
	Kind Kind
	ID   string // of the token, the subject of a JWT, a certificate's serial number
	Name string // for people and the audit
	Role Role
	// Worker is the name of the worker to which a certificate is bound.
	Worker string
	// Scheduler means that the certificate is a scheduler's.
	Scheduler  bool
	Namespaces []string // empty: all
	// Kinds are patterns of the kinds of task that it may declare, see matchKind.
	// Empty: all that its role may.
	Kinds   []string
	Expires time.Time // of the token, JWT, certificate or session; zero: it does not end
	// Session is the id of a browser's session, which is no secret; empty without one.
	Session string
	// Chain is a client certificate followed by the certificates that signed it.
	Chain []*x509.Certificate

	valid func() error // whether the certificate or session is good still; nil: it is
}

// In reports whether the identity is valid in the namespace.
func (i Identity) In(namespace string) bool {
	return len(i.Namespaces) == 0 || slices.Contains(i.Namespaces, namespace)
}

type identityKey struct{}

// With returns a context that carries the identity.
func With(ctx context.Context, i Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, i)
}

// From returns the identity in ctx; an Anonymous one, which may do nothing, if there is
// none.
func From(ctx context.Context) Identity {
	if i, ok := ctx.Value(identityKey{}).(Identity); ok {
		return i
	}
	return Identity{Kind: Anonymous, Name: string(Anonymous)}
}

// Inside returns a context for calls of this process itself, on nobody's behalf. They may
// do everything.
func Inside(ctx context.Context) context.Context {
	return With(ctx, Identity{Kind: Local, ID: "inside", Name: "this process", Role: Admin})
}

// IsWorker returns nil if the caller may act as the worker of this name: its certificate is
// bound to the name, or the caller is on this machine and no credentials are required.
func IsWorker(ctx context.Context, name string) error {
	who := From(ctx)
	if who.Worker == name && name != "" || who.Worker == "" && who.Kind == Local {
		return nil
	}
	return status.Errorf(codes.PermissionDenied, "the certificate of %s is not issued for worker %q", who.Name, name)
}
