//go:build linux

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// devSeveral is rota dev with three schedulers, in a home of its own.
type devSeveral struct {
	*proc
	t               *testing.T
	home, tmp, mark string
	env             []string
	schedulers      map[string]int // process by name, as it says
}

func newDevSeveral(t *testing.T, args ...string) *devSeveral {
	t.Helper()
	d := &devSeveral{t: t, home: t.TempDir(), tmp: shortDir(t), schedulers: map[string]int{}}
	d.mark = "E2E_MARK=several" + strconv.FormatInt(time.Now().UnixNano(), 36)
	d.env = []string{"HOME=" + d.home, "TMPDIR=" + d.tmp, "XDG_RUNTIME_DIR=", d.mark}
	d.proc = start(t, d.env, rotaBin, append([]string{
		"dev", "--schedulers", "3", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "127.0.0.1:0",
	}, args...)...)
	d.find(t, `ready after(?s:.*)Ctrl-C`, 2*time.Minute)
	for _, m := range regexp.MustCompile(`(?m)^  (s\d) +process (\d+),`).FindAllStringSubmatch(d.out.String(), -1) {
		d.schedulers[m[1]], _ = strconv.Atoi(m[2])
	}
	if len(d.schedulers) != 3 {
		t.Fatalf("schedulers %v in %s", d.schedulers, d.out)
	}
	return d
}

// leavesNothing: neither processes nor files, now that it has ended.
func (d *devSeveral) leavesNothing() {
	if pids := marked(d.mark); len(pids) > 0 {
		d.t.Errorf("processes %v are left", pids)
	}
	for _, dir := range []string{d.tmp, d.home} {
		_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				d.t.Errorf("%s is left", path)
			}
			return nil
		})
	}
	if left, _ := filepath.Glob(filepath.Join(d.tmp, "*")); len(left) > 0 {
		d.t.Errorf("%v is left", left)
	}
}

// rota is what a command says that is told nothing of where the cluster is.
func (d *devSeveral) rota(args ...string) (string, error) {
	cmd := exec.CommandContext(d.t.Context(), rotaBin, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, d.env...)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

type statusAnswer struct {
	Leader string
	Tasks  struct{ Declared, Running int }
}

// status is what rota status says; the zero value while there is no answer.
func (d *devSeveral) status() (s statusAnswer) {
	if text, err := d.rota("status", "-o", "json"); err != nil || json.Unmarshal([]byte(text), &s) != nil {
		return statusAnswer{}
	}
	return s
}

// TestDevSeveralLosesLeader: rota dev with three schedulers bears the death of the one
// that leads. What is declared afterwards runs, the command line finds those that are left
// by itself, and neither workers nor other schedulers are disturbed.
func TestDevSeveralLosesLeader(t *testing.T) {
	t.Parallel()
	d := newDevSeveral(t)
	var s statusAnswer
	await(t, 2*time.Minute, "all run", func() bool {
		s = d.status()
		return s.Leader != "" && s.Tasks.Declared > 0 && s.Tasks.Running == s.Tasks.Declared
	})
	pid := d.schedulers[s.Leader]
	if pid == 0 {
		t.Fatalf("%q leads, of %v", s.Leader, d.schedulers)
	}
	before := marked(d.mark)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.find(t, `a scheduler has ended.* scheduler=`+s.Leader+` .*left=2`, time.Minute)
	list := filepath.Join(t.TempDir(), "more.yaml")
	if err := os.WriteFile(list, []byte("- id: after-the-leader\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, 2*time.Minute, "a task is declared", func() bool {
		_, err := d.rota("task", "apply", "-f", list)
		return err == nil
	})
	await(t, 2*time.Minute, "it runs", func() bool {
		text, err := d.rota("task", "get", "after-the-leader")
		return err == nil && strings.Contains(text, "running")
	})
	if now := d.status(); now.Leader == s.Leader {
		t.Errorf("%s still leads", now.Leader)
	}
	for _, p := range before {
		if alive := slices.Contains(marked(d.mark), p); alive == (p == pid) {
			t.Errorf("process %d: alive %v", p, alive)
		}
	}
	d.signal(syscall.SIGINT)
	if status := d.wait(t, 2*time.Minute); status != 0 {
		t.Errorf("status %d, want 0", status)
	}
	d.leavesNothing()
}

// TestDevSeveralEnds: rota dev with three schedulers leaves neither processes nor files,
// however it is asked to end.
func TestDevSeveralEnds(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string][]syscall.Signal{
		"SIGTERM": {syscall.SIGTERM}, "SIGHUP": {syscall.SIGHUP}, "SIGINT twice": {syscall.SIGINT, syscall.SIGINT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevSeveral(t, "--workers", "1", "--insecure", "--log-level", "info")
			for i, s := range signals {
				if i > 0 {
					d.find(t, `msg=leaving`, time.Minute) // the first is being obeyed
				}
				d.signal(s)
			}
			status := d.wait(t, 2*time.Minute)
			if atOnce := len(signals) > 1 && status == 128+int(syscall.SIGINT); status != 0 && !atOnce {
				t.Errorf("status %d", status)
			}
			d.leavesNothing()
		})
	}
}

// TestDevSeveralKilled: kill -9 of rota dev leaves no process of three schedulers.
func TestDevSeveralKilled(t *testing.T) {
	t.Parallel()
	d := newDevSeveral(t, "--workers", "1", "--data-dir", filepath.Join(shortDir(t), "data"))
	d.signal(syscall.SIGKILL)
	d.wait(t, time.Minute)
	await(t, time.Minute, "no process is left", func() bool { return len(marked(d.mark)) == 0 })
}
