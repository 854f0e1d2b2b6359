package gatewayfile_test

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota/cmd/rota/internal/gatewayfile"
	"github.com/rota-project/rota/gateway"
)

// What is said of all workers' TLS holds for each but where its own section says
// something else.
func TestWorkerTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	putPair(t, dir, 1)
	c, err := gatewayfile.Parse([]byte(`
worker_tls: {ca: cert.pem, cert: cert.pem, key: key.pem, server_name: all.internal}
workers:
  - https://a
  - {url: "https://b", tls: {server_name: b.internal, min_version: "1.3"}}
  - {url: "https://c", tls: {insecure_skip_verify: true}}
`), dir)
	if err != nil {
		t.Fatal(err)
	}
	if all := c.WorkerTLS; all.ServerName != "all.internal" || all.RootCAs == nil || len(all.Certificates) != 1 || all.MinVersion != tls.VersionTLS12 {
		t.Errorf("all: %+v", all)
	}
	if c.Workers[0].TLS != nil {
		t.Errorf("a has one of its own: %+v", c.Workers[0].TLS)
	}
	if b := c.Workers[1].TLS; b.ServerName != "b.internal" || b.RootCAs == nil || len(b.Certificates) != 1 || b.MinVersion != tls.VersionTLS13 || b.InsecureSkipVerify {
		t.Errorf("b: %+v", b)
	}
	if own := c.Workers[2].TLS; own.ServerName != "all.internal" || own.RootCAs != nil || !own.InsecureSkipVerify {
		t.Errorf("c: %+v", own)
	}
}

func TestWorkerTLSThatIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	putPair(t, dir, 1)
	for name, b := range map[string]string{"open.pem": "", "empty.pem": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{
		"worker_tls: {ca: nowhere.pem}":                                         "worker_tls.ca: ",
		"worker_tls: {ca: empty.pem}":                                           "worker_tls.ca: empty.pem: want certificates",
		"worker_tls: {cert: cert.pem}":                                          "worker_tls.key: want a file",
		"worker_tls: {key: key.pem}":                                            "worker_tls.cert: want a file",
		"worker_tls: {cert: cert.pem, key: open.pem}":                           "worker_tls.key: ",
		"worker_tls: {cert: cert.pem, key: cert.pem}":                           "worker_tls: cert.pem and cert.pem",
		"worker_tls: {min_version: 1.1}":                                        `worker_tls.min_version: "1.1"`,
		"worker_tls: {ca: cert.pem, insecure_skip_verify: true}":                "worker_tls.insecure_skip_verify",
		"worker_tls: {insecure: true}":                                          "worker_tls.insecure: unknown key",
		"worker_tls: {insecure_skip_verify: yes please}":                        "worker_tls.insecure_skip_verify",
		`workers: [http://a, {url: "https://b", tls: {ca: nowhere.pem}}]`:       "workers[1].tls.ca: ",
		`workers: [{url: "https://b", tls: {cert: nowhere.pem, key: key.pem}}]`: "workers[0].tls.cert: ",
		`workers: [{url: "http://b", tls: {server_name: b}}]`:                   "workers[0].tls",
		`workers: [{url: "h2c://b", tls: {server_name: b}}]`:                    "workers[0].tls",
		`workers: [{url: "https://b", tls: {sni: b}}]`:                          "workers[0].tls.sni: unknown key",
		`workers: [{url: "https://b", tls: {server_name: "b c"}}]`:              "workers[0].tls.server_name",
		`worker_tls: {server_name: "https://b"}`:                                "worker_tls.server_name",
	} {
		c, err := gatewayfile.Parse([]byte(text), dir)
		if err == nil {
			var g *gateway.Gateway
			if g, err = gateway.New(c); err == nil {
				g.Close()
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", text, err, want)
		}
	}
}

// The files of workers' TLS are followed.
func TestWorkerTLSIsFollowed(t *testing.T) {
	t.Parallel()
	worker := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.PeerCertificates[0].SerialNumber)
	}))
	worker.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	worker.StartTLS()
	t.Cleanup(worker.Close)
	dir := t.TempDir()
	putPair(t, dir, 1)
	path := filepath.Join(dir, "gateway.yaml")
	for name, text := range map[string]string{
		"gateway.yaml": "worker_tls: {ca: ca.pem, cert: cert.pem, key: key.pem}\nworkers: [" + worker.URL + "]",
		"ca.pem":       string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: worker.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
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
	t.Cleanup(g.Close)
	t.Cleanup(gatewayfile.Watch(t.Context(), path, g, cfg.Logger).Stop)
	ask := func() string {
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/run/f", http.NoBody))
		return w.Body.String()
	}
	if got := ask(); got != "1" {
		t.Fatal(got)
	}
	putPair(t, dir, 2)
	until(t, "the new certificate was never shown", func() bool { return ask() == "2" })
}
