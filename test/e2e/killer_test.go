//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKiller: a task whose process kills its worker is held after few deaths, all
// others run on, and whoever asks is told.
func TestKiller(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad, good := script("bad", "sleep 0.5\nkill -9 $PPID\nsleep 1000\n"), script("good", "sleep 100000\n")
	s := start(t, nil, rotaBin, "scheduler", "--data-dir", filepath.Join(dir, "data"), "--gateway", "",
		"--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--lease", "2s")
	addr := s.find(t, `msg=ready .*grpc=(\S+)`, 20*time.Second)[1]
	var keepers []*proc
	for n := range 3 {
		keepers = append(keepers, start(t, nil, rotaBin, "worker", "--name", fmt.Sprint("w", n), "--schedulers", addr, "--supervise",
			"--exec", "bad=/bin/sh "+bad, "--exec", "good=/bin/sh "+good))
	}
	list := "id,kind\nkiller,bad\n"
	for n := range 10 {
		list += fmt.Sprintf("t%d,good\n", n)
	}
	if status, text := run(t, addr, "task", "apply", "-f", script("list.csv", list)); status != 0 {
		t.Fatal(text)
	}
	shows := func(args ...string) string {
		_, text := run(t, addr, args...)
		return text
	}
	await(t, 2*time.Minute, "the killer is held and all others run", func() bool {
		time.Sleep(200 * time.Millisecond)
		text := shows("status")
		return strings.Contains(text, "killer: held for") && strings.Contains(text, "11 declared, 10 running")
	})
	deaths := 0
	for _, k := range keepers {
		deaths += strings.Count(k.out.String(), "worker process ended")
	}
	if deaths < 3 || deaths > 8 {
		t.Errorf("%d workers have died", deaths)
	}
	for _, args := range [][]string{{"why", "killer"}, {"task", "get", "killer"}} {
		if text := shows(args...); !strings.Contains(text, "workers died while running it") || !strings.Contains(text, "rota task release") {
			t.Errorf("%v says %s", args, text)
		}
	}
	if text := shows("task", "release", "t1"); !strings.Contains(text, "not suspected") {
		t.Errorf("of another: %s", text)
	}
	if text := shows("task", "release", "killer"); !strings.Contains(text, "killer may run again") {
		t.Error(text)
	}
	if text := shows("task", "delete", "killer"); !strings.Contains(text, "1 deleted") {
		t.Error(text)
	}
	await(t, time.Minute, "nobody is suspected and all run", func() bool {
		time.Sleep(200 * time.Millisecond)
		text := shows("status")
		return !strings.Contains(text, "suspect") && strings.Contains(text, "10 declared, 10 running")
	})
}
