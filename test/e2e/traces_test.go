//go:build linux

package e2e

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/tracing/otlptest"
)

// TestTraces: a real cluster sends a collector the spans of what is asked of it, those of
// all its processes within one trace, and those of the caller.
func TestTraces(t *testing.T) {
	t.Parallel()
	c := otlptest.Start(t)
	dir := t.TempDir()
	const caller, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	d := start(t, []string{"HOME=" + dir, "TMPDIR=" + dir, "OTEL_BSP_SCHEDULE_DELAY=100"}, rotaBin, "dev", "--insecure", "--workers", "1",
		"--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"),
		"--otlp-endpoint", c.GRPC, "--trace-callers")
	url := d.find(t, `functions (http://\S+/run/hello)`, 2*time.Minute)[1]
	ask := func(method, url, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Traceparent", "00-"+caller+"-"+span+"-01")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %d, %v: %s", method, url, resp.StatusCode, err, answer)
		}
		return string(answer)
	}
	ends := func(what, service, name, path string) {
		t.Helper()
		var s otlptest.Span
		spans := c.Await(t, what, func(spans []otlptest.Span) (ok bool) {
			s, ok = otlptest.Find(spans, service, name)
			return ok && otlptest.Path(spans, s) == path
		})
		if s.Trace != caller || s.Failed {
			t.Errorf("%s: %+v", what, s)
		}
		top, _ := otlptest.Find(spans, strings.SplitN(path, ": ", 2)[0], strings.TrimPrefix(strings.Split(path, " > ")[0], "rota-scheduler: "))
		if top.Parent != span {
			t.Errorf("%s begins below %q", what, top.Parent)
		}
	}

	await(t, 2*time.Minute, "the worker offers the function", func() bool {
		status, _ := fetchText(t, http.MethodGet, url)
		return status != http.StatusServiceUnavailable
	})
	ask(http.MethodPost, url, `{"name": "moon"}`)
	ends("a call", "rota-worker", "POST /run/hello", "rota-scheduler: POST /run/{function} > rota-scheduler: POST > rota-worker: POST /run/hello")

	for _, part := range []string{"event", "plan", "commit", "acknowledge"} {
		c.Await(t, "a pass has the part "+part, func(spans []otlptest.Span) bool {
			s, ok := otlptest.Find(spans, "rota-scheduler", part)
			return ok && otlptest.Path(spans, s) == "rota-scheduler: pass > rota-scheduler: "+part
		})
	}

	c.Await(t, "a task is begun by a pass", func(spans []otlptest.Span) bool {
		s, ok := otlptest.Find(spans, "rota-worker", "task start")
		return ok && otlptest.Path(spans, s) == "rota-scheduler: pass > rota-worker: task start"
	})

	api := d.find(t, `HTTP API  (http://\S+)/v1/status`, 2*time.Minute)[1]
	ask(http.MethodPost, api+"/v1/jobs", `{"job": {"argv": ["echo", "secret"]}}`)
	ends("a job that is placed", "rota-scheduler", "job placed", "rota-scheduler: job asked > rota-scheduler: job placed")
	ends("a job that runs", "rota-worker", "job run", "rota-scheduler: job asked > rota-worker: job run")
	ends("a job that exits", "rota-scheduler", "job exit", "rota-scheduler: job asked > rota-scheduler: job exit")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	for _, name := range []string{"rota_gateway_call_seconds_bucket", "rota_job_wait_seconds_bucket", "rota_job_run_seconds_bucket"} {
		if !regexp.MustCompile(name + `\{[^}]*\} \d+ # \{trace_id="[0-9a-f]{32}"\}`).Match(text) {
			t.Errorf("%v: no exemplar of %s", err, name)
		}
	}
	// A worker that an engine starts sends its spans as its scheduler does.
	pool := filepath.Join(dir, "pool.yaml")
	if err := os.WriteFile(pool, []byte("{name: traced, engine: local, size: 1, template: {command: [rota, worker, --job, date]}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"pool", "apply", "-f", pool}, {"job", "run", "--label", "pool=traced", "--", "date"}} {
		if status, text := run(t, strings.TrimPrefix(d.find(t, `gRPC API  (\S+)`, time.Minute)[1], "http://"), args...); status != 0 {
			t.Fatalf("rota %s: %d: %s", args, status, text)
		}
	}
	c.Await(t, "a job on a worker of a pool", func(spans []otlptest.Span) bool {
		return slices.ContainsFunc(spans, func(s otlptest.Span) bool {
			return s.Service == "rota-worker" && s.Name == "job run" && s.Attributes["process.command"] == "date"
		})
	})
	for _, s := range c.Spans() {
		if s.Name == "job run" && (s.Attributes["process.exit.code"] != "0" || s.Attributes["process.command"] != "echo" && s.Attributes["process.command"] != "date") {
			t.Errorf("%+v", s)
		}
	}
}
