package source_test

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/scheduler/source"
)

// TestAccess: headers, a token that is read anew, an authority; and no secret of
// the address in a name or an error.
func TestAccess(t *testing.T) {
	t.Parallel()
	var got http.Header
	mux := http.NewServeMux()
	mux.HandleFunc("/tasks.json", func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		_, _ = w.Write([]byte("[]"))
	})
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.Handle("/away", http.RedirectHandler("http://127.0.0.1:1/tasks.json", http.StatusFound))
	srv := httptest.NewTLSServer(mux)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	ca := write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	token, headers := write("token", "first\n"), write("headers", "# for the lists\n\nX-Tenant: a b\nx-tenant:c\r\nX-Key:\tHIDDEN\n")
	client, err := source.Access{HeadersFile: headers, TokenFile: token, CAFile: ca}.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	s := source.URL(srv.URL+"/tasks.json?token=PW", 0, client, parse)
	for _, want := range []string{"first", "second"} {
		write("token", want)
		if _, err := s.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got.Get("Authorization") != "Bearer "+want || strings.Join(got["X-Tenant"], ",") != "a b,c" || got.Get("X-Key") != "HIDDEN" {
			t.Errorf("it was sent %v, want the token %s", got, want)
		}
	}
	if _, err := source.URL(srv.URL+"/away", 0, client, parse).Read(t.Context()); err == nil || !strings.Contains(err.Error(), "redirected") {
		t.Errorf("a redirect elsewhere: %v", err)
	}
	wants(t, source.URL(srv.URL+"/round", 0, client, parse), "redirected more than 9 times")
	wants(t, source.URL("http://192.0.2.1/", 0, client, parse), "TLS") // a token in the clear
	strange, err := source.Access{}.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(strange.CloseIdleConnections)
	wants(t, source.URL(srv.URL+"/tasks.json", 0, strange, parse), "certificate")
	for _, address := range []string{"http://u:PW@127.0.0.1:1/?token=PW", "http://127.0.0.1:1/?PW", "gopher://u:PW@127.0.0.1/", "http://u:P W@\x7f", srv.URL + "/no?token=PW"} {
		s := source.URL(address, 0, client, parse)
		_, err := s.Read(t.Context())
		if err == nil || strings.Contains(err.Error(), "PW") || strings.Contains(s.Name, "PW") {
			t.Errorf("%s: %v, named %s", address, err, s.Name)
		}
	}
	only, err := source.Access{HeadersFile: headers}.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(only.CloseIdleConnections)
	wants(t, source.URL("http://192.0.2.1/", 0, only, parse), "TLS") // headers are secrets, too
	// Files are read for each request.
	write("headers", "X-Tenant: d\n")
	if _, err := s.Read(t.Context()); err != nil || strings.Join(got["X-Tenant"], ",") != "d" || got.Get("X-Key") != "" {
		t.Errorf("new headers: %v, %v", got, err)
	}
	for _, bad := range []string{"HIDDEN", ": HIDDEN", "X Y: HIDDEN", "X-Key: HID\x00DEN", "X-Y: a\nHIDDEN: \x01", strings.Repeat("X-Y: HIDDEN\n", 3) + "HIDDEN"} {
		write("headers", bad)
		if _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "want one header a line") || strings.Contains(err.Error(), "HIDDEN") {
			t.Errorf("headers %q: %v", bad, err)
		}
	}
	write("headers", "")
	write("token", "two words")
	if _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "one token") {
		t.Errorf("two tokens: %v", err)
	}
	write("token", "good")
	for _, file := range []string{token, headers} { // that others may read
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "chmod 600 "+file) {
			t.Errorf("%s is open: %v", file, err)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, s, "[]") // all is well again
	none := filepath.Join(dir, "none")
	for name, a := range map[string]source.Access{
		"tasks_headers_file": {HeadersFile: none}, "tasks_token_file": {TokenFile: none}, "tasks_ca": {CAFile: token}, "tasks_cert": {CertFile: none, KeyFile: none},
		"tasks_token_file ": {TokenFile: dir}, "tasks_headers_file ": {HeadersFile: os.DevNull},
	} {
		if _, err := a.Client(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNewAuthority: who is no longer trusted is not asked again, on no connection.
func TestNewAuthority(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) }))
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := source.Access{CAFile: ca}.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	s := source.URL(srv.URL+"/tasks.json", 0, client, parse)
	if _, err := s.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "pki")
	if _, err := pki.Init(other, "other", 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other, pki.CAFile), ca); err != nil {
		t.Fatal(err)
	}
	for range 3000 { // files are looked at every second
		if _, err = s.Read(t.Context()); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a new authority: %v", err)
	}
}

// TestClientCertificate: a server that asks for one is shown it, and no other host is.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := pki.Init(dir, "test", 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	issue := func(role pki.Role, name string) pki.Certificate {
		t.Helper()
		c, err := pki.Issue(dir, pki.Request{Role: role, Name: name, Hosts: []string{"127.0.0.1"}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	own, shown, ca := issue(pki.Scheduler, "lists"), issue(pki.Scheduler, "s1"), filepath.Join(dir, pki.CAFile)
	src, err := pki.Load(pki.Files{CA: ca, Cert: own.File, Key: own.Key})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.TLS.PeerCertificates[0].URIs[0].Path))
	}))
	if srv.TLS, err = src.Server(true, "http/1.1"); err != nil {
		t.Fatal(err)
	}
	srv.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	srv.StartTLS()
	t.Cleanup(srv.Close)
	client, err := source.Access{CAFile: ca, CertFile: shown.File, KeyFile: shown.Key}.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	wants(t, source.URL(srv.URL+"/tasks.json", 0, client, parse), "/s1")
	without, err := source.Access{CAFile: ca}.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(without.CloseIdleConnections)
	wants(t, source.URL(srv.URL+"/tasks.json", 0, without, parse), "certificate")
}
