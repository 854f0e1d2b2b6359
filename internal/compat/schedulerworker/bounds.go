package schedulerworker

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/rota-project/rota/internal/door"
)

// Whoever calls a worker's own server shows no credentials. So all that its callers
// together may have it hold is bounded: connections, calls, and what those bring.
var strangers = door.Limits{
	All: 128, Strangers: 128, PerAddress: 128, Calls: 256, CallsPerConn: 64, Bytes: 4 << 20, BytesPerSecond: 1 << 20,
	Patience: firstWords, Segment: door.SmallSegment,
}

const (
	// firstWords is how long a connection may take until its first call.
	firstWords = 10 * time.Second
	// maxCall is the most bytes of a call's message: Linux takes no longer argument.
	maxCall = 160 << 10
	// maxMetadata is the most bytes of a call's metadata.
	maxMetadata = 32 << 10
	// callWindow is how many bytes of a call may have come that nobody reads yet.
	callWindow = 64 << 10
)

func callerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

// behind are the options of a server behind such a door.
func behind(d *door.Listener) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) {
			addr := callerOf(ctx)
			leave, ok := d.Enter(addr)
			if !ok {
				d.Refused(addr)
				return ctx, status.Errorf(codes.ResourceExhausted, "more than %d calls at once on a connection", strangers.CallsPerConn)
			}
			d.Spoke(addr)
			context.AfterFunc(ctx, leave)
			return ctx, nil
		}),
		grpc.MaxRecvMsgSize(maxCall), grpc.MaxHeaderListSize(maxMetadata), grpc.ConnectionTimeout(firstWords),
		grpc.StaticStreamWindowSize(callWindow), grpc.StaticConnWindowSize(256 << 10), grpc.ReadBufferSize(8 << 10),
		grpc.MaxConcurrentStreams(uint32(strangers.CallsPerConn)),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute}),
	}
}
