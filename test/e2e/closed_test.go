//go:build linux

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// closed is a directory with an authority, from which commands are run as a user
// would.
type closed struct {
	t   *testing.T
	dir string
}

// rota runs a command of the binary and answers its status and its words.
func (c *closed) rota(env []string, args ...string) (int, string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), rotaBin, args...)
	cmd.Dir, cmd.Env = c.dir, env
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func (c *closed) must(args ...string) string {
	c.t.Helper()
	status, text := c.rota(nil, args...)
	if status != 0 {
		c.t.Fatalf("rota %s: status %d: %s", strings.Join(args, " "), status, text)
	}
	return text
}

// files are the flags for the certificate of a role and a name.
func (c *closed) files(of string) []string {
	pki := filepath.Join(c.dir, "rota-pki")
	return []string{"--tls-ca", filepath.Join(pki, "ca.crt"), "--tls-cert", filepath.Join(pki, of+".crt"), "--tls-key", filepath.Join(pki, of+".key")}
}

// serial is that of the certificate that a server shows now.
func (c *closed) serial(addr string) string {
	c.t.Helper()
	pem, err := os.ReadFile(filepath.Join(c.dir, "rota-pki", "ca.crt"))
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"h2"}})
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestClosed takes the two minutes of SECURITY.md: certificates, tokens, a
// scheduler on all addresses, workers by their names, a job by who may.
func TestClosed(t *testing.T) {
	t.Parallel()
	c := &closed{t: t, dir: t.TempDir()}
	c.must("cert", "init")
	c.must("cert", "issue", "scheduler", "s1", "--host", "localhost", "--host", "127.0.0.1")
	c.must("cert", "issue", "worker", "w1")
	secrets := map[string][]string{"nobody": nil}
	for _, role := range []string{"viewer", "submitter", "operator"} {
		text := c.must("token", "create", "--role", role, "--file", "tokens")
		secret := regexp.MustCompile(`rota_\S+`).FindString(text)
		if secret == "" {
			t.Fatalf("no token in %q", text)
		}
		secrets[role] = []string{"ROTA_TOKEN=" + secret}
	}
	s := start(t, nil, rotaBin, append([]string{
		"scheduler", "--grpc", "0.0.0.0:0", "--http", "0.0.0.0:0", "--advertise-grpc", "127.0.0.1:9", "--data-dir", filepath.Join(c.dir, "data"),
		"--tokens", filepath.Join(c.dir, "tokens"), "--tls",
	}, c.files("scheduler-s1")...)...)
	m := s.find(t, `msg=ready .*http=\S+:(\d+) grpc=\S+:(\d+)`, 20*time.Second)
	http, grpc := net.JoinHostPort("localhost", m[1]), net.JoinHostPort("localhost", m[2])
	work := func(name string) *proc {
		return start(t, nil, rotaBin, append([]string{
			"worker", "--name", name, "--schedulers", grpc, "--exec", "hold=/bin/sleep 1000", "--job", "echo {text:word}", "--job-data", filepath.Join(c.dir, name),
		}, c.files("worker-w1")...)...)
	}
	w := work("w1")
	w.find(t, "session opened", 20*time.Second)
	thief := work("w2") // with another's certificate
	thief.find(t, `certificate of .* is not issued for worker .*w2`, 20*time.Second)

	client := []string{"--server", grpc, "--tls-ca", filepath.Join(c.dir, "rota-pki", "ca.crt")}
	for _, x := range []struct {
		who  string
		args []string
		want int
		text string
	}{
		{"nobody", []string{"status"}, 1, "credential"},
		{"viewer", []string{"worker", "list"}, 0, "w1"},
		{"viewer", []string{"job", "run", "--", "echo", "hi"}, 1, "viewer"},
		{"submitter", []string{"job", "run", "--wait", "--", "echo", "hi"}, 0, "hi"},
		{"submitter", []string{"job", "run", "--wait", "--", "rm", "hi"}, 1, "rm"},
		{"submitter", []string{"worker", "drain", "w1"}, 1, "submitter"},
		{"operator", []string{"worker", "cordon", "w1"}, 0, ""},
	} {
		status, text := c.rota(secrets[x.who], append(x.args, client...)...)
		if len(x.args) > 3 && x.args[0] == "job" { // what comes after -- is the command
			cut := len(x.args) - 2
			for x.args[cut] != "--" {
				cut--
			}
			args := append(append(append([]string{}, x.args[:cut]...), client...), x.args[cut:]...)
			status, text = c.rota(secrets[x.who], args...)
		}
		if status != x.want || !strings.Contains(text, x.text) {
			t.Errorf("%s: rota %s: status %d, %q; want %d and %q", x.who, strings.Join(x.args, " "), status, text, x.want, x.text)
		}
	}
	if status, text := c.rota(secrets["viewer"], "status", "--server", grpc); status == 0 {
		t.Errorf("in the clear: %s", text)
	}
	for _, secret := range secrets {
		if len(secret) > 0 && strings.Contains(s.out.String(), strings.TrimPrefix(secret[0], "ROTA_TOKEN=")) {
			t.Error("a token is in the log")
		}
	}

	// A renewal and a revocation hold without a restart.
	before := c.serial(grpc)
	c.must("cert", "renew", "scheduler", "s1")
	await(t, 20*time.Second, "gRPC shows the new certificate", func() bool { return c.serial(grpc) != before })
	if now := c.serial(grpc); c.serial(http) != now {
		t.Error("HTTP shows another one")
	}
	list := c.must("token", "list", "--file", "tokens")
	id := regexp.MustCompile(`(?m)^(\S+)\s.*viewer`).FindStringSubmatch(list)
	if id == nil {
		t.Fatalf("no viewer in %q", list)
	}
	c.must("token", "revoke", id[1], "--file", "tokens")
	await(t, 20*time.Second, "the viewer's token is refused", func() bool {
		status, _ := c.rota(secrets["viewer"], append([]string{"status"}, client...)...)
		return status != 0
	})
	for _, p := range []*proc{w, thief, s} {
		p.signal(syscall.SIGTERM)
		if status := p.wait(t, 30*time.Second); status > 1 {
			t.Errorf("status %d: %s", status, p.out)
		}
	}
}
