package gatewayfile_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rota-project/rota/cmd/rota/internal/gatewayfile"
	"github.com/rota-project/rota/gateway"
)

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-deadline:
			t.Fatal(what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// putPair writes a certificate of that serial number with its key into a folder.
func putPair(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Certificates that are renewed are shown to new connections, in whatever way their
// files change.
func TestCertificatesAreFollowed(t *testing.T) {
	t.Parallel()
	link := func(t *testing.T, to, at string) {
		t.Helper()
		if err := os.Symlink(to, at+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(at+".new", at); err != nil {
			t.Fatal(err)
		}
	}
	for name, renew := range map[string]struct {
		begin, then func(t *testing.T, dir string)
	}{
		"written over": {
			func(t *testing.T, dir string) { putPair(t, dir, 1) },
			func(t *testing.T, dir string) { putPair(t, dir, 2) },
		},
		"renamed into place": {
			func(t *testing.T, dir string) { putPair(t, dir, 1) },
			func(t *testing.T, dir string) {
				aside := t.TempDir()
				putPair(t, aside, 2)
				for _, f := range []string{"key.pem", "cert.pem"} {
					if err := os.Rename(filepath.Join(aside, f), filepath.Join(dir, f)); err != nil {
						t.Fatal(err)
					}
				}
			},
		},
		"a link to a folder, as Kubernetes mounts secrets": {
			func(t *testing.T, dir string) {
				old := t.TempDir()
				putPair(t, old, 1)
				link(t, old, filepath.Join(dir, "..data"))
				for _, f := range []string{"key.pem", "cert.pem"} {
					link(t, filepath.Join("..data", f), filepath.Join(dir, f))
				}
			},
			func(t *testing.T, dir string) {
				next := t.TempDir()
				putPair(t, next, 2)
				link(t, next, filepath.Join(dir, "..data"))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			renew.begin(t, dir)
			path := filepath.Join(dir, "gateway.yaml")
			if err := os.WriteFile(path, []byte("tls: {cert: cert.pem, key: key.pem}"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := gatewayfile.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Logger = slog.New(slog.DiscardHandler)
			g, err := gateway.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- g.Serve(ln) }()
			t.Cleanup(func() { g.Close(); <-ended })
			t.Cleanup(gatewayfile.Watch(t.Context(), path, g, cfg.Logger).Stop)
			serial := func() int64 {
				c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
			}
			if n := serial(); n != 1 {
				t.Fatalf("certificate %d", n)
			}
			renew.then(t, dir)
			until(t, "the new certificate was never shown", func() bool { return serial() == 2 })
		})
	}
}
