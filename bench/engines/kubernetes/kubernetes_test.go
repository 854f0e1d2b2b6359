package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// root is the directory of the product's sources.
const root = "../../.."

// version is that of the module, which the programs are to say they are: without it they
// take themselves for older than all of their own features.
const version = "v1.37.2"

// TestKubernetes builds the control plane, which takes a quarter of an hour if Go's build
// cache has nothing of it, and has the product's own test run on it.
func TestKubernetes(t *testing.T) { //nolint:paralleltest // a machine has room for one
	bin, err := filepath.Abs(filepath.Join(root, "bin", "engines", "kubernetes"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	const from = "k8s.io/component-base/version."
	flags := "-s -w -X " + from + "gitVersion=" + version + " -X " + from + "gitMajor=1 -X " + from + "gitMinor=37"
	run(t, ".", []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags="+flags, "-o", bin+string(filepath.Separator),
		"k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager", "k8s.io/kubernetes/cmd/kube-scheduler")
	t.Logf("the control plane is built after %v", time.Since(began).Round(time.Second))
	run(t, root, []string{"ROTA_KUBERNETES=" + bin}, "go", "test", "-count=1", "-v", "-timeout=45m", "-run=^TestKubernetes$", "./test/e2e")
}

// run runs a command in a directory.
func run(t *testing.T, dir string, env []string, name string, args ...string) {
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
