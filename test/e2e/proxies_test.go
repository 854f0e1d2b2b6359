//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rota-project/rota/internal/test/ports"
)

// TestStrangersBehindAProxy: nginx and HAProxy on the same machine, of the same user,
// started by the same process, that add no header, do not lend their calls a user.
// A plain script of that user, and the command, add workers as they always did.
func TestStrangersBehindAProxy(t *testing.T) {
	nginx, haproxy, curl := program(t, "nginx"), program(t, "haproxy"), program(t, "curl")
	dir := t.TempDir()
	up := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(up.Close)
	gw, viaNginx, viaHAProxy := ports.Addr(t), ports.Addr(t), ports.Addr(t)
	_, port, _ := net.SplitHostPort(gw) // it is one
	write := func(name, text string) string { return writeFile(t, dir, name, text) }
	file := write("ol.json", `{"port": `+port+`, "workers": []}`)
	spawn(t, dir, "start", "-c", file)
	ngConf := write("nginx.conf", nginxConf(dir, viaNginx, "proxy_pass http://"+gw+";"))
	haConf := write("haproxy.cfg", haproxyConf("http", viaHAProxy, "server s "+gw))
	runProxy(t, nginx, "-c", ngConf, "-e", "stderr")
	runProxy(t, haproxy, "-db", "-f", haConf)
	for _, addr := range []string{gw, viaNginx, viaHAProxy} {
		awaitHTTP(t, "http://"+addr+"/status")
	}
	add := func(addr string, more ...string) string {
		args := append([]string{"-s", "-o", filepath.Join(dir, "out"), "-w", "%{http_code}", "-X", "POST", "-H", "Host: localhost"}, more...)
		out, err := exec.CommandContext(t.Context(), curl, append(args, "http://"+addr+"/admin/workers/add?workers="+up.URL)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	for name, addr := range map[string]string{"nginx": viaNginx, "HAProxy": viaHAProxy} {
		for range 3 {
			if got := add(addr); got != "403" {
				t.Errorf("through %s: %s", name, got)
			}
		}
		if _, body := fetchText(t, http.MethodGet, "http://"+addr+"/status"); strings.Contains(body, "127.0.0.1") {
			t.Errorf("through %s: %s", name, body)
		}
	}
	if got := add(gw, "-H", "X-Forwarded-For: 10.0.0.9"); got != "403" {
		t.Errorf("for somebody else: %s", got)
	}
	if got := add(gw); got != "200" {
		t.Errorf("a script of the user: %s", got)
	}
	token, err := os.ReadFile(filepath.Join(dir, "rota", "gateway-"+port+".token"))
	if err != nil {
		t.Fatal(err)
	}
	if got := add(viaNginx, "-H", "Authorization: Bearer "+strings.TrimSpace(string(token))); got != "200" {
		t.Errorf("with the token: %s", got)
	}
	for _, verb := range []string{"add", "remove"} {
		cmd := exec.CommandContext(t.Context(), rotaBin, "workers", verb, "-c", file, up.URL)
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("workers %s: %v %s", verb, err, out)
		}
	}
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// nginxConf has nginx listen and do with all requests as location says.
func nginxConf(dir, listen, location string) string {
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	return fmt.Sprintf(`daemon off; %s pid %s/nginx.pid; error_log stderr; events {} http { access_log off;
client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
server { listen %[3]s; location / { %[4]s } } }`, user, dir, listen, location)
}

// haproxyConf has HAProxy listen in a mode, for one server.
func haproxyConf(mode, listen, backend string) string {
	return fmt.Sprintf("defaults\n mode %s\n timeout connect 10s\n timeout client 10s\n timeout server 10s\n"+
		"frontend f\n bind %s\n default_backend b\nbackend b\n %s\n", mode, listen, backend)
}

// runProxy runs a proxy until the test's end.
func runProxy(t *testing.T, argv ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

// TestProxiesThatNameClients: nginx and HAProxy on the same machine that say for whom they
// call, by Forwarded, X-Forwarded-For or a PROXY header, of version 1 and 2. Workers hear
// of the client that they name, and of none that the client names itself; nobody behind
// them is an admin without the token; and where a PROXY header is demanded nobody gets in
// without one.
func TestProxiesThatNameClients(t *testing.T) {
	nginx, haproxy, curl := program(t, "nginx"), program(t, "haproxy"), program(t, "curl")
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q", r.Header["Forwarded"], r.Header["X-Forwarded-For"])
	}))
	t.Cleanup(up.Close)
	const token = "a-token-of-this-test-only-0123456789"
	// gateway runs a gateway that believes proxies here, and those that demand.
	gateway := func(t *testing.T, dir, demand string) string {
		addr := ports.Addr(t)
		writeFile(t, dir, "admin.token", token+"\n")
		file := writeFile(t, dir, "gateway.yaml", "listen: ["+addr+"]\nworkers: ["+up.URL+"]\nadmin: {socket: "+filepath.Join(dir, "admin.sock")+
			", token_file: admin.token}\ntrusted_proxies: [127.0.0.1/32]\n"+demand)
		spawn(t, dir, "gateway", "--config", file)
		return addr
	}
	for name, run := range map[string]func(t *testing.T, dir, listen string) (gw string){
		"nginx, Forwarded": func(t *testing.T, dir, listen string) string {
			gw := gateway(t, dir, "")
			runProxy(t, nginx, "-e", "stderr", "-c", writeFile(t, dir, "nginx.conf", nginxConf(dir, listen, `proxy_set_header Host localhost; proxy_set_header X-Forwarded-For "";
proxy_set_header Forwarded "for=$remote_addr"; proxy_pass http://`+gw+";")))
			return gw
		},
		"nginx, X-Forwarded-For": func(t *testing.T, dir, listen string) string {
			gw := gateway(t, dir, "")
			runProxy(t, nginx, "-e", "stderr", "-c", writeFile(t, dir, "nginx.conf", nginxConf(dir, listen, `proxy_set_header Host localhost; proxy_set_header Forwarded "";
proxy_set_header X-Forwarded-For $remote_addr; proxy_pass http://`+gw+";")))
			return gw
		},
		"HAProxy, Forwarded": func(t *testing.T, dir, listen string) string {
			gw := gateway(t, dir, "")
			runProxy(t, haproxy, "-db", "-f", writeFile(t, dir, "haproxy.cfg", haproxyConf("http", listen,
				"http-request del-header X-Forwarded-For\n http-request set-header Forwarded for=%[src]\n server s "+gw)))
			return gw
		},
		"HAProxy, PROXY 1": func(t *testing.T, dir, listen string) string {
			gw := gateway(t, dir, "proxy_protocol: [127.0.0.1/32]\n")
			runProxy(t, haproxy, "-db", "-f", writeFile(t, dir, "haproxy.cfg", haproxyConf("tcp", listen, "server s "+gw+" send-proxy")))
			return gw
		},
		"HAProxy, PROXY 2": func(t *testing.T, dir, listen string) string {
			gw := gateway(t, dir, "proxy_protocol: [127.0.0.1/32]\n")
			runProxy(t, haproxy, "-db", "-f", writeFile(t, dir, "haproxy.cfg", haproxyConf("tcp", listen, "server s "+gw+" send-proxy-v2")))
			return gw
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, via := shortDir(t), ports.Addr(t)
			gw := run(t, dir, via)
			demanded := strings.Contains(name, "PROXY")
			awaitHTTP(t, "http://"+via+"/status")
			// ask calls from another address of this machine, as a stranger does.
			ask := func(addr string, args ...string) string {
				args = append([]string{"-s", "-m", "30", "--interface", "127.0.0.2", "-w", " %{http_code}", "-H", "Host: localhost"}, args...)
				args[len(args)-1] = "http://" + addr + args[len(args)-1]
				out, _ := exec.CommandContext(t.Context(), curl, args...).Output() // what it could not do shows in the code
				return string(out)
			}
			for _, said := range []string{"Forwarded: for=10.6.6.6", "X-Forwarded-For: 10.6.6.6", "X-Real-IP: 10.6.6.6"} {
				got := ask(via, "-H", said, "/run/f")
				if !strings.HasSuffix(got, " 200") || !strings.Contains(got, "127.0.0.2") || strings.Contains(got, "10.6.6.6") {
					t.Errorf("with %s: %s", said, got)
				}
			}
			add := []string{"-X", "POST", "/admin/workers/add?workers=" + up.URL}
			for _, more := range [][]string{nil, {"-H", "Forwarded: for=127.0.0.1"}, {"-H", "X-Forwarded-For: 127.0.0.1"}} {
				if got := ask(via, append(more, add...)...); !strings.HasSuffix(got, " 403") {
					t.Errorf("admin, with %v: %s", more, got)
				}
			}
			if got := ask(via, append([]string{"-H", "Authorization: Bearer " + token}, add...)...); !strings.HasSuffix(got, " 200") {
				t.Errorf("admin, with the token: %s", got)
			}
			if got := ask(via, "/status"); strings.Contains(got, up.URL) {
				t.Errorf("/status: %s", got)
			}
			// Past the proxy, from its own address.
			out, _ := exec.CommandContext(t.Context(), curl, "-s", "-m", "30", "-w", " %{http_code}", "http://"+gw+"/run/f").Output()
			if got := string(out); demanded == strings.HasSuffix(got, " 200") {
				t.Errorf("past the proxy: %s", got)
			}
		})
	}
}
