package server

import (
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// peers are the connections of workers and schedulers: those that show a
// certificate of the cluster. They are served apart, with messages as large as the
// list of a program's tasks, which nobody else needs, and metered.
//
// It is the listener of a gRPC server, and its credentials.
type peers struct {
	credentials.TransportCredentials // what connections are made of before they are sorted
	known                            func(addr string)
	meter                            func(c net.Conn, info credentials.AuthInfo) (net.Conn, error)
	addr                             net.Addr
	conns                            chan *shaken
	closed                           chan struct{}
	once                             sync.Once
}

// shaken is a connection that has its handshake behind it.
type shaken struct {
	net.Conn
	info credentials.AuthInfo
}

// ServerHandshake keeps the connections of peers.
func (p *peers) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := p.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	if tls, ok := info.(credentials.TLSInfo); !ok || len(tls.State.VerifiedChains) == 0 {
		return c, info, nil
	}
	p.known(raw.RemoteAddr().String())
	m, err := p.meter(c, info)
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	select {
	case p.conns <- &shaken{m, info}:
	case <-p.closed:
		_ = m.Close()
	}
	return nil, nil, credentials.ErrConnDispatched
}

func (p *peers) Clone() credentials.TransportCredentials { return p }

// Accept returns the next peer.
func (p *peers) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *peers) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *peers) Addr() net.Addr { return p.addr }

// already are the credentials of connections that have their handshake behind them.
type already struct {
	credentials.TransportCredentials
}

func (already) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if s, ok := c.(*shaken); ok {
		return s.Conn, s.info, nil
	}
	return c, nil, nil
}

func (a already) Clone() credentials.TransportCredentials { return a }
