package auth

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/internal/recheck"
)

// NamespaceKey is the metadata in which a caller may name the namespace that it
// means; it must be the server's.
const NamespaceKey = "rota-namespace"

// DefaultNamespace is the one that a server serves unless it says otherwise.
const DefaultNamespace = "default"

// Guard stands in front of all methods of a gRPC server.
type Guard struct {
	who       *Authenticator
	policy    Policy
	namespace string
	limiter   *limiter
	trail     *trail
	lasting   recheck.Set // what goes on for as long as its credentials
}

// GuardConfig is what a Guard needs. Authenticator and Policy must be set.
type GuardConfig struct {
	Authenticator *Authenticator
	Policy        Policy
	// Namespace that this server serves. Empty means DefaultNamespace.
	Namespace string
	Limits    Limits
	// Audit gets one line for each call that changes something and each that
	// was refused. Nil: it goes nowhere.
	Audit *slog.Logger
}

// NewGuard returns a guard.
func NewGuard(c GuardConfig) *Guard {
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if c.Audit == nil {
		c.Audit = slog.New(slog.DiscardHandler)
	}
	if c.Authenticator == nil {
		c.Authenticator = &Authenticator{}
	}
	return &Guard{who: c.Authenticator, policy: c.Policy, namespace: c.Namespace, limiter: newLimiter(c.Limits), trail: newTrail(c.Audit)}
}

// Admit decides about one call. On nil the context carries the identity.
func (g *Guard) Admit(ctx context.Context, method string) (context.Context, Identity, error) {
	who, err := g.who.Identify(ctx)
	if err != nil {
		return ctx, From(ctx), err
	}
	if ns := metadata.ValueFromIncomingContext(ctx, NamespaceKey); len(ns) > 0 && ns[0] != g.namespace {
		return ctx, who, status.Errorf(codes.NotFound, "this cluster is in namespace %q", g.namespace)
	}
	if err := g.policy.Allow(method, who, g.namespace); err != nil {
		return ctx, who, err
	}
	if g.limited(ctx, who, method) && !g.limiter.call(account(ctx, who), time.Now()) {
		return ctx, who, status.Error(codes.ResourceExhausted, "too many calls per second with these credentials")
	}
	return context.WithValue(With(ctx, who), auditorKey{}, auditor{g.trail, who, method, g.policy[method].Writes}), who, nil
}

// limited reports whether rates apply: not to the certificates of workers and
// schedulers, which have things to say, nor to who is trusted with everything
// anyway, which is where a whole cluster on one machine asks from; not to what is
// marked as Unrated; nor to what the HTTP side passes on, which it has counted.
func (g *Guard) limited(ctx context.Context, who Identity, method string) bool {
	return who.Kind != Local && who.Kind != ByCert && !g.policy[method].Unrated && !within(ctx)
}

// Knows reports whether Admit can decide about a call at once, without asking an
// issuer for its keys.
func (g *Guard) Knows(ctx context.Context) bool { return g.who.knows(ctx) }

// Allowed lists the methods that the caller of ctx may call, in order.
func (g *Guard) Allowed(ctx context.Context) []string {
	return g.policy.Allowed(From(ctx), g.namespace)
}

// Public reports whether a method is open to anybody.
func (g *Guard) Public(method string) bool { return g.policy[method].Public }

// AuditSignIn writes a line of the audit about somebody who has signed in or out, or
// may not, by a method that is open to anybody.
func (g *Guard) AuditSignIn(ctx context.Context, who Identity, method string, err error) {
	g.trail.write(ctx, who, method, "", err)
}

// Namespace is the one that is served.
func (g *Guard) Namespace() string { return g.namespace }

// Enter decides about a call before anything but its headers was read, and lets it
// in: the context carries its Pass, which the caller ends. What it refuses is
// audited; the pass then only says who it was. A call that was let in before keeps
// its pass.
func (g *Guard) Enter(ctx context.Context, method string) (context.Context, *Pass, error) {
	p := PassFrom(ctx)
	if p != nil {
		return ctx, p, nil
	}
	ctx, who, err := g.Admit(ctx, method)
	if err == nil {
		var ok bool
		if p, ok = g.limiter.enter(account(ctx, who), who, g.limited(ctx, who, method), time.Now()); !ok {
			err = status.Errorf(codes.ResourceExhausted, "more than %d concurrent calls with these credentials", g.limiter.limits.Streams)
		}
	}
	if err != nil {
		g.trail.write(ctx, who, method, "", err)
		return ctx, &Pass{who: who, ended: true}, err
	}
	return context.WithValue(ctx, passKey{}, p), p, nil
}

// Connected returns a pass for what a connection holds beside its calls, of whoever
// its certificate says. Its end ends it.
func (g *Guard) Connected(ctx context.Context) (*Pass, error) {
	who, err := g.who.Identify(ctx)
	if err != nil {
		return nil, err
	}
	p, _ := g.limiter.enter(account(ctx, who), who, false, time.Now())
	return p, nil
}

// Waiting returns a pass for what waits here until somebody reads it, as messages of
// programs do. It is paid for apart from requests, so that neither uses up the other's
// bytes. Its end ends it.
func (g *Guard) Waiting(ctx context.Context, who Identity) *Pass {
	p, _ := g.limiter.enter("waiting/"+account(ctx, who), who, false, time.Now())
	p.budget = &g.limiter.waiting
	if who.Kind == ByCert {
		p.budget = &g.limiter.clusterWaiting
	}
	return p
}

// Hold returns a context that also ends when the credentials do, with that as its
// cause, whether or not anything is said meanwhile. ctx must end.
func (g *Guard) Hold(ctx context.Context, who Identity) context.Context {
	if who.Kind == Local || who.Kind == Anonymous {
		return ctx // for good
	}
	held, end := context.WithCancelCause(ctx)
	remove := g.lasting.Add(func() error { return g.who.Still(who) }, end)
	context.AfterFunc(held, remove)
	return held
}

// AdmitAudited is Admit for a route that is no gRPC method: what it refuses is
// audited. What changes something its handler audits, see Audit.
func (g *Guard) AdmitAudited(ctx context.Context, method string) (context.Context, error) {
	ctx, who, err := g.Admit(ctx, method)
	if err != nil {
		g.trail.write(ctx, who, method, "", err)
	}
	return ctx, err
}

// Unary is the interceptor of unary methods.
func (g *Guard) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		ctx, p, err := g.Enter(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		defer p.End()
		who := p.Who()
		resp, err := handler(ctx, req)
		if g.policy[info.FullMethod].Writes {
			g.trail.write(ctx, who, info.FullMethod, Target(req), err)
		}
		return resp, err
	}
}

// Stream is the interceptor of streams.
func (g *Guard) Stream() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, p, err := g.Enter(ss.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		defer p.End()
		who := p.Who()
		give := func() {}
		if info.IsClientStream {
			give, err = g.limiter.upload(p)
		}
		if err != nil {
			g.trail.write(ctx, who, info.FullMethod, "", err)
			return err
		}
		defer give()
		s := &identifiedStream{ServerStream: ss, ctx: ctx, still: func() error { return g.who.Still(who) }}
		if who.Kind == ByToken || who.Kind == ByJWT || who.Session != "" { // the end of a certificate closes the connection
			s.ctx, s.ends = g.Hold(ctx, who), true
		}
		err = handler(srv, s)
		if over := s.still(); over != nil {
			err = over // whatever the handler made of it
		}
		if g.policy[info.FullMethod].Writes {
			g.trail.write(ctx, who, info.FullMethod, s.target, err)
		}
		return err
	}
}

type identifiedStream struct {
	grpc.ServerStream
	ctx    context.Context
	still  func() error
	ends   bool   // ctx ends with the credentials
	begun  bool   // the first message has come
	target string // what it is about
}

// SendMsg says nothing more to who may not hear it any more.
func (s *identifiedStream) SendMsg(m any) error {
	if err := s.still(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg takes nothing more from who may not say it any more.
func (s *identifiedStream) RecvMsg(m any) error {
	if err := s.receive(m); err != nil {
		return err
	}
	if !s.begun {
		s.begun, s.target = true, Target(m)
	}
	return s.still()
}

// receive waits for a message no longer than the credentials are good.
func (s *identifiedStream) receive(m any) error {
	if !s.ends {
		return s.ServerStream.RecvMsg(m)
	}
	came := make(chan error, 1)
	go func() { came <- s.ServerStream.RecvMsg(m) }() // it ends with the stream, which ends when the handler returns
	select {
	case err := <-came:
		return err
	case <-s.ctx.Done():
		if err := s.still(); err != nil {
			return err
		}
		return <-came // the stream itself has ended
	}
}

func (s *identifiedStream) Context() context.Context { return s.ctx }
