package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rota-project/rota"
)

// Cgroup is a directory of cgroup v2 that was delegated to the worker: it may
// make groups in it, and no process is in it directly.
type Cgroup struct {
	dir         string
	controllers []string
}

// cpuPeriod is the period of cpu.max, the kernel's default.
const cpuPeriod = 100 * time.Millisecond

// OpenCgroup takes over dir, made if it is not there, and hands its controllers
// on to its children. Groups that an earlier owner left in it are killed.
func OpenCgroup(dir string) (*Cgroup, error) {
	if !filepath.IsAbs(dir) {
		return nil, &rota.FieldError{Field: "cgroup", Value: dir, Want: "an absolute path"}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the kernel wants it so
		return nil, fmt.Errorf("process: cgroup: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("process: cgroup: %w", err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, &rota.FieldError{Field: "cgroup", Value: dir, Want: "a directory of cgroup v2"}
	}
	c := &Cgroup{dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("process: cgroup: %w", err)
	}
	for _, name := range strings.Fields(string(b)) {
		if name == "memory" || name == "pids" || name == "cpu" {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0); err != nil { //nolint:gosec // the directory is configured
				return nil, fmt.Errorf("process: cgroup: hand on %s: %w", name, err)
			}
			c.controllers = append(c.controllers, name)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("process: cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "p-") {
			killCgroup(filepath.Join(dir, e.Name()))
		}
	}
	return c, nil
}

// keeps reports whether limits of a controller can be kept.
func (c *Cgroup) keeps(controller string) bool {
	return c != nil && slices.Contains(c.controllers, controller)
}

// Close removes the directory, if it is empty.
func (c *Cgroup) Close() error {
	if err := os.Remove(c.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("process: cgroup: %w", err)
	}
	return nil
}

type cgroupChild struct {
	path string
	dir  *os.File
}

func (c *Cgroup) child(token uint64, l Limits) (*cgroupChild, error) {
	path := filepath.Join(c.dir, fmt.Sprintf("p-%d-%d", os.Getpid(), token))
	if err := os.Mkdir(path, 0o755); err != nil { //nolint:gosec // as above
		return nil, fmt.Errorf("process: cgroup: %w", err)
	}
	child := &cgroupChild{path: path}
	for _, w := range []struct{ field, controller, file, value string }{
		{"limits.memory", "memory", "memory.max", number(l.Memory)},
		{"limits.memory", "memory", "memory.oom.group", strconv.Itoa(min(1, int(l.Memory)))},
		{"limits.processes", "pids", "pids.max", number(l.Processes)},
		{"limits.cpus", "cpu", "cpu.max", cpuMax(l.CPUs)},
	} {
		if w.value == "" || w.value == "0" {
			continue
		}
		if !slices.Contains(c.controllers, w.controller) {
			child.remove()
			return nil, &rota.FieldError{Field: w.field, Value: w.value, Want: "a cgroup with the controller " + w.controller}
		}
		if err := os.WriteFile(filepath.Join(path, w.file), []byte(w.value), 0); err != nil {
			child.remove()
			return nil, fmt.Errorf("process: cgroup: %w", err)
		}
	}
	var err error
	if child.dir, err = os.Open(path); err != nil {
		child.remove()
		return nil, fmt.Errorf("process: cgroup: %w", err)
	}
	return child, nil
}

func number(v int64) string {
	if v <= 0 {
		return ""
	}
	return strconv.FormatInt(v, 10)
}

func cpuMax(cpus float64) string {
	if cpus <= 0 {
		return ""
	}
	quota := max(1000, int64(cpus*float64(cpuPeriod.Microseconds()))) // the kernel's least
	return fmt.Sprintf("%d %d", quota, cpuPeriod.Microseconds())
}

func (c *cgroupChild) kill() {
	if c != nil {
		_ = os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0)
	}
}

func (c *cgroupChild) remove() {
	if c == nil {
		return
	}
	if c.dir != nil {
		_ = c.dir.Close()
	}
	killCgroup(c.path)
}

// killCgroup ends all that is in a group and removes it. A killed process
// leaves its group a moment after the signal.
func killCgroup(path string) {
	_ = os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0)
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		if err := os.Remove(path); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(wait)
	}
}
