package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota"
)

// TestCgroupLimits holds what is written for limits to the kernel's format, in a
// directory that only looks like a cgroup: its controllers are seldom there for
// tests.
func TestCgroupLimits(t *testing.T) {
	t.Parallel()
	all := []string{"memory", "pids", "cpu"}
	for name, c := range map[string]struct {
		limits Limits
		want   map[string]string
	}{
		"none":           {Limits{}, nil},
		"memory":         {Limits{Memory: 64 << 20}, map[string]string{"memory.max": "67108864", "memory.oom.group": "1"}},
		"processes":      {Limits{Processes: 16}, map[string]string{"pids.max": "16"}},
		"one and a half": {Limits{CPUs: 1.5}, map[string]string{"cpu.max": "150000 100000"}},
		"hardly any":     {Limits{CPUs: 0.001}, map[string]string{"cpu.max": "1000 100000"}},
		"all": {
			Limits{Memory: 1 << 40, Processes: 1, CPUs: 32, OpenFiles: 10},
			map[string]string{"memory.max": "1099511627776", "memory.oom.group": "1", "pids.max": "1", "cpu.max": "3200000 100000"},
		},
	} {
		child, err := (&Cgroup{dir: t.TempDir(), controllers: all}).child(1, c.limits)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := child.dir.Close(); err != nil {
			t.Error(err)
		}
		got := map[string]string{}
		entries, err := os.ReadDir(child.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(child.path, e.Name())
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got[e.Name()] = string(b)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: wrote %v, want %v", name, got, c.want)
		}
		for file, want := range c.want {
			if got[file] != want {
				t.Errorf("%s: %s is %q, want %q", name, file, got[file], want)
			}
		}
	}
	// A limit that nothing there keeps is refused.
	for field, l := range map[string]Limits{"limits.memory": {Memory: 1}, "limits.processes": {Processes: 1}, "limits.cpus": {CPUs: 1}} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			var fe *rota.FieldError
			if _, err := (&Cgroup{dir: t.TempDir()}).child(1, l); !errors.As(err, &fe) || fe.Field != field {
				t.Errorf("without its controller: %v", err)
			}
		})
	}
}

func TestCgroup(t *testing.T) {
	t.Parallel()
	none := t.TempDir()
	for _, dir := range []string{none, filepath.Join(none, "a", "b")} {
		var field *rota.FieldError
		if _, err := OpenCgroup(dir); !errors.As(err, &field) || field.Field != "cgroup" {
			t.Errorf("a directory that is none was taken: %v", err)
		}
	}
	if left, err := os.ReadDir(none); err != nil || len(left) > 0 {
		t.Errorf("what is refused was made: %v, %v", left, err)
	}
	if _, err := OpenCgroup("relative"); err == nil {
		t.Error("a relative path was taken")
	}
	root := cgroupRoot(t)
	if root == "" {
		return // nothing delegated to us: what is above is all that can be seen
	}
	c, err := OpenCgroup(filepath.Join(root, fmt.Sprintf("rota-test-%d", os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	// setsid and an emptied environment do not help against a cgroup.
	dir := t.TempDir()
	_, out, _ := run(t, Spec{Cgroup: c, Dir: dir, Argv: []string{"sh", "-c", `
		setsid env -i PATH="$PATH" sh -c 'echo $$ >pid.new; mv pid.new pid; exec sleep 1000' &
		until [ -s pid ]; do sleep 0.01; done; cat /proc/self/cgroup`}})
	if !strings.Contains(out, "rota-test") {
		t.Errorf("ran outside of its cgroup: %s", out)
	}
	if !gone(pidIn(t, dir)) {
		t.Error("the program lives on")
	}
	if len(c.controllers) == 0 {
		_, err := Start(t.Context(), Spec{Argv: []string{"true"}, Cgroup: c, Limits: Limits{Memory: 1}})
		var field *rota.FieldError
		if !errors.As(err, &field) || field.Field != "limits.memory" {
			t.Errorf("a limit that nothing keeps: %v", err)
		}
	}
}

// cgroupRoot is a mount of cgroup v2 in which we may make groups.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(mounts)) {
		if f := strings.Fields(l); len(f) > 2 && f[2] == "cgroup2" {
			probe, err := os.MkdirTemp(f[1], "rota-probe-")
			if err == nil {
				_ = os.Remove(probe)
				return f[1]
			}
		}
	}
	return ""
}
