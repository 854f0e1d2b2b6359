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
)

// TestStrangersBehindAProxy: nginx and HAProxy on the same machine, of the same user,
// started by the same process, that add no header, do not lend their calls a user.
// A plain script of that user, and the command, add workers as they always did.
func TestStrangersBehindAProxy(t *testing.T) {
	nginx, haproxy, curl := program(t, "nginx"), program(t, "haproxy"), program(t, "curl")
	dir := t.TempDir()
	up := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(up.Close)
	gw, viaNginx, viaHAProxy := freeAddr(t), freeAddr(t), freeAddr(t)
	_, port, _ := net.SplitHostPort(gw) // it is one
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("ol.json", `{"port": `+port+`, "workers": []}`)
	spawn(t, dir, "start", "-c", file)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	ngConf := write("nginx.conf", fmt.Sprintf(`daemon off; %s pid %s/nginx.pid; error_log stderr; events {} http { access_log off;
client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
server { listen %[3]s; location / { proxy_pass http://%[4]s; } } }`, user, dir, viaNginx, gw))
	haConf := write("haproxy.cfg", fmt.Sprintf("defaults\n mode http\n timeout connect 10s\n timeout client 10s\n timeout server 10s\n"+
		"frontend f\n bind %s\n default_backend b\nbackend b\n server s %s\n", viaHAProxy, gw))
	for _, argv := range [][]string{{nginx, "-c", ngConf, "-e", "stderr"}, {haproxy, "-db", "-f", haConf}} {
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
