package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// certificate makes a certificate for 127.0.0.1 and a pool that trusts it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	cert, err := makeCertificate()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	return cert, pool
}

func makeCertificate() (cert tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return cert, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// One port speaks HTTP/1, HTTP/2 in clear, and both over TLS.
func TestOnePortManyProtocols(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-End")
		fmt.Fprintf(w, "%s %s %s %d", r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-For"), r.URL, len(b))
		w.Header().Set("X-End", "yes")
	})
	cfg := simple(up)
	cert, pool := certificate(t)
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	g, addr := start(t, cfg)
	var h1, h2, h2c http.Protocols
	h1.SetHTTP1(true)
	h2.SetHTTP2(true)
	h2c.SetUnencryptedHTTP2(true)
	for name, tc := range map[string]struct {
		p      *http.Protocols
		scheme string
		major  int
	}{"HTTP/1": {&h1, "http", 1}, "HTTP/1 over TLS": {&h1, "https", 1}, "HTTP/2 over TLS": {&h2, "https", 2}, "HTTP/2 in clear": {&h2c, "http", 2}} {
		t.Run(name, func(t *testing.T) {
			tr := &http.Transport{Protocols: tc.p, TLSClientConfig: &tls.Config{RootCAs: pool}}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: patience}
			for _, size := range []int{0, 10, 300_000} {
				resp, err := client.Post(tc.scheme+"://"+addr+"/run/f?x=1", "text/plain", strings.NewReader(strings.Repeat("x", size)))
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				want := fmt.Sprintf("%s 127.0.0.1 /run/f?x=1 %d", tc.scheme, size)
				if err != nil || string(body) != want || resp.ProtoMajor != tc.major || resp.Trailer.Get("X-End") != "yes" {
					t.Errorf("%s: %q, trailer %v, %v; want %q", resp.Proto, body, resp.Trailer, err, want)
				}
			}
			for path, want := range map[string]int{"/status": 200, "/nothing": 404, "/run/": 400} {
				resp, err := client.Get(tc.scheme + "://" + addr + path)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
				}
			}
		})
	}
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

// gRPC, unary and streaming, to a worker that speaks HTTP/2 only.
func TestGRPC(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	hs := health.NewServer()
	healthpb.RegisterHealthServer(srv, hs)
	go srv.Serve(ln)
	t.Cleanup(srv.Stop)
	cfg := simple("h2c://" + ln.Addr().String())
	cfg.Routes = append(cfg.Routes, routeTo("/grpc.health.v1.Health", "health"))
	g, addr := start(t, cfg)
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := healthpb.NewHealthClient(cc)
	if r, err := client.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("unary: %v, %v", r, err)
	}
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "unknown"}); err == nil || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("an error in trailers: %v", err)
	}
	wctx, stop := context.WithCancel(ctx)
	stream, err := client.Watch(wctx, &healthpb.HealthCheckRequest{Service: "s"})
	if err != nil {
		t.Fatal(err)
	}
	want := []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVICE_UNKNOWN, healthpb.HealthCheckResponse_SERVING}
	for i, w := range want {
		r, err := stream.Recv()
		if err != nil || r.GetStatus() != w {
			t.Fatalf("message %d: %v, %v", i, r, err)
		}
		hs.SetServingStatus("s", healthpb.HealthCheckResponse_SERVING)
	}
	if idle(g) {
		t.Error("an open stream is not counted in flight")
	}
	stop()
	eventually(t, "no call in flight", func() bool { return idle(g) })
	// An HTTP/1 client reaches such a worker's gateway too.
	if status, _ := get(t, addr, "/status"); status != 200 {
		t.Errorf("status: %d", status)
	}
}

// A websocket-like upgrade through the plain handler.
func TestUpgradeThroughTheHandler(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		io.Copy(c, rw)
	}))
	t.Cleanup(up.Close)
	g, addr := startHandler(t, simple(up.URL))
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if h, err := readHead(c.r); err != nil || !strings.HasPrefix(h, "HTTP/1.1 101") {
		t.Fatalf("%q, %v", h, err)
	}
	c.send("hello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
	c.Close()
	eventually(t, "no call in flight", func() bool { return idle(g) })
}
