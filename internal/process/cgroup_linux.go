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
// make groups in it.
type Cgroup struct {
	dir         string
	controllers []string
}

// cpuPeriod is the period of cpu.max, the kernel's default.
const cpuPeriod = 100 * time.Millisecond

// controllers keep what Limits has; see cgroups(7).
var controllers = []string{"memory", "pids", "cpu"}

// OpenCgroup takes over dir, made if it is not there, and hands its controllers
// on to its children. Groups that an earlier owner left in it are killed.
//
// A group with processes in it has no controllers to hand on. Service managers
// start a worker in the group that they delegate to it: if dir is that group or
// below it, the processes there move to a group "worker" beside those of jobs.
func OpenCgroup(dir string) (*Cgroup, error) {
	if !filepath.IsAbs(dir) {
		return nil, &rota.FieldError{Field: "cgroup", Value: dir, Want: "an absolute path"}
	}
	there := dir // or the directory in which it is to be made
	var st unix.Statfs_t
	err := unix.Statfs(there, &st)
	for errors.Is(err, unix.ENOENT) && there != "/" {
		there = filepath.Dir(there)
		err = unix.Statfs(there, &st)
	}
	if err != nil {
		return nil, fmt.Errorf("process: cgroup: %s: %w", there, err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, &rota.FieldError{Field: "cgroup", Value: dir, Want: "a directory of cgroup v2"}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the kernel wants it so
		return nil, fmt.Errorf("process: cgroup: %w", err)
	}
	c := &Cgroup{dir: dir}
	if err := c.handOn(); err != nil {
		return nil, err
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

// handOn has the groups below dir have the controllers that dir has, or that the
// group of this process can give it.
func (c *Cgroup) handOn() error {
	own := ownCgroup(c.dir)
	groups := []string{c.dir} // from the first that hands on to dir
	if below, err := filepath.Rel(own, c.dir); own != "" && err == nil && filepath.IsLocal(below) {
		for g := c.dir; g != own; {
			g = filepath.Dir(g)
			groups = append([]string{g}, groups...)
		}
	}
	for _, g := range groups {
		there, err := os.ReadFile(filepath.Join(g, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("process: cgroup: %w", err)
		}
		c.controllers = slices.DeleteFunc(strings.Fields(string(there)), func(name string) bool { return !slices.Contains(controllers, name) })
		err = enable(g, c.controllers)
		if g == own && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EOPNOTSUPP)) {
			if err = moveOut(g); err == nil {
				err = enable(g, c.controllers)
			}
		}
		if err != nil {
			return fmt.Errorf("process: cgroup: hand on %s: %w", strings.Join(c.controllers, ", "), err)
		}
	}
	return nil
}

// enable hands controllers on in one write: handing on some alone that may be
// handed on beside processes (cpu and pids) would make a thread root of the group.
func enable(group string, controllers []string) error {
	if len(controllers) == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(group, "cgroup.subtree_control"), []byte("+"+strings.Join(controllers, " +")), 0)
}

// moveOut moves the processes that are in a group into a group of their own in it.
func moveOut(group string) error {
	leaf := filepath.Join(group, "worker")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) { //nolint:gosec // the kernel wants it so
		return err
	}
	for range 10 { // some may be started meanwhile
		b, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if err != nil {
			return err
		}
		pids := strings.Fields(string(b))
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(pid), 0) //nolint:gosec // the directory is configured
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return unix.EBUSY
}

// ownCgroup is the directory of this process's group in the file system that dir
// is in, or nothing if that cannot be told.
func ownCgroup(dir string) string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for l := range strings.Lines(string(b)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(l, "\n"), "0::")
		if !ok {
			continue
		}
		root := dir // the mount is where the device changes
		for root != "/" && device(filepath.Dir(root)) == device(dir) {
			root = filepath.Dir(root)
		}
		return filepath.Join(root, path)
	}
	return ""
}

func device(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Dev
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
