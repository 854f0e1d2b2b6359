//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ordinary is a user of the guest without privileges, 1000.
	ordinary = "someone"
	// allDone is the last line of a guest that has tried everything.
	allDone = "all tried"
	// cgroups is where the guest has cgroup v2.
	cgroups = "/sys/fs/cgroup"
)

// boot is the first process of the guest.
func boot() {
	defer func() {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}()
	_ = os.Setenv("PATH", "/bin")
	_ = os.Setenv("HOME", "/home")
	_ = os.Setenv("ROTA_SERVER", "127.0.0.1:7701")
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"cgroup2", cgroups}, {"tmpfs", "/tmp"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			fmt.Printf("FAIL mount %s: %v\n", m[1], err)
			return
		}
	}
	if out, err := output(exec.Command("/bin/busybox", "--install", "-s", "/bin")); err != nil {
		fmt.Println("FAIL busybox:", out, err)
		return
	}
	if _, err := output(exec.Command("ip", "link", "set", "lo", "up")); err != nil {
		fmt.Println("FAIL loopback:", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tryAll(ctx); err != nil {
		fmt.Println("FAIL", err)
		return
	}
	fmt.Println(allDone)
}

// try says what came of a check.
func try(name string, check func() error) {
	if err := check(); err != nil {
		fmt.Printf("FAIL %s: %v\n", name, err)
		return
	}
	fmt.Println("ok", name)
}

func tryAll(ctx context.Context) error {
	try("the tests of package process", func() error {
		out, err := output(exec.CommandContext(ctx, "process.test", "-test.run=Cgroup|Sweep|Escapes|Stop|Zombies", "-test.timeout=10m"))
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
	scheduler := exec.CommandContext(ctx, "rota", "scheduler", "--name", "s", "--http", "127.0.0.1:7700", "--grpc", "127.0.0.1:7701", "--gateway", "", "--data-dir", "/tmp/s")
	log, err := os.Create("/tmp/scheduler.log")
	if err != nil {
		return err
	}
	scheduler.Stdout, scheduler.Stderr = log, log
	if err := scheduler.Start(); err != nil {
		return err
	}
	if err := await(ctx, "the scheduler is up", func() bool {
		_, err := rota(ctx, "status")
		return err == nil
	}); err != nil {
		b, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w\n%s", err, b)
	}

	// As systemd hands a service its group: all of its processes are in it.
	if err := os.WriteFile(cgroups+"/cgroup.subtree_control", []byte("+memory +pids +cpu"), 0); err != nil {
		return err
	}
	for _, g := range []struct{ name, user, jobs string }{
		{"root", "root", "jobs"},
		{"ordinary", ordinary, "jobs"},
		{"itself", ordinary, "."}, // the group of the service is that of the jobs
	} {
		w := &worker{name: g.name, user: g.user, group: filepath.Join(cgroups, g.name+".service")}
		w.jobs = filepath.Join(w.group, g.jobs)
		if err := w.start(ctx); err != nil {
			return err
		}
		for name, check := range w.checks() {
			try(name+" of a worker of "+g.name, func() error { return check(ctx) })
		}
		try("killed worker of "+g.name, func() error { return w.killed(ctx) })
		try("end of the worker of "+g.name, w.end)
	}
	try("limits that nothing can keep", func() error { return refused(ctx) })
	return nil
}

// worker is a worker in a group that was delegated to it.
type worker struct {
	name, user, group, jobs string
	cmd                     *exec.Cmd
	ended                   chan error
	log                     string
}

func (w *worker) args(jobs string) []string {
	return []string{
		"worker", "--name", w.name, "--schedulers", "127.0.0.1:7701", "--job", "any", "--job-env", "*", "--job-data", "/tmp/data-" + w.name,
		"--job-cgroup", jobs, "--job-memory", strconv.Itoa(64 << 20), "--job-processes", "25", "--job-cpus", "0.5",
	}
}

// start starts the worker as a service manager does that delegates a group.
func (w *worker) start(ctx context.Context) error {
	if err := os.MkdirAll(w.group, 0o755); err != nil {
		return err
	}
	uid := 0
	if w.user == ordinary {
		uid = 1000
	}
	for _, f := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
		if err := os.Chown(filepath.Join(w.group, f), uid, uid); err != nil {
			return err
		}
	}
	w.log = "/tmp/worker-" + w.name + ".log"
	log, err := os.OpenFile(w.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w.cmd = exec.CommandContext(ctx, "rota", w.args(w.jobs)...)
	w.cmd.Stdout, w.cmd.Stderr = log, log
	w.cmd.Dir = "/tmp"
	// An earlier worker has moved out of a group that hands controllers on.
	dir, err := os.Open(filepath.Join(w.group, "worker"))
	if err != nil {
		dir, err = os.Open(w.group)
	}
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	w.cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()),
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)},
	}
	if err := w.cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.ended = make(chan error, 1)
	go func() {
		w.ended <- w.cmd.Wait()
		cancel()
	}()
	err = await(ctx, "worker "+w.name+" is up", func() bool {
		_, err := rota(ctx, "job", "run", "--wait", "--worker", w.name, "--", "true")
		return err == nil
	})
	if err != nil {
		b, _ := os.ReadFile(w.log)
		return fmt.Errorf("%w\n%s", err, b)
	}
	return nil
}

// job runs a shell's script as a job of this worker.
func (w *worker) job(ctx context.Context, script string) (string, error) {
	return rota(ctx, "job", "run", "--wait", "--worker", w.name, "--", "sh", "-c", script)
}

func (w *worker) checks() map[string]func(context.Context) error {
	const own = `/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)`
	return map[string]func(context.Context) error{
		"group": func(ctx context.Context) error {
			out, err := w.job(ctx, `cat /proc/self/cgroup`)
			if want := strings.TrimPrefix(w.jobs, cgroups) + "/p-"; err != nil || !strings.Contains(out, want) {
				return fmt.Errorf("%w: %q, want %s", err, out, want)
			}
			return nil
		},
		"memory within the limit": func(ctx context.Context) error {
			out, err := w.job(ctx, `/init eat 16 && echo fits`)
			if err != nil || !strings.Contains(out, "fits") {
				return fmt.Errorf("%w: %q", err, out)
			}
			return nil
		},
		"memory of all processes together": func(ctx context.Context) error {
			out, err := w.job(ctx, `for i in 1 2 3 4 5 6 7 8; do /init eat 16 & done; wait; echo survived`)
			if err == nil || strings.Contains(out, "survived") {
				return fmt.Errorf("8 x 16 MiB within 64 MiB: %q", out)
			}
			return nil
		},
		"processes": func(ctx context.Context) error {
			out, err := w.job(ctx, `for i in $(seq 40); do sleep 100 & done; echo all`)
			if err == nil || !strings.Contains(err.Error(), "fork") {
				return fmt.Errorf("40 processes of 25: %w: %q", err, out)
			}
			// The worker's own are not counted.
			out, err = w.job(ctx, `for i in $(seq 15); do sleep 0.1 & done; wait; echo all`)
			if err != nil || !strings.Contains(out, "all") {
				return fmt.Errorf("15 processes of 25: %w: %q", err, out)
			}
			return nil
		},
		"processors": func(ctx context.Context) error {
			out, err := w.job(ctx, `timeout 3 sh -c 'while :; do :; done'; grep nr_throttled `+own+`/cpu.stat`)
			var n int
			if _, scanErr := fmt.Sscanf(out, "nr_throttled %d", &n); err != nil || scanErr != nil || n == 0 {
				return fmt.Errorf("half a processor for a loop: %w: %q", err, out)
			}
			return nil
		},
		"what a job leaves": func(ctx context.Context) error {
			out, err := w.job(ctx, `setsid env -i /bin/sh -c 'exec sleep 4321' & sleep 0.5; echo begun`)
			if err != nil || !strings.Contains(out, "begun") {
				return fmt.Errorf("not begun: %w: %q", err, out)
			}
			if pids := programs("sleep 4321"); len(pids) > 0 {
				return fmt.Errorf("%v live on", pids)
			}
			return w.empty()
		},
	}
}

// programs are the processes whose command line begins so.
func programs(begins string) (pids []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range lines {
		b, err := os.ReadFile(f)
		if pid, notPid := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && notPid == nil &&
			strings.HasPrefix(strings.ReplaceAll(string(b), "\x00", " "), begins) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// empty says so if groups of jobs are left.
func (w *worker) empty() error {
	left, err := filepath.Glob(filepath.Join(w.jobs, "p-*"))
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("groups are left: %q", left)
	}
	return err
}

// killed has the worker and its keeper killed in one instant while a job runs, whose
// processes the next worker ends.
func (w *worker) killed(ctx context.Context) error {
	if out, err := rota(ctx, "job", "run", "--worker", w.name, "--", "sh", "-c", "setsid sleep 5432 & setsid sleep 5432 & sleep 5432"); err != nil {
		return fmt.Errorf("%w: %q", err, out)
	}
	running := func() bool { return len(programs("sleep 5432")) == 3 }
	if err := await(ctx, "the job runs", running); err != nil {
		return err
	}
	for _, pid := range programs("rota worker --name " + w.name) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return err
		}
	}
	if err := <-w.ended; err == nil {
		return errors.New("ended in order")
	}
	if err := w.start(ctx); err != nil {
		return err
	}
	if pids := programs("sleep 5432"); len(pids) > 0 {
		return fmt.Errorf("%v run on beside the next worker", pids)
	}
	return w.empty()
}

// end has the worker end in order.
func (w *worker) end() error {
	if err := w.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	if err := <-w.ended; err != nil {
		b, _ := os.ReadFile(w.log)
		return fmt.Errorf("%w\n%s", err, b)
	}
	return w.empty()
}

// refused starts a worker in a group whose controllers nobody can hand on.
func refused(ctx context.Context) error {
	group := filepath.Join(cgroups, "bare", "jobs") // below a group that hands nothing on
	if err := os.MkdirAll(group, 0o755); err != nil {
		return err
	}
	// A process outside of it may not change the groups above it.
	other := filepath.Join(cgroups, "other")
	if err := os.MkdirAll(other, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(other)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	w := worker{name: "bare"}
	cmd := exec.CommandContext(ctx, "rota", w.args(group)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if out, err := output(cmd); err == nil || !strings.Contains(err.Error(), "controller memory") {
		return fmt.Errorf("started: %w: %q", err, out)
	}
	return nil
}

func rota(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return output(exec.CommandContext(ctx, "rota", args...))
}

// await waits until something is so.
func await(ctx context.Context, what string, so func() bool) error {
	for !so() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not so: %s", what)
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

// eat holds so many MiB for two seconds.
func eat(mib string) {
	n, err := strconv.Atoi(mib)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	b := make([]byte, n<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	time.Sleep(2 * time.Second)
	b[0]++
}
