//go:build linux

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The secrets of addresses are in no log, no answer and no error of the binary.
func TestSecretsInAddresses(t *testing.T) {
	t.Parallel()
	c := &closed{t: t, dir: t.TempDir()}
	const address = "http://user:PW@127.0.0.1:1/tasks?token=PW"
	s := start(t, nil, rotaBin, "scheduler", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--data-dir", filepath.Join(c.dir, "data"),
		"--tasks-url", address, "--tasks-poll", "100ms")
	grpc := s.find(t, `msg=ready .*grpc=(\S+)`, 30*time.Second)[1]
	s.find(t, "source not read", 30*time.Second)
	text := ""
	await(t, 30*time.Second, "the source's error in the status", func() bool {
		_, text = c.rota(nil, "status", "-o", "json", "--server", grpc)
		return strings.Contains(text, "refused")
	})
	for _, args := range [][]string{
		{"config", "show", "scheduler", "--tasks-url", address},
		{"config", "show", "scheduler", "--tasks-url", address, "-o", "json"},
		{"scheduler", "--etcd", "http://user:PW@127.0.0.1:1"},
		{"scheduler", "--etcd", "user:PW@127.0.0.1:1"},
		{"scheduler", "--tasks-url", "ftp://user:PW@127.0.0.1:1"},
		{"worker", "--function", "f=http://user:PW@127.0.0.1:1"},
		{"worker", "--schedulers", "http://user:PW@127.0.0.1:1"},
		{"status", "--server", "http://user:PW@127.0.0.1:1"},
	} {
		_, out := c.rota(nil, args...)
		if strings.Contains(out, "PW") || out == "" {
			t.Errorf("rota %s: %s", strings.Join(args, " "), out)
		}
	}
	for where, text := range map[string]string{"status": text, "log": s.out.String()} {
		if strings.Contains(text, "PW") || !strings.Contains(text, "***") {
			t.Errorf("%s: %s", where, text)
		}
	}
}
