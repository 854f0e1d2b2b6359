package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pemPair writes a certificate for 127.0.0.1 that vouches for itself.
func pemPair(t *testing.T) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestTLS: what the two sides are given lets them talk, and a stranger not.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := pemPair(t)
	other, _ := pemPair(t)
	s, o := NewScheduler()
	if err := load(t, o, "a.toml", "[grpc_server]\nuse_tls = true\ncrt_file = '"+cert+"'\nkey_file = '"+key+"'\n", nil); err != nil {
		t.Fatal(err)
	}
	serverTLS, err := s.ServerTLS()
	if err != nil || serverTLS == nil {
		t.Fatal(serverTLS, err)
	}
	for file, ok := range map[string]bool{cert: true, other: false} {
		w, o := NewWorker()
		if err := load(t, o, "", "", nil, "--tls-ca", file); err != nil {
			t.Fatal(err)
		}
		clientTLS, err := w.ClientTLS()
		if err != nil {
			t.Fatal(err)
		}
		clientTLS.ServerName = "127.0.0.1"
		a, b := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = tls.Server(a, serverTLS).HandshakeContext(t.Context())
			_ = a.Close()
		}()
		err = tls.Client(b, clientTLS).HandshakeContext(t.Context())
		_ = b.Close()
		<-done
		if (err == nil) != ok {
			t.Errorf("a client that trusts the server %v: %v", ok, err)
		}
	}
}

func TestTLSOff(t *testing.T) {
	t.Parallel()
	s, _ := NewScheduler()
	w, _ := NewWorker()
	if c, err := s.ServerTLS(); c != nil || err != nil {
		t.Error(c, err)
	}
	if c, err := w.ClientTLS(); c != nil || err != nil {
		t.Error(c, err)
	}
	if _, err := ClientTLS("/not/there"); err == nil {
		t.Error("a file that is not there is taken")
	}
	_, key := pemPair(t)
	if _, err := ClientTLS(key); err == nil {
		t.Error("a key is taken for a certificate")
	}
}
