package server_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/worker/agent"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// closed is a node with everything that a node off loopback has.
type closed struct {
	*server.Server
	dir, grpc, http string
	tokens          *auth.Tokens
	secrets         map[auth.Role]auth.Secret
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (c *closed) source(t *testing.T, r pki.Request) *pki.Source {
	t.Helper()
	f := pki.Files{CA: filepath.Join(c.dir, pki.CAFile), Revoked: filepath.Join(c.dir, pki.RevokedFile)}
	if r.Name != "" {
		cert, err := pki.Issue(c.dir, r, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		f.Cert, f.Key = cert.File, cert.Key
	}
	src, err := pki.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// told are called with the directory of the authority before the node starts.
func newClosed(t *testing.T, cfg server.Config, told ...func(dir string)) *closed {
	t.Helper()
	c := &closed{dir: filepath.Join(t.TempDir(), "pki"), tokens: &auth.Tokens{}, secrets: map[auth.Role]auth.Secret{}}
	if cfg.Authenticator != nil {
		c.tokens = cfg.Authenticator.Tokens // of another scheduler of the cluster
	}
	if _, err := pki.Init(c.dir, "test", 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, f := range told {
		f(c.dir)
	}
	for r := auth.Viewer; r <= auth.Admin; r++ {
		tok, secret, err := auth.NewToken(auth.Token{Name: r.String(), Role: r}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c.tokens.Update([]auth.Token{tok}, nil)
		c.secrets[r] = secret
	}
	if cfg.Scheduler.Store == nil {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		cfg.Scheduler.Store = st
	}
	c.start(t, cfg)
	return c
}

// beside starts another scheduler of the same cluster.
func (c *closed) beside(t *testing.T, cfg server.Config) *closed {
	t.Helper()
	other := &closed{dir: c.dir, tokens: c.tokens, secrets: c.secrets}
	other.start(t, cfg)
	return other
}

func (c *closed) start(t *testing.T, cfg server.Config) {
	t.Helper()
	cfg.Scheduler.Name = cmp.Or(cfg.Scheduler.Name, "s")
	src := c.source(t, pki.Request{Role: pki.Scheduler, Name: cfg.Scheduler.Name, Hosts: []string{"127.0.0.1"}})
	grpcTLS, err := src.Server(false, "h2")
	if err != nil {
		t.Fatal(err)
	}
	httpTLS, err := src.Server(false, "h2", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.GRPC == nil {
		cfg.GRPC, cfg.HTTP = listen(t), listen(t)
	}
	c.grpc, c.http = cfg.GRPC.Addr().String(), "https://"+cfg.HTTP.Addr().String()
	cfg.TLS, cfg.HTTPTLS, cfg.Dial = grpcTLS, httpTLS, src.Credentials("")
	cfg.CallTLS, cfg.GatewayTLS = src.CallClient, httpTLS
	cfg.Authenticator = &auth.Authenticator{Tokens: c.tokens, Names: pki.Names, Verify: grpcTLS.VerifyConnection, Clients: clients}
	c.Server, err = server.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// clients gives alice's certificates a role, and no others.
func clients(cert *x509.Certificate) (string, auth.Role) {
	name := pki.ClientName(cert)
	return name, map[string]auth.Role{"alice": auth.Operator}[name]
}

func (c *closed) dial(t *testing.T, creds credentials.TransportCredentials, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(c.grpc, append(opts, grpc.WithTransportCredentials(creds))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (c *closed) ask(t *testing.T, conf *tls.Config, method, path, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.http+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

type route struct{ method, path string }

// routes are the routes that are not open to anybody: those that the API's
// description names, and those beside it.
func (c *closed) routes(t *testing.T, conf *tls.Config) []route {
	t.Helper()
	code, text := c.ask(t, conf, http.MethodGet, "/v1/openapi.json", "")
	var description struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(text), &description); err != nil || code != 200 {
		t.Fatal(code, err)
	}
	closedRoutes := []route{
		{"POST", "/start"}, {"POST", "/stop"}, {"POST", "/query"}, {"POST", "/stream"}, {"GET", "/stream"}, {"GET", "/metrics"},
	}
	for path, methods := range description.Paths {
		for method := range methods {
			if open := path == "/v1/signout" || strings.HasPrefix(path, "/v1/signin") && (path != "/v1/signin" || method == "get"); open {
				continue
			}
			if method = strings.ToUpper(method); len(method) > 2 && path != "/healthz" && path != "/readyz" && path != "/v1/openapi.json" && path != "/metrics" {
				closedRoutes = append(closedRoutes, route{method, path})
			}
		}
	}
	if len(closedRoutes) < 25 {
		t.Fatalf("only %d routes", len(closedRoutes))
	}
	fill := strings.NewReplacer("{id}", "x", "{ids}", "x", "{name}", "x")
	for i, r := range closedRoutes {
		closedRoutes[i].path = fill.Replace(r.path)
	}
	return closedRoutes
}

// TestEveryRoute walks the HTTP routes: those that the API's description names,
// and those beside it.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	conf := c.source(t, pki.Request{}).Client("")
	closedRoutes := c.routes(t, conf)
	for _, r := range closedRoutes {
		path := r.path
		if code, text := c.ask(t, conf, r.method, path, "{}"); code != 401 {
			t.Errorf("%s %s without credentials: %d %s", r.method, path, code, text)
		}
		if code, text := c.ask(t, conf, r.method, path, "{}", "Authorization", "Bearer "+c.secrets[auth.Viewer].Reveal()[:30]); code != 401 {
			t.Errorf("%s %s with a token cut short: %d %s", r.method, path, code, text)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/v1/openapi.json", "/"} {
		if code, _ := c.ask(t, conf, http.MethodGet, path, ""); code != 200 {
			t.Errorf("GET %s: %d", path, code)
		}
	}
	viewer := "Bearer " + c.secrets[auth.Viewer].Reveal()
	if code, text := c.ask(t, conf, http.MethodGet, "/v1/status", "", "Authorization", viewer); code != 200 {
		t.Errorf("a viewer's status: %d %s", code, text)
	}
	if code, _ := c.ask(t, conf, http.MethodPost, "/v1/jobs", `{"job":{"argv":["x"]}}`, "Authorization", viewer); code != 403 {
		t.Errorf("a viewer's job: %d", code)
	}
	admin := "Bearer " + c.secrets[auth.Admin].Reveal()
	if code, _ := c.ask(t, conf, http.MethodPost, "/v1/jobs", `{"job":{"argv":["x"]}}`, "Authorization", admin, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); code != 403 {
		t.Errorf("a page of another origin: %d", code)
	}
	if code, _ := c.ask(t, conf, http.MethodGet, "/v1/status", "", "Authorization", admin, "Host", "evil.example"); code < 400 {
		t.Errorf("under another name: %d", code)
	}
	// Paths that only look like an open one.
	for _, path := range []string{"/healthz/../v1/status", "/v1/../healthz/x/../../v1/status", "//v1/status", "/v1//status", "/%76%31/status"} {
		if code, text := c.ask(t, conf, http.MethodGet, path, ""); strings.Contains(text, `"leader"`) {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}

// TestWorkersOverTLS has a worker with a certificate join and run a job, and one
// with another's certificate refused.
func TestWorkersOverTLS(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	join := func(name string, src *pki.Source) (*worker.Worker, *agent.Agent) {
		w, err := worker.New(worker.Config{Name: name, Schedulers: []string{c.grpc}, DialTLS: func() *tls.Config { return src.Client("", "h2") }})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
			t.Fatal(err)
		}
		a, err := agent.New(agent.Config{
			Name: name, Incarnation: w.Incarnation(), Runner: runner.Config{Dir: t.TempDir(), Allow: runner.Allow{Any: true}},
			Connect: func(context.Context) (*grpc.ClientConn, error) {
				return grpc.NewClient(c.grpc, grpc.WithTransportCredentials(src.Credentials("")))
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			a.Run(ctx, time.Second)
		}()
		w.Start()
		t.Cleanup(func() {
			cancel()
			<-ended
			_ = w.Stop(context.Background())
		})
		return w, a
	}
	thief, _ := join("w2", c.source(t, pki.Request{Role: pki.Worker, Name: "w1x"}))
	join("w1", c.source(t, pki.Request{Role: pki.Worker, Name: "w1"}))
	token := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Submitter].Reveal())
	jobs := rotav1.NewJobsClient(c.dial(t, c.source(t, pki.Request{}).Credentials("")))
	j, err := jobs.RunJob(token, &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"echo", "over TLS"}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := jobs.ReadOutput(token, &rotav1.ReadOutputRequest{Id: j.GetId(), Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(); err != nil || string(m.GetData()) != "over TLS\n" {
		t.Errorf("%v, %v", m, err)
	}
	if thief.Status() != worker.StatusNew {
		t.Errorf("a worker with another's certificate is %v", thief.Status())
	}
	// In the clear there is nothing.
	plain := rotav1.NewJobsClient(c.dial(t, insecure.NewCredentials()))
	if _, err := plain.ListJobs(token, &rotav1.ListJobsRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v", err)
	}
	// A token that is revoked is no good at once, on a connection that was good,
	// and a stream says nothing more.
	watch, err := jobs.WatchJobs(token, &rotav1.WatchJobsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for synced := false; !synced; {
		ev, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		synced = ev.GetType() == "synced"
	}
	var kept []auth.Token
	for _, tok := range c.tokens.List() {
		if tok.Role == auth.Submitter {
			tok.Revoked = time.Now()
			kept = append(kept, tok)
		}
	}
	c.tokens.Update(kept, nil)
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Admin].Reveal())
	news, err := jobs.RunJob(admin, &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"echo", "news"}}})
	if err != nil {
		t.Fatal(err)
	}
	for {
		ev, err := watch.Recv()
		if err != nil {
			if status.Code(err) != codes.Unauthenticated {
				t.Errorf("a watch after revocation: %v", err)
			}
			break
		}
		if ev.GetJob().GetId() == news.GetId() { // others may have been on their way
			t.Fatal("a watch goes on after revocation")
		}
	}
	if _, err := jobs.ListJobs(token, &rotav1.ListJobsRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("after revocation: %v", err)
	}
	for _, tok := range c.tokens.List() {
		c.tokens.Update(nil, []string{tok.ID})
	}
	if _, err := jobs.ListJobs(token, &rotav1.ListJobsRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("after revocation: %v", err)
	}
}

// TestAudit has what is refused over HTTP told with who asked for it and from
// where, whatever the caller says of itself, and without its secrets.
func TestAudit(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	handler := slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil)
	c := newClosed(t, server.Config{Scheduler: scheduler.Config{Logger: slog.New(handler)}})
	viewer, admin := c.secrets[auth.Viewer].Reveal(), c.secrets[auth.Admin].Reveal()
	conf := c.source(t, pki.Request{}).Client("")
	body := `{"job":{"argv":["x","hidden-argument"],"env":{"A":"hidden-value"}}}`
	if code, _ := c.ask(t, conf, http.MethodPost, "/v1/jobs", body, "Authorization", "Bearer "+viewer, "X-Forwarded-For", "203.0.113.9"); code != 403 {
		t.Fatalf("a viewer's job: %d", code)
	}
	if code, text := c.ask(t, conf, http.MethodPost, "/v1/jobs", body, "Authorization", "Bearer "+admin); code != 200 {
		t.Fatalf("an admin's job: %d %s", code, text)
	}
	mu.Lock()
	defer mu.Unlock()
	text := log.String()
	for _, want := range []string{
		`msg=audit who=viewer kind=token`, `method=/rota.v1.Jobs/RunJob`, `outcome=PermissionDenied from=127.0.0.1:`,
		`msg=audit who=admin kind=token`, `outcome=OK from=127.0.0.1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, secret := range []string{"hidden", "203.0.113.9", viewer[len(viewer)-30:], admin[len(admin)-30:]} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in\n%s", secret, text)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestRates(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{Limits: auth.Limits{Rate: 1e-9, Burst: 3}})
	conf := c.source(t, pki.Request{}).Client("")
	viewer := "Bearer " + c.secrets[auth.Viewer].Reveal()
	last := 0
	for range 4 {
		last, _ = c.ask(t, conf, http.MethodGet, "/v1/status", "", "Authorization", viewer)
	}
	if last != 429 {
		t.Errorf("the fourth of three: %d", last)
	}
}
