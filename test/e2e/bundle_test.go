//go:build linux

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// archived are the files of a bundle by their names in its folder, what is compressed
// in them unpacked.
func archived(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 || !strings.HasPrefix(h.Name, "rota-debug-") || path.Clean(h.Name) != h.Name {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		if inner, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
			if data, err = io.ReadAll(inner); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		all[name] = string(data)
	}
}

// TestDebugBundle: a bundle has everything that its maker may see, says what is
// missing, and has none of the secrets that a cluster is configured with.
func TestDebugBundle(t *testing.T) {
	t.Parallel()
	c := &closed{t: t, dir: t.TempDir()}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := "http://" + r.Host
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": u, "authorization_endpoint": u + "/a", "token_endpoint": u + "/t", "jwks_uri": u + "/k", "keys": []string{},
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	}))
	defer issuer.Close()

	const planted = "PLANTED"
	secrets := map[string]string{} // where each of them is, and what of it must not be found
	write := func(name, format string) string {
		secret := planted + "-" + name + "-0123456789"
		secrets[name] = secret
		file := filepath.Join(c.dir, name)
		if err := os.WriteFile(file, fmt.Appendf(nil, format, secret), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	c.must("cert", "init")
	c.must("cert", "issue", "scheduler", "s1", "--host", "localhost", "--host", "127.0.0.1")
	for _, name := range []string{"ca", "scheduler-s1"} {
		text, err := os.ReadFile(filepath.Join(c.dir, "rota-pki", name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(text); block == nil {
			t.Fatalf("%s.key is none", name)
		}
		secrets[name+".key"] = strings.Split(string(text), "\n")[1]
	}
	tokens := map[string]string{}
	for _, role := range []string{"viewer", "admin"} {
		tokens[role] = regexp.MustCompile(`rota_\S+`).FindString(c.must("token", "create", "--role", role, "--file", "tokens"))
		if tokens[role] == "" {
			t.Fatal("no token")
		}
		secrets["token of "+role] = tokens[role]
	}
	secrets["tasks_url"] = planted + "-url"
	conf := filepath.Join(c.dir, "rota.toml")
	text := fmt.Sprintf("tasks_url = %q\n", "https://user:"+planted+"-url@127.0.0.1:1/tasks?key="+planted+"-url#"+planted+"-url") +
		fmt.Sprintf("tasks_headers_file = %q\n", write("headers", "X-Key: %s\n")) +
		fmt.Sprintf("tasks_token_file = %q\n", write("tasks-token", "%s\n")) +
		fmt.Sprintf("oidc_issuer = %q\noidc_audience = \"rota\"\noidc_client_id = \"console\"\noidc_redirect_url = \"http://127.0.0.1/v1/signin/oidc/callback\"\n", issuer.URL) +
		fmt.Sprintf("oidc_client_secret_file = %q\n", write("oidc-secret", "%s"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	scheduler := append([]string{
		"scheduler", "--config", conf, "--name", "s1", "--grpc", "127.0.0.1:0", "--http", "0.0.0.0:0", "--gateway", "", "--data-dir", filepath.Join(c.dir, "data"),
		"--tokens", filepath.Join(c.dir, "tokens"), "--tasks-poll", "100ms", "--engines", "local", "--tls", "--log-level", "debug",
	}, c.files("scheduler-s1")...)
	s := start(t, nil, rotaBin, scheduler...)
	grpc := s.find(t, `msg=ready .*grpc=(\S+)`, 60*time.Second)[1]
	s.find(t, "source not read", 60*time.Second)

	write("etcd-env", "%s")
	asked := []string{"--server", grpc, "--tls-ca", filepath.Join(c.dir, "rota-pki", "ca.crt")}
	as := func(role string, want int, args ...string) string {
		t.Helper()
		status, text := c.rota([]string{"ROTA_TOKEN=" + tokens[role], "ROTA_ETCD_PASSWORD=" + secrets["etcd-env"]}, slices.Concat(asked, args)...)
		if status != want {
			t.Fatalf("rota %s as %s: status %d: %s", strings.Join(args, " "), role, status, text)
		}
		return text
	}
	// What users declare may hold secrets, too.
	secrets["payload"], secrets["job"], secrets["pool"] = planted+"-payload", planted+"-argument", planted+"-option"
	list := filepath.Join(c.dir, "tasks.json")
	if err := os.WriteFile(list, []byte(`[{"id": "lost", "kind": "none", "payload": "`+planted+`-payload"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	as("admin", 0, "task", "apply", "-f", list)
	as("admin", 0, "job", "run", "--env", "KEY="+planted+"-argument", "--", "echo", planted+"-argument")
	pool := filepath.Join(c.dir, "pool.json")
	if err := os.WriteFile(pool, []byte(`[{"name": "p", "engine": "local", "size": {"from": 0, "to": 0}, "template": {"command": ["/bin/true", "`+planted+`-option"]}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	as("admin", 0, "pool", "apply", "-f", pool)

	await(t, time.Minute, "what was declared", func() bool {
		return strings.Contains(as("admin", 0, "events"), "task.declared") && strings.Contains(as("admin", 0, "job", "list"), "queued") &&
			strings.Contains(as("admin", 0, "why", "lost"), "lost is on no worker")
	})

	clean := func(file string) map[string]string {
		t.Helper()
		files := archived(t, file)
		for name, text := range files {
			for where, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("%s has the secret of %s", name, where)
				}
			}
		}
		return files
	}
	whole := filepath.Join(c.dir, "whole.tar.gz")
	write("etcd", "%s")
	as("admin", 0, "debug", "bundle", whole, "--cpu", "1s", "--etcd", "https://user:"+secrets["etcd"]+"@127.0.0.1:1")
	files := clean(whole)
	for name, has := range map[string]string{
		"README.txt": "manifest.json", "manifest.json": `"missing": []`, "client.json": grpc, "doctor.json": "tasks-url", "cluster/status.json": `"s1"`, "cluster/workers.json": "{",
		"cluster/tasks-waiting.json": `"lost"`, "cluster/why.json": `"lost"`, "cluster/plan.json": `"lost"`, "cluster/jobs.json": `"echo"`, "cluster/programs.json": "{",
		"cluster/pools.json": "/bin/true", "cluster/members.json": "{", "cluster/functions.json": "{", "cluster/events.json": "task.declared",
		"schedulers/s1/status.json": `"s1"`, "schedulers/s1/metrics.txt": "rota_leader", "schedulers/s1/config.json": "***@127.0.0.1:1", "schedulers/s1/log.txt": "msg=leading",
		"schedulers/s1/goroutines.txt": "goroutine profile", "schedulers/s1/heap.pb.gz": "main", "schedulers/s1/cpu.pb.gz": "cpu",
	} {
		if !strings.Contains(files[name], has) {
			t.Errorf("%s does not say %q: %.300s", name, has, files[name])
		}
	}
	if fi, err := os.Stat(whole); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if said := as("admin", 1, "debug", "bundle", whole, "--cpu", "0"); !strings.Contains(said, "--force") {
		t.Error(said)
	}
	as("admin", 2, "debug", "bundle", "--cpu", "61s")

	// Who may not see all of it, with a scheduler that is away.
	asked[1] += ",127.0.0.1:1"
	as("viewer", 4, "debug", "bundle", whole, "--cpu", "0", "--force")
	files = clean(whole)
	var manifest struct {
		Missing []struct{ Name, Why string }
	}
	if err := json.Unmarshal([]byte(files["manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	why := map[string]string{}
	for _, m := range manifest.Missing {
		why[m.Name] = m.Why
	}
	for name, has := range map[string]string{
		"schedulers/s1/config.json": "403 Forbidden: viewer has the role viewer; this needs the role admin", "schedulers/s1/log.txt": "403", "schedulers/s1/heap.pb.gz": "403", "schedulers/s1/goroutines.txt": "403",
		"scheduler at 127.0.0.1:1": "refused",
	} {
		if !strings.Contains(why[name], has) {
			t.Errorf("%s is missing: %q, want %q", name, why[name], has)
		}
	}
	if files["schedulers/s1/metrics.txt"] == "" || files["cluster/status.json"] == "" || files["schedulers/s1/cpu.pb.gz"] != "" {
		t.Errorf("a viewer's bundle has other files: %v", why)
	}
	left, err := filepath.Glob(filepath.Join(c.dir, ".rota-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
