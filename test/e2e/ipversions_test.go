//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOneIPVersion: a machine with IPv6 only, with IPv4 only, or with both has all roles
// work by their defaults and by each way to say where to listen.
func TestOneIPVersion(t *testing.T) {
	t.Parallel()
	for _, m := range []struct {
		name     string
		without  []string // an address of lo that goes
		loopback string
	}{
		{"ipv6", []string{"addr", "del", "127.0.0.1/8", "dev", "lo"}, "::1"},
		{"ipv4", []string{"-6", "addr", "del", "::1/128", "dev", "lo"}, "127.0.0.1"},
		{"both", nil, "127.0.0.1"},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if !inNamespace(t) {
				return
			}
			if m.without != nil {
				ip(t, m.without...)
			}
			onMachine(t, m.loopback)
		})
	}
}

// onMachine tries all roles on a machine of which this is the loopback address.
func onMachine(t *testing.T, loopback string) {
	t.Helper()
	c := &closed{t: t, dir: t.TempDir()}
	home := []string{"HOME=" + c.dir, "XDG_RUNTIME_DIR="}
	at := func(port int) string { return net.JoinHostPort(loopback, fmt.Sprint(port)) }
	ask := func(want string, args ...string) {
		t.Helper()
		if status, text := c.rota(home, args...); status != 0 || !strings.Contains(text, want) {
			t.Errorf("rota %s: status %d, %s; want %q", strings.Join(args, " "), status, text, want)
		}
	}
	end := func(all ...*proc) {
		t.Helper()
		for _, p := range all {
			p.signal(syscall.SIGTERM)
			if status := p.wait(t, 30*time.Second); status != 0 {
				t.Errorf("%v: status %d", p.cmd.Args, status)
			}
		}
	}
	run := func(args ...string) *proc {
		t.Helper()
		return start(t, home, rotaBin, args...)
	}

	// Everything by default. The workers listen for calls, too.
	dev := run("dev", "--data-dir", filepath.Join(c.dir, "dev"))
	dev.find(t, "Ctrl-C ends everything", 60*time.Second)
	ask("gRPC "+at(50000), "status")
	ask("functions.url=https://"+loopbackText(loopback), "worker", "list")
	ask("there", "job", "run", "--wait", "--", "echo", "there")
	end(dev)
	s := run("scheduler", "--name", "s", "--data-dir", filepath.Join(c.dir, "s"))
	s.find(t, `msg=ready gateway=`+regexp.QuoteMeta(at(9080))+` http=`+regexp.QuoteMeta(at(3000))+` grpc=`+regexp.QuoteMeta(at(50000)), 60*time.Second)
	w := run("worker", "--name", "w", "--exec", "hold=/bin/sleep 1000")
	w.find(t, "session opened", 60*time.Second)
	second := run("worker", "--name", "w", "--exec", "hold=/bin/sleep 1000")
	second.find(t, "waiting for the name", 60*time.Second)
	end(second, w, s)

	// Each way to say where, as far as the machine has it.
	c.must("cert", "init")
	c.must("cert", "issue", "scheduler", "s", "--host", "localhost")
	c.must("token", "create", "--role", "admin", "--file", "tokens")
	for _, host := range []string{"[::]", "", "localhost", "[" + loopback + "]"} {
		args := append([]string{
			"scheduler", "--name", "s", "--data-dir", filepath.Join(c.dir, "s"), "--http", host + ":0", "--grpc", host + ":0", "--gateway", host + ":0",
			"--advertise-http", "localhost:1", "--advertise-grpc", "localhost:1", "--tls", "--tokens", filepath.Join(c.dir, "tokens"),
		}, c.files("scheduler-s")...)
		s := run(args...)
		for _, addr := range s.find(t, `msg=ready gateway=(\S+) http=(\S+) grpc=(\S+)`, 60*time.Second)[1:] {
			reach(t, host, addr, loopback)
		}
		end(s)
	}
	file := filepath.Join(c.dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(`listen: ["[::]:0", ":0", "localhost:0"]`+"\nworkers: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := run("gateway", "-c", file)
	for _, addr := range g.find(t, `(?s)gateway on http://(\S+).*gateway on http://(\S+).*gateway on http://(\S+)`, 60*time.Second)[1:] {
		reach(t, "a gateway", addr, loopback)
	}
	end(g)
	file = filepath.Join(c.dir, "old.json")
	if err := os.WriteFile(file, []byte(`{"workers": ["http://localhost:9"], "port": 9081}`), 0o600); err != nil {
		t.Fatal(err)
	}
	g = run("start", "-c", file)
	reach(t, "rota start", g.find(t, `gateway on http://(\S+)`, 60*time.Second)[1], loopback)
	end(g)
}

// loopbackText is an address as it stands in front of a port.
func loopbackText(host string) string { return strings.TrimSuffix(net.JoinHostPort(host, ""), ":") }

// reach connects to where something says that it listens.
func reach(t *testing.T, what, addr, loopback string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(loopback, port))
	if err != nil {
		t.Errorf("%s: it listens on %s, and is not reached: %v", what, addr, err)
		return
	}
	_ = conn.Close()
}
