package auth

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/test/memo"
)

// tasks is a service behind the guard.
type tasks struct {
	rotav1.UnimplementedTasksServer
}

func (tasks) GetTask(ctx context.Context, r *rotav1.GetTaskRequest) (*rotav1.TaskDetail, error) {
	return &rotav1.TaskDetail{Source: From(ctx).Name}, nil
}

func (tasks) ApplyTasks(context.Context, *rotav1.ApplyTasksRequest) (*rotav1.ApplyTasksResponse, error) {
	return &rotav1.ApplyTasksResponse{}, nil
}

func (tasks) WatchTasks(_ *rotav1.WatchTasksRequest, s grpc.ServerStreamingServer[rotav1.TaskEvent]) error {
	if err := s.Send(&rotav1.TaskEvent{Type: From(s.Context()).Name}); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

type syncBuffer struct {
	memo.Buffer
}

func (s *syncBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for l := range strings.Lines(s.String()) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func serve(t *testing.T, c GuardConfig) *grpc.ClientConn {
	t.Helper()
	c.Policy = Policy{
		healthpb.Health_Check_FullMethodName:    {Public: true},
		rotav1.Tasks_GetTask_FullMethodName:     {Role: Viewer},
		rotav1.Tasks_WatchTasks_FullMethodName:  {Role: Viewer},
		rotav1.Tasks_ApplyTasks_FullMethodName:  {Role: Operator, Writes: true},
		rotav1.Tasks_DeleteTasks_FullMethodName: {Role: Operator, Writes: true},
	}
	g := NewGuard(c)
	srv := grpc.NewServer(grpc.UnaryInterceptor(g.Unary()), grpc.StreamInterceptor(g.Stream()))
	rotav1.RegisterTasksServer(srv, tasks{})
	healthpb.RegisterHealthServer(srv, health.NewServer())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func with(ctx context.Context, kv ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, kv...)
}

func TestGuard(t *testing.T) {
	t.Parallel()
	var ts Tokens
	viewer, viewerSecret := newToken(t, Token{Name: "vera", Role: Viewer})
	operator, operatorSecret := newToken(t, Token{Name: "olaf", Role: Operator})
	other, otherSecret := newToken(t, Token{Name: "otto", Role: Admin, Namespaces: []string{"other"}})
	ts.Update([]Token{viewer, operator, other}, nil)
	log := &syncBuffer{}
	conn := serve(t, GuardConfig{Authenticator: &Authenticator{Tokens: &ts}, Audit: slog.New(slog.NewJSONHandler(log, nil))})
	client := rotav1.NewTasksClient(conn)
	bearer := func(s Secret) string { return "Bearer " + s.Reveal() }
	for _, c := range []struct {
		name   string
		header []string
		read   codes.Code
		write  codes.Code
	}{
		{"nobody", nil, codes.Unauthenticated, codes.Unauthenticated},
		{"viewer", []string{"authorization", bearer(viewerSecret)}, codes.OK, codes.PermissionDenied},
		{"operator", []string{"authorization", bearer(operatorSecret)}, codes.OK, codes.OK},
		{"lower case", []string{"authorization", "bearer " + operatorSecret.Reveal()}, codes.OK, codes.OK},
		{"of another namespace", []string{"authorization", bearer(otherSecret)}, codes.PermissionDenied, codes.PermissionDenied},
		{"asks for another namespace", []string{"authorization", bearer(operatorSecret), NamespaceKey, "other"}, codes.NotFound, codes.NotFound},
		{"cut short", []string{"authorization", bearer(operatorSecret[:20])}, codes.Unauthenticated, codes.Unauthenticated},
		{"basic", []string{"authorization", "Basic eDp5"}, codes.Unauthenticated, codes.Unauthenticated},
		{"two of them", []string{"authorization", bearer(viewerSecret), "authorization", bearer(operatorSecret)}, codes.Unauthenticated, codes.Unauthenticated},
		{"a JWT where none are taken", []string{"authorization", "Bearer a.b.c"}, codes.Unauthenticated, codes.Unauthenticated},
		{"empty", []string{"authorization", ""}, codes.Unauthenticated, codes.Unauthenticated},
	} {
		ctx := with(t.Context(), c.header...)
		if _, err := client.GetTask(ctx, &rotav1.GetTaskRequest{Id: "x"}); status.Code(err) != c.read {
			t.Errorf("%s reads: %v", c.name, err)
		}
		if _, err := client.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "x", Payload: "p4ssw0rd"}}}); status.Code(err) != c.write {
			t.Errorf("%s writes: %v", c.name, err)
		}
		stream, err := client.WatchTasks(ctx, &rotav1.WatchTasksRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != c.read {
			t.Errorf("%s watches: %v", c.name, err)
		}
	}
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("a public method: %v", err)
	}
	ctx := with(t.Context(), "authorization", bearer(operatorSecret))
	if _, err := client.Why(ctx, &rotav1.WhyRequest{Id: "x"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a method that is not in the table: %v", err)
	}
	if err := conn.Invoke(ctx, "/rota.v1.Tasks/GetTask/", &rotav1.GetTaskRequest{}, &rotav1.TaskDetail{}); status.Code(err) == codes.OK {
		t.Error("a path that only looks like a method")
	}
	// At once, on a connection that was good.
	ts.Update(nil, []string{operator.ID})
	if _, err := client.GetTask(ctx, &rotav1.GetTaskRequest{Id: "x"}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("after revocation: %v", err)
	}

	written, refused := 0, 0
	for _, l := range log.lines(t) {
		for _, k := range []string{"who", "method", "target", "outcome", "from", "credential"} {
			if _, ok := l[k]; !ok {
				t.Errorf("%s is missing in %v", k, l)
			}
		}
		if s, err := json.Marshal(l); err != nil || strings.Contains(string(s), "p4ssw0rd") || strings.Contains(string(s), secretPart(operatorSecret.Reveal())) {
			t.Errorf("a secret in %s", s)
		}
		if l["outcome"] == "OK" {
			written++
			if l["who"] != "olaf" || l["target"] != "id=x" || l["method"] != rotav1.Tasks_ApplyTasks_FullMethodName {
				t.Errorf("%v", l)
			}
		} else {
			refused++
		}
	}
	if written != 2 || refused < 20 {
		t.Errorf("%d lines of writes, %d of refusals", written, refused)
	}
}

func TestOpenLocally(t *testing.T) {
	t.Parallel()
	conn := serve(t, GuardConfig{Authenticator: &Authenticator{OpenLocally: true}})
	client := rotav1.NewTasksClient(conn)
	if r, err := client.GetTask(t.Context(), &rotav1.GetTaskRequest{}); err != nil || r.GetSource() != "local" {
		t.Errorf("%v, %v", r, err)
	}
	// Credentials that are no good are no good, even here.
	if _, err := client.GetTask(with(t.Context(), "authorization", "Bearer rota_x"), &rotav1.GetTaskRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("bad credentials: %v", err)
	}
}

// TestStill: what was good when a stream began may be so no more.
func TestStill(t *testing.T) {
	t.Parallel()
	now := t0
	ts := &Tokens{}
	a := &Authenticator{Tokens: ts, Now: func() time.Time { return now }}
	tok, _ := newToken(t, Token{Expires: t0.Add(time.Hour)})
	gone, _ := newToken(t, Token{})
	ts.Update([]Token{tok, gone}, nil)
	token, deleted := Identity{Kind: ByToken, ID: tok.ID}, Identity{Kind: ByToken, ID: gone.ID}
	jwt := Identity{Kind: ByJWT, Expires: t0.Add(time.Minute)}
	worker, local := Identity{Kind: ByCert, Worker: "w"}, Identity{Kind: Local}
	check := func(when string, want map[string]bool) {
		t.Helper()
		for name, who := range map[string]Identity{"token": token, "deleted": deleted, "jwt": jwt, "worker": worker, "local": local} {
			if err := a.Still(who); (err == nil) != want[name] {
				t.Errorf("%s, %s: %v", when, name, err)
			}
		}
	}
	check("at first", map[string]bool{"token": true, "deleted": true, "jwt": true, "worker": true, "local": true})
	ts.Update(nil, []string{gone.ID})
	now = t0.Add(time.Minute)
	check("after a minute", map[string]bool{"token": true, "worker": true, "local": true})
	now = t0.Add(time.Hour)
	check("after an hour", map[string]bool{"worker": true, "local": true})
}

func TestRates(t *testing.T) {
	t.Parallel()
	var ts Tokens
	a, secretA := newToken(t, Token{Name: "a"})
	b, secretB := newToken(t, Token{Name: "b"})
	ts.Update([]Token{a, b}, nil)
	conn := serve(t, GuardConfig{Authenticator: &Authenticator{Tokens: &ts}, Limits: Limits{Rate: 1e-6, Burst: 5, Streams: 2}})
	client := rotav1.NewTasksClient(conn)
	ctxA := with(t.Context(), "authorization", "Bearer "+secretA.Reveal())
	ctxB := with(t.Context(), "authorization", "Bearer "+secretB.Reveal())
	for i := range 10 {
		want := codes.OK
		if i >= 5 {
			want = codes.ResourceExhausted
		}
		if _, err := client.GetTask(ctxA, &rotav1.GetTaskRequest{}); status.Code(err) != want {
			t.Errorf("call %d: %v", i, err)
		}
	}
	watch := func() (stop func(), err error) {
		ctx, cancel := context.WithCancel(ctxB)
		s, err := client.WatchTasks(ctx, &rotav1.WatchTasksRequest{})
		if err == nil {
			_, err = s.Recv()
		}
		return cancel, err
	}
	for i := range 2 {
		stop, err := watch()
		if err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
		defer stop()
	}
	if stop, err := watch(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one stream too many: %v", err)
	} else {
		stop()
	}
}

// TestUploads: streams on which clients go on sending are bounded for each identity
// and for all, and what has ended makes room.
func TestUploads(t *testing.T) {
	t.Parallel()
	l := newLimiter(Limits{Uploads: 2, AllUploads: 3})
	begin := func(id string, counted bool) (func(), error) {
		p, ok := l.enter("token/"+id, Identity{Kind: ByToken, ID: id}, counted, time.Now())
		if !ok {
			t.Fatal("not let in")
		}
		return l.upload(p)
	}
	end := map[int]func(){}
	for i, c := range []struct {
		id, refused string
		ended       int // before; 0 is none
	}{
		0: {id: "a"}, 1: {id: "a"},
		2: {id: "a", refused: "more than 2 concurrent client streams with these credentials"},
		3: {id: "b"},
		4: {id: "b", refused: "more than 3 concurrent client streams of all callers"},
		5: {id: "b", ended: 1},
		6: {id: "a", refused: "more than 3 concurrent client streams of all callers"},
	} {
		if c.ended > 0 {
			end[c.ended]()
		}
		give, err := begin(c.id, true)
		if end[i] = give; status.Code(err) == codes.OK != (c.refused == "") || status.Convert(err).Message() != c.refused {
			t.Errorf("%d, of %s: %v, want %q", i, c.id, err, c.refused)
		}
	}
	if _, err := begin("worker", false); err != nil {
		t.Errorf("of a worker: %v", err)
	}
	l = newLimiter(Limits{})
	if most := int64(l.limits.AllUploads) * bound.MaxMessage; most > l.limits.AllBytes {
		t.Errorf("unpaid messages may hold %d bytes, all that are paid %d", most, l.limits.AllBytes)
	}
}

// TestGivenBackOnce: what a call took is given back once, whatever comes after its end.
func TestGivenBackOnce(t *testing.T) {
	t.Parallel()
	l := newLimiter(Limits{})
	p, ok := l.enter("token/a", Identity{Kind: ByToken, ID: "a"}, true, time.Now())
	if !ok {
		t.Fatal("not let in")
	}
	if err := p.Take(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	p.End()
	p.Give(1000)
	p.End()
	if used := p.budget.used; used != 0 || p.c.bytes != 0 {
		t.Errorf("%d bytes are taken, %d by the caller", used, p.c.bytes)
	}
}

// TestStrangersRate: from one address so many calls a second may be made without
// credentials where anybody may, those of a page and no more; another address has its own.
func TestStrangersRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGuard(GuardConfig{Policy: Policy{"/open": {Public: true}}})
		let := func(addr string) (n int) {
			ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(addr), Port: 1}})
			for range 5000 {
				if _, _, err := g.Admit(ctx, "/open"); err == nil {
					n++
				}
			}
			return n
		}
		for _, addr := range []string{"10.0.0.1", "10.0.0.2"} {
			if n := let(addr); n != 1000 {
				t.Errorf("%s: %d of 5000 calls at once", addr, n)
			}
		}
		time.Sleep(time.Second)
		if n := let("10.0.0.1"); n != 100 {
			t.Errorf("a second later: %d", n)
		}
	})
}
