package gateway

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/gateway/internal/peer"
	"github.com/rota-project/rota/gateway/internal/proxyproto"
)

// unwrap takes the PROXY header off a connection of a proxy that is to begin with one: n
// bytes of it are in bufs.in. From there on the client is whom the proxy names. It
// returns how many bytes are behind the header, at least one.
func (c *conn) unwrap(n int) (int, error) {
	if !peer.In(c.g.state.Load().cfg.ProxyProtocol, c.peer.Remote) {
		return n, nil
	}
	in := c.bufs.in[:inSize]
	for {
		from, size, err := proxyproto.Parse(in[:n])
		switch {
		case err == nil:
			c.represent(from)
			if n = copy(in, in[size:n]); n > 0 {
				return n, nil
			}
			return c.Read(in)
		case !errors.Is(err, proxyproto.ErrIncomplete):
			c.g.malformed.Add(1)
			c.g.unproxied.warn(c.g, c.peer.Addr, err)
			return 0, err
		}
		k, err := c.Read(in[n:])
		if err != nil {
			return 0, err
		}
		n += k
	}
}

// represent makes the connection that of another client. What it may because it comes
// over loopback, the proxy may, and nobody behind it.
func (c *conn) represent(from netip.AddrPort) {
	p := *c.peer
	if from.IsValid() {
		p = *peer.New(from.String(), c.raw.LocalAddr())
	}
	p.Local, p.Proxied = false, true
	c.peer = &p
}

// unproxied tells of connections without the header that they should have, once a second
// at most.
type unproxied struct{ last atomic.Int64 }

func (u *unproxied) warn(g *Gateway, from string, err error) {
	now := g.now()
	if last := u.last.Load(); last == 0 || now-last > int64(time.Second) && u.last.CompareAndSwap(last, now) {
		u.last.Store(now)
		g.log.Warn("connection closed: its network is in proxy_protocol", "client", from, "error", err)
	}
}
