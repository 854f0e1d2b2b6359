package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// lab is what runs for the measurement.
type lab struct {
	dir  string
	mu   sync.Mutex
	cmds []*exec.Cmd
	ups  []int // ports of the upstreams
}

func (l *lab) file(name, text string) (string, error) {
	path := filepath.Join(l.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// certificate writes cert.pem and key.pem for localhost, and both in one.
func (l *lab) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	kb, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	priv := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kb}))
	for name, text := range map[string]string{"cert.pem": cert, "key.pem": priv, "both.pem": cert + priv} {
		if _, err := l.file(name, text); err != nil {
			return err
		}
	}
	return nil
}

// port finds a port that nobody listens on.
func port() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close() //nolint:errcheck // it was only asked
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// run starts a command that ends with the lab.
func (l *lab) run(env []string, name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if os.Getenv("BENCH_VERBOSE") == "" {
		cmd.Stderr = io.Discard
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cmds = append(l.cmds, cmd)
	return cmd, nil
}

func (l *lab) stopAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, cmd := range l.cmds {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group, started above
		_ = cmd.Wait()
	}
	l.cmds = nil
}

// upstreams starts one nginx with four ports.
func (l *lab) upstreams() error {
	var listen strings.Builder
	for range 4 {
		p, err := port()
		if err != nil {
			return err
		}
		l.ups = append(l.ups, p)
		fmt.Fprintf(&listen, "listen 127.0.0.1:%d; ", p)
	}
	conf, err := l.file("up.conf", fmt.Sprintf(`worker_processes 1; pid %s/up.pid; error_log /dev/null; daemon off;
events { worker_connections 8192; }
http { access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_body_buffer_size 64k; client_body_temp_path %s/upbody;
 server { %s location / { return 200 "hello\n"; } } }`, l.dir, l.dir, listen.String()))
	if err != nil {
		return err
	}
	if _, err := l.run(nil, "nginx", "-p", l.dir, "-c", conf); err != nil {
		return err
	}
	return answers(l.ups[0])
}

// answers waits until a port does.
func answers(p int) error {
	client := &http.Client{Timeout: time.Second}
	var err error
	for range 200 {
		var resp *http.Response
		if resp, err = client.Get("http://127.0.0.1:" + strconv.Itoa(p) + "/run/hello"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("it answers %s", resp.Status)
		}
		time.Sleep(25 * time.Millisecond)
	}
	return err
}

// cpu is the CPU time of a process and its children that live, in seconds.
func cpu(pid int) float64 {
	total := ticks(pid)
	for _, c := range children(pid) {
		total += cpu(c) * 100
	}
	return total / 100
}

// ticks are in hundredths of a second (USER_HZ).
func ticks(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	u, _ := strconv.ParseFloat(f[11], 64)
	s, _ := strconv.ParseFloat(f[12], 64)
	return u + s
}

func children(pid int) (pids []int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// rss is the resident memory of a process and its children, in MB.
func rss(pid int) float64 {
	total := 0.0
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			n, _ := strconv.ParseFloat(f[1], 64)
			total = n * float64(os.Getpagesize()) / (1 << 20)
		}
	}
	for _, c := range children(pid) {
		total += rss(c)
	}
	return total
}

// memory opens idle connections to each gateway and prints what they cost.
func memory(running []*gateway) {
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil {
		lim.Cur = lim.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim)
	}
	n := min(*idle, int(lim.Cur)-200) //nolint:gosec // small
	fmt.Printf("\n%-28s %12s %12s %14s\n", fmt.Sprintf("%d idle connections", n), "RSS before", "RSS after", "KB a connection")
	for _, g := range running {
		before := rss(g.cmd.Process.Pid)
		conns := make([]net.Conn, 0, n)
		for range n {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.http))
			if err != nil {
				break
			}
			conns = append(conns, c)
			// One call each, so that they are idle keep-alive connections.
			_, _ = io.WriteString(c, "GET /run/hello HTTP/1.1\r\nHost: a\r\n\r\n")
			buf := make([]byte, 1024)
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := c.Read(buf); err != nil {
				break // it takes no more
			}
		}
		after := rss(g.cmd.Process.Pid)
		fmt.Printf("%-28s %9.1f MB %9.1f MB %14.1f\n", g.name, before, after, (after-before)*1024/float64(max(len(conns), 1)))
		for _, c := range conns {
			_ = c.Close()
		}
	}
}
