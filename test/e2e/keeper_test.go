//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// escape is a script that lets go of the program in its arguments in every way
// there is: a session of its own, two forks, an empty environment, deaf to
// signals; and then waits.
const escape = `
(setsid env -i PATH="$PATH" sh -c 'trap "" TERM HUP INT; "$@" & ' sh "$@" </dev/null >/dev/null 2>&1 &)
exec sleep 100000`

// startedPid is what a keeper says of the worker that it has started.
const startedPid = `msg="worker process started".* pid=(\d+)\n`

// pid is the process of the worker itself, as its keeper says.
func (w *wrk) pid() int {
	w.c.t.Helper()
	w.proc.find(w.c.t, startedPid, 20*time.Second) // it may just have been started
	all := regexp.MustCompile(startedPid).FindAllStringSubmatch(w.proc.out.String(), -1)
	pid, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		w.c.t.Fatal(err)
	}
	return pid
}

// kill sends a signal to the worker itself, below its keeper.
func (w *wrk) kill(s syscall.Signal) { _ = syscall.Kill(w.pid(), s) }

// mishap is something that happens to a worker. Afterwards it is to end, or
// to be restarted, by itself, unless mend does so.
type mishap struct {
	name string
	hurt func(*wrk)
	mend func(*wrk)
	// lets what the worker started go on: nobody is left to end it.
	nobody bool
}

func restart(w *wrk) {
	w.proc.wait(w.c.t, 40*time.Second)
	w.start()
	w.proc.find(w.c.t, `msg="session opened"`, 40*time.Second) // and so has ended what was left
}

var mishaps = []mishap{
	{name: "worker killed", hurt: func(w *wrk) { w.kill(syscall.SIGKILL) }},
	{name: "worker asked to end", hurt: func(w *wrk) { w.kill(syscall.SIGTERM) }},
	{name: "worker stopped", hurt: func(w *wrk) { w.kill(syscall.SIGSTOP) }},
	{name: "worker aborted", hurt: func(w *wrk) { w.kill(syscall.SIGABRT) }},
	{name: "cut off", hurt: func(w *wrk) { w.hold(true, true) }, mend: func(w *wrk) { w.hold(false, false) }},
	{name: "not heard", hurt: func(w *wrk) { w.hold(true, false) }, mend: func(w *wrk) { w.hold(false, false) }},
	{name: "hears nothing", hurt: func(w *wrk) { w.hold(false, true) }, mend: func(w *wrk) { w.hold(false, false) }},
	{name: "keeper asked to end", hurt: func(w *wrk) { w.proc.signal(syscall.SIGTERM) }, mend: restart},
	{name: "keeper killed", hurt: func(w *wrk) { w.proc.signal(syscall.SIGKILL) }, mend: restart},
	{name: "keeper stopped, cut off", hurt: func(w *wrk) {
		w.proc.signal(syscall.SIGSTOP)
		w.hold(true, true)
	}, mend: func(w *wrk) {
		w.proc.signal(syscall.SIGCONT)
		w.hold(false, false)
	}},
	{name: "worker stopped, keeper killed", hurt: func(w *wrk) {
		w.kill(syscall.SIGSTOP)
		w.proc.signal(syscall.SIGKILL)
	}, mend: restart},
	{name: "keeper killed, then worker", hurt: func(w *wrk) {
		pid := w.pid()
		w.proc.signal(syscall.SIGKILL)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}, mend: restart, nobody: true},
	{name: "worker killed, then keeper", hurt: func(w *wrk) {
		w.kill(syscall.SIGKILL)
		w.proc.signal(syscall.SIGKILL)
	}, mend: restart, nobody: true},
}

// TestKept does to a worker what can happen to it. Its tasks and its jobs, whose
// programs have escaped in every way, run elsewhere, never two of one at once, and
// nothing is left behind.
func TestKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "escape.sh")
	if err := os.WriteFile(script, []byte(escape), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 1, 0, 2*time.Second)
	for n := range 3 {
		w := &wrk{c: c, name: fmt.Sprintf("w%d", n), proxies: []*proxy{newProxy(t, c.scheds[0].grpc)}}
		w.extra = []string{
			"--supervise", "--exec-grace", "hold=100ms", "--job", "any", "--job-env", "*", "--job-data", filepath.Join(dir, w.name),
			"--exec", fmt.Sprintf("hold=/bin/sh %s %s %s %s {{.ID}} {{.Generation}} stubborn", script, holderBin, c.record.socket, w.name),
		}
		c.workers = append(c.workers, w)
		w.start()
	}
	await(t, 20*time.Second, "all workers are there", func() bool { return len(c.scheds[0].pids()) == 3 })
	const tasks, jobs = 6, 3
	c.apply("a", tasks)
	for range jobs {
		c.job(t, "job", "run", "--rerun", "--grace", "100ms", "--", "sh", "-c",
			fmt.Sprintf(`exec sh %s %s %s any "job-$ROTA_JOB_ID" "$ROTA_JOB_GENERATION" stubborn`, script, holderBin, c.record.socket))
	}
	const all = tasks + jobs
	await(t, 20*time.Second, "all run", func() bool { return c.once(all) })
	for n, f := range mishaps {
		w := c.workers[n%len(c.workers)]
		await(t, 30*time.Second, "before "+f.name+": the worker has something to lose", func() bool {
			_, on := c.record.running()
			return c.once(all) && on[w.name] > 0
		})
		if f.nobody {
			c.record.freeze(w.name)
			c.record.freeze("any")
		}
		began := c.record.count()
		f.hurt(w)
		await(t, 30*time.Second, f.name+": what it ran began anew", func() bool { return c.record.count() > began })
		if f.mend != nil {
			f.mend(w)
		}
		took := await(t, 40*time.Second, f.name+": all run again, each once", c.late(t, 30*time.Second, func() bool { return c.once(all) }))
		t.Logf("%s: all run again after %v", f.name, took)
	}
	c.stop()
	c.record.check(t)
	if left := c.left(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// job runs the command line against the cluster.
func (c *cluster) job(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, rotaBin, append([]string{"--server", c.living().grpc}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// left lists the processes of programs that tell the record.
func (c *cluster) left() (pids []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		line, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err == nil && strings.Contains(string(line), c.record.socket+"\x00") {
			pids = append(pids, filepath.Base(d)+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return pids
}

// late is cond, which, when it has not held for a time, tells once what runs and
// what the cluster says of itself.
func (c *cluster) late(t *testing.T, after time.Duration, cond func() bool) func() bool {
	t.Helper()
	began, told := time.Now(), false
	return func() bool {
		ok := cond()
		if !ok && !told && time.Since(began) > after {
			told = true
			tasks, workers := c.record.running()
			t.Logf("late: %v on %v; processes %v", tasks, workers, c.left())
			for _, ask := range []string{"status", "worker", "task", "job"} {
				args := []string{ask, "list"}
				if ask == "status" {
					args = args[:1]
				}
				t.Logf("rota %v:\n%s", args, c.job(t, args...))
			}
		}
		return ok
	}
}
