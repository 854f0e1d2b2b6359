package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rota-project/rota/internal/program/flow"
)

// TestGreetingThatNeverEnds: whatever a connection sends, and however busily, it is
// closed when the time for its greeting is over.
func TestGreetingThatNeverEnds(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := certificate(t)
	hello := flow.Header{Type: flow.Hello, Offset: version, Len: maxCredentials}
	huge := flow.Header{Type: flow.Hello, Offset: version, Len: flow.MaxPayload}
	tooLong := flow.Header{Type: flow.Hello, Offset: version, Len: math.MaxInt32}
	for name, said := range map[string][]byte{
		"nothing":                   nil,
		"the first byte":            {byte(flow.Hello)},
		"half a header":             hello.Append(nil)[:flow.HeaderLen/2],
		"a header":                  hello.Append(nil),
		"too many credentials":      huge.Append(nil),
		"a payload of four GiB":     tooLong.Append(nil),
		"a header, then some of it": append(hello.Append(nil), make([]byte, 100)...),
	} {
		for through, c := range map[string]struct {
			server credentials.TransportCredentials
			client *tls.Config
		}{"clear": {insecure.NewCredentials(), nil}, "tls": {credentials.NewTLS(serverTLS), clientTLS}} {
			for _, drips := range []bool{false, true} {
				if drips && (said == nil || said[0] != byte(flow.Hello)) {
					continue
				}
				t.Run(name+" "+through+map[bool]string{true: " drip by drip"}[drips], func(t *testing.T) {
					t.Parallel()
					conn := dialRelay(t, Credentials(c.server, 500*time.Millisecond, nil), c.client)
					if _, err := conn.Write(said); err != nil {
						t.Fatal(err)
					}
					if drips {
						go func() {
							for {
								if _, err := conn.Write([]byte{0}); err != nil {
									return
								}
								time.Sleep(20 * time.Millisecond)
							}
						}()
					}
					closedSoon(t, conn)
				})
			}
		}
	}
	t.Run("without Credentials", func(t *testing.T) {
		t.Parallel()
		near, far := net.Pipe()
		defer func() { _ = near.Close() }()
		ended := make(chan error, 1)
		go func() {
			ended <- (&Relay{Patience: time.Millisecond, Idle: time.Hour}).Serve(context.Background(), far)
		}()
		if err := <-ended; err == nil {
			t.Error("a node that says nothing is served")
		}
	})
}

// dialRelay connects to a relay behind creds on a gRPC server's port.
func dialRelay(t *testing.T, creds credentials.TransportCredentials, conf *tls.Config) net.Conn {
	t.Helper()
	relay := &Relay{Idle: time.Hour, Patience: time.Hour}
	s, ok := creds.(*splitter)
	if !ok {
		t.Fatalf("%T", creds)
	}
	s.serve = func(k net.Conn) { _ = relay.Serve(context.Background(), k) }
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// The server's own patience would hide that of the credentials.
	srv := grpc.NewServer(grpc.Creds(creds), grpc.ConnectionTimeout(time.Hour))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(l)
	}()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if conf != nil {
		conn = tls.Client(conn, conf)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		relay.Close()
		srv.Stop()
		<-ended
	})
	return conn
}

func closedSoon(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}
