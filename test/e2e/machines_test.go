//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCallsBetweenMachines: a scheduler and a worker in network namespaces of their
// own. Calls cross with certificates and a token; a worker that listens on its own
// loopback is not called on the gateway's.
func TestCallsBetweenMachines(t *testing.T) {
	ip, curl := program(t, "ip"), program(t, "curl")
	if os.Geteuid() != 0 {
		lacking(t, "root, for network namespaces")
	}
	dir := t.TempDir()
	a, b := fmt.Sprintf("rota-a%d", os.Getpid()), fmt.Sprintf("rota-b%d", os.Getpid())
	must := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v %s", name, args, err, out)
		}
		return string(out)
	}
	for _, ns := range []string{a, b} {
		must(ip, "netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command(ip, "netns", "del", ns).Run() })
	}
	must(ip, "link", "add", "va", "netns", a, "type", "veth", "peer", "name", "vb", "netns", b)
	for ns, dev := range map[string][2]string{a: {"va", "10.77.0.1/24"}, b: {"vb", "10.77.0.2/24"}} {
		must(ip, "-n", ns, "addr", "add", dev[1], "dev", dev[0])
		must(ip, "-n", ns, "link", "set", dev[0], "up")
		must(ip, "-n", ns, "link", "set", "lo", "up")
	}
	must(rotaBin, "cert", "init")
	must(rotaBin, "cert", "issue", "scheduler", "s1", "--host", "10.77.0.1")
	must(rotaBin, "cert", "issue", "worker", "w1")
	made, err := func() ([]byte, error) {
		cmd := exec.Command(rotaBin, "token", "create", "--role", "admin", "--file", "tokens")
		cmd.Dir = dir
		return cmd.Output()
	}()
	if err != nil {
		t.Fatal(err)
	}
	start := func(ns string, args ...string) *exec.Cmd {
		cmd := exec.Command(ip, append([]string{"netns", "exec", ns, rotaBin}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "XDG_STATE_HOME="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
		})
		return cmd
	}
	start(a, "scheduler", "--grpc", "10.77.0.1:50000", "--http", "10.77.0.1:3000", "--gateway", "10.77.0.1:9080", "--tokens", "tokens", "--tls",
		"--tls-ca", "rota-pki/ca.crt", "--tls-cert", "rota-pki/scheduler-s1.crt", "--tls-key", "rota-pki/scheduler-s1.key")
	worker := []string{
		"worker", "--name", "w1", "--schedulers", "10.77.0.1:50000", "--demo",
		"--tls-ca", "rota-pki/ca.crt", "--tls-cert", "rota-pki/worker-w1.crt", "--tls-key", "rota-pki/worker-w1.key",
	}
	call := func(url string, more ...string) string {
		args := []string{"netns", "exec", b, curl, "-s", "-m", "20", "--cacert", filepath.Join(dir, "rota-pki", "ca.crt"), "-w", " %{http_code}"}
		out, _ := exec.Command(ip, append(append(args, more...), url)...).Output() // what it could not do shows in the code
		return string(out)
	}
	token := "Authorization: Bearer " + strings.TrimSpace(string(made))
	await := func(want string) {
		t.Helper()
		got := ""
		for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			if got = call("https://10.77.0.1:9080/run/hello", "-H", token); strings.Contains(got, want) {
				return
			}
		}
		t.Fatalf("got %q, want %q", got, want)
	}
	w := start(b, append(worker, "--calls", "10.77.0.2:7000")...)
	await(`"worker":"w1"`)
	for url, want := range map[string]string{
		"https://10.77.0.1:9080/run/hello": " 401", // without a token
		"http://10.77.0.1:9080/run/hello":  " 000", // in the clear
		"https://10.77.0.2:7000/run/hello": " 000", // past the gateway
	} {
		if got := call(url); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q, want %s", url, got, want)
		}
	}
	_ = syscall.Kill(-w.Process.Pid, syscall.SIGTERM)
	_ = w.Wait()
	start(b, worker...) // it listens on loopback, of its own machine
	await("no worker")
}
