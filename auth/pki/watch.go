package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"

	"github.com/rota-project/rota/internal/recheck"
)

// Credentials are Client for each connection that a gRPC client makes.
func (s *Source) Credentials(serverName string) credentials.TransportCredentials {
	return ClientCredentials(func() *tls.Config { return s.Client(serverName) })
}

// ClientCredentials are those of a gRPC client that takes its configuration anew
// for each connection, which are closed when the server's certificate is good no
// more, as Watch does.
func ClientCredentials(conf func() *tls.Config) credentials.TransportCredentials {
	return &watching{conf: conf, set: &recheck.Set{}}
}

// ServerCredentials are those of a gRPC server, whose connections are closed when
// the client's certificate is good no more, as Watch does.
func ServerCredentials(conf *tls.Config) credentials.TransportCredentials {
	return &watching{conf: func() *tls.Config { return conf }, server: true, set: &recheck.Set{}}
}

// Watch asks conf.VerifyConnection again and again about a connection after its
// handshake, and closes it when the other side's certificate is good no more: a
// connection may live longer than that. It returns the connection to use in place
// of c.
func Watch(c *tls.Conn, conf *tls.Config) net.Conn {
	return watch(c, c.ConnectionState(), conf, &recheck.Set{})
}

func watch(c net.Conn, state tls.ConnectionState, conf *tls.Config, set *recheck.Set) net.Conn {
	if conf.VerifyConnection == nil || len(state.PeerCertificates) == 0 {
		return c
	}
	remove := set.Add(func() error { return conf.VerifyConnection(state) }, func(error) { _ = c.Close() })
	return &watched{Conn: c, remove: sync.OnceFunc(remove)}
}

// watched is a connection that is asked about until it is closed.
type watched struct {
	net.Conn
	remove func()
}

// Read says more of a refusal than its alert does.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	var op *net.OpError // the standard library tells alerts apart by their texts only
	if errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate") {
		err = fmt.Errorf("%w: the other side refuses this certificate; its log says whether the certificate is revoked, has expired, or is from an unknown authority", err)
	}
	return n, err
}

func (w *watched) Close() error {
	w.remove()
	return w.Conn.Close()
}

// watching are credentials of gRPC over TLS whose connections are watched.
type watching struct {
	conf       func() *tls.Config
	serverName string // in place of the one of conf
	server     bool
	set        *recheck.Set
}

var errSide = errors.New("tls: these credentials are for the other side")

func (w *watching) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if w.server {
		return nil, nil, errSide
	}
	conf := w.conf()
	if w.serverName != "" {
		conf = conf.Clone()
		conf.ServerName = w.serverName
	}
	c, info, err := credentials.NewTLS(conf).ClientHandshake(ctx, authority, conn)
	return w.watch(c, info, conf, err)
}

func (w *watching) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if !w.server {
		return nil, nil, errSide
	}
	conf := w.conf()
	c, info, err := credentials.NewTLS(conf).ServerHandshake(conn)
	return w.watch(c, info, conf, err)
}

func (w *watching) watch(c net.Conn, info credentials.AuthInfo, conf *tls.Config, err error) (net.Conn, credentials.AuthInfo, error) {
	if err != nil {
		return nil, nil, err
	}
	if tlsInfo, ok := info.(credentials.TLSInfo); ok {
		c = watch(c, tlsInfo.State, conf, w.set)
	}
	return c, info, nil
}

func (w *watching) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (w *watching) Clone() credentials.TransportCredentials {
	c := *w
	return &c
}

func (w *watching) OverrideServerName(name string) error {
	w.serverName = name
	return nil
}
