package schedulerworker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/dynamicpb"

	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/internal/uuid"
)

// scheduler is a rota scheduler's side: registry, its gRPC server, the old HTTP API.
type scheduler struct {
	registry *Registry
	grpc     *grpc.Server
	addr     string
	http     *httptest.Server
}

func newScheduler(t *testing.T, admit func(*http.Request, string) (context.Context, error)) *scheduler {
	t.Helper()
	s := &scheduler{registry: NewRegistry(RegistryConfig{}), grpc: grpc.NewServer()}
	jobschedulerv1.RegisterSchedulerServer(s.grpc, s.registry)
	l := listen(t)
	s.addr = l.Addr().String()
	go func() { _ = s.grpc.Serve(l) }()
	s.http = httptest.NewServer(NewHandler(HandlerConfig{Backends: []Backend{s.registry}, Admit: admit}))
	t.Cleanup(func() {
		s.http.Close()
		s.grpc.Stop()
		s.registry.Close()
	})
	return s
}

// post is an old client.
func (s *scheduler) post(t *testing.T, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.http.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func object(kv ...string) string {
	m := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestOldWorker has an old worker register with a rota scheduler and an old
// client drive it.
func TestOldWorker(t *testing.T) {
	t.Parallel()
	s := newScheduler(t, nil)
	l := listen(t)
	worker := oldWorkerServer(t, l)
	conn := oldDial(t, s.addr)
	register := func() string {
		t.Helper()
		res, err := oldCall(t.Context(), conn, "Scheduler", "RegisterWorker", map[string]any{"address": l.Addr().String()})
		if err != nil || field(res, "success") != true || !uuid.Valid(field(res, "workerID").(string)) {
			t.Fatalf("%v, %v", res, err)
		}
		return field(res, "workerID").(string)
	}
	id := register()
	if again := register(); again != id || len(s.registry.List()) != 1 {
		t.Errorf("came back as %s, was %s", again, id)
	}
	const job = "11111111-2222-4333-8444-555555555555"
	for _, c := range []struct {
		path, body string
		code       int
		want       string
	}{
		{"/start", object("worker_id", id, "command", "bash", "path", "count.sh"), 201, `{"job_id":"` + job + `"}`},
		{"/query", object("worker_id", id, "job_id", job), 200, `{"done":false,"error":false,"error_text":""}`},
		{"/stream", object("worker_id", id, "job_id", job), 200, "1\n2\n3"},
		{"/stop", object("worker_id", id, "job_id", job), 200, `{"success":true}`},
		{"/query", object("worker_id", id, "job_id", job), 200, `{"done":true,"error":true,"error_text":"signal: killed"}`},
		{"/stop", object("worker_id", id, "job_id", job), 200, `{"success":true}`},
		{"/start", object("worker_id", "x", "command", "bash"), 500, `{"error":"worker not found"}`},
		{"/stop", object("worker_id", "", "job_id", job), 500, `{"error":"worker not found"}`},
		{"/query", object("worker_id", uuid.New(time.Now()), "job_id", job), 500, `{"error":"worker not found"}`},
		{"/stream", object("worker_id", "x", "job_id", job), 500, `{"error":"worker not found"}`},
		{"/query", object("worker_id", id, "job_id", "x"), 500, `{"error":"job not found"}`},
		{"/stop", object("worker_id", id, "job_id", "x"), 500, `{"error":"job not found"}`},
		{"/stream", object("worker_id", id, "job_id", "x"), 500, `{"error":"job not found"}`},
		{"/start", object("worker_id", id, "command", "nope"), 500, `{"error":"exec: \"nope\": executable file not found in $PATH"}`},
		{"/start", object("worker_id", id, "path", "count.sh"), 500, `{"error":"command: want one; it is missing"}`},
		{"/start", object("worker_id", id, "command", " "), 500, `{"error":"command: want one; it is missing"}`},
		{"/start", "garbage", 500, `{"error":"body: want a JSON object"}`},
		{"/start", `{"worker_id":1}`, 500, `{"error":"body: want a JSON object"}`},
		{"/start", `{"worker_id":"` + strings.Repeat("x", MaxBody) + `"}`, 413, `{"error":"body: http: request body too large"}`},
		{"/elsewhere", "{}", 404, `{"error":"no such call"}`},
	} {
		if code, got := s.post(t, c.path, c.body); code != c.code || got != c.want {
			t.Errorf("%s %.80s: %d %s, want %d %s", c.path, c.body, code, got, c.code, c.want)
		}
	}
	get, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.http.URL+"/stream?worker_id="+id+"&job_id="+job, nil)
	if code, got := do(t, get); code != 200 || got != "1\n2\n3" {
		t.Errorf("stream by GET: %d %s", code, got)
	}
	get, _ = http.NewRequestWithContext(t.Context(), http.MethodGet, s.http.URL+"/start", nil)
	if code, _ := do(t, get); code != 405 {
		t.Errorf("start by GET: %d", code)
	}

	// It dies without a word.
	worker.Stop()
	for s.registry.Has(id) {
		select {
		case <-t.Context().Done():
			t.Fatal("a dead worker stays listed")
		case <-time.After(time.Millisecond):
		}
	}
	if code, got := s.post(t, "/query", object("worker_id", id, "job_id", job)); code != 500 || got != `{"error":"worker not found"}` {
		t.Errorf("after its death: %d %s", code, got)
	}
	for _, unknown := range []string{id, "", "x", uuid.New(time.Now())} {
		if _, err := oldCall(t.Context(), conn, "Scheduler", "DeregisterWorker", map[string]any{"workerID": unknown}); err != nil {
			t.Errorf("deregister of %q, which is not there: %v", unknown, err)
		}
	}
}

func TestRegister(t *testing.T) {
	t.Parallel()
	s := newScheduler(t, nil)
	conn := oldDial(t, s.addr)
	for _, bad := range []string{"", "x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:0", "127.0.0.1:70000", strings.Repeat("x", 1000)} {
		if _, err := oldCall(t.Context(), conn, "Scheduler", "RegisterWorker", map[string]any{"address": bad}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	// One that names no host is where it calls from.
	l := listen(t)
	oldWorkerServer(t, l)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	res, err := oldCall(t.Context(), conn, "Scheduler", "RegisterWorker", map[string]any{"address": "0.0.0.0:" + port})
	if err != nil {
		t.Fatal(err)
	}
	if list := s.registry.List(); len(list) != 1 || list[0].Address != l.Addr().String() {
		t.Errorf("%+v", list)
	}
	if res, err := oldCall(t.Context(), conn, "Scheduler", "DeregisterWorker", map[string]any{"workerID": field(res, "workerID")}); err != nil || field(res, "success") != true || len(s.registry.List()) != 0 {
		t.Errorf("%v, %v", res, err)
	}
}

func newRunner(t *testing.T) (*runner.Runner, string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"count.sh": "echo 1; echo 2 >&2; printf '\\303'; printf '\\251\\377\\n'", "fail.sh": "exit 3", "sleep.sh": "echo up; exec sleep 1000",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := runner.New(runner.Config{Dir: t.TempDir(), Allow: runner.Allow{
		Dirs: []string{dir}, Commands: []runner.Command{{Argv: []string{"bash", "{script:path}"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		r.Close(now)
	})
	return r, dir
}

// lines hands over what is written, line by line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// TestOldScheduler has a rota worker register with an old scheduler, which then
// drives it.
func TestOldScheduler(t *testing.T) {
	t.Parallel()
	r, _ := newRunner(t)
	l := ports.Listen(t)
	old, first := oldSchedulerServer(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	ended, news := make(chan error, 1), make(lines, 100)
	go func() {
		ended <- Attach(ctx, AttachConfig{
			Runner: r, Listener: listen(t), Scheduler: l.Addr().String(), Log: slog.New(slog.NewTextHandler(news, nil)),
		})
	}()
	conn := oldDial(t, old.address(<-old.registered))
	call := func(method string, req map[string]any) (*dynamicpb.Message, error) {
		return oldCall(t.Context(), conn, "Worker", method, req)
	}
	start := func(path string) string {
		t.Helper()
		res, err := call("StartJob", map[string]any{"command": "bash", "path": path})
		if err != nil || !uuid.Valid(field(res, "jobID").(string)) {
			t.Fatalf("%v, %v", res, err)
		}
		return field(res, "jobID").(string)
	}
	query := func(id string) string {
		t.Helper()
		res, err := call("QueryJob", map[string]any{"jobID": id})
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal([]any{field(res, "done"), field(res, "error"), field(res, "errorText")})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	id := start("count.sh")
	out, err := oldStream(t.Context(), conn, id)
	if !errors.Is(err, io.EOF) || !strings.Contains(out, "1\n") || !strings.Contains(out, "2\n") || !strings.Contains(out, "é\uFFFD\n") {
		t.Errorf("output %q, %v", out, err)
	}
	wait := func(id string) {
		t.Helper()
		if _, err := oldStream(t.Context(), conn, id); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		for st, _ := r.Status(id, generation); !st.State.Done(); st, _ = r.Status(id, generation) {
		}
	}
	wait(id)
	if got := query(id); got != `[true,false,""]` {
		t.Errorf("ended well: %s", got)
	}
	failed := start("fail.sh")
	wait(failed)
	if got := query(failed); got != `[true,true,"exit status 3"]` {
		t.Errorf("failed: %s", got)
	}
	long := start("sleep.sh")
	if got := query(long); got != `[false,false,""]` {
		t.Errorf("running: %s", got)
	}
	if _, err := call("StopJob", map[string]any{"jobID": long}); err != nil {
		t.Error(err)
	}
	wait(long)
	if got := query(long); got != `[true,true,"signal: killed"]` {
		t.Errorf("stopped: %s", got)
	}
	for name, c := range map[string]struct {
		method string
		req    map[string]any
		want   codes.Code
	}{
		"stop of none":  {"StopJob", map[string]any{"jobID": "x"}, codes.NotFound},
		"query of none": {"QueryJob", map[string]any{"jobID": "x"}, codes.NotFound},
		"not allowed":   {"StartJob", map[string]any{"command": "ls", "path": "/"}, codes.PermissionDenied},
		"elsewhere":     {"StartJob", map[string]any{"command": "bash", "path": "/etc/passwd"}, codes.PermissionDenied},
		"nothing":       {"StartJob", map[string]any{}, codes.InvalidArgument},
	} {
		if _, err := call(c.method, c.req); status.Code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := call("StopJob", map[string]any{"jobID": long}); err != nil {
		t.Errorf("stop of an ended job: %v", err)
	}
	if _, err := oldStream(t.Context(), conn, "x"); status.Code(err) != codes.NotFound {
		t.Errorf("stream of none: %v", err)
	}

	// It registers once, and again when the old scheduler restarts and has
	// forgotten its workers; it leaves under the id that it was given last.
	first.Stop()
	if n := len(old.registered); n > 0 {
		t.Errorf("registered %d times more for nothing", n)
	}
	l2, err := net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	again, _ := oldSchedulerServer(t, l2)
	id = <-again.registered
	for !strings.Contains(<-news, id) {
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := <-again.left; got != id {
		t.Errorf("left as %q, was %q", got, id)
	}
}

// TestAttachRefused wants an answer without an id to be a refusal, and the worker
// to ask again.
func TestAttachRefused(t *testing.T) {
	t.Parallel()
	r, _ := newRunner(t)
	l := listen(t)
	asked := make(chan struct{}, 100)
	oldServer(t, l, "Scheduler", map[string]oldHandler{
		"RegisterWorker": func(context.Context, *dynamicpb.Message) (map[string]any, error) {
			asked <- struct{}{}
			return map[string]any{"success": true}, nil
		},
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Attach(ctx, AttachConfig{Runner: r, Listener: listen(t), Scheduler: l.Addr().String()})
	}()
	<-asked
	<-asked
	cancel()
	if err := <-ended; err != nil { // it was never registered, so it does not leave
		t.Error(err)
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	refusal := codes.OK
	s := newScheduler(t, func(r *http.Request, method string) (context.Context, error) {
		if method != paths[r.URL.Path] {
			t.Errorf("%s as %s", r.URL.Path, method)
		}
		if refusal == codes.OK {
			return r.Context(), nil
		}
		return nil, status.Error(refusal, "no")
	})
	for code, want := range map[codes.Code]int{
		codes.Unauthenticated: 401, codes.PermissionDenied: 403, codes.ResourceExhausted: 429, codes.NotFound: 404, codes.OK: 500,
	} {
		refusal = code
		for path := range paths {
			if got, text := s.post(t, path, "{}"); got != want {
				t.Errorf("%s with %v: %d %s", path, code, got, text)
			}
		}
	}
}

func TestAnswerOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state job.State
		res   job.Result
		want  Answer
	}{
		{job.Queued, job.Result{}, Answer{}},
		{job.Running, job.Result{}, Answer{}},
		{job.Succeeded, job.Result{}, Answer{Done: true}},
		{job.Failed, job.Result{ExitCode: 2}, Answer{true, true, "exit status 2"}},
		{job.Stopped, job.Result{ExitCode: -1, Signal: "killed"}, Answer{true, true, "signal: killed"}},
		{job.Failed, job.Result{ExitCode: -1, Error: "no such file"}, Answer{true, true, "no such file"}},
		{job.Stopped, job.Result{}, Answer{true, true, "stopped"}},
		{job.Lost, job.Result{ExitCode: -1}, Answer{true, true, "lost"}},
	} {
		if got := AnswerOf(c.state, c.res); got != c.want {
			t.Errorf("%s %+v: %+v", c.state, c.res, got)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("aé€𝄞\xff"), 2)
	f.Add([]byte("\xf0\x9d\x84"), 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = max(1, min(size, 10))
		var s textStream
		var got strings.Builder
		for rest := b; len(rest) > 0; {
			n := min(size, len(rest))
			got.WriteString(s.next(rest[:n]))
			rest = rest[n:]
		}
		got.WriteString(s.rest())
		// The pieces may break a run of what is no text into several marks.
		squeeze := func(s string) string {
			for strings.Contains(s, "\uFFFD\uFFFD") {
				s = strings.ReplaceAll(s, "\uFFFD\uFFFD", "\uFFFD")
			}
			return s
		}
		want := string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
		if squeeze(got.String()) != squeeze(want) {
			t.Errorf("%q in pieces of %d became %q", b, size, got.String())
		}
	})
}
