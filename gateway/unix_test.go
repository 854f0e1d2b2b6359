//go:build unix

package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// socketWorker is a worker on a unix socket that speaks HTTP/1 and HTTP/2 in clear.
func socketWorker(t testing.TB, path string, h http.HandlerFunc) {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, Protocols: &http.Protocols{}, ReadHeaderTimeout: patience, ErrorLog: quietLog}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
}

// Workers on sockets of the machine are called as others are, over both protocols, by
// all ways in, and are known by their path.
func TestUnixWorkers(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		for scheme, proto := range map[string]string{"unix:": "HTTP/1.1", "unix://": "HTTP/1.1", "h2c+unix:": "HTTP/2.0"} {
			t.Run(way+"/"+scheme, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "a worker.sock")
				socketWorker(t, path, func(w http.ResponseWriter, r *http.Request) {
					b, _ := io.ReadAll(r.Body)
					fmt.Fprintf(w, "%s %s %s %s", r.Proto, r.Host, r.URL.Path, b)
				})
				cfg := simple(scheme + path)
				cfg.Health.Interval = time.Millisecond
				g, addr := serve(t, cfg)
				for _, body := range []string{"", "small", strings.Repeat("x", 100_000)} {
					status, got := call(t, http.MethodPost, addr, "/run/f/x", []byte(body))
					if _, base := reach(addr); status != http.StatusOK || got != proto+" "+base[strings.LastIndex(base, "/")+1:]+" /run/f/x "+body {
						t.Errorf("%d %.100q", status, got)
					}
				}
				if w := g.Status().Workers[0]; w.State != "ready" || w.URL != strings.TrimSuffix(scheme, "//")+path {
					t.Errorf("%+v", w)
				}
			})
		}
	}
}

// A socket that is not there, or not for the gateway, makes a worker that is not ready;
// one that was started anew under the same path is called at once.
func TestUnixWorkersThatAreAway(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"nothing there": {func(*testing.T, string) {}, "no such file"},
		"a plain file": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Error(err)
			}
		}, "refused"},
		"nobody listens": {func(t *testing.T, path string) {
			ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Error(err)
				return
			}
			ln.SetUnlinkOnClose(false)
			ln.Close()
		}, "refused"},
		"not for us": {func(t *testing.T, path string) {
			socketWorker(t, path, func(http.ResponseWriter, *http.Request) {})
			if err := os.Chmod(path, 0); err != nil {
				t.Error(err)
			}
		}, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "not for us" && os.Geteuid() == 0 { // who may connect to any socket
				again(t, 65534)
				return
			}
			path := filepath.Join(t.TempDir(), "w.sock")
			tc.make(t, path)
			for _, scheme := range []string{"unix:", "h2c+unix:"} {
				g, addr := start(t, simple(scheme+path))
				if status, body := call(t, http.MethodPost, addr, "/run/f", []byte("x")); status != http.StatusBadGateway {
					t.Errorf("%s %d %q", scheme, status, body)
				}
				if w := g.Status().Workers[0]; w.State != "quarantined" || !strings.Contains(w.Cause, tc.want) || !strings.Contains(w.Cause, path) {
					t.Errorf("%s %+v, want a cause with %q", scheme, w, tc.want)
				}
			}
		})
	}
}

func TestUnixWorkerStartsAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "w.sock")
	_, addr := start(t, simple("unix:"+path))
	for i := range 3 {
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) })}
		go func() { _ = s.Serve(ln) }()
		if status, body := call(t, http.MethodPost, addr, "/run/f", []byte("x")); status != http.StatusOK || body != fmt.Sprint(i) {
			t.Errorf("%d: %d %q", i, status, body)
		}
		_ = s.Close()
	}
}

// Sockets of the machine are for its own configuration to name: not for those who may
// add workers from elsewhere, nor for members of a cluster.
func TestUnixWorkersAreNamedHereOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "w.sock")
	socketWorker(t, path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secret") })
	for _, scheme := range []string{"unix:", "unix://", "h2c+unix:"} {
		cfg := simple()
		cfg.AdminToken = "t"
		var m gateway.MemoryMembers
		m.Set(gateway.Member{Name: "m", URL: scheme + path, Functions: map[string][]string{"f": nil}})
		cfg.Members = &m
		log := &logBuffer{}
		cfg.Logger = log.logger()
		g, err := gateway.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if len(g.Status().Workers) > 0 || !strings.Contains(log.String(), "own configuration") {
			t.Errorf("a member on %s: %v, %s", scheme, g.Status().Workers, log)
		}
		g.Close()
		cfg.Members = nil
		_, addr := start(t, cfg)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/admin/workers/add?workers="+url.QueryEscape(scheme+path), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer t")
		resp, err := shared.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "own configuration") {
			t.Errorf("%s added: %d %q", scheme, resp.StatusCode, b)
		}
		if status, body := get(t, addr, "/run/f"); status != http.StatusServiceUnavailable {
			t.Errorf("%d %q", status, body)
		}
	}
}

func TestWorkerURLs(t *testing.T) {
	t.Parallel()
	for worker, want := range map[string]string{
		"unix:/run/a.sock": "", "unix:///run/a.sock": "", "h2c+unix:/run/a.sock": "", "unix:/a b%2f?c#d": "",
		"unix:": "absolute path", "unix:a.sock": "absolute path", "unix://a.sock": "absolute path", "unix:/": "absolute path", "unix:/a/": "absolute path",
		"unix://host/a": "absolute path", "unix:/" + strings.Repeat("a", 107): "107 bytes", "unix:/a\x00b": "absolute path", "unix:@abstract": "absolute path",
		"http://unix:/a": "unix:/path", "https+unix:/a": "unix:/path", "http+unix:/a": "unix:/path", "/run/a.sock": "unix:/path",
	} {
		g, err := gateway.New(simple(worker))
		if err == nil {
			g.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", worker, err, want)
		}
	}
}

// again runs the test in a process of its own as another user.
func again(t *testing.T, user uint32) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rota-again-") // that of the test is its user's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Chmod(dir, 0o777),
		os.WriteFile(filepath.Join(dir, "test"), program, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	parts := strings.Split(t.Name(), "/")
	for i, p := range parts {
		parts[i] = "^" + p + "$"
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run", strings.Join(parts, "/"))
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "PASS") {
		t.Errorf("as user %d: %v\n%s", user, err, out)
	}
}
