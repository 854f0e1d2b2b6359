package process

import (
	"errors"
	"os"
	"path/filepath"
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
