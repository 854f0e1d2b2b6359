package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/cmd/rota/internal/bundle"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/api/jsonpb"
	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/internal/version"
)

// What a bundle has of lists.
const (
	bundleRows       = 1000 // entries of a list
	bundleWhy        = 20   // instances that are explained
	bundleSchedulers = 16   // schedulers that are asked
)

// gatherer fills a bundle.
type gatherer struct {
	app *app
	b   *bundle.Bundle
	cpu time.Duration
}

// collect asks everybody. What cannot be had is noted as missing; the error says that
// the user has ended the command.
func (a *app) collect(ctx context.Context, cpu time.Duration) (*bundle.Bundle, error) {
	user := ctx
	ctx, cancel := context.WithTimeout(ctx, 2*a.client.timeout+cpu)
	defer cancel()
	if a.env.Dial == nil {
		a.client.findServer(a.env.Lookup)
	}
	g := &gatherer{app: a, b: bundle.New(a.secrets()...), cpu: cpu}
	g.doctor(ctx)
	g.b.JSON("client.json", a.self(), "")
	g.all(ctx)
	a.stale = 0 // it is in the bundle
	return g.b, user.Err()
}

// secrets are those that this command has read itself.
func (a *app) secrets() (list []string) {
	for _, addr := range a.client.servers {
		if p, err := a.passTo(addr); err == nil {
			list = append(list, p.token.Reveal())
		}
	}
	list = append(list, a.client.etcd.password)
	for _, file := range []string{a.client.etcd.passwordFile, a.client.token} {
		if file == "" {
			continue
		}
		if text, err := secretfile.Read(file); err == nil {
			list = append(list, strings.TrimSpace(string(text)))
		}
	}
	return list
}

// self is what the bundle says of the command that made it.
func (a *app) self() any {
	c := &a.client
	return map[string]any{
		"version": version.String(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "time": time.Now().UTC(),
		"server": c.servers, "tls_ca": c.ca, "tls_cert": c.cert, "tls_key": c.key, "tls_revoked": c.revoked,
		"token_file": c.token, "etcd": shownAddresses(c.etcd.endpoints), "timeout": c.timeout.String(),
	}
}

func shownAddresses(list []string) []string {
	shown := make([]string, len(list))
	for i, s := range list {
		shown[i] = address.Show(s)
	}
	return shown
}

func (g *gatherer) doctor(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, g.app.client.timeout)
	defer cancel()
	var c checks
	g.app.checkFiles(&c, time.Now())
	if err := g.app.checkCluster(ctx, &c); err != nil {
		g.b.Miss("doctor.json", oneLine(err))
		return
	}
	g.b.JSON("doctor.json", map[string]any{"status": c.worst(), "checks": c}, "")
}

// bundled is a scheduler that a bundle is about.
type bundled struct {
	*rotav1.Scheduler
	folder string // in the bundle
	near   string // the host by which a scheduler was reached that names it
}

// all asks the first server that tells of the cluster about it, and then every
// scheduler about itself.
func (g *gatherer) all(ctx context.Context) {
	dial := g.app.env.Dial
	if dial == nil {
		dial = g.app.dial
	}
	var known *rotav1.Status
	var near string
	for _, addr := range g.app.client.servers {
		conn, err := dial(ctx, addr)
		if err == nil {
			var s *rotav1.Status
			if s, err = g.status(ctx, conn); err == nil && known == nil {
				known = s
				near, _, _ = net.SplitHostPort(addr)
				g.cluster(ctx, conn)
			}
			_ = conn.Close() // it was only read
		}
		if err != nil {
			g.b.Miss("scheduler at "+addr, oneLine(err))
		}
	}
	if known == nil {
		g.b.Miss("cluster/", "no scheduler answered")
		return
	}
	var asked sync.WaitGroup
	for i, sc := range known.GetSchedulers() {
		one := bundled{sc, "schedulers/" + folder(sc.GetName()) + "/", near}
		if i >= bundleSchedulers {
			g.b.Miss(one.folder, fmt.Sprintf("at most %d schedulers are asked", bundleSchedulers))
			continue
		}
		addr := elsewhere(sc.GetGrpc(), near)
		conn, err := dial(ctx, addr)
		if err == nil {
			var s *rotav1.Status
			if s, err = g.status(ctx, conn); err == nil {
				g.message(one.folder+"status.json", s, "")
			}
			_ = conn.Close() // it was only read
		}
		if err != nil {
			g.b.Miss(one.folder+"status.json", oneLine(err))
		}
		asked.Go(func() { g.scheduler(ctx, one, addr) })
	}
	asked.Wait()
}

// folder is a name as that of a folder.
func folder(name string) string {
	name = strings.ReplaceAll(url.PathEscape(name), "..", "%2E.")
	if name == "" || name == "." {
		return "_" + name
	}
	return name
}

// elsewhere is an address of a scheduler that others reach: of one that listens on all
// addresses that is where it was reached.
func elsewhere(addr, near string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, err := netip.ParseAddr(host); near != "" && (host == "" || err == nil && ip.IsUnspecified()) {
		host = near
	}
	return net.JoinHostPort(host, port)
}

func (g *gatherer) status(ctx context.Context, conn *grpc.ClientConn) (*rotav1.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, g.app.client.timeout)
	defer cancel()
	return clusterOf(conn).GetStatus(ctx, &rotav1.GetStatusRequest{})
}

// message adds what a scheduler has answered.
func (g *gatherer) message(name string, m proto.Message, note string) {
	text, err := jsonpb.Marshal(m)
	if err != nil {
		g.b.Miss(name, err.Error())
		return
	}
	g.b.JSON(name, json.RawMessage(text), note)
}

// part is a file of the bundle that a call answers.
type part struct {
	name string
	ask  func(ctx context.Context) (m proto.Message, note string, err error)
}

// cluster adds what a scheduler says of the cluster.
func (g *gatherer) cluster(ctx context.Context, conn *grpc.ClientConn) {
	tasks := func(state string) part {
		return part{"tasks-" + state, func(ctx context.Context) (proto.Message, string, error) {
			m, err := tasksOf(conn).ListTasks(ctx, &rotav1.ListTasksRequest{State: state, PageSize: bundleRows})
			return m, more(len(m.GetTasks()), m.GetTotal()), err
		}}
	}
	for _, p := range []part{
		{"status", func(ctx context.Context) (proto.Message, string, error) {
			m, err := clusterOf(conn).GetStatus(ctx, &rotav1.GetStatusRequest{})
			return m, "", err
		}},
		{"workers", func(ctx context.Context) (proto.Message, string, error) {
			m, err := workersOf(conn).ListWorkers(ctx, &rotav1.ListWorkersRequest{PageSize: bundleRows})
			return m, more(len(m.GetWorkers()), m.GetTotal()), err
		}},
		tasks("waiting"), tasks("failing"), tasks("stuck"), tasks("held"),
		{"plan", func(ctx context.Context) (proto.Message, string, error) {
			m, err := clusterOf(conn).GetPlan(ctx, &rotav1.GetPlanRequest{})
			note := more(min(len(m.GetWaiting()), bundleRows), int64(len(m.GetWaiting())))
			if len(m.GetWaiting()) > bundleRows {
				m.Waiting = m.GetWaiting()[:bundleRows]
			}
			return m, note, err
		}},
		{"jobs", func(ctx context.Context) (proto.Message, string, error) {
			m, err := jobsOf(conn).ListJobs(ctx, &rotav1.ListJobsRequest{PageSize: bundleRows})
			for _, j := range m.GetJobs() {
				j.Argv = withoutArguments(j.GetArgv())
			}
			return m, strings.TrimPrefix(more(len(m.GetJobs()), m.GetTotal())+"; arguments are left out", "; "), err
		}},
		{"programs", func(ctx context.Context) (proto.Message, string, error) {
			m, err := programsOf(conn).ListPrograms(ctx, &rotav1.ListProgramsRequest{})
			return m, "", err
		}},
		{"pools", func(ctx context.Context) (proto.Message, string, error) {
			m, err := poolsOf(conn).ListPools(ctx, &rotav1.ListPoolsRequest{})
			for _, p := range m.GetPools() {
				for k := range p.GetDefinition().GetOptions() {
					p.Definition.Options[k] = bundle.Redacted
				}
				if t := p.GetDefinition().GetTemplate(); t != nil {
					t.Command = withoutArguments(t.GetCommand())
				}
			}
			return m, "options of engines and arguments of commands are left out", err
		}},
		{"functions", func(ctx context.Context) (proto.Message, string, error) {
			m, err := rotav1.NewFunctionsClient(conn).ListFunctions(ctx, &rotav1.ListFunctionsRequest{})
			return m, "", err
		}},
		{"members", func(ctx context.Context) (proto.Message, string, error) {
			m, err := rotav1.NewMembersClient(conn).ListMembers(ctx, &rotav1.ListMembersRequest{})
			return m, "", err
		}},
		{"events", func(ctx context.Context) (proto.Message, string, error) {
			m, err := eventsOf(conn).ListEvents(ctx, &rotav1.ListEventsRequest{PageSize: bundleRows})
			note := ""
			if m.GetNextPageToken() != "" {
				note = fmt.Sprintf("the latest %d", len(m.GetEvents()))
			}
			return m, note, err
		}},
	} {
		g.part(ctx, p)
	}
	g.why(ctx, conn)
}

func (g *gatherer) part(ctx context.Context, p part) {
	ctx, cancel := context.WithTimeout(ctx, g.app.client.timeout)
	defer cancel()
	name := "cluster/" + p.name + ".json"
	m, note, err := p.ask(ctx)
	if status.Code(err) == codes.FailedPrecondition { // the cluster is one without such: nothing is missing
		g.b.JSON(name, struct{}{}, oneLine(err))
		return
	}
	if err != nil {
		g.b.Miss(name, oneLine(err))
		return
	}
	g.message(name, m, note)
}

// more says that a list goes on.
func more(here int, total int64) string {
	if int64(here) >= total {
		return ""
	}
	return fmt.Sprintf("the first %d of %d", here, total)
}

// withoutArguments is a command without what may be nobody's business.
func withoutArguments(argv []string) []string {
	if len(argv) < 2 {
		return argv
	}
	return []string{argv[0], bundle.Redacted}
}

// why adds the explanations of the first instances that wait or fail.
func (g *gatherer) why(ctx context.Context, conn *grpc.ClientConn) {
	ctx, cancel := context.WithTimeout(ctx, g.app.client.timeout)
	defer cancel()
	all := []json.RawMessage{}
	seen := map[string]bool{}
	for _, state := range []string{"waiting", "failing", "stuck"} {
		list, err := tasksOf(conn).ListTasks(ctx, &rotav1.ListTasksRequest{State: state, PageSize: bundleWhy})
		if err != nil {
			g.b.Miss("cluster/why.json", oneLine(err))
			return
		}
		for _, t := range list.GetTasks() {
			if len(all) == bundleWhy || seen[t.GetId()] {
				continue
			}
			seen[t.GetId()] = true
			m, err := tasksOf(conn).Why(ctx, &rotav1.WhyRequest{Id: t.GetId()})
			if isNotFound(err) {
				continue // it has gone meanwhile
			}
			if err != nil {
				g.b.Miss("cluster/why.json", oneLine(err))
				return
			}
			for _, in := range m.GetInstances() {
				in.Workers = in.GetWorkers()[:min(len(in.GetWorkers()), bundleRows)]
			}
			text, err := jsonpb.Marshal(m)
			if err != nil {
				g.b.Miss("cluster/why.json", err.Error())
				return
			}
			all = append(all, text)
		}
	}
	g.b.JSON("cluster/why.json", all, fmt.Sprintf("at most %d tasks that wait or fail", bundleWhy))
}

// page is a file of the bundle that a scheduler has at its HTTP address.
type page struct {
	name, path string
	text       bool
}

// scheduler adds what one scheduler says of itself over HTTP.
func (g *gatherer) scheduler(ctx context.Context, sc bundled, grpcAddr string) {
	pages := []page{
		{"metrics.txt", "/metrics", true},
		{"config.json", "/debug/config", true},
		{"log.txt", "/debug/log", true},
		{"heap.pb.gz", "/debug/pprof/heap", false},
		{"goroutines.txt", "/debug/pprof/goroutine?debug=1", false},
	}
	if g.cpu > 0 {
		seconds := int((g.cpu + time.Second - 1) / time.Second)
		pages = append(pages, page{"cpu.pb.gz", fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), false})
	}
	ask, err := g.overHTTP(sc, grpcAddr)
	for _, p := range pages {
		name := sc.folder + p.name
		if err != nil {
			g.b.Miss(name, oneLine(err))
			continue
		}
		body, err := ask(ctx, p.path)
		switch {
		case err != nil:
			g.b.Miss(name, oneLine(err))
		case p.text:
			g.b.Text(name, body, "")
		default:
			g.b.Data(name, body)
		}
	}
}

// overHTTP is how a scheduler's HTTP side is asked, with what its gRPC side is asked
// with. A token goes only where it is safe.
func (g *gatherer) overHTTP(sc bundled, grpcAddr string) (func(ctx context.Context, path string) ([]byte, error), error) {
	if sc.GetHttp() == "" {
		return nil, errors.New("the scheduler reports no address of its HTTP API")
	}
	p, err := g.app.passTo(grpcAddr)
	if err != nil {
		return nil, err
	}
	addr, scheme := elsewhere(sc.GetHttp(), sc.near), "http"
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	if p.source != nil && !auth.Loopback(sc.GetHttp()) { // on loopback schedulers serve HTTP without TLS
		scheme, transport.TLSClientConfig = "https", p.source.Client("", "http/1.1")
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, path string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, g.app.client.timeout+g.cpu)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+addr+path, http.NoBody)
		if err != nil {
			return nil, err
		}
		if p.token != "" && (scheme == "https" || auth.Loopback(addr)) {
			req.Header.Set("Authorization", "Bearer "+p.token.Reveal())
		}
		res, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(io.LimitReader(res.Body, bundle.MaxFile+1))
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", res.Status, refusal(body))
		}
		return body, nil
	}, nil
}

// refusal is what an answer says that is not the one that was asked for.
func refusal(body []byte) string {
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &said) == nil && said.Error.Message != "" {
		return said.Error.Message
	}
	return strings.TrimSpace(string(body[:min(len(body), maxReason)]))
}
