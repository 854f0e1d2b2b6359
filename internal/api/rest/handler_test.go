package rest_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/api/rest"
	"github.com/rota-project/rota/internal/test/fakecluster"
)

// server is the HTTP API of a fake cluster at a port of its own.
func server(t *testing.T, cfg rest.Config) (*fakecluster.Cluster, *httptest.Server) {
	t.Helper()
	cluster := fakecluster.New("w1", "w2")
	conn, stop, err := cluster.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	cfg.Conn = conn
	h, err := rest.NewHandler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return cluster, s
}

// do makes a request and returns the status and the body.
func do(t *testing.T, s *httptest.Server, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for pair := range slices.Chunk(headers, 2) {
		if pair[0] == "Host" {
			req.Host = pair[1]
		}
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(got)
}

// TestAnyID: whatever an id contains, it can be asked for, explained and deleted.
func TestAnyID(t *testing.T) {
	t.Parallel()
	ids := []string{
		"plain", "a/b", "/a", "a/", "a//b", "..", ".", "a%b", "a%2Fb", "%", "100%25", "a:b", "a:watch", ":watch", "x:apply",
		"a,b", "a?b=c", "a#b", "a+b", "ü/é", "why", "a/why", "&", "'\"<>", "{id}", "*", "a;b", "\\",
	}
	cluster, s := server(t, rest.Config{})
	for _, id := range ids {
		if err := cluster.Apply(rota.Task{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		path := "/v1/tasks/" + strings.ReplaceAll(url.PathEscape(id), ".", "%2E")
		code, body := do(t, s, http.MethodGet, path, "")
		var detail struct {
			Task struct {
				ID string `json:"id"`
			} `json:"task"`
		}
		if err := json.Unmarshal([]byte(body), &detail); err != nil || code != 200 || detail.Task.ID != id {
			t.Errorf("GET %s: %d %s (%v)", path, code, body, err)
		}
		code, body = do(t, s, http.MethodGet, path+"/why", "")
		var why struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal([]byte(body), &why); err != nil || code != 200 || why.ID != id {
			t.Errorf("GET %s/why: %d %s (%v)", path, code, body, err)
		}
		if code, body = do(t, s, http.MethodDelete, path, ""); code != 200 || body != `{"deleted":1}` {
			t.Errorf("DELETE %s: %d %s", path, code, body)
		}
		if code, _ = do(t, s, http.MethodGet, path, ""); code != 404 {
			t.Errorf("GET %s after DELETE: %d", path, code)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cluster, s := server(t, rest.Config{})
	if err := cluster.Apply(rota.Task{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		code, field        string
	}{
		{"GET", "/v1/tasks/nope", "", 404, "not_found", ""},
		{"DELETE", "/v1/tasks/nope", "", 404, "not_found", ""},
		{"POST", "/v1/workers/nope:drain", "{}", 404, "not_found", ""},
		{"GET", "/v1/nope", "", 404, "not_found", ""},
		{"GET", "/nope", "", 404, "not_found", ""},
		{"PUT", "/v1/tasks/a", "", 405, "unimplemented", ""},
		{"POST", "/healthz", "", 405, "unimplemented", ""},
		{"GET", "/v1/tasks?page_size=many", "", 400, "invalid_argument", "page_size"},
		{"GET", "/v1/tasks?pagesize=1", "", 400, "invalid_argument", "pagesize"},
		{"GET", "/v1/tasks?page_size=1;x", "", 400, "invalid_argument", ""},
		{"GET", "/v1/tasks:watch?group=a", "", 400, "invalid_argument", "group"},
		{"GET", "/v1/plan?tasks=a", "", 400, "invalid_argument", "tasks"},
		{"POST", "/v1/tasks:apply?dry_run=true", "{}", 400, "invalid_argument", "dry_run"},
		{"DELETE", "/v1/tasks/a?now=1", "", 400, "invalid_argument", "now"},
		{"GET", "/v1/tasks?group=a&group=b", "", 400, "invalid_argument", "group"},
		{"POST", "/v1/tasks:apply", `{"tasks":[{"id":"b","weigth":1}]}`, 400, "invalid_argument", "weigth"},
		{"POST", "/v1/tasks:apply", `{"tasks":[{"id":"b","weight":"x"}]}`, 400, "invalid_argument", "weight"},
		{"POST", "/v1/tasks:apply", `{"tasks":[{"id":"b"},{"id":"b"}]}`, 400, "invalid_argument", "tasks[1].id"},
		{"POST", "/v1/tasks:apply", `{"tasks":[{"id":"b","weight":-1}]}`, 400, "invalid_argument", "tasks[0].weight"},
		{"POST", "/v1/tasks:apply", `{"tasks":[{"id":"b"}]} trailing`, 400, "invalid_argument", ""},
		{"POST", "/v1/tasks:apply", `no json`, 400, "invalid_argument", ""},
	} {
		code, body := do(t, s, c.method, c.path, c.body)
		var got struct {
			Error struct {
				Code    string `json:"code"`
				Message string `json:"message"`
				Field   string `json:"field"`
			} `json:"error"`
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Errorf("%s %s: %s: %v", c.method, c.path, body, err)
			continue
		}
		if code != c.status || got.Error.Code != c.code || got.Error.Field != c.field || got.Error.Message == "" {
			t.Errorf("%s %s %s: %d %+v, want %d %s %q", c.method, c.path, c.body, code, got.Error, c.status, c.code, c.field)
		}
		if strings.ContainsAny(got.Error.Message, "\x00\u00a0\n") || strings.Contains(got.Error.Message, "strconv") {
			t.Errorf("%s %s: message %q", c.method, c.path, got.Error.Message)
		}
	}
	if _, body := do(t, s, "GET", "/v1/tasks", ""); strings.Contains(body, `"b"`) {
		t.Error("a task that was refused is there: ", body)
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	cluster, s := server(t, rest.Config{})
	code, body := do(t, s, "POST", "/v1/tasks:apply", `{"tasks":[{"id":"a","weight":2,"replicas":2},{"id":"b"}]}`)
	if code != 200 || body != `{"created":2,"changed":0,"unchanged":0}` {
		t.Fatalf("apply: %d %s", code, body)
	}
	code, body = do(t, s, "GET", "/v1/tasks?id_prefix=b", "")
	if want := `{"tasks":[{"id":"b","group":"","key":"","weight":1,"priority":0,"kind":"task","instances":[{"index":0,`; code != 200 || !strings.HasPrefix(body, want) {
		t.Errorf("list: %d %s, want %s...", code, body, want)
	}
	if code, body = do(t, s, "POST", "/v1/workers/w1:drain", ""); code != 200 || !strings.Contains(body, `"state":"draining"`) {
		t.Errorf("drain: %d %s", code, body)
	}
	if code, body = do(t, s, "POST", "/v1/plan", `{"without":["w2"]}`); code != 200 || !strings.Contains(body, `"summary":{"moves":2,`) {
		t.Errorf("plan: %d %s", code, body)
	}
	if code, body = do(t, s, "GET", "/v1/plan?without=w2&without=w1", ""); code != 200 || !strings.Contains(body, `"reason":"no worker is left"`) {
		t.Errorf("plan: %d %s", code, body)
	}
	if code, body = do(t, s, "POST", "/v1/schedule:notify", `{"reason":"test"}`); code != 200 || body != "{}" || len(cluster.Notified()) != 1 {
		t.Errorf("notify: %d %s %v", code, body, cluster.Notified())
	}
	if code, body = do(t, s, "POST", "/v1/tasks:delete", `{"ids":["a","b"]}`); code != 200 || body != `{"deleted":2}` {
		t.Errorf("delete: %d %s", code, body)
	}
}

// TestWatch reads what is, then a change as it happens, a message a line.
func TestWatch(t *testing.T) {
	t.Parallel()
	cluster, s := server(t, rest.Config{Timeout: 1}) // watches have no limit
	if err := cluster.Apply(rota.Task{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/v1/tasks:watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got := resp.Header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("content type %q", got)
	}
	lines := bufio.NewScanner(resp.Body)
	next := func() (kind, id string) {
		if !lines.Scan() {
			t.Fatal("the watch ended: ", lines.Err())
		}
		var ev struct {
			Type string `json:"type"`
			Task struct {
				ID string `json:"id"`
			} `json:"task"`
		}
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		return ev.Type, ev.Task.ID
	}
	for _, want := range []string{"set a", "synced ", "set b", "deleted a"} {
		switch want {
		case "set b":
			err = cluster.Apply(rota.Task{ID: "b"})
		case "deleted a":
			_, err = cluster.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{"a"}})
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind, id := next(); kind+" "+id != want {
			t.Errorf("got %s %s, want %s", kind, id, want)
		}
	}
}

// TestShutdown: a watch that somebody still reads does not hold up the end.
func TestShutdown(t *testing.T) {
	t.Parallel()
	conn, stop, err := fakecluster.New("w1").Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	h, err := rest.NewHandler(rest.Config{Conn: conn})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Config = rest.NewServer(h)
	s.Start()
	t.Cleanup(s.Close)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/workers:watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := s.Config.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), `{"error":{"code":"canceled"`) {
		t.Errorf("%v %s", err, body)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	_, s := server(t, rest.Config{Timeout: 1})
	if code, body := do(t, s, "GET", "/v1/status", ""); code != http.StatusGatewayTimeout || !strings.Contains(body, "deadline_exceeded") {
		t.Errorf("%d %s", code, body)
	}
}

// TestHost: a name of somebody else's that resolves to this machine is refused.
func TestHost(t *testing.T) {
	t.Parallel()
	_, s := server(t, rest.Config{Addr: "127.0.0.1:3000", Hosts: []string{"rota.example"}})
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:3000": 200, "127.0.0.1:3000": 200, "127.1.2.3": 200, "[::1]:3000": 200, "[::1]": 200, "rota.example:3000": 200,
		"evil.example": 421, "evil.example:3000": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421,
		"192.168.0.1": 421, "[::]": 421, "0.0.0.0:3000": 421,
	} {
		for _, path := range []string{"/v1/status", "/healthz"} {
			if code, body := do(t, s, "GET", path, "", "Host", host); code != want {
				t.Errorf("%s at %s: %d %s, want %d", path, host, code, body, want)
			}
		}
	}
	_, open := server(t, rest.Config{Addr: "10.0.0.1:3000"})
	for host, want := range map[string]int{"10.0.0.1:3000": 200, "203.0.113.7": 200, "localhost": 200, "rota.example": 421} {
		if code, _ := do(t, open, "GET", "/v1/status", "", "Host", host); code != want {
			t.Errorf("a server that is no loopback one, %s: %d, want %d", host, code, want)
		}
	}
}

// TestOtherOrigins: another page may neither write nor be allowed to read.
func TestOtherOrigins(t *testing.T) {
	t.Parallel()
	cluster, s := server(t, rest.Config{})
	if err := cluster.Apply(rota.Task{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	for _, headers := range [][]string{
		{"Origin", "https://evil.example"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "null"},
		{"Origin", "evil"},
		{"Origin", "about:blank"},
		{"Origin", "file://"},
		{"Origin", "null", "Sec-Fetch-Site", "same-origin"},
	} {
		if code, body := do(t, s, "POST", "/v1/tasks:delete", `{"ids":["a"]}`, headers...); code != http.StatusForbidden {
			t.Errorf("%v: %d %s", headers, code, body)
		}
		if code, body := do(t, s, "DELETE", "/v1/tasks/a", "", headers...); code != http.StatusForbidden {
			t.Errorf("%v: %d %s", headers, code, body)
		}
	}
	if code, _ := do(t, s, "GET", "/v1/tasks/a", ""); code != 200 {
		t.Error("the task is gone")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://evil.example")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("another origin is allowed to read: %q", got)
	}
	if code, body := do(t, s, "POST", "/v1/tasks:delete", `{"ids":["a"]}`, "Sec-Fetch-Site", "same-origin"); code != 200 {
		t.Errorf("the console itself: %d %s", code, body)
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	_, s := server(t, rest.Config{})
	body := bytes.Repeat([]byte(" "), bound.MaxListBody+1)
	if code, got := do(t, s, "POST", "/v1/tasks:apply", string(body)); code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", code, got)
	}
	if code, got := do(t, s, "POST", "/v1/tasks:apply", `{"tasks":[]}`+string(body[:1<<20])); code != 200 {
		t.Errorf("a body within the limit: %d %s", code, got)
	}
}

func TestBeside(t *testing.T) {
	t.Parallel()
	answer := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, text, r.URL.Path) })
	}
	_, s := server(t, rest.Config{
		Console: answer("console "), Metrics: answer("metrics "),
		Ready: func(context.Context) error { return errors.New("tasks wait") },
	})
	for path, want := range map[string]string{
		"/": "200 console /", "/main.js": "200 console /main.js", "/metrics": "200 metrics /metrics",
		"/healthz": "200 ok\n", "/readyz": `503 {"error":{"code":"unavailable","message":"tasks wait"}}` + "\n",
	} {
		code, body := do(t, s, "GET", path, "")
		if got := fmt.Sprint(code, " ", body); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	code, body := do(t, s, "GET", "/v1/openapi.json", "")
	var doc struct {
		OpenAPI string         `json:"openapi"`
		Paths   map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || code != 200 || !strings.HasPrefix(doc.OpenAPI, "3.") || doc.Paths["/v1/tasks/{id}"] == nil {
		t.Errorf("openapi.json: %d %v %v", code, err, doc)
	}
}

func TestConfigNamesTheField(t *testing.T) {
	t.Parallel()
	_, err := rest.NewHandler(rest.Config{})
	var fe *rota.FieldError
	if !errors.As(err, &fe) || fe.Field != "Conn" {
		t.Errorf("got %v", err)
	}
}

// TestSmallOnTheWire: a list and a stream of a thousand workers go compressed to who
// takes that, in a small part of what they are.
func TestSmallOnTheWire(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("worker-%04d", i))
	}
	conn, stop, err := fakecluster.New(names...).Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	h, err := rest.NewHandler(rest.Config{Conn: conn})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	for _, path := range []string{"/v1/workers", "/v1/workers:watch"} {
		sent := map[string]int{}
		for _, accept := range []string{"identity", "gzip"} {
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", accept)
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			counted := &counter{r: resp.Body}
			var body io.Reader = counted
			if resp.Header.Get("Content-Encoding") == "gzip" {
				if body, err = gzip.NewReader(counted); err != nil {
					t.Fatal(err)
				}
			}
			workers, lines := 0, bufio.NewReader(body)
			for {
				line, err := lines.ReadString('\n')
				workers += strings.Count(line, `"name":`)
				if strings.Contains(line, "synced") || err != nil {
					break
				}
			}
			if workers != len(names) || resp.Header.Get("Vary") != "Accept-Encoding" && accept == "gzip" {
				t.Errorf("%s as %s: %d workers, %v", path, accept, workers, resp.Header)
			}
			sent[accept] = counted.n
			cancel()
			_ = resp.Body.Close() // it was cut off
		}
		if sent["gzip"] == 0 || sent["gzip"] > sent["identity"]/5 {
			t.Errorf("%s: %v bytes", path, sent)
		}
	}
}

// counter counts what is read of r.
type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
