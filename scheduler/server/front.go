package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/compat/schedulerworker"
	"github.com/rota-project/rota/internal/door"
	"github.com/rota-project/rota/scheduler/internal/signin"
)

// front stands before the calls of a gRPC server: who calls is settled from the
// headers, before any of the message is read, and the message is held to limits
// and paid for before it is decoded.
type front struct {
	guard  *auth.Guard
	door   *door.Listener
	asking atomic.Int64 // calls of whom an issuer may have to be asked
}

// maxAsking is how many calls may wait for what their issuer says. Each holds the
// window of its stream.
const maxAsking = 256

// options of the server that it stands before. Most is the largest message that
// the server takes.
func (f *front) options(most int) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(f.tap), grpc.StatsHandler(connections{}), grpc.ForceServerCodecV2(bound.Codec()),
		grpc.MaxRecvMsgSize(most), grpc.MaxSendMsgSize(bound.MaxAnswer), grpc.MaxHeaderListSize(maxHeader),
		// Static windows: what is sent and not read yet never grows.
		grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(1 << 20), grpc.ReadBufferSize(8 << 10),
		grpc.UnaryInterceptor(f.guard.Unary()), grpc.ChainStreamInterceptor(f.stream, f.guard.Stream()),
	}
}

// streamWindow is how many bytes of a stream may have come that nobody reads yet.
const streamWindow = 64 << 10

// maxHeader is the most bytes of the metadata of a call.
const maxHeader = 32 << 10

// arrival is what tap found out about a call; the call's context has it.
type arrival struct {
	refused error  // somebody known may not make it
	asked   func() // to be called when an issuer was asked; nil if none needs to be
	cut     func() // ends the call, whatever it waits for
}

type arrivalKey struct{}

func arrivalOf(ctx context.Context) *arrival {
	if a, ok := ctx.Value(arrivalKey{}).(*arrival); ok {
		return a
	}
	return &arrival{cut: func() {}}
}

// How long the message of a call may take, however steadily it comes.
const (
	messageTime  = time.Minute
	strangerTime = 5 * time.Second
)

// tap decides about a call when its headers have come. It runs where the whole
// connection is read and must not wait: what takes asking an issuer is left to
// enter, which runs on the call's own.
func (f *front) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	addr := whence(ctx)
	known := f.guard.Knows(ctx)
	var pass *auth.Pass
	var err error
	if known {
		if ctx, pass, err = f.guard.Enter(ctx, info.FullMethodName); err != nil && pass.Who().Kind == auth.Anonymous {
			f.door.Refused(addr)
			return ctx, err
		}
	}
	a := &arrival{}
	ctx, a.cut = context.WithCancel(context.WithValue(ctx, arrivalKey{}, a))
	switch {
	case !known:
		if f.asking.Add(1) > maxAsking {
			f.asking.Add(-1)
			a.cut() // gRPC would keep what hangs on the context while the connection lasts
			f.door.Refused(addr)
			return ctx, status.Errorf(codes.ResourceExhausted, "more than %d calls wait for the issuer of their credentials", maxAsking)
		}
		f.door.Undecided(addr)
		a.asked = sync.OnceFunc(func() { f.asking.Add(-1) })
		context.AfterFunc(ctx, a.asked)
		return ctx, nil
	case err != nil:
		f.door.Known(addr)
		a.refused = err // gRPC forgets only calls that have begun
		return ctx, nil //nolint:nilerr // enter tells it
	case pass.Who().Kind == auth.Anonymous:
		leave, ok := f.door.Enter(addr)
		if !ok {
			a.cut()
			pass.End()
			f.door.Refused(addr)
			return ctx, status.Error(codes.ResourceExhausted, "too many calls at once without credentials")
		}
		context.AfterFunc(ctx, leave)
	default:
		f.door.Known(addr)
	}
	context.AfterFunc(ctx, pass.End)
	return ctx, nil
}

func whence(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

// enter is the pass of a call that has begun, or why it may not go on.
func (f *front) enter(ctx context.Context, method string) (context.Context, *auth.Pass, error) {
	a := arrivalOf(ctx)
	if a.refused != nil {
		return ctx, nil, a.refused
	}
	if p := auth.PassFrom(ctx); p != nil {
		if p.Who().Kind == auth.Anonymous && compressed(ctx) {
			f.door.Refused(whence(ctx))
			return ctx, nil, errCompressed
		}
		return ctx, p, nil
	}
	in, pass, err := f.guard.Enter(ctx, method)
	if a.asked != nil {
		a.asked()
	}
	switch {
	case err == nil:
		f.door.Known(whence(ctx))
		context.AfterFunc(ctx, pass.End)
	case pass.Who().Kind == auth.Anonymous:
		f.door.Refused(whence(ctx))
	default:
		f.door.Known(whence(ctx))
	}
	return in, pass, err
}

// errCompressed refuses a stranger's message that is to be unpacked: a thousandth of
// what it becomes is sent, and that is all that a door counts.
var errCompressed = status.Error(codes.Unimplemented, "messages of callers without credentials may not be compressed")

// compressed says whether the caller compresses what it sends. gRPC keeps this from
// taps and metadata.
func compressed(ctx context.Context) bool {
	s, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ RecvCompress() string })
	if !ok {
		return true // who cannot be asked is not believed
	}
	by := s.RecvCompress()
	return by != "" && by != encoding.Identity
}

// guarded registers services so that their methods receive nothing before enter.
type guarded struct {
	grpc.ServiceRegistrar
	front *front
}

func (g guarded) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		full := "/" + desc.ServiceName + "/" + m.MethodName
		d.Methods[i] = grpc.MethodDesc{
			MethodName: m.MethodName,
			Handler: func(srv any, ctx context.Context, receiveInto func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
				ctx, pass, err := g.front.enter(ctx, full)
				if err != nil {
					return nil, err
				}
				resp, err := m.Handler(srv, ctx, func(v any) error { return receive(ctx, pass, receiveInto, v) }, interceptor)
				if err != nil && pass.Who().Kind == auth.Anonymous {
					g.front.door.Refused(whence(ctx)) // by whoever knows what is open to anybody
				}
				return resp, err
			},
		}
	}
	g.ServiceRegistrar.RegisterService(&d, impl)
}

// stream is the interceptor that streams pass first.
func (f *front) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, pass, err := f.enter(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handler(srv, &received{ServerStream: ss, ctx: ctx, pass: pass, single: !info.IsClientStream})
}

// received is a stream whose messages are held to limits.
type received struct {
	grpc.ServerStream
	ctx    context.Context //nolint:containedctx // it is the stream's
	pass   *auth.Pass
	single bool // there is one message
	paid   int  // for the message before
}

func (s *received) Context() context.Context { return s.ctx }

// RecvMsg receives a message. The only one of a stream is paid for like that of a
// call. The next of many may be hours away: it is paid for when it is there, until
// the one after it. On a connection of the cluster a meter has it paid for while it
// comes.
func (s *received) RecvMsg(m any) error {
	if s.single {
		return receive(s.ctx, s.pass, s.ServerStream.RecvMsg, m)
	}
	return decode(s.ServerStream.RecvMsg, m, func(n int) error {
		if s.pass.Who().Kind == auth.Local {
			return nil // who is trusted with everything
		}
		s.pass.Give(s.paid)
		s.paid = 0
		if err := s.pass.Try(n); err != nil {
			return err
		}
		s.paid = n
		return nil
	})
}

// receive receives a message that is paid for: as much as it may have before its
// length is known, unless a meter does that, then what it takes.
func receive(ctx context.Context, pass *auth.Pass, receiveInto func(any) error, v any) error {
	paid, most := bound.MaxMessage, messageTime
	switch pass.Who().Kind {
	case auth.ByCert:
		paid = 0
	case auth.Anonymous:
		paid, most = streamWindow, strangerTime // its connection may not bring much more
	}
	if err := pass.Take(ctx, paid); err != nil {
		return err
	}
	defer time.AfterFunc(most, arrivalOf(ctx).cut).Stop()
	err := decode(receiveInto, v, func(n int) error {
		if n > paid {
			return pass.Try(n - paid)
		}
		pass.Give(paid - n)
		paid = 0
		return nil
	})
	if err != nil {
		pass.Give(paid)
	}
	return err
}

// decode receives a message, holds it to the limits of its lists, has it paid for
// with what it will take, and decodes it.
func decode(receiveInto func(any) error, v any, pay func(n int) error) error {
	m, ok := v.(proto.Message)
	if !ok {
		return receiveInto(v)
	}
	r := &bound.Received{}
	if err := receiveInto(r); err != nil {
		return err
	}
	defer r.Free()
	cost, size, err := r.Check(m)
	if err != nil {
		return convert.Error(err)
	}
	if err := pay(cost + size); err != nil {
		return err
	}
	if err := r.Decode(m); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

// connections ends what hangs on a connection when it ends: gRPC keeps a timer of
// each call that a tap refused, for as long as the caller said.
type connections struct{}

type connectionKey struct{}

func (connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	return context.WithValue(ctx, connectionKey{}, cancel)
}

func (connections) HandleConn(ctx context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnEnd); !ok {
		return
	}
	if cancel, ok := ctx.Value(connectionKey{}).(context.CancelFunc); ok {
		cancel()
	}
}

func (connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (connections) HandleRPC(context.Context, stats.RPCStats)                       {}

// admit decides about an HTTP request, when nothing but its header was read. Its
// context carries the pass, which ends with the request. A certificate is somebody's
// only to sign in with: browsers show it to every page's requests.
func (s *Server) admit(r *http.Request, method string) (context.Context, *auth.Pass, error) {
	md := metadata.MD{}
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		md["authorization"] = values
	}
	ctx := metadata.NewIncomingContext(r.Context(), md)
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		p := &peer.Peer{Addr: net.TCPAddrFromAddrPort(at)}
		if method == signin.SignInMethod && r.TLS != nil {
			p.AuthInfo = credentials.TLSInfo{State: *r.TLS}
		}
		ctx = peer.NewContext(ctx, p)
	}
	if value := s.signin.Cookie(r); value != "" && method != signin.SignInMethod && !s.guard.Public(method) {
		ctx = auth.WithSession(ctx, value, signin.Foreign(r))
	}
	ctx, pass, err := s.guard.Enter(ctx, method)
	stranger := pass.Who().Kind == auth.Anonymous
	switch {
	case err != nil && stranger:
		s.httpDoor.Refused(r.RemoteAddr)
	case stranger:
		s.httpDoor.Asked(r.RemoteAddr)
	default:
		s.httpDoor.Known(r.RemoteAddr)
	}
	if err == nil {
		context.AfterFunc(r.Context(), pass.End)
	}
	return ctx, pass, err
}

// admitOld is admit for the old job calls, whose bodies are paid for whole. Its
// context ends with the credentials, too: output may be followed for long.
func (s *Server) admitOld(r *http.Request, method string) (context.Context, error) {
	ctx, pass, err := s.admit(r, method)
	if err != nil {
		return ctx, err
	}
	if err := s.whole(ctx, method); err != nil {
		return ctx, err
	}
	return s.guard.Hold(ctx, pass.Who()), pass.Take(ctx, schedulerworker.MaxBody)
}
