// Command peers sends the same bytes through rota's gateway, nginx, HAProxy and
// net/http's ReverseProxy, and writes what each does to docs/peers.md.
//
// make peers runs it. nginx and haproxy come from the system's packages; without
// them their columns are left out.
package main

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rota-project/rota/gateway"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: peers FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// peer is one of those compared.
type peer struct {
	name, version string
	addr          string
	worker        *worker
	stop          func()
}

func run(file string) error {
	dir, err := os.MkdirTemp("", "rota-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	var peers []*peer
	defer func() {
		for _, p := range peers {
			p.stop()
			p.worker.close()
		}
	}()
	for _, start := range []func(dir string, w *worker) (*peer, error){startRota, startNginx, startHAProxy, startReverseProxy} {
		w, err := newWorker()
		if err != nil {
			return err
		}
		p, err := start(dir, w)
		if err != nil {
			w.close()
			fmt.Fprintln(os.Stderr, "left out:", err)
			continue
		}
		p.worker = w
		peers = append(peers, p)
		if err := p.wait(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return os.WriteFile(file, []byte(page(peers)), 0o644) //nolint:gosec // a document
}

// page is the document.
func page(peers []*peer) string {
	var b strings.Builder
	b.WriteString("# The gateway compared with other proxies\n\n" +
		"Each table row is one input, sent byte for byte through each proxy in its plain configuration, in front of one worker. Made by\n" +
		"`make peers`; do not edit.\n\n")
	for _, p := range peers {
		fmt.Fprintf(&b, "- %s: %s\n", p.name, p.version)
	}
	b.WriteString("\n" +
		"A number alone is the status that the client got; the worker received nothing. `→` means that the worker received the\n" +
		"request; the part of it that matters is in brackets. *cut* means that the answer broke off, *closed* that there was none, *waits* that\n" +
		"there was none within two seconds. For broken bodies, only the status is shown: whether the worker has received the\n" +
		"request by then depends on timing.\n")
	head := "|"
	rule := "\n|---|"
	for _, p := range peers {
		head += " " + p.name + " |"
		rule += "---|"
	}
	for _, part := range []struct {
		title string
		cases []input
	}{{"Requests of clients", fromClients}, {"Answers of workers", fromWorkers}} {
		fmt.Fprintf(&b, "\n## %s\n\n| input %s%s\n", part.title, head, rule)
		for _, in := range part.cases {
			fmt.Fprintf(&b, "| %s |", in.name)
			for _, p := range peers {
				fmt.Fprintf(&b, " %s |", p.try(in))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func startRota(_ string, w *worker) (*peer, error) {
	cfg := gateway.Config{
		Hosts: []string{"a", "b", "127.0.0.1"}, Workers: []gateway.Worker{{URL: "http://" + w.addr}}, Logger: slog.New(slog.DiscardHandler),
		Defaults: gateway.Policy{Attempts: 1}, Routes: []gateway.Route{{Prefix: "/", Function: "f"}},
		Health: gateway.Health{Failures: 1 << 20},
	}
	g, err := gateway.New(cfg)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() { _ = g.Serve(ln) }()
	return &peer{name: "rota", version: "this revision", addr: ln.Addr().String(), stop: g.Close}, nil
}

func startReverseProxy(_ string, w *worker) (*peer, error) {
	u := &url.URL{Scheme: "http", Host: w.addr}
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded() }, ErrorLog: log.New(io.Discard, "", 0)}
	s := httptest.NewServer(p)
	s.Config.ErrorLog = p.ErrorLog
	out, err := exec.Command("go", "env", "GOVERSION").Output()
	if err != nil {
		return nil, err
	}
	return &peer{name: "ReverseProxy", version: strings.TrimSpace(string(out)) + ", net/http/httputil", addr: s.Listener.Addr().String(), stop: s.Close}, nil
}

func startNginx(dir string, w *worker) (*peer, error) {
	return program(dir, "nginx", "nginx.conf", fmt.Sprintf(`worker_processes 1; pid %[1]s/nginx.pid; error_log /dev/null; daemon off; events {}
http { access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
 server { listen 127.0.0.1:PORT; location / { proxy_pass http://%[2]s; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; } } }`, dir, w.addr), []string{"-v"}, "-p", dir, "-c")
}

func startHAProxy(dir string, w *worker) (*peer, error) {
	return program(dir, "haproxy", "haproxy.cfg", fmt.Sprintf(`defaults
 mode http
 timeout connect 5s
 timeout client 30s
 timeout server 30s
 option forwardfor
frontend f
 bind 127.0.0.1:PORT
 default_backend b
backend b
 server s %s
`, w.addr), []string{"-v"}, "-db", "-f")
}

// program starts one that is installed, with a configuration file as its last argument.
func program(dir, name, file, conf string, version []string, args ...string) (*peer, error) {
	bin, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(conf, "PORT", port)), 0o600); err != nil {
		return nil, err
	}
	told, err := exec.Command(bin, version...).CombinedOutput()
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(told)), "\n")
	cmd := exec.Command(bin, append(args, path)...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return &peer{name: map[string]string{"nginx": "nginx", "haproxy": "HAProxy"}[name], version: line, addr: addr, stop: stop}, nil
}

// wait waits until the peer answers.
func (p *peer) wait() error {
	var err error
	for range 200 {
		var resp *http.Response
		if resp, err = http.Get("http://" + p.addr + "/run/f"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("it answers %d", resp.StatusCode)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}
