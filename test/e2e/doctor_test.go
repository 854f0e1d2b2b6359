//go:build linux

package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/store/etcd"
)

// TestDoctor: run by a viewer, rota doctor tells what ends soon of a cluster with
// certificates and tokens, by the words of the processes themselves; and asks etcd when
// no scheduler is left.
func TestDoctor(t *testing.T) {
	t.Parallel()
	e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: filepath.Join(shortDir(t), "etcd"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop() })
	c := &closed{t: t, dir: t.TempDir()}
	c.must("cert", "init")
	c.must("cert", "issue", "scheduler", "s", "--host", "127.0.0.1", "--life", "50h")
	c.must("cert", "issue", "worker", "short", "--life", "30h")
	c.must("cert", "issue", "worker", "long")
	secrets := map[string][]string{}
	for _, life := range []string{"0", "70h"} {
		text := c.must("token", "create", "--role", "viewer", "--life", life, "--file", "tokens")
		secrets[life] = []string{"ROTA_TOKEN=" + regexp.MustCompile(`rota_\S+`).FindString(text)}
	}
	s := start(t, nil, rotaBin, append([]string{
		"scheduler", "--name", "s", "--etcd", e.Endpoints()[0], "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--tls", "--tokens", filepath.Join(c.dir, "tokens"),
	}, c.files("scheduler-s")...)...)
	server := s.find(t, `msg=ready .*grpc=(\S+)`, 30*time.Second)[1]
	for _, name := range []string{"short", "long"} {
		w := start(t, nil, rotaBin, append([]string{"worker", "--name", name, "--schedulers", server, "--exec", "hold=/bin/sleep 1000"}, c.files("worker-"+name)...)...)
		w.find(t, "session opened", 30*time.Second)
	}
	client := []string{"doctor", "--server", server, "--tls-ca", filepath.Join(c.dir, "rota-pki", "ca.crt")}
	wants := func(what string, exit int, env []string, args []string, lines ...string) {
		t.Helper()
		status, text := 0, ""
		missing := func() (out []string) {
			status, text = c.rota(env, args...)
			for _, l := range lines {
				if !regexp.MustCompile(`(?m)^` + l).MatchString(text) {
					out = append(out, l)
				}
			}
			return out
		}
		await(t, 40*time.Second, what, func() bool { return len(missing()) == 0 }) // the members of etcd are asked now and again
		if status != exit {
			t.Errorf("%s: status %d, want %d: %s", what, status, exit, text)
		}
		if strings.Contains(text, "rota: ") {
			t.Errorf("%s: an error: %s", what, text)
		}
	}
	wants("all is up", 0, secrets["70h"], client,
		`--tls-ca +ok `, `scheduler \S+ +ok +version`, `scheduler \S+ +warn +its certificate ends in (49|50)h`,
		`caller +warn +token .*role viewer ends in (69|70)h`, `workers' certificates +warn +of 2: short ends in (29|30)h`,
		`clocks +ok +4 agree`, `workers +ok +2 ready`, `etcd \S+ +ok +version`, `leader +ok`)
	wants("a token without end", 0, secrets["0"], client, `caller +ok .*does not end`)
	wants("no token", 1, nil, client, `scheduler \S+ +fail +answers, but not to this caller`, `cluster +warn`)
	wants("no token, but etcd", 1, nil, append(client, "--etcd", e.Endpoints()[0]), `scheduler \S+ +fail +answers, but not`, `etcd \S+ +ok +version`, `etcd quorum +ok`)
	s.signal(syscall.SIGKILL)
	s.wait(t, 20*time.Second)
	wants("no scheduler", 1, secrets["0"], client, `scheduler \S+ +fail`, `cluster +warn .*--etcd checks etcd`)
	wants("etcd is asked", 1, secrets["0"], append(client, "--etcd", e.Endpoints()[0]), `scheduler \S+ +fail`, `etcd \S+ +ok +version .*of a quota of`, `etcd quorum +ok`)
	endpoint := e.Endpoints()[0]
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	wants("etcd is away", 1, secrets["0"], append(client, "--etcd", endpoint), `etcd \S+ +fail`, `etcd quorum +fail`)
}
