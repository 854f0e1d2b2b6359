package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// gateway is one of those measured.
type gateway struct {
	name        string
	http, https int // ports; https 0 if it has none here
	start       func(*lab, *gateway) (*exec.Cmd, error)
	cmd         *exec.Cmd
}

func gateways() []*gateway {
	return []*gateway{
		{name: "nginx", start: startNginx},
		{name: "rota", start: startRota},
		{name: "HAProxy", start: startHAProxy},
		{name: "Caddy", start: startCaddy},
		{name: "httputil.ReverseProxy, tuned", start: startReverseProxy},
	}
}

func (l *lab) start(g *gateway) (err error) {
	if g.http, err = port(); err != nil {
		return err
	}
	if g.https, err = port(); err != nil {
		return err
	}
	if g.cmd, err = g.start(l, g); err != nil {
		return err
	}
	return answers(g.http)
}

func startNginx(l *lab, g *gateway) (*exec.Cmd, error) {
	var ups strings.Builder
	for _, p := range l.ups {
		fmt.Fprintf(&ups, "server 127.0.0.1:%d; ", p)
	}
	conf, err := l.file("nginx.conf", fmt.Sprintf(`worker_processes auto; pid %[1]s/nginx.pid; error_log /dev/null; daemon off;
events { worker_connections 16384; }
http { access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
 client_body_buffer_size 64k;
 upstream u { %[2]s keepalive 256; keepalive_requests 100000000; }
 server { listen 127.0.0.1:%[3]d; listen 127.0.0.1:%[4]d ssl http2; ssl_certificate cert.pem; ssl_certificate_key key.pem;
  location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
   proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; } } }`, l.dir, ups.String(), g.http, g.https))
	if err != nil {
		return nil, err
	}
	return l.run(nil, "nginx", "-p", l.dir, "-c", conf)
}

// startRota builds the product as it is here and runs it with health checks,
// metrics, limits and queues on.
func startRota(l *lab, g *gateway) (*exec.Cmd, error) {
	root, err := repo()
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(l.dir, "rota")
	build := exec.Command("go", "build", "-o", bin, "./cmd/rota")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	var ups strings.Builder
	for _, p := range l.ups {
		fmt.Fprintf(&ups, "  - {url: \"http://127.0.0.1:%d\", max_in_flight: 1000}\n", p)
	}
	// Two ports, because wrk and h2load are given one each; both speak everything.
	conf, err := l.file("gateway.yaml", fmt.Sprintf(`listen: ["127.0.0.1:%d", "127.0.0.1:%d"]
tls: {cert: cert.pem, key: key.pem}
workers:
%sdefaults:
  balancer: smart
  max_in_flight: 10000
  rate: {per_second: 1000000, burst: 1000000}
  timeouts: {header: 30s, call: 60s}
health: {interval: 1s, outliers: true, slow_start: 10s}
`, g.http, g.https, ups.String()))
	if err != nil {
		return nil, err
	}
	return l.run(nil, bin, "gateway", "--config", conf)
}

func startHAProxy(l *lab, g *gateway) (*exec.Cmd, error) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		return nil, err
	}
	var ups strings.Builder
	for i, p := range l.ups {
		fmt.Fprintf(&ups, " server s%d 127.0.0.1:%d\n", i, p)
	}
	conf, err := l.file("haproxy.cfg", fmt.Sprintf(`defaults
 mode http
 timeout connect 5s
 timeout client 10m
 timeout server 60s
 option forwardfor
 http-reuse always
frontend f
 bind 127.0.0.1:%d
 bind 127.0.0.1:%d ssl crt %s alpn h2,http/1.1
 default_backend b
backend b
 balance leastconn
%s`, g.http, g.https, filepath.Join(l.dir, "both.pem"), ups.String()))
	if err != nil {
		return nil, err
	}
	return l.run(nil, "haproxy", "-db", "-f", conf)
}

// startCaddy runs the binary that BENCH_CADDY names, or caddy from the path.
func startCaddy(l *lab, g *gateway) (*exec.Cmd, error) {
	bin := os.Getenv("BENCH_CADDY")
	if bin == "" {
		var err error
		if bin, err = exec.LookPath("caddy"); err != nil {
			return nil, fmt.Errorf("not installed, and BENCH_CADDY does not name it: %w", err)
		}
	}
	var ups strings.Builder
	for _, p := range l.ups {
		fmt.Fprintf(&ups, " 127.0.0.1:%d", p)
	}
	conf, err := l.file("Caddyfile", fmt.Sprintf(`{
 admin off
 auto_https off
}
http://127.0.0.1:%d {
 reverse_proxy%s {
  lb_policy least_conn
 }
}
https://127.0.0.1:%d {
 tls %s/cert.pem %s/key.pem
 reverse_proxy%s {
  lb_policy least_conn
 }
}
`, g.http, ups.String(), g.https, l.dir, l.dir, ups.String()))
	if err != nil {
		return nil, err
	}
	return l.run([]string{"HOME=" + l.dir, "XDG_DATA_HOME=" + l.dir}, bin, "run", "--config", conf, "--adapter", "caddyfile")
}

// reverseProxyEnv makes this program the reverse proxy of the standard library.
const reverseProxyEnv = "ROTA_BENCH_REVERSE_PROXY"

func startReverseProxy(l *lab, g *gateway) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{fmt.Sprint(g.http), fmt.Sprint(g.https), l.dir}
	for _, p := range l.ups {
		args = append(args, fmt.Sprint(p))
	}
	return l.run([]string{reverseProxyEnv + "=" + strings.Join(args, ",")}, self)
}

// pool lends buffers to the reverse proxy.
type pool struct{ free chan []byte }

func (p pool) Get() []byte {
	select {
	case b := <-p.free:
		return b
	default:
		return make([]byte, 32<<10)
	}
}

func (p pool) Put(b []byte) {
	select {
	case p.free <- b:
	default:
	}
}

func serveReverseProxy(spec string) error {
	args := strings.Split(spec, ",")
	if len(args) < 4 {
		return errors.New("malformed " + reverseProxyEnv)
	}
	var targets []*url.URL
	for _, p := range args[3:] {
		targets = append(targets, &url.URL{Scheme: "http", Host: "127.0.0.1:" + p})
	}
	var next atomic.Uint64
	d := &net.Dialer{KeepAlive: 30 * time.Second}
	rp := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(targets[next.Add(1)%uint64(len(targets))])
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, n, a string) (net.Conn, error) { return d.DialContext(ctx, n, a) },
			MaxIdleConnsPerHost: 1024, DisableCompression: true, IdleConnTimeout: time.Minute,
		},
		BufferPool: pool{make(chan []byte, 256)},
		ErrorLog:   nil,
	}
	go func() {
		_ = http.ListenAndServeTLS("127.0.0.1:"+args[1], args[2]+"/cert.pem", args[2]+"/key.pem", rp) //nolint:gosec // a benchmark
	}()
	return http.ListenAndServe("127.0.0.1:"+args[0], rp) //nolint:gosec // a benchmark
}
