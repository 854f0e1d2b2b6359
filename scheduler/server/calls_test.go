package server_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/worker"
)

// A gateway that other machines reach asks callers over loopback for their token, too: a
// proxy there may call for strangers. One on loopback only asks nobody.
func TestCallsThroughAProxyHere(t *testing.T) {
	t.Parallel()
	open, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(open.Addr().String()) // it is one
	here := listen(t)
	wide := newClosed(t, server.Config{Gateway: []net.Listener{open, listen(t)}})
	narrow := newClosed(t, server.Config{Gateway: []net.Listener{here}})
	for _, tc := range []struct {
		c             *closed
		scheme, addr  string
		token, passes bool
	}{
		{wide, "https", "127.0.0.1:" + port, false, false},
		{wide, "http", "127.0.0.1:" + port, false, false},
		{wide, "https", "127.0.0.1:" + port, true, true},
		{narrow, "https", here.Addr().String(), false, true},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, tc.scheme+"://"+tc.addr+"/run/none", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if tc.token {
			req.Header.Set("Authorization", "Bearer "+tc.c.secrets[auth.Submitter].Reveal())
		}
		client := http.Client{Transport: &http.Transport{TLSClientConfig: tc.c.source(t, pki.Request{}).Client(""), DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if passes := resp.StatusCode != http.StatusUnauthorized; passes != tc.passes {
			t.Errorf("%s://%s, token %v: %d", tc.scheme, tc.addr, tc.token, resp.StatusCode)
		}
	}
}

// Calls between machines: the worker shows its certificate and takes none but a
// scheduler's, the gateway takes none but that worker's.
func TestCallsAreMutuallyAuthenticated(t *testing.T) {
	t.Parallel()
	gw := listen(t)
	c := newClosed(t, server.Config{Gateway: []net.Listener{gw}})
	src := c.source(t, pki.Request{Role: pki.Worker, Name: "w1"})
	calls, err := src.SchedulersOnly()
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(worker.Config{
		Name: "w1", Schedulers: []string{c.grpc}, DialTLS: func() *tls.Config { return src.Client("", "h2") }, CallsTLS: calls,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleFunction("hello", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, "hello over ", r.TLS.Version, r.Header["Authorization"])
	})); err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() { _ = w.Stop(t.Context()) })
	ca := c.source(t, pki.Request{}).Client("")
	get := func(base string, conf *tls.Config) (int, string, error) {
		client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		defer client.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/run/hello", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	want := fmt.Sprintf("hello over %d []", tls.VersionTLS13)
	var body string
	for deadline := time.Now().Add(30 * time.Second); body != want; {
		if _, body, err = get("https://"+gw.Addr().String(), ca); time.Now().After(deadline) {
			t.Fatalf("%q %v", body, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Nobody but a scheduler gets at the worker's port.
	at := c.Gateway().Status().Workers[0].URL
	if !strings.HasPrefix(at, "https://127.0.0.1:") {
		t.Fatalf("the worker is at %s", at)
	}
	for name, who := range map[string]*pki.Source{
		"nobody": c.source(t, pki.Request{}), "a worker": c.source(t, pki.Request{Role: pki.Worker, Name: "w2"}), "a client": c.source(t, pki.Request{Role: pki.Client, Name: "c"}),
	} {
		conf := who.Client("")
		conf.InsecureSkipVerify = true
		if status, body, err := get(at, conf); err == nil {
			t.Errorf("%s got %d %q", name, status, body)
		}
	}
	conf := c.source(t, pki.Request{Role: pki.Scheduler, Name: "s2", Hosts: []string{"x"}}).CallClient("w1")
	if _, body, err := get(at, conf); err != nil || body != want {
		t.Errorf("a scheduler got %q, %v", body, err)
	}
	// Nobody but the worker is taken for it.
	for name, who := range map[string]pki.Request{
		"another worker": {Role: pki.Worker, Name: "w2"}, "a scheduler": {Role: pki.Scheduler, Name: "w1", Hosts: []string{"127.0.0.1"}},
		"a client": {Role: pki.Client, Name: "w1"},
	} {
		impostor := c.source(t, who)
		conf, err := impostor.Server(false, "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Errorf("%s was called", name) }))
		s.TLS = conf
		s.StartTLS()
		members := &gateway.MemoryMembers{}
		members.Set(gateway.Member{Name: "w1", URL: s.URL, Functions: map[string][]string{"hello": nil}})
		me := c.source(t, pki.Request{Role: pki.Scheduler, Name: "s3", Hosts: []string{"x"}})
		g, err := gateway.New(gateway.Config{Members: members, MemberTLS: me.CallClient, Defaults: gateway.Policy{Attempts: 1, QueueTimeout: time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		g.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/run/hello", http.NoBody))
		if rec.Code < 500 {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
		g.Close()
		s.Close()
	}
}
