package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/rota-project/rota"
)

func newCA(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := Init(dir, "test", 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func issue(t *testing.T, dir string, r Request) Files {
	t.Helper()
	c, err := Issue(dir, r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return Files{CA: filepath.Join(dir, CAFile), Cert: c.File, Key: c.Key}
}

func TestAuthorityIsWhereOthersMayNotWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir, "x", 0, time.Now()); err == nil || !strings.Contains(err.Error(), "chmod go-w "+dir) {
		t.Errorf("a directory that all may write to: %v", err)
	}
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	dir := newCA(t)
	if _, err := Init(dir, "again", 0, time.Now()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second authority over the first: %v", err)
	}
	fi, err := os.Stat(filepath.Join(dir, caKey))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", fi.Mode(), err)
	}
	w, err := Issue(dir, Request{Role: Worker, Name: "w-1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if left := w.Left(time.Now()); w.Name != "w-1" || w.Role != Worker || left < 89*24*time.Hour || left > DefaultLife {
		t.Errorf("issued %+v", w)
	}
	if fi, err := os.Stat(w.Key); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("its key: %v, %v", fi.Mode(), err)
	}
	s, err := Issue(dir, Request{Role: Scheduler, Name: "s", Hosts: []string{"localhost", "127.0.0.1", "::1"}, Life: time.Hour}, time.Now())
	if err != nil || !slices.Equal(s.Hosts, []string{"localhost", "127.0.0.1", "::1"}) {
		t.Errorf("issued %+v, %v", s, err)
	}
	again, err := Renew(dir, Scheduler, "s", time.Now().Add(30*time.Minute))
	if err != nil || again.Serial == s.Serial || !slices.Equal(again.Hosts, s.Hosts) || again.Expires.Sub(s.Expires).Round(time.Minute) != 30*time.Minute {
		t.Errorf("renewed %+v, %v", again, err)
	}
	all, err := List(dir)
	if err != nil || len(all) != 3 || all[0].Name != "s" || all[1].Name != "w-1" || all[2].Role != "authority" {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := Renew(dir, Worker, "gone", time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("renewed one that is not there: %v", err)
	}
	if _, err := Issue(t.TempDir(), Request{Role: Worker, Name: "w"}, time.Now()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "rota cert init") {
		t.Errorf("without an authority: %v", err)
	}
	if _, err := Issue(dir, Request{Role: Worker, Name: "w"}, time.Now().Add(2*DefaultAuthorityLife)); err == nil {
		t.Error("by an authority that has expired")
	}
}

func TestRequestAtFault(t *testing.T) {
	t.Parallel()
	dir := newCA(t)
	for field, r := range map[string]Request{
		"name":   {Role: Worker},
		"name ":  {Role: Worker, Name: "a b"},
		"name  ": {Role: Worker, Name: "../x"},
		"role":   {Role: "king", Name: "x"},
		"hosts":  {Role: Scheduler, Name: "x"},
		"hosts ": {Role: Scheduler, Name: "x", Hosts: []string{"a b"}},
		"life":   {Role: Worker, Name: "x", Life: time.Second},
		"life ":  {Role: Worker, Name: "x", Life: 2 * MaxLife},
	} {
		_, err := Issue(dir, r, time.Now())
		var fe *rota.FieldError
		if !errors.As(err, &fe) || fe.Field != strings.TrimSpace(field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	all, err := List(dir)
	if err != nil || len(all) != 1 {
		t.Errorf("left %+v, %v", all, err)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		uris      []string
		worker    string
		scheduler bool
	}{
		{nil, "", false},
		{[]string{"rota://worker/w1"}, "w1", false},
		{[]string{"rota://worker/a%20b"}, "a b", false},
		{[]string{"rota://scheduler/s1"}, "", true},
		{[]string{"spiffe://example.org/ns/prod/worker/w1"}, "w1", false},
		{[]string{"spiffe://example.org/scheduler/s"}, "", true},
		{[]string{"spiffe://example.org/worker"}, "", false},
		{[]string{"https://example.org/worker/w1"}, "", false},
		{[]string{"rota://worker/"}, "", false},
		{[]string{"rota://worker/a/b"}, "", false},
		{[]string{"rota://client/c"}, "", false},
		{[]string{"rota://worker/w1", "rota://worker/w2"}, "", false},
		{[]string{"rota://worker/w1", "rota://scheduler/s"}, "", false},
	} {
		cert := &x509.Certificate{}
		for _, s := range c.uris {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, u)
		}
		if w, s := Names(cert); w != c.worker || s != c.scheduler {
			t.Errorf("%v: %q, %v", c.uris, w, s)
		}
	}
}

// handshake does one, over TCP, and returns the name that the server saw.
func handshake(t *testing.T, server, client *tls.Config) (string, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	type seen struct {
		name string
		err  error
	}
	done := make(chan seen, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- seen{err: err}
			return
		}
		conn := tls.Server(raw, server)
		defer func() { _ = conn.Close() }()
		err = conn.HandshakeContext(t.Context())
		name := ""
		if chains := conn.ConnectionState().VerifiedChains; err == nil && len(chains) > 0 {
			name, _ = Names(chains[0][0])
		}
		if err == nil {
			_, err = conn.Write([]byte("x"))
		}
		done <- seen{name, err}
	}()
	d := tls.Dialer{Config: client}
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	s := <-done
	return s.name, errors.Join(err, s.err)
}

func source(t *testing.T, f Files) *Source {
	t.Helper()
	s, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serverOf(t *testing.T, s *Source, require bool) *tls.Config {
	t.Helper()
	c, err := s.Server(require)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	dir, foreign := newCA(t), newCA(t)
	hosts := []string{"127.0.0.1", "localhost"}
	server := source(t, issue(t, dir, Request{Role: Scheduler, Name: "s", Hosts: hosts}))
	worker := source(t, issue(t, dir, Request{Role: Worker, Name: "w1"}))
	ca := Files{CA: filepath.Join(dir, CAFile)}
	foreignWorker := issue(t, foreign, Request{Role: Worker, Name: "w1"})
	foreignWorker.CA = ca.CA
	expired, err := Issue(dir, Request{Role: Worker, Name: "old", Life: time.Hour}, time.Now().Add(-2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name    string
		require bool
		client  *tls.Config
		want    string // the name seen, or "!"
	}{
		{"worker", true, worker.Client(""), "w1"},
		{"worker where it is not required", false, worker.Client(""), "w1"},
		{"no certificate", true, source(t, ca).Client(""), "!"},
		{"no certificate where it is not required", false, source(t, ca).Client(""), ""},
		{"of another authority", false, source(t, foreignWorker).Client(""), "!"},
		{"expired", false, source(t, Files{CA: ca.CA, Cert: expired.File, Key: expired.Key}).Client(""), "!"},
		{"server of another authority", false, source(t, Files{CA: filepath.Join(foreign, CAFile)}).Client(""), "!"},
		{"server of another name", false, source(t, ca).Client("elsewhere.example"), "!"},
		{"the system's authorities", false, source(t, Files{}).Client(""), "!"},
		{"TLS 1.2", false, &tls.Config{MaxVersion: tls.VersionTLS12, RootCAs: worker.roots}, "!"},
	}
	for _, c := range cases {
		name, err := handshake(t, serverOf(t, server, c.require), c.client)
		if (err != nil) != (c.want == "!") || err == nil && name != c.want {
			t.Errorf("%s: %q, %v", c.name, name, err)
		}
	}
	// A worker's certificate without hosts cannot pose as a server.
	if _, err := handshake(t, serverOf(t, worker, false), source(t, ca).Client("w1")); err == nil {
		t.Error("a worker posed as a scheduler")
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	dir, other := newCA(t), newCA(t)
	r := Request{Role: Scheduler, Name: "s", Hosts: []string{"127.0.0.1"}}
	files := issue(t, dir, r)
	server, client := source(t, files), source(t, Files{CA: files.CA})
	clock := time.Now()
	server.now = func() time.Time { return clock }
	client.now = server.now
	conf := serverOf(t, server, false)
	first := server.Expires()
	if _, err := handshake(t, conf, client.Client("")); err != nil {
		t.Fatal(err)
	}
	// A key that does not match leaves the pair that was.
	r.Life = time.Hour
	broken := issue(t, other, r)
	copyFile(t, broken.Key, files.Key)
	clock = clock.Add(time.Minute)
	if _, err := handshake(t, conf, client.Client("")); err != nil {
		t.Errorf("half of a new pair: %v", err)
	}
	if server.Err() == nil {
		t.Error("nothing said of the half pair")
	}
	// The other half, by another authority; the client takes that over too.
	copyFile(t, broken.Cert, files.Cert)
	clock = clock.Add(time.Minute)
	if _, err := handshake(t, conf, client.Client("")); err == nil {
		t.Error("a server of an authority that the client does not know")
	}
	if server.Err() != nil || server.Expires().Equal(first) {
		t.Errorf("not taken over: %v", server.Err())
	}
	copyFile(t, broken.CA, files.CA)
	clock = clock.Add(time.Minute)
	if _, err := handshake(t, conf, client.Client("")); err != nil {
		t.Errorf("after the new authority: %v", err)
	}
}

// The end of a certificate is spoken of in time, not all the time, and of a new
// one anew.
func TestReminder(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_700_000_000, 0)
	end := start.Add(30 * 24 * time.Hour)
	var r Reminder
	told := func(from, to, every time.Duration) (n int) {
		for at := from; at < to; at += every {
			if r.Due(end, start.Add(at)) {
				n++
			}
		}
		return n
	}
	day := 24 * time.Hour
	if n := told(0, 23*day, time.Hour); n != 0 {
		t.Errorf("told %d times with more than a week left", n)
	}
	if n := told(23*day+time.Second, 29*day, 2*time.Second); n != 12 {
		t.Errorf("told %d times in six days, want 12", n)
	}
	if n := told(29*day, 31*day, time.Minute); n < 45 || n > 49 {
		t.Errorf("told %d times in the last day and the first after it", n)
	}
	end = end.Add(2 * day)
	if n := told(31*day, 31*day+time.Minute, time.Second); n != 1 {
		t.Errorf("told %d times of another that ends soon", n)
	}
	end = end.Add(90 * day)
	if n := told(31*day, 40*day, time.Minute); n != 0 {
		t.Errorf("told %d times after the renewal", n)
	}
	if (&Reminder{}).Due(time.Time{}, start) {
		t.Error("told of a certificate that is not there")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, append(b, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

type peerHealth struct {
	healthpb.UnimplementedHealthServer
	names chan string
}

func (p peerHealth) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	name := ""
	if pr, ok := peer.FromContext(ctx); ok {
		if info, ok := pr.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
			name, _ = Names(info.State.VerifiedChains[0][0])
		}
	}
	p.names <- name
	return &healthpb.HealthCheckResponse{}, nil
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	dir := newCA(t)
	server := source(t, issue(t, dir, Request{Role: Scheduler, Name: "s", Hosts: []string{"127.0.0.1"}}))
	worker := source(t, issue(t, dir, Request{Role: Worker, Name: "w7"}))
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(serverOf(t, server, true))))
	ph := peerHealth{names: make(chan string, 1)}
	healthpb.RegisterHealthServer(srv, ph)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(worker.Credentials("")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if name := <-ph.names; name != "w7" {
		t.Errorf("the server saw %q", name)
	}
}

func TestLoadAtFault(t *testing.T) {
	t.Parallel()
	dir := newCA(t)
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := issue(t, dir, Request{Role: Worker, Name: "w"})
	for name, f := range map[string]Files{
		"certificate without key": {Cert: w.Cert},
		"key without certificate": {Key: w.Key},
		"not there":               {Cert: "/no/such", Key: "/no/such"},
		"garbage":                 {Cert: garbage, Key: garbage},
		"garbage for authority":   {CA: garbage},
		"authority not there":     {CA: "/no/such"},
	} {
		if _, err := Load(f); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	none := source(t, Files{CA: w.CA})
	if _, err := none.Server(false); err == nil {
		t.Error("a server without a certificate")
	}
	if _, err := source(t, Files{Cert: w.Cert, Key: w.Key}).Server(true); err == nil {
		t.Error("client certificates without an authority")
	}
	if _, err := Show(garbage); err == nil {
		t.Error("garbage was shown")
	}
}

// TestSchedulerHost: a scheduler's certificate, and no other, is good for the name by
// which members of etcd know schedulers; nobody is told that it is a host.
func TestSchedulerHost(t *testing.T) {
	t.Parallel()
	dir := newCA(t)
	at := []string{"a.example", "127.0.0.1"}
	for _, role := range []Role{Scheduler, Worker, Client, Etcd} {
		cert, err := Issue(dir, Request{Role: role, Name: "x", Hosts: at}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			leaf, err := readCert(cert.File)
			if err != nil {
				t.Fatal(err)
			}
			if good := leaf.VerifyHostname(SchedulerHost) == nil; good != (role == Scheduler) {
				t.Errorf("%s: good for %s: %v", role, SchedulerHost, good)
			}
			if !slices.Equal(cert.Hosts, at) {
				t.Errorf("%s: hosts %v", role, cert.Hosts)
			}
			if cert, err = Renew(dir, role, "x", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		for _, host := range []string{SchedulerHost, strings.ToUpper(SchedulerHost), "*.rota.internal", "*.ROTA.internal"} {
			if _, err := Issue(dir, Request{Role: role, Name: "y", Hosts: []string{"b.example", host}}, time.Now()); err == nil {
				t.Errorf("%s: issued for %s", role, host)
			}
		}
	}
	src, err := Load(issue(t, dir, Request{Role: Scheduler, Name: "s", Hosts: at}))
	if err != nil || !slices.Equal(src.Hosts(), at[:1]) {
		t.Errorf("names of a scheduler: %v, %v", src.Hosts(), err)
	}
}
