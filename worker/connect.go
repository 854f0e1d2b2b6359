package worker

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth/pki"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// Stream is one session's connection. Send and Recv may be called at once, each
// by one goroutine; both fail when the context that it was made with ends.
type Stream interface {
	Send(*rotav1.FromWorker) error
	Recv() (*rotav1.ToWorker, error)
}

// Pusher is a Stream on whose connection output can be sent, too: what a scheduler asks
// for by ReadLog.
type Pusher interface {
	PushOutput(ctx context.Context, opts ...grpc.CallOption) (grpc.ClientStreamingClient[rotav1.OutputPiece, rotav1.PushOutputResponse], error)
}

// session is a Stream over gRPC, and what else its connection carries.
type session struct {
	Stream
	Pusher
	address string
}

// Recv implements Stream. An error names the scheduler.
func (s session) Recv() (*rotav1.ToWorker, error) {
	m, err := s.Stream.Recv()
	return m, of(s.address, err)
}

// of is an error of a scheduler's, in its words and not those of gRPC.
func of(address string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s", address, status.Convert(err).Message())
}

// Connector makes a connection to some scheduler, another one at each call
// where there are several. known are addresses that a scheduler told of, to be
// tried too.
type Connector func(ctx context.Context, known []string) (Stream, error)

// dialer connects over gRPC, to one address after another.
func dialer(addresses []string, conf func() *tls.Config) Connector {
	var next atomic.Uint64
	return func(ctx context.Context, known []string) (Stream, error) {
		all := addresses
		for _, a := range known {
			if !slices.Contains(addresses, a) {
				all = append(all[:len(all):len(all)], a)
			}
		}
		address := all[int(next.Add(1)-1)%len(all)]
		creds := insecure.NewCredentials()
		if conf != nil {
			creds = pki.ClientCredentials(conf)
		}
		conn, err := grpc.NewClient("passthrough:///"+address,
			grpc.WithTransportCredentials(creds),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		s, err := rotav1.NewSessionsClient(conn).Connect(ctx)
		if err != nil {
			return nil, of(address, err)
		}
		return session{s, rotav1.NewJobWorkClient(conn), address}, nil
	}
}

// maxMessage is the largest message of a session, in bytes.
const maxMessage = 16 << 20
