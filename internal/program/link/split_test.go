package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rota-project/rota/internal/program/flow"
)

func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13},
		&tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
}

// TestOnePort serves gRPC and links on one port, in the clear and through TLS.
func TestOnePort(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := certificate(t)
	for name, c := range map[string]struct {
		server, client credentials.TransportCredentials
		dial           func(ctx context.Context, addr string) (net.Conn, error)
	}{
		"clear": {insecure.NewCredentials(), insecure.NewCredentials(), func(ctx context.Context, addr string) (net.Conn, error) { return tcp(addr)(ctx) }},
		"tls": {credentials.NewTLS(serverTLS), credentials.NewTLS(clientTLS), func(ctx context.Context, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: clientTLS}).DialContext(ctx, "tcp", addr)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relay := &Relay{}
			creds := Credentials(c.server, 0, func(k net.Conn) { _ = relay.Serve(context.Background(), k) })
			server := grpc.NewServer(grpc.Creds(creds))
			grpc_health_v1.RegisterHealthServer(server, health.NewServer())
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = server.Serve(l) }()
			t.Cleanup(func() {
				server.Stop()
				relay.Close()
			})
			addr := l.Addr().String()

			client, err := grpc.NewClient(addr, grpc.WithTransportCredentials(c.client))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := grpc_health_v1.NewHealthClient(client).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
				t.Fatalf("gRPC: %v", err)
			}
			a, b := NewNode(NodeConfig{}), NewNode(NodeConfig{})
			for _, n := range []*Node{a, b} {
				connect(t, n, func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, addr) })
			}
			in := NewInbox()
			a.Bind(flow.Addr{9}, in, nil).Open(flow.Addr{1}, 0, 0)
			task := b.Bind(flow.Addr{1}, NewInbox(), nil).Open(flow.Addr{9}, 0, 0)
			go sendNumbered(t, task, 2000, nil)
			readNumbered(t, in, 1, 2000)
		})
	}
}
