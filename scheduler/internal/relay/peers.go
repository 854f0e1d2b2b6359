package relay

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/auth"
)

// forwarded marks a call that another scheduler has passed on: it is not passed on once
// more.
const forwarded = "rota-forwarded"

// Forwarded reports whether another scheduler has passed a call on.
func Forwarded(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	return len(md.Get(forwarded)) > 0
}

// Onward is the context of a call that is passed on, with the caller's own credentials if
// they can be passed on. A session and a certificate cannot: for them the certificate of
// this scheduler stands, which has let them in.
func Onward(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	pass := metadata.Pairs(forwarded, "1")
	for _, key := range []string{"authorization", auth.NamespaceKey} {
		pass.Append(key, md.Get(key)...)
	}
	return metadata.NewOutgoingContext(ctx, pass)
}

// Peers are the connections to other schedulers; one to each is kept.
type Peers struct {
	dial func(address string) (*grpc.ClientConn, error)

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	closed bool
}

// NewPeers returns what connects by dial; nil: nothing does. Close it.
func NewPeers(dial func(address string) (*grpc.ClientConn, error)) *Peers {
	return &Peers{dial: dial, conns: map[string]*grpc.ClientConn{}}
}

// To is the connection to a scheduler.
func (p *Peers) To(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if conn := p.conns[address]; conn != nil {
		return conn, nil
	}
	if p.dial == nil || p.closed {
		return nil, ErrAway
	}
	conn, err := p.dial(address)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "scheduler %s: %v", address, err)
	}
	p.conns[address] = conn
	return conn, nil
}

// Close ends all connections.
func (p *Peers) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
}

// Copy sends on what in receives, to its end.
func Copy[M any](in grpc.ServerStreamingClient[M], send func(*M) error) error {
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(m); err != nil {
			return err
		}
	}
}
