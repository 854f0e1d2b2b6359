//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/worker"
)

// leader is the scheduler that leads.
func (c *cluster) leader() *sched {
	var name string
	await(c.t, 20*time.Second, "somebody leads", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		s, err := rotav1.NewClusterClient(c.living().conn).GetStatus(ctx, &rotav1.GetStatusRequest{})
		name = s.GetLeader()
		return err == nil && name != ""
	})
	for _, s := range c.scheds {
		if s.name == name {
			return s
		}
	}
	c.t.Fatalf("leader %q is none of ours", name)
	return nil
}

// Of three schedulers the leader is killed: nothing that runs is disturbed, and
// new tasks run soon after its lease.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3, 2*time.Second)
	c.apply("a", 12)
	await(t, 20*time.Second, "all run", func() bool { return c.once(12) })
	runs := c.record.count()
	c.leader().proc.signal(syscall.SIGKILL)
	<-c.leaderGone()
	c.apply("b", 3)
	await(t, 15*time.Second, "new tasks run", func() bool { return c.once(15) })
	if got := c.record.count(); got != runs+3 {
		t.Errorf("%d runs, want %d: something was disturbed", got, runs+3)
	}
	c.stop()
	c.record.check(t)
}

// leaderGone is closed when some scheduler has ended.
func (c *cluster) leaderGone() <-chan struct{} {
	gone := make(chan struct{})
	await(c.t, 5*time.Second, "a scheduler has ended", func() bool {
		for _, s := range c.scheds {
			select {
			case <-s.proc.done:
				return true
			default:
			}
		}
		return false
	})
	close(gone)
	return gone
}

// A supervised worker is killed: its tasks run elsewhere long before its lease ends.
func TestSupervisedWorkerKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 3, 30*time.Second, "--supervise")
	c.apply("a", 12)
	await(t, 20*time.Second, "all run", func() bool { return c.once(12) })
	pids := c.living().pids()
	if err := syscall.Kill(pids["w0"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, 5*time.Second, "its tasks have stopped", func() bool { _, w := c.record.running(); return w["w0"] == 0 })
	took := await(t, 15*time.Second, "all run again", func() bool { return c.once(12) })
	t.Logf("all run again after %v", took)
	c.stop()
	if c.record.check(t) < 4 {
		t.Error("nothing has moved")
	}
}

// A worker is cut off: its tasks stop before they start elsewhere, soon after its
// lease, and it takes part again afterwards: itself, or its successor if the
// machine was too busy for its tasks to stop in time.
func TestCutOffWorker(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 3, 2*time.Second, "--supervise")
	c.apply("a", 12)
	await(t, 20*time.Second, "all run", func() bool { _, w := c.record.running(); return c.once(12) && w["w0"] > 0 })
	c.workers[0].hold(true, true)
	await(t, 10*time.Second, "all run elsewhere", func() bool { _, w := c.record.running(); return c.once(12) && w["w0"] == 0 })
	c.workers[0].hold(false, false)
	await(t, 15*time.Second, "it takes part again", func() bool { _, w := c.record.running(); return c.once(12) && w["w0"] > 0 })
	c.stop()
	if c.record.check(t) < 4 {
		t.Error("nothing has moved")
	}
}

// A worker that is killed and comes back under its name within its grace keeps
// its tasks: nothing moves.
func TestRestartGraceMovesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 3, time.Second, "--restart-grace", "60s")
	c.apply("a", 12)
	await(t, 20*time.Second, "all run", func() bool {
		_, w := c.record.running()
		return c.once(12) && w["w0"] > 0 && w["w1"] > 0 && w["w2"] > 0
	})
	before := c.record.where()
	c.workers[1].proc.signal(syscall.SIGKILL)
	c.workers[1].proc.wait(t, 10*time.Second)
	c.workers[1].start()
	await(t, 5*time.Second, "its tasks have stopped", func() bool { return !c.once(12) })
	await(t, 20*time.Second, "all run again", func() bool { return c.once(12) })
	for task, w := range c.record.where() {
		if before[task] != w {
			t.Errorf("%s moved from %s to %s", task, before[task], w)
		}
	}
	c.stop()
	c.record.check(t)
}

// stubborn is a worker whose task ignores the end of its context.
func stubborn(addr string) int {
	w, err := worker.New(worker.Config{Name: "stubborn", Schedulers: []string{addr}})
	if err == nil {
		err = w.HandleTask("hold", func(context.Context, worker.Assigned) error {
			fmt.Println("runs")
			select {}
		})
	}
	if err == nil {
		err = w.Run(context.Background())
	}
	fmt.Println(err)
	return 1
}

// A task function that ignores the end of its lease takes the process down.
func TestStubbornTaskEndsTheProcess(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 0, time.Second)
	p := newProxy(t, c.scheds[0].grpc)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, []string{"E2E_STUBBORN=" + p.addr}, self)
	c.apply("a", 1)
	w.find(t, "runs", 20*time.Second)
	p.hold(true, true)
	if status := w.wait(t, 20*time.Second); status != worker.ExitFenced {
		t.Errorf("status %d, want %d", status, worker.ExitFenced)
	}
	c.stop()
}

// marked lists the processes that have a variable of the environment.
func marked(mark string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		if err == nil && strings.Contains(string(env), mark) {
			pid, _ := strconv.Atoi(filepath.Base(d))
			pids = append(pids, pid)
		}
	}
	return pids
}

// dev starts rota dev and waits until it is ready.
func dev(t *testing.T, tmp, mark string, args ...string) *proc {
	t.Helper()
	p := start(t, []string{"TMPDIR=" + tmp, mark}, rotaBin, append([]string{"dev", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)...)
	p.find(t, `ready after`, 30*time.Second)
	return p
}

// Ctrl-C of rota dev leaves no process and no directory.
func TestDevLeavesNothing(t *testing.T) {
	t.Parallel()
	tmp, mark := t.TempDir(), "E2E_MARK="+rota.DefaultKind+strconv.FormatInt(time.Now().UnixNano(), 36)
	p := dev(t, tmp, mark)
	if n := len(marked(mark)); n < 4 {
		t.Errorf("%d processes, want rota dev and three workers", n)
	}
	p.signal(syscall.SIGINT)
	if status := p.wait(t, 30*time.Second); status != 0 {
		t.Errorf("status %d, want 0", status)
	}
	if pids := marked(mark); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// A worker of rota dev that is killed is known to be dead at once: its tasks run
// elsewhere long before its lease ends. With and without credentials.
func TestDevKnowsDeaths(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"with credentials": nil, "insecure": {"--insecure"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			env := []string{"HOME=" + home, "TMPDIR=" + home, "XDG_RUNTIME_DIR="}
			p := start(t, env, rotaBin, append([]string{"dev", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--workers", "2", "--restart", "never", "--lease", "10m"}, args...)...)
			addr := p.find(t, `(?s)ready after.*gRPC API  (\S+)\n`, 60*time.Second)[1]
			get := func(of any, args ...string) {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), rotaBin, append(args, "--server", addr, "-o", "json")...)
				cmd.Env = append(os.Environ(), env...)
				text, err := cmd.Output()
				if err == nil {
					err = json.Unmarshal(text, of)
				}
				if err != nil {
					t.Fatalf("rota %v: %v", args, err)
				}
			}
			var status struct {
				Tasks struct{ Declared, Running int }
			}
			all := func() bool {
				get(&status, "status")
				return status.Tasks.Declared > 0 && status.Tasks.Declared == status.Tasks.Running
			}
			await(t, time.Minute, "all run", all)
			var w1 struct{ PID int }
			get(&w1, "worker", "get", "w1")
			if err := syscall.Kill(w1.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			await(t, time.Minute, "all run on w2", func() bool {
				var w2 struct{ Instances int }
				get(&w2, "worker", "get", "w2")
				return all() && w2.Instances == status.Tasks.Declared
			})
			p.signal(syscall.SIGINT)
			if status := p.wait(t, time.Minute); status != 0 {
				t.Errorf("status %d", status)
			}
			if text := p.out.String(); strings.Contains(text, "not reported") {
				t.Errorf("a death was not told: %s", text)
			}
		})
	}
}

// kill -9 of rota dev leaves no process.
func TestDevKilledLeavesNoProcess(t *testing.T) {
	t.Parallel()
	mark := "E2E_MARK=killed" + strconv.FormatInt(time.Now().UnixNano(), 36)
	p := dev(t, t.TempDir(), mark)
	p.signal(syscall.SIGKILL)
	p.wait(t, 10*time.Second)
	await(t, 10*time.Second, "no process is left", func() bool { return len(marked(mark)) == 0 })
}

// A restart with a data directory keeps what was declared.
func TestDataDirKeepsState(t *testing.T) {
	t.Parallel()
	dir, mark := filepath.Join(t.TempDir(), "data"), "E2E_MARK=kept"
	list := filepath.Join(t.TempDir(), "tasks.yaml")
	if err := os.WriteFile(list, []byte("- id: one\n- id: two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := dev(t, t.TempDir(), mark, "--data-dir", dir, "--tasks", list, "--workers", "1")
	p.signal(syscall.SIGKILL) // an orderly end keeps no less
	p.wait(t, 10*time.Second)
	p = dev(t, t.TempDir(), mark, "--insecure", "--data-dir", dir, "--workers", "1")
	addr := p.find(t, `gRPC API\s+(\S+)`, 10*time.Second)[1]
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := rotav1.NewTasksClient(dial(t, addr)).ListTasks(ctx, &rotav1.ListTasksRequest{})
	if err != nil || len(got.GetTasks()) != 2 || got.GetTasks()[0].GetId() != "one" {
		t.Errorf("tasks %v, error %v, want one and two", got.GetTasks(), err)
	}
	p.signal(syscall.SIGINT)
	p.wait(t, 30*time.Second)
}
