package source_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota/source"
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
	token := write("token", "first\n")
	client, err := source.Access{Headers: map[string]string{"X-Tenant": "a b"}, TokenFile: token, CAFile: ca}.Client()
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
		if got.Get("Authorization") != "Bearer "+want || got.Get("X-Tenant") != "a b" {
			t.Errorf("it was sent %v, want the token %s", got, want)
		}
	}
	if _, err := source.URL(srv.URL+"/away", 0, client, parse).Read(t.Context()); err == nil || !strings.Contains(err.Error(), "redirected") {
		t.Errorf("a redirect elsewhere: %v", err)
	}
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
	write("token", "two words")
	if _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "one token") {
		t.Errorf("two tokens: %v", err)
	}
	for name, a := range map[string]source.Access{
		"tasks_headers": {Headers: map[string]string{"a b": "c"}}, "tasks_token_file": {TokenFile: filepath.Join(dir, "none")}, "tasks_ca": {CAFile: token},
	} {
		if _, err := a.Client(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
