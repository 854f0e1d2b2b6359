package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/door"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
)

// bearers are the credentials that no method takes.
func (c *closed) bearers() map[string]string {
	viewer := c.secrets[auth.Viewer].Reveal()
	return map[string]string{
		"nothing": "", "a token cut short": "Bearer " + viewer[:30], "a token of nobody": "Bearer rota_0123456789abcdef_x_" + viewer[len(viewer)-8:],
		"a JWT where none are taken": "Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln", "another scheme": "Basic YTpi",
	}
}

// TestRefusedBeforeTheBody: whoever may not call is told so when nothing but the
// header has come, on every route and by every method.
func TestRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	conf := c.source(t, pki.Request{}).Client("", "http/1.1")
	routes := c.routes(t, conf)
	for name, bearer := range c.bearers() {
		t.Run(name+" over HTTP", func(t *testing.T) {
			t.Parallel()
			for _, r := range routes {
				for _, length := range []string{"Content-Length: 62914560", "Transfer-Encoding: chunked"} {
					if code, text := c.header(t, conf, r.method, r.path, length, bearer); code != http.StatusUnauthorized {
						t.Errorf("%s %s, %s: %d %s", r.method, r.path, length, code, text)
					}
				}
			}
		})
		t.Run(name+" over gRPC", func(t *testing.T) {
			t.Parallel()
			conn := c.dial(t, c.source(t, pki.Request{}).Credentials(""))
			for i, m := range c.Methods() {
				if server.Policy()[m].Public {
					continue
				}
				if i%20 == 19 { // a connection takes some refusals and no more
					conn = c.dial(t, c.source(t, pki.Request{}).Credentials(""))
				}
				if err := c.open(t, conn, m, bearer); status.Code(err) != codes.Unauthenticated {
					t.Errorf("%s: %v", m, err)
				}
			}
		})
	}
	t.Run("a viewer", func(t *testing.T) {
		t.Parallel()
		viewer := "Bearer " + c.secrets[auth.Viewer].Reveal()
		for _, r := range routes {
			if r.method == http.MethodPost && r.path != "/v1/plan" && r.path != "/v1/tasks:read" && r.path != "/v1/signin" && r.path != "/query" && r.path != "/stream" {
				if code, text := c.header(t, conf, r.method, r.path, "Content-Length: 62914560", viewer); code != http.StatusForbidden {
					t.Errorf("%s %s: %d %s", r.method, r.path, code, text)
				}
			}
		}
		conn := c.dial(t, c.source(t, pki.Request{}).Credentials(""))
		for m, rule := range server.Policy() {
			if rule.Role > auth.Viewer && strings.HasPrefix(m, "/rota.v1.") {
				if err := c.open(t, conn, m, viewer); status.Code(err) != codes.PermissionDenied {
					t.Errorf("%s: %v", m, err)
				}
			}
		}
	})
}

// header sends the header of a request, and waits for the answer without ever
// sending the body.
func (c *closed) header(t *testing.T, conf *tls.Config, method, path, length, bearer string) (int, string) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", strings.TrimPrefix(c.http, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	header := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", method, path, length)
	if bearer != "" {
		header += "Authorization: " + bearer + "\r\n"
	}
	if _, err := io.WriteString(conn, header+"\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s %s: no answer: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// open begins a call, and waits for the answer without ever sending the message.
func (c *closed) open(t *testing.T, conn *grpc.ClientConn, method, bearer string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if bearer != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", bearer)
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	return s.RecvMsg(&rotav1.NotifyScheduleResponse{})
}

// TestMessagesAreBounded: what is too large, too long or too much names the limit,
// over HTTP and gRPC, from whoever it comes.
func TestMessagesAreBounded(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{Limits: auth.Limits{Bytes: 20 << 20}})
	conf := c.source(t, pki.Request{}).Client("")
	operator := "Bearer " + c.secrets[auth.Operator].Reveal()
	empty := `{"tasks":[` + strings.TrimSuffix(strings.Repeat("{},", bound.Lists["rota.v1.ApplyTasksRequest.tasks"]+1), ",") + `]}`
	for name, b := range map[string]struct {
		path, body string
		code       int
		text       string
	}{
		"a list":               {"/v1/tasks:apply", empty, 400, `"field":"tasks"`},
		"its limit":            {"/v1/tasks:apply", empty, 400, `at most 100000 entries`},
		"a list within":        {"/v1/tasks:apply", `{"tasks":[{"id":"a","affinity":[` + strings.TrimSuffix(strings.Repeat("{},", 1001), ",") + `]}]}`, 400, `at most 1000 entries`},
		"a large list":         {"/v1/tasks:apply", strings.Repeat(" ", bound.MaxListBody+1), 413, fmt.Sprint(bound.MaxListBody)},
		"a large other":        {"/v1/jobs", strings.Repeat(" ", bound.MaxBody+1), 413, fmt.Sprint(bound.MaxBody)},
		"memory for a few MiB": {"/v1/tasks:apply", `{"tasks":[` + strings.TrimSuffix(strings.Repeat(`{"affinity":[{},{},{},{},{},{},{},{}]},`, 50_000), ",") + `]}`, 429, "at most 20971520 are allowed"},
	} {
		if code, text := c.ask(t, conf, http.MethodPost, b.path, b.body, "Authorization", operator); code != b.code || !strings.Contains(text, b.text) {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", operator)
	tasks := rotav1.NewTasksClient(c.dial(t, c.source(t, pki.Request{}).Credentials(""), grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30))))
	list := func(n int, d *rotav1.TaskDefinition) *rotav1.ApplyTasksRequest {
		r := &rotav1.ApplyTasksRequest{DryRun: true}
		for range n {
			r.Tasks = append(r.Tasks, d)
		}
		return r
	}
	for name, r := range map[string]struct {
		req  *rotav1.ApplyTasksRequest
		code codes.Code
		text string
	}{
		"a list":        {list(100_001, &rotav1.TaskDefinition{}), codes.InvalidArgument, "tasks: 100001: want at most 100000 entries"},
		"a list within": {list(1, &rotav1.TaskDefinition{Require: make([]string, 1001)}), codes.InvalidArgument, "require: 1001: want at most 1000 entries"},
		"much memory":   {list(50_000, &rotav1.TaskDefinition{Require: make([]string, 8)}), codes.ResourceExhausted, "at most 20971520 are allowed"},
		"a message":     {list(1, &rotav1.TaskDefinition{Payload: strings.Repeat("x", bound.MaxMessage)}), codes.ResourceExhausted, fmt.Sprint(bound.MaxMessage)},
	} {
		if _, err := tasks.ApplyTasks(ctx, r.req); status.Code(err) != r.code || !strings.Contains(status.Convert(err).Message(), r.text) {
			t.Errorf("gRPC, %s: %v", name, err)
		}
	}
	much := metadata.AppendToOutgoingContext(ctx, "x-much", strings.Repeat("x", 40<<10))
	if _, err := tasks.GetTask(much, &rotav1.GetTaskRequest{Id: "x"}); err == nil || status.Code(err) == codes.NotFound {
		t.Errorf("40 KiB of metadata: %v", err)
	}
	if code, _ := c.ask(t, conf, http.MethodGet, "/v1/status", "", "Authorization", operator, "X-Much", strings.Repeat("x", 40<<10)); code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("40 KiB of header: %d", code)
	}
	// All of it is given back.
	for range 20 {
		if code, text := c.ask(t, conf, http.MethodPost, "/v1/tasks:apply", `{"dry_run":true,"tasks":[]}`+strings.Repeat(" ", 4<<20), "Authorization", operator); code != 200 {
			t.Fatalf("after all that: %d %s", code, text)
		}
		if _, err := tasks.ApplyTasks(ctx, list(1, &rotav1.TaskDefinition{Id: "a", Payload: strings.Repeat("x", 60<<10)})); err != nil {
			t.Fatalf("after all that: %v", err)
		}
	}
}

// TestUploadsHoldTheirBudget: who sends slowly holds up only what its credentials
// may hold, and others not at all.
func TestUploadsHoldTheirBudget(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{Limits: auth.Limits{Bytes: 20 << 20}})
	conf := c.source(t, pki.Request{}).Client("", "http/1.1")
	operator, admin := "Bearer "+c.secrets[auth.Operator].Reveal(), "Bearer "+c.secrets[auth.Admin].Reveal()
	conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", strings.TrimPrefix(c.http, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "POST /v1/tasks:apply HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", operator, 16<<20); err != nil {
		t.Fatal(err)
	}
	// The server says that it reads, so it has paid.
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("%q, %v", line, err)
	}
	body := `{"dry_run":true,"tasks":[]}` + strings.Repeat(" ", 4<<20+1<<19)
	if code, text := c.ask(t, conf, http.MethodPost, "/v1/tasks:apply", body, "Authorization", operator); code != 429 || !strings.Contains(text, "of these credentials would hold") {
		t.Errorf("beside a slow upload with the same credentials: %d %s", code, text)
	}
	if code, text := c.ask(t, conf, http.MethodPost, "/v1/tasks:apply", body, "Authorization", admin); code != 200 {
		t.Errorf("with others: %d %s", code, text)
	}
	if code, text := c.ask(t, conf, http.MethodGet, "/v1/status", "", "Authorization", operator); code != 200 {
		t.Errorf("what holds nothing: %d %s", code, text)
	}
}

// TestProbesHaveTheirOwn: no rate of anybody makes a probe fail, not even that of
// probes.
func TestProbesHaveTheirOwn(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{Limits: auth.Limits{Rate: 1e-9, Burst: 1, Streams: 1}})
	conf := c.source(t, pki.Request{}).Client("")
	for range 3 {
		c.ask(t, conf, http.MethodGet, "/v1/openapi.json", "")
	}
	if code, _ := c.ask(t, conf, http.MethodGet, "/v1/openapi.json", ""); code != 429 {
		t.Errorf("what anybody may have, too often: %d", code)
	}
	health := healthv1.NewHealthClient(c.dial(t, c.source(t, pki.Request{}).Credentials("")))
	for range 20 {
		for _, path := range []string{"/healthz", "/readyz"} {
			if code, text := c.ask(t, conf, http.MethodGet, path, ""); code != 200 {
				t.Errorf("%s: %d %s", path, code, text)
			}
		}
		if _, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
			t.Error(err)
		}
	}
}

// TestStrangersCalls: a connection without credentials has few calls, and is
// closed when too many of them were refused.
func TestStrangersCalls(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	creds := c.source(t, pki.Request{}).Credentials("")
	conn := c.dial(t, creds)
	var streams []grpc.ClientStream
	for range 6 {
		s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, healthv1.Health_Check_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	if err := streams[5].RecvMsg(&healthv1.HealthCheckResponse{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the sixth call at once: %v", err)
	}
	if err := streams[0].SendMsg(&healthv1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	if err := streams[0].CloseSend(); err != nil {
		t.Error(err)
	}
	if err := streams[0].RecvMsg(&healthv1.HealthCheckResponse{}); err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := streams[1].RecvMsg(&healthv1.HealthCheckResponse{}); err == nil {
		t.Error("a call that never comes to its message goes on")
	}
	last := error(nil)
	for range 200 {
		if last = c.open(t, conn, rotav1.Tasks_GetTask_FullMethodName, ""); status.Code(last) != codes.Unauthenticated {
			break
		}
	}
	if status.Code(last) != codes.Unavailable {
		t.Errorf("after two hundred refusals: %v", last)
	}
	token := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Viewer].Reveal())
	known := rotav1.NewTasksClient(c.dial(t, creds))
	for range 200 {
		if _, err := known.ApplyTasks(token, &rotav1.ApplyTasksRequest{}); status.Code(err) != codes.PermissionDenied {
			t.Fatalf("somebody who is known: %v", err)
		}
	}
}

// TestRefusalsAreSampled: a flood of refusals is a few lines and a count, and each
// of somebody who is known is told.
func TestRefusalsAreSampled(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	handler := slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil)
	c := newClosed(t, server.Config{Scheduler: scheduler.Config{Logger: slog.New(handler)}})
	conf := c.source(t, pki.Request{}).Client("")
	began := time.Now()
	for i := range 200 {
		c.ask(t, conf, http.MethodGet, "/v1/status", "")
		if i%4 == 0 {
			c.ask(t, conf, http.MethodPost, "/v1/tasks:apply", "{}", "Authorization", "Bearer "+c.secrets[auth.Viewer].Reveal())
		}
	}
	time.Sleep(1100 * time.Millisecond) // one more may be told
	c.ask(t, conf, http.MethodGet, "/v1/status", "")
	told := 21 + int(time.Since(began)/time.Second)
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "kind=anonymous"); n < 20 || n > told+1 {
		t.Errorf("%d lines of strangers, at most %d are to be told", n, told)
	}
	if n := strings.Count(log.String(), "who=viewer"); n != 50 {
		t.Errorf("%d lines of a viewer", n)
	}
	if !strings.Contains(log.String(), "left_out=") {
		t.Error("nobody says how many were left out")
	}
}

// TestFailedJoinsAreSampled: who tries one join token after the other, as anybody may, is
// some lines in the log with a count, and has to connect again and again.
func TestFailedJoinsAreSampled(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	handler := slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil)
	c := newClosed(t, server.Config{Scheduler: scheduler.Config{Logger: slog.New(handler)}})
	var dials atomic.Int32
	conn := c.dial(t, c.source(t, pki.Request{}).Credentials(""), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}))
	began := time.Now()
	const tries = 300
	tokens := []string{"nonsense", auth.NewJoinToken("w", "").Text().Reveal()}
	for n := range tries {
		_, err := rotav1.NewPoolJoinClient(conn).JoinWorker(t.Context(), &rotav1.JoinWorkerRequest{Token: tokens[n%2], PublicKey: []byte("x")}, grpc.WaitForReady(true))
		if err == nil {
			t.Fatal("it may join")
		}
	}
	told := 22 + int(time.Since(began)/time.Second)
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "kind=anonymous"); n < 20 || n > told {
		t.Errorf("%d lines, at most %d are to be told", n, told)
	}
	if n := int(dials.Load()); n < tries/door.DefaultRefusals/2 {
		t.Errorf("%d connections for %d tries", n, tries)
	}
}

// TestFirstWords: each kind of beginning that does not go on ends with the
// patience for it, on both ports.
func TestFirstWords(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{Patience: time.Second})
	src := c.source(t, pki.Request{})
	for name, b := range map[string]struct {
		addr  string
		proto string // empty: no handshake
		said  string
		drip  string
	}{
		"a link that says nothing more":     {c.grpc, "h2", "\x01", ""},
		"a link that goes on for ever":      {c.grpc, "h2", "\x01", "\x00"},
		"gRPC without a preface":            {c.grpc, "h2", "PRI * HT", ""},
		"gRPC's preface and no settings":    {c.grpc, "h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		"half a handshake":                  {c.grpc, "", "\x16\x03\x01\x01\x00\x01", ""},
		"a handshake that goes on for ever": {c.grpc, "", "\x16\x03\x01\x40\x00\x01\x00\x3f\xfc", "\x00"},
		"HTTP/2 without a request":          {strings.TrimPrefix(c.http, "https://"), "h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", ""},
		"HTTP/2 pings without a request":    {strings.TrimPrefix(c.http, "https://"), "h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"},
		"half a header":                     {strings.TrimPrefix(c.http, "https://"), "http/1.1", "GET / HTTP/1.1\r\nHost: ", ""},
		"a header that goes on for ever":    {strings.TrimPrefix(c.http, "https://"), "http/1.1", "GET / HTTP/1.1\r\nX: ", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if b.proto != "" {
				config := src.Client("", b.proto)
				config.ServerName = "127.0.0.1"
				conn = tls.Client(conn, config)
			}
			if _, err := io.WriteString(conn, b.said); err != nil {
				t.Fatal(err)
			}
			if b.drip != "" {
				go func() {
					for {
						if _, err := io.WriteString(conn, b.drip); err != nil {
							return
						}
						time.Sleep(50 * time.Millisecond)
					}
				}()
			}
			if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			var slow net.Error
			if _, err := io.Copy(io.Discard, conn); errors.As(err, &slow) && slow.Timeout() {
				t.Error("it is still open")
			}
		})
	}
}
