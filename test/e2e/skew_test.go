//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/ports"
)

// TestEarlierStore: what an earlier revision has stored is all there. testdata/earlier.backup
// is a backup of its store, with the tasks one (group g, weight 3, payload p), many (of three
// instances) and nobody (of a kind that no worker takes), the workers w1 and w2, of which w2
// drains, and the pool spare; it is made anew at each release.
func TestEarlierStore(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	data := filepath.Join(dir, "data")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), rotaBin, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("rota %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	run("restore", "testdata/earlier.backup", "--data-dir", data)
	env := []string{"HOME=" + dir}
	s := start(t, env, rotaBin, "scheduler", "--name", "s1", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--data-dir", data, "--engines", "local", "--lease", "2s")
	addr := s.find(t, `msg=ready .*grpc=(\S+)`, time.Minute)[1]
	ask := func(of any, args ...string) {
		t.Helper()
		if err := json.Unmarshal([]byte(run(append(args, "--server", addr, "-o", "json")...)), of); err != nil {
			t.Fatal(err)
		}
	}
	await(t, 2*time.Minute, "it serves", func() bool {
		return exec.CommandContext(t.Context(), rotaBin, "health", "--server", addr).Run() == nil
	})
	for _, w := range []string{"w1", "w2"} {
		start(t, env, rotaBin, "worker", "--name", w, "--schedulers", addr, "--demo").find(t, "session opened", time.Minute)
	}
	type task struct {
		ID, Group, Kind, Payload string
		Weight                   float64
		Instances                []struct {
			Worker, State string
			Generation    int64
		}
	}
	var tasks []task
	await(t, 2*time.Minute, "its tasks run", func() bool {
		ask(&tasks, "task", "list")
		running := 0
		for _, task := range tasks {
			for _, i := range task.Instances {
				if i.State == "running" {
					running++
				}
				// Those of the earlier revision were 6; w2 drains since then.
				if i.State == "running" && (i.Generation <= 6 || i.Worker != "w1") {
					t.Fatalf("%s runs on %s with generation %d", task.ID, i.Worker, i.Generation)
				}
			}
		}
		return running >= 2
	})
	said := ""
	for _, k := range tasks {
		said += fmt.Sprintf("%s %s %s %v %d; ", k.ID, k.Group, k.Kind, k.Weight, len(k.Instances))
	}
	if want := "many  task 1 3; nobody  nobody-runs-this 1 1; one g task 3 1; "; said != want {
		t.Errorf("tasks %q, want %q", said, want)
	}
	if text := run("task", "get", "one", "--server", addr); !strings.Contains(text, "payload") {
		t.Errorf("no payload: %s", text)
	}
	var workers []struct{ Name, State string }
	ask(&workers, "worker", "list")
	if got := fmt.Sprint(workers); got != "[{w1 ready} {w2 draining}]" {
		t.Errorf("workers %s", got)
	}
	if text := run("pool", "list", "--server", addr); !strings.Contains(text, "spare") {
		t.Errorf("pools %s", text)
	}
	s.signal(syscall.SIGTERM)
	s.wait(t, time.Minute)
}

// TestSkew goes from the earlier binary that ROTA_SKEW names to the present one, and from
// the present one to the earlier, one process after the other, with three schedulers that
// keep the store together. While schedulers are exchanged no task stops, and what is declared
// runs; workers hand over what they run.
func TestSkew(t *testing.T) {
	t.Parallel()
	earlier := os.Getenv("ROTA_SKEW")
	if earlier == "" {
		t.Skip("make skew names the earlier binary")
	}
	for name, way := range map[string][2]string{"forward": {earlier, rotaBin}, "back": {rotaBin, earlier}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exchange(t, way[0], way[1])
		})
	}
}

// exchange begins a cluster of one binary and makes it one of another.
func exchange(t *testing.T, from, to string) {
	const tasks = 24
	c := &cluster{t: t, dir: shortDir(t), lease: 15 * time.Second, bin: from}
	members := make([]string, 3)
	for n := range members {
		members[n] = fmt.Sprintf("s%d=%s", n, ports.Addr(t))
	}
	for n := range members {
		s := c.member(fmt.Sprint("s", n), members)
		s.bin = from
		c.scheds = append(c.scheds, s)
	}
	c.begin(2)
	c.apply("a", tasks)
	await(t, 2*time.Minute, "all run", func() bool { return c.once(tasks) })
	for n, s := range c.scheds {
		s.proc.signal(syscall.SIGTERM)
		s.proc.wait(t, time.Minute)
		s.bin = to
		s.start()
		s.ready()
		c.insist(fmt.Sprint("b", n))
		await(t, 2*time.Minute, "what is declared then runs", func() bool { return c.once(tasks + n + 1) })
		if runs := c.record.count(); runs != tasks+n+1 {
			t.Errorf("%d runs of %d tasks: %s has disturbed some", runs, tasks+n+1, s.name)
		}
	}
	for _, w := range c.workers {
		w.proc.signal(syscall.SIGTERM)
		w.proc.wait(t, time.Minute)
		w.bin = to
		w.start()
		await(t, 2*time.Minute, "all run again", func() bool { return c.once(tasks + len(c.scheds)) })
	}
	c.stop()
	c.record.check(t)
}
