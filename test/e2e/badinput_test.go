//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// rota runs one command against a server and answers its status and its words.
func run(t *testing.T, server string, args ...string) (status int, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, rotaBin, args...)
	cmd.Env = []string{"ROTA_SERVER=" + server}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// Every wrong list of tasks is answered with one line that names the field, and
// changes nothing.
func TestBadTaskFiles(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 0, 2*time.Second)
	server, dir := c.scheds[0].grpc, t.TempDir()
	for n, x := range []struct{ file, content, want string }{
		{"none.yaml", "- kind: a\n", "id"},
		{"twice.yaml", "- id: a\n- id: a\n", "id"},
		{"negative.yaml", "- id: a\n  weight: -1\n", "weight"},
		{"nan.yaml", "- id: a\n  weight: .nan\n", "weight"},
		{"nan.csv", "id,weight\na,NaN\n", "weight"},
		{"payload.json", `[{"id":"a","payload":"` + strings.Repeat("x", 65537) + `"}]`, "payload"},
		{"headless.csv", "a,1\nb,2\n", "id"},
		{"unknown.yaml", "- id: a\n  wieght: 1\n", "wieght"},
		{"unknown.jsonl", `{"id":"a","wieght":1}`, "wieght"},
		{"unknown.csv", "id,wieght\na,1\n", "wieght"},
		{"mode.yaml", "- id: a\n  mode: both\n", "mode"},
		{"good-then-bad.yaml", "- id: good\n- id: b\n  replicas: -2\n", "replicas"},
	} {
		path := filepath.Join(dir, fmt.Sprint(n)+x.file)
		if err := os.WriteFile(path, []byte(x.content), 0o600); err != nil {
			t.Fatal(err)
		}
		status, text := run(t, server, "task", "apply", "-f", path)
		if status != 2 && status != 1 {
			t.Errorf("%s: status %d, want 1 or 2", x.file, status)
		}
		if !strings.Contains(text, x.want) || strings.Count(strings.TrimSpace(text), "\n") > 0 {
			t.Errorf("%s: %q, want one line that names %s", x.file, text, x.want)
		}
	}
	if status, text := run(t, server, "task", "list", "-o", "json"); status != 0 || strings.Contains(text, `"id"`) {
		t.Errorf("status %d: something was declared: %s", status, text)
	}
	c.stop()
}

// A task of a kind that no worker has waits, and why says so.
func TestKindThatNobodyHas(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 1, 2*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r := &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "odd", Kind: "nobody-has"}}}
	if _, err := rotav1.NewTasksClient(c.living().conn).ApplyTasks(ctx, r); err != nil {
		t.Fatal(err)
	}
	status, text := run(t, c.scheds[0].grpc, "why", "odd")
	if status != 0 || !strings.Contains(text, "nobody-has") || !strings.Contains(text, "waiting") {
		t.Errorf("status %d: %s, want that it waits for kind nobody-has", status, text)
	}
	c.stop()
}

// A data directory is one scheduler's.
func TestDataDirInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	args := []string{"scheduler", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data-dir", dir}
	first := start(t, nil, rotaBin, args...)
	first.find(t, "msg=ready", 20*time.Second)
	second := start(t, nil, rotaBin, args...)
	if status := second.wait(t, 20*time.Second); status != 1 || !strings.Contains(second.out.String(), dir) {
		t.Errorf("status %d: %s, want 1 and the directory", status, second.out)
	}
	first.signal(syscall.SIGTERM)
	if status := first.wait(t, 20*time.Second); status != 0 {
		t.Errorf("the first ended with %d: %s", status, first.out)
	}
}

// An etcd that is not there is said so, and tried again until it is.
func TestEtcdNotThere(t *testing.T) {
	t.Parallel()
	p := start(t, nil, rotaBin, "scheduler", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--etcd", "http://127.0.0.1:9")
	p.find(t, `127\.0\.0\.1:9`, 30*time.Second)
	select {
	case <-p.done:
		t.Errorf("it has ended: %s", p.out)
	default:
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(t, 20*time.Second); status > 1 {
		t.Errorf("status %d: %s", status, p.out)
	}
}

// The name of a living worker cannot be had: the second waits and says why, the
// first goes on.
func TestWorkerNameAlive(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 1, 2*time.Second)
	c.apply("a", 3)
	await(t, 20*time.Second, "all run", func() bool { return c.once(3) })
	runs, first := c.record.count(), c.workers[0].proc
	c.workers[0].start()
	second := c.workers[0].proc
	second.find(t, `alive`, 20*time.Second)
	second.signal(syscall.SIGTERM)
	second.wait(t, 20*time.Second)
	c.workers[0].proc = first
	if c.record.count() != runs || !c.once(3) {
		t.Error("the first was disturbed")
	}
	c.stop()
	c.record.check(t)
}

// A value of a newer version is refused with a clear error, and left as it is.
func TestNewerStoreValue(t *testing.T) {
	t.Parallel()
	e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: filepath.Join(t.TempDir(), "etcd"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop() })
	st, err := etcd.Open(t.Context(), etcd.Config{Endpoints: e.Endpoints(), Root: store.ClusterRoot(store.DefaultRoot, auth.DefaultNamespace)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	value := []byte{8, 99} // version 99
	if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: store.TasksPrefix, Value: value}}); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, rotaBin, "scheduler", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--etcd", e.Endpoints()[0])
	if status := p.wait(t, 30*time.Second); status != 1 || !strings.Contains(p.out.String(), "newer version of rota") {
		t.Errorf("status %d: %s, want 1 and that a newer version wrote it", status, p.out)
	}
	kv, ok, _, err := st.Get(t.Context(), store.TasksPrefix)
	if err != nil || !ok || string(kv.Value) != string(value) {
		t.Errorf("the value is %v %v now, error %v", kv.Value, ok, err)
	}
}
