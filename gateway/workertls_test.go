package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    atomic.Int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue signs a certificate for that name.
func (a *authority) issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1 + a.n.Add(1)), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// secureWorker is a worker on https that says whose certificate it was shown.
func secureWorker(t testing.TB, conf *tls.Config) (s *httptest.Server) {
	t.Helper()
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown := "none"
		if len(r.TLS.PeerCertificates) > 0 {
			shown = r.TLS.PeerCertificates[0].SerialNumber.String()
		}
		fmt.Fprintf(w, "%s %s %s", r.Proto, r.TLS.ServerName, shown)
	}))
	s.EnableHTTP2 = true
	s.TLS, s.Config.ErrorLog = conf, quietLog
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// askBy calls f as a plain call, over HTTP/1 to the worker, or as one of gRPC, over HTTP/2.
func askBy(t testing.TB, addr, proto string) (int, string) {
	t.Helper()
	c := dial(t, addr)
	head := "POST /run/f HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n"
	if proto == "HTTP/2.0" {
		head += "Content-Type: application/grpc\r\n"
	}
	c.send(head + "\r\nx")
	resp, body := c.response(http.MethodPost)
	return resp.StatusCode, body
}

// Workers on https are trusted by what the configuration says, get the certificate that it
// names, and are not ready where one of the two does not fit: then logs, route and status
// say which.
func TestTLSWithWorkers(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	server := ca.issue(t, "worker.internal")
	mine := ca.issue(t, "gateway")
	good := func() *tls.Config {
		return &tls.Config{RootCAs: ca.pool(), ServerName: "worker.internal", Certificates: []tls.Certificate{mine}}
	}
	open := &tls.Config{Certificates: []tls.Certificate{server}}
	closed := func(most uint16) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), MaxVersion: most}
	}
	for name, tc := range map[string]struct {
		worker *tls.Config
		change func(c *tls.Config)
		want   string // in the answer, or in the cause
		fails  bool
	}{
		"a name of its own":       {open, func(*tls.Config) {}, "worker.internal", false},
		"a certificate of ours":   {closed(0), func(*tls.Config) {}, "worker.internal 3", false},
		"not verified":            {open, func(c *tls.Config) { c.RootCAs, c.InsecureSkipVerify = nil, true }, "worker.internal", false},
		"another authority":       {open, func(c *tls.Config) { c.RootCAs = other.pool() }, "unknown authority", true},
		"the system's":            {open, func(c *tls.Config) { c.RootCAs = nil }, "unknown authority", true},
		"another name":            {open, func(c *tls.Config) { c.ServerName = "other.internal" }, "not other.internal", true},
		"the URL's name":          {open, func(c *tls.Config) { c.ServerName = "" }, "127.0.0.1", true},
		"no certificate of ours":  {closed(0), func(c *tls.Config) { c.Certificates = nil }, "certificate", true},
		"the same with TLS 1.2":   {closed(tls.VersionTLS12), func(c *tls.Config) { c.Certificates = nil }, "certificate", true},
		"a stranger's":            {closed(0), func(c *tls.Config) { c.Certificates = []tls.Certificate{other.issue(t, "gateway")} }, "certificate", true},
		"a version that is old":   {closed(tls.VersionTLS12), func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, "version", true},
		"a version that is right": {closed(tls.VersionTLS12), func(*tls.Config) {}, "worker.internal 3", false},
	} {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			for _, where := range []string{"all", "one"} {
				t.Run(name+"/"+proto+"/"+where, func(t *testing.T) {
					t.Parallel()
					s := secureWorker(t, tc.worker.Clone())
					conf := good()
					tc.change(conf)
					cfg := simple(s.URL)
					if where == "all" {
						cfg.WorkerTLS = conf
					} else {
						cfg.WorkerTLS, cfg.Workers[0].TLS = &tls.Config{ServerName: "nobody"}, conf
					}
					logged := &logBuffer{}
					cfg.Logger = logged.logger()
					g, addr := start(t, cfg)
					status, body := askBy(t, addr, proto)
					if !tc.fails {
						if status != http.StatusOK || !strings.Contains(body, tc.want) || !strings.HasPrefix(body, proto) {
							t.Errorf("%d %q, want %s ... %s", status, body, proto, tc.want)
						}
						if conf.InsecureSkipVerify != strings.Contains(logged.String(), "not verified") {
							t.Errorf("the log:\n%s", logged)
						}
						return
					}
					if status != http.StatusBadGateway {
						t.Errorf("%d %q", status, body)
					}
					if w := g.Status().Workers[0]; w.State != "quarantined" || !strings.Contains(w.Cause, tc.want) {
						t.Errorf("%+v, want a cause with %q", w, tc.want)
					}
					r, _ := g.Route("f")
					eventually(t, "the failure is kept", func() bool { r, _ = g.Route("f"); return len(r.Failures) > 0 })
					if w := r.Workers[0]; w.May || !strings.Contains(w.Why, tc.want) {
						t.Errorf("route: %+v", w)
					}
					if f := r.Failures; f[0].Cause != "worker-unreachable" || !strings.Contains(f[0].Error, tc.want) {
						t.Errorf("failures: %+v", f)
					}
					if !strings.Contains(logged.String(), tc.want) {
						t.Errorf("the log:\n%s", logged)
					}
				})
			}
		}
	}
}

// A certificate of ours that is renewed, and an authority that is, are in force at once,
// on connections that are open too; a reload that says the same closes none.
func TestTLSWithWorkersIsRenewed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	s := secureWorker(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "worker.internal")}, ClientAuth: tls.RequireAnyClientCert})
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		cfg := simple(s.URL)
		show := func(c tls.Certificate) gateway.Config {
			cfg.WorkerTLS = &tls.Config{RootCAs: ca.pool(), ServerName: "worker.internal", Certificates: []tls.Certificate{c}}
			return cfg
		}
		first, second := ca.issue(t, "gateway"), ca.issue(t, "gateway")
		g, addr := start(t, show(first))
		_, was := askBy(t, addr, proto)
		if err := g.Reload(show(second)); err != nil {
			t.Fatal(err)
		}
		status, now := askBy(t, addr, proto)
		if status != http.StatusOK || was == now {
			t.Errorf("%s: %q, then %d %q", proto, was, status, now)
		}
		cfg.WorkerTLS = &tls.Config{RootCAs: newAuthority(t).pool(), ServerName: "worker.internal", Certificates: []tls.Certificate{second}}
		if err := g.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		if status, body := askBy(t, addr, proto); status != http.StatusBadGateway {
			t.Errorf("%s: after another authority: %d %q", proto, status, body)
		}
	}
}

// A worker that was started anew, with another certificate, is called at once: its old
// connections are known to be over.
func TestTLSWorkerStartsAnew(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	s := secureWorker(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "worker.internal")}})
	cfg := simple(s.URL)
	cfg.WorkerTLS = &tls.Config{RootCAs: ca.pool(), ServerName: "worker.internal"}
	_, addr := start(t, cfg)
	for range 3 {
		if status, body := askBy(t, addr, "HTTP/1.1"); status != http.StatusOK {
			t.Fatalf("%d %q", status, body)
		}
		s.CloseClientConnections()
	}
}
