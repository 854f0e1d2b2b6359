package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rota-project/rota/gateway/internal/tcp"
)

// keepAlive is how often the system asks whether a silent worker is there.
const keepAlive = 30 * time.Second

// connect opens a connection to the worker, without TLS.
func (w *Worker) connect(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{KeepAlive: keepAlive, Resolver: w.reach.Resolver}
	if w.network == "tcp" {
		d.ControlContext = w.reach.Control
	}
	return d.DialContext(ctx, w.network, w.addr)
}

// Dial opens a connection to the worker. A failure means that nothing was sent. now is by
// the gateway's clock.
func (w *Worker) Dial(ctx context.Context, timeout time.Duration, now int64) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	u := &Conn{w: w, epoch: w.epoch.Load(), born: now}
	nc, err := w.connect(ctx)
	if err != nil {
		return nil, err
	}
	nc = tcp.Take(nc)
	if w.TLS {
		u.below.Init(nc)
		if nc, err = w.secure(ctx, nc, "http/1.1"); err != nil {
			return nil, err
		}
	}
	u.Init(nc)
	return u, nil
}

// connectTLS is connect, with TLS, for net/http's client.
func (w *Worker) connectTLS(ctx context.Context, _, _ string) (net.Conn, error) {
	nc, err := w.connect(ctx)
	if err != nil {
		return nil, err
	}
	return w.secure(ctx, nc, "h2", "http/1.1")
}

// secure begins TLS on a connection to the worker, and closes it if that fails.
func (w *Worker) secure(ctx context.Context, nc net.Conn, protocols ...string) (net.Conn, error) {
	tc := tls.Client(nc, w.tlsConfig(protocols))
	err := tc.HandshakeContext(ctx)
	if err == nil {
		return tc, nil
	}
	_ = nc.Close()
	switch {
	case ctx.Err() != nil:
		return nil, err
	case w.unshown.Load():
		return nil, fmt.Errorf("%w: it asked for a client certificate and got none: %w", errTLS, err)
	}
	return nil, fmt.Errorf("%w: %w", errTLS, err)
}

// errTLS says that the worker's TLS is not what it should be, or ours is not for it.
var errTLS = errors.New("no TLS with the worker")
