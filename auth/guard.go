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

// NamespaceKey is the metadata key in which a caller may name a namespace; it must be the
// server's.
const NamespaceKey = "rota-namespace"

// DefaultNamespace is the namespace of a server that names none.
const DefaultNamespace = "default"

// Guard authorizes the calls of all methods of a gRPC server.
type Guard struct {
	who       *Authenticator
	policy    Policy
	namespace string
	limiter   *limiter
	trail     *trail
	lasting   recheck.Set // what goes on for as long as its credentials
}

// GuardConfig configures a Guard. Authenticator and Policy are required.
type GuardConfig struct {
	Authenticator *Authenticator
	Policy        Policy
	// Namespace is the namespace of this server. Empty means DefaultNamespace.
	Namespace string
	Limits    Limits
	// Audit is the audit log, which gets one line for each call that changes something and
	// for each refused call. Nil discards the lines.
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

// Admit decides about one call. If the error is nil, the context carries the identity.
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

// Knows reports whether Admit can decide about a call at once, without requesting an
// issuer's keys.
func (g *Guard) Knows(ctx context.Context) bool { return g.who.knows(ctx) }

// Allowed returns the methods that the caller of ctx may call, in order.
func (g *Guard) Allowed(ctx context.Context) []string {
	return g.policy.Allowed(From(ctx), g.namespace)
}

// Public reports whether a method needs no credentials.
func (g *Guard) Public(method string) bool { return g.policy[method].Public }

// AuditSignIn writes a line to the audit log about a sign-in, a refused sign-in or a
// sign-out, by a method that needs no credentials.
func (g *Guard) AuditSignIn(ctx context.Context, who Identity, method string, err error) {
	g.trail.write(ctx, who, method, "", err)
}

// Namespace returns the namespace that is served.
func (g *Guard) Namespace() string { return g.namespace }

// Enter decides about a call before anything but its header is read. If it admits the call,
// the context carries the call's Pass, and the caller must call End on it. Refusals are
// written to the audit log; the pass then only has the identity. A call that was admitted
// before keeps its pass.
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

// Connected returns a pass for what a connection uses in addition to its calls, on the
// account of its certificate. The caller must call End on it.
func (g *Guard) Connected(ctx context.Context) (*Pass, error) {
	who, err := g.who.Identify(ctx)
	if err != nil {
		return nil, err
	}
	p, _ := g.limiter.enter(account(ctx, who), who, false, time.Now())
	return p, nil
}

// Waiting returns a pass for data that waits to be read, as messages of programs do. Its
// bytes are accounted apart from those of requests, so that neither can use up the other's.
// The caller must call End on it.
func (g *Guard) Waiting(ctx context.Context, who Identity) *Pass {
	p, _ := g.limiter.enter("waiting/"+account(ctx, who), who, false, time.Now())
	p.budget = &g.limiter.waiting
	if who.Kind == ByCert {
		p.budget = &g.limiter.clusterWaiting
	}
	return p
}

// Hold returns a context that also ends when the credentials of who end, with that as its
// cause, even if no message arrives. ctx must end.
func (g *Guard) Hold(ctx context.Context, who Identity) context.Context {
	if who.Kind == Local || who.Kind == Anonymous {
		return ctx // for good
	}
	held, end := context.WithCancelCause(ctx)
	remove := g.lasting.Add(func() error { return g.who.Still(who) }, end)
	context.AfterFunc(held, remove)
	return held
}

// AdmitAudited is Admit for an HTTP route without a gRPC method: refusals are written to
// the audit log. The handler itself audits what it changes; see Audit.
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
