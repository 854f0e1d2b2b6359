//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/store/etcd"
)

// Two namespaces on one etcd are two clusters: none has the other's tasks or
// workers, each has a leader of its own, and a token of one is refused by the other.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: filepath.Join(shortDir(t), "etcd"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop() })
	c := &closed{t: t, dir: t.TempDir()}
	c.must("cert", "init")
	c.must("cert", "issue", "scheduler", "s", "--host", "127.0.0.1")
	c.must("cert", "issue", "worker", "w")
	servers, secrets := map[string]string{}, map[string][]string{}
	ask := func(who, of string, args ...string) (int, string) {
		return c.rota(secrets[who], append(args, "--server", servers[of], "--tls-ca", filepath.Join(c.dir, "rota-pki", "ca.crt"))...)
	}
	for _, ns := range []string{"a", "b"} {
		text := c.must("token", "create", "--role", "admin", "--namespace", ns, "--file", "tokens")
		secrets[ns] = []string{"ROTA_TOKEN=" + regexp.MustCompile(`rota_\S+`).FindString(text)}
	}
	for _, ns := range []string{"a", "b"} {
		s := start(t, nil, rotaBin, append([]string{
			"scheduler", "--name", "s", "--namespace", ns, "--etcd", e.Endpoints()[0], "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--tls", "--tokens", filepath.Join(c.dir, "tokens"),
		}, c.files("scheduler-s")...)...)
		servers[ns] = s.find(t, `msg=ready .*grpc=(\S+)`, 30*time.Second)[1]
		w := start(t, nil, rotaBin, append([]string{"worker", "--name", "w", "--schedulers", servers[ns], "--exec", "hold=/bin/sleep 1000"}, c.files("worker-w")...)...)
		w.find(t, "session opened", 30*time.Second)
	}
	for _, ns := range []string{"a", "b"} {
		list := filepath.Join(c.dir, ns+".yaml")
		if err := os.WriteFile(list, fmt.Appendf(nil, "tasks:\n- {id: t, kind: hold, group: %s}\n- {id: only-%s, kind: hold}\n", ns, ns), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, text := ask(ns, ns, "task", "apply", "-f", list); status != 0 || !strings.Contains(text, "2 created") {
			t.Fatalf("apply in %s: %d, %s", ns, status, text)
		}
	}
	for ns, other := range map[string]string{"a": "b", "b": "a"} {
		text := ""
		await(t, 30*time.Second, "tasks of "+ns, func() bool {
			_, text = ask(ns, ns, "task", "list")
			return strings.Count(text, "running") == 2
		})
		if !strings.Contains(text, "only-"+ns) || strings.Contains(text, "only-"+other) {
			t.Errorf("tasks of %s:\n%s", ns, text)
		}
		if _, text := ask(ns, ns, "worker", "list"); strings.Count(text, "\nw ") != 1 {
			t.Errorf("workers of %s:\n%s", ns, text)
		}
		if _, text := ask(ns, ns, "status"); !strings.Contains(text, "leader") {
			t.Errorf("status of %s:\n%s", ns, text)
		}
		for _, args := range [][]string{{"task", "list"}, {"status"}, {"worker", "drain", "w"}, {"job", "list"}} {
			if status, text := ask(other, ns, args...); status == 0 || !strings.Contains(text, "namespace") {
				t.Errorf("token of %s at %s: rota %s: %d, %s", other, ns, strings.Join(args, " "), status, text)
			}
		}
	}
	for _, name := range []string{"", "a/b", "..", "a b", "é", strings.Repeat("x", 64)} {
		if status, text := c.rota(nil, "scheduler", "--namespace", name, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"); status != 2 || !strings.Contains(text, "namespace") {
			t.Errorf("namespace %q: %d, %s", name, status, text)
		}
		if status, text := c.rota(nil, "token", "create", "--role", "admin", "--namespace", name+",", "--file", "other"); status == 0 {
			t.Errorf("a token for namespace %q: %s", name, text)
		}
	}
}
