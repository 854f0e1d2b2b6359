package etcd_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// secured starts an etcd of somebody's own at addr, which takes clients with a
// certificate of the authority in dir only. It returns what ends it.
func secured(t *testing.T, data, dir, addr string) (stop func()) {
	t.Helper()
	cert, err := pki.Issue(dir, pki.Request{Role: pki.Scheduler, Name: "etcd", Hosts: []string{"127.0.0.1"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	at := []url.URL{{Scheme: "https", Host: addr}}
	c := embed.NewConfig()
	c.Dir, c.LogLevel, c.LogOutputs, c.UnsafeNoFsync = data, "panic", []string{os.DevNull}, true
	c.ListenClientUrls, c.AdvertiseClientUrls, c.ListenPeerUrls = at, at, nil
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs, c.EnableGRPCGateway = 20, 100, false
	c.ClientTLSInfo = transport.TLSInfo{
		CertFile: cert.File, KeyFile: cert.Key, TrustedCAFile: filepath.Join(dir, pki.CAFile), ClientCertAuth: true, MinVersion: tls.VersionTLS13,
	}
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatal(err)
	}
	return func() {
		e.Server.HardStop() // Close would wait for who is connected
		e.Close()
	}
}

// authority makes an authority and a client's certificate, and puts what the
// client needs under the names of files.
func authority(t *testing.T, files etcd.Config) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "pki")
	if _, err := pki.Init(dir, "test", 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	cert, err := pki.Issue(dir, pki.Request{Role: pki.Scheduler, Name: "s", Hosts: []string{"127.0.0.1"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{filepath.Join(dir, pki.CAFile): files.CAFile, cert.File: files.CertFile, cert.Key: files.KeyFile} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTLSFiles moves an etcd to another authority while a store is open on it:
// the files are replaced, and nothing is opened anew.
func TestTLSFiles(t *testing.T) {
	t.Parallel()
	addr := ports.Addr(t)
	dir, data := t.TempDir(), t.TempDir()
	cfg := etcd.Config{
		Endpoints: []string{"https://" + addr}, Root: "x/", DialTimeout: 20 * time.Second, RequestTimeout: time.Second,
		CAFile: filepath.Join(dir, "ca"), CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"),
	}
	stop := secured(t, data, authority(t, cfg), addr)
	s := open(t, cfg)
	put := func(key string) error {
		_, _, err := s.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte("v")}})
		return err
	}
	if err := put("before"); err != nil {
		t.Fatal(err)
	}
	stop()
	stop = secured(t, data, authority(t, cfg), addr)
	defer func() { stop() }()
	deadline := time.Now().Add(30 * time.Second)
	for err := put("after"); err != nil; err = put("after") {
		if time.Now().After(deadline) {
			t.Fatalf("the new files are not used: %v", err)
		}
	}
	if kv, ok, _, err := s.Get(t.Context(), "before"); err != nil || !ok || string(kv.Value) != "v" {
		t.Errorf("%v, %v, %v", kv, ok, err)
	}
	// The same from memory.
	pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	memory := open(t, etcd.Config{
		Endpoints: cfg.Endpoints, Root: "x/", DialTimeout: 20 * time.Second,
		TLS: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: roots},
	})
	if kv, ok, _, err := memory.Get(t.Context(), "before"); err != nil || !ok || string(kv.Value) != "v" {
		t.Errorf("by certificates in memory: %v, %v, %v", kv, ok, err)
	}
	// Without a certificate there is nothing.
	bare := cfg
	bare.CertFile, bare.KeyFile, bare.DialTimeout = "", "", 2*time.Second
	if s, err := etcd.Open(t.Context(), bare); err == nil {
		t.Error("taken without a certificate")
		_ = s.Close()
	}
}
