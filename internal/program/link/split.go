package link

import (
	"bytes"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/rota-project/rota/internal/program/flow"
)

// Credentials returns gRPC server credentials that take links and gRPC on one
// port. Base makes the connection what it is (insecure.NewCredentials(), TLS);
// after its handshake the first byte tells the two apart: a link begins with a
// Hello, HTTP/2 with its preface. Links are handed to serve, in a goroutine of
// their own; AuthInfo has what base found out about the peer.
//
// Patience is how long all that comes before a link's greeting was answered may
// take together: the handshake, the first byte and the Hello. Then the connection
// is closed, however busily it sends. Zero or less means defaultPatience.
func Credentials(base credentials.TransportCredentials, patience time.Duration, serve func(net.Conn)) credentials.TransportCredentials {
	if patience <= 0 {
		patience = defaultPatience
	}
	return &splitter{TransportCredentials: base, patience: patience, serve: serve}
}

// defaultPatience is how long a connection may take to greet.
const defaultPatience = 10 * time.Second

type splitter struct {
	credentials.TransportCredentials
	patience time.Duration
	serve    func(net.Conn)
}

func (s *splitter) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	// A deadline of the connection would not do: gRPC clears it when this returns.
	late := time.AfterFunc(s.patience, func() { _ = raw.Close() })
	handed := false
	defer func() {
		if !handed {
			late.Stop()
		}
	}()
	c, auth, err := s.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	first := make([]byte, 1)
	if _, err := c.Read(first); err != nil {
		_ = c.Close()
		return nil, nil, fmt.Errorf("reading the first byte: %w", err)
	}
	whole := &begun{Conn: c, first: bytes.NewReader(first), auth: auth}
	if flow.Type(first[0]) == flow.Hello {
		handed, whole.late = true, late
		go s.serve(whole)
		return nil, nil, credentials.ErrConnDispatched
	}
	return whole, auth, nil
}

func (s *splitter) Clone() credentials.TransportCredentials {
	return &splitter{TransportCredentials: s.TransportCredentials.Clone(), patience: s.patience, serve: s.serve}
}

// begun is a connection whose first byte was read already.
type begun struct {
	net.Conn
	first *bytes.Reader
	auth  credentials.AuthInfo
	late  *time.Timer // closes it, unless a relay stops that when it is greeted
}

// AuthInfo is what the handshake of a connection that Credentials accepted found
// out about the peer; nil if there is nothing.
func AuthInfo(c net.Conn) credentials.AuthInfo {
	if b, ok := c.(*begun); ok {
		return b.auth
	}
	return nil
}

func (b *begun) Read(p []byte) (int, error) {
	if b.first.Len() > 0 {
		return b.first.Read(p)
	}
	return b.Conn.Read(p)
}
