package nomad

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// root is the directory of the product's sources.
const root = "../../.."

// TestNomad builds the agent, which takes minutes if Go's build cache has nothing of it, and
// has the product's own tests run on it: what its double is held to, and a whole cluster.
func TestNomad(t *testing.T) { //nolint:paralleltest // a machine has room for one
	bin, err := filepath.Abs(filepath.Join(root, "bin", "engines", "nomad"))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	run(t, nil, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", bin, "github.com/hashicorp/nomad")
	t.Logf("the agent is built after %v", time.Since(began).Round(time.Second))
	t.Run("contract", func(t *testing.T) { //nolint:paralleltest // as above
		addr := agent(t, bin)
		in(t, root, []string{"ROTA_NOMAD_ADDR=" + addr}, "go", "test", "-count=1", "-run=^TestContract$", "./engine/internal/nomad")
	})
	t.Run("cluster", func(t *testing.T) { //nolint:paralleltest // as above
		in(t, root, []string{"ROTA_NOMAD=" + bin}, "go", "test", "-count=1", "-v", "-timeout=30m", "-run=^TestNomad$", "./test/e2e")
	})
}

func run(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	in(t, ".", env, name, args...)
}

// in runs a command in a directory.
func in(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
}

// agent is the address of an agent in its mode for development, on free ports.
func agent(t *testing.T, bin string) string {
	t.Helper()
	dir := t.TempDir()
	ports := make([]int, 3)
	for n := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[n] = l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
	}
	config := filepath.Join(dir, "agent.hcl")
	text := fmt.Sprintf(`bind_addr = "127.0.0.1"
disable_update_check = true
log_level = "WARN"
ports {
  http = %d
  rpc = %d
  serf = %d
}
client {
  network_interface = "lo"
  cpu_total_compute = 4000
  options = {
    "driver.allowlist" = "raw_exec"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault,cni,bridge"
  }
}
plugin "raw_exec" {
  config {
    enabled = true
  }
}
`, ports[0], ports[1], ports[2])
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "agent", "-dev", "-config="+config)
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, 30*time.Second
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		_ = log.Close()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("the agent:\n%s", text)
		}
	})
	addr := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	for until := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(addr + "/v1/agent/health")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return addr
			}
		}
		if time.Now().After(until) {
			t.Fatal("the agent does not answer")
		}
	}
}
