//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	programs "github.com/rota-project/rota/program"
	"github.com/rota-project/rota/worker"

	"google.golang.org/grpc"
)

// follower is a command of the command line that goes on.
type follower struct {
	t    *testing.T
	args []string
	proc *proc   // its out is standard output
	errs *output // standard error
}

// startFollower starts a command that asks these servers, in this order.
func startFollower(t *testing.T, servers []string, args ...string) *follower {
	t.Helper()
	f := &follower{t: t, args: args, errs: newOutput()}
	cmd := exec.Command(rotaBin, append([]string{"--server", strings.Join(servers, ",")}, args...)...)
	cmd.Stderr = f.errs
	f.proc = startCmd(t, nil, cmd)
	return f
}

// says waits until standard error has the pattern, n times.
func (f *follower) says(pattern string, n int) {
	f.t.Helper()
	re := regexp.MustCompile(pattern)
	await(f.t, 60*time.Second, fmt.Sprintf("%v says %q for the %d. time", f.args, pattern, n), func() bool {
		return len(re.FindAllString(f.errs.String(), -1)) >= n
	})
}

// shows waits until standard output has the text.
func (f *follower) shows(text string) {
	f.t.Helper()
	await(f.t, 60*time.Second, fmt.Sprintf("%v shows %q", f.args, text), func() bool { return strings.Contains(f.proc.out.String(), text) })
}

// end waits for its end, and that it has the status.
func (f *follower) end(want int) {
	f.t.Helper()
	if status := f.proc.wait(f.t, 60*time.Second); status != want {
		f.t.Errorf("%v: status %d, want %d; %s", f.args, status, want, f.errs)
	}
	if strings.Contains(f.errs.String(), "rpc error") || strings.Contains(f.errs.String(), "desc =") {
		f.t.Errorf("%v talks of gRPC: %s", f.args, f.errs)
	}
}

// numbered fails if what a job wrote is not 1 to n, each once, in order, to its end.
func (f *follower) numbered(what, text, prefix string) {
	f.t.Helper()
	n, last := 0, ""
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "rota: "):
		case strings.Contains(line, "last"):
			last = line
		default:
			if n++; line != fmt.Sprintf("%s%d\n", prefix, n) {
				f.t.Fatalf("%v: %s: %q where %s%d was due", f.args, what, line, prefix, n)
			}
		}
	}
	if want := fmt.Sprintf("%slast%d\n", prefix, n); last != want {
		f.t.Errorf("%v: %s ends with %q after %d lines", f.args, what, last, n)
	}
}

// changes are what a watch told, each as "type name", and that it told nothing twice.
func (f *follower) changes() (all []string) {
	f.t.Helper()
	last := map[string]string{}
	for line := range strings.Lines(f.proc.out.String()) {
		var ev struct {
			Type         string
			Task, Worker map[string]any
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			f.t.Fatalf("%v: %v: %q", f.args, err, line)
		}
		name, what := "", ev.Task
		if what == nil {
			what = ev.Worker
		}
		for _, key := range []string{"id", "name"} {
			if v, ok := what[key].(string); ok {
				name = v
			}
		}
		delete(what, "lease_left_ms")
		if now := fmt.Sprint(ev.Type, what); last[name] == now && name != "" {
			f.t.Errorf("%v: told twice in a row: %s", f.args, line)
		} else {
			last[name] = now
		}
		all = append(all, strings.TrimSpace(ev.Type+" "+name))
	}
	return all
}

// TestFollowers: every command that follows something outlives the scheduler that
// it asks, one that stops and one that dies, and the absence of all. It has no gap
// and says nothing twice.
func TestFollowers(t *testing.T) {
	t.Parallel()
	const lease = 20 * time.Second // longer than anything is away
	c := idleCluster(t, 2, lease)
	var servers []string
	for _, s := range c.scheds {
		s.front = newProxy(t, "127.0.0.1:9")
		servers = append(servers, s.front.addr)
	}
	c.begin(1, "--job", "any", "--job-data", t.TempDir())
	c.apply("a", 3)
	await(t, 20*time.Second, "all run", func() bool { return c.once(3) })
	ended := filepath.Join(t.TempDir(), "ended")
	count := []string{
		"job", "run", "--", "sh", "-c", `i=0; while ! [ -e ` + ended + ` ]; do i=$((i+1)); echo $i; echo e$i >&2; sleep 0.02; done; echo last$i; echo elast$i >&2; exit 7`,
	}
	counting := strings.TrimSpace(c.job(t, count...))
	endProgram := runProgram(t, c, servers)

	followers := map[string]*follower{}
	for _, f := range []struct {
		name string
		args []string
	}{
		{"tasks", []string{"task", "list", "-w", "-o", "jsonl"}},
		{"task rows", []string{"task", "list", "-w"}},
		{"workers", []string{"worker", "list", "-w", "-o", "jsonl"}},
		{"wait", slices.Concat(count[:2], []string{"--wait"}, count[2:])},
		{"left", []string{"job", "run", "--wait", "--id", "0190a6e0-0000-7000-8000-00000000000f", "--", "sleep", "1000"}},
		{"logs", []string{"job", "logs", "-f", counting}},
		{"later logs", []string{"job", "logs", "-f", "--offset", "20", counting}},
		{"program", []string{"program", "logs", "-f", "counted"}},
	} {
		followers[f.name] = startFollower(t, servers, f.args...)
	}
	each := func(do func(f *follower)) {
		for name, f := range followers {
			select {
			case <-f.proc.done:
				t.Fatalf("%s has ended: %s", name, f.errs)
			default:
				do(f)
			}
		}
	}
	for _, name := range []string{"tasks", "task rows"} {
		followers[name].shows("a02")
	}
	followers["workers"].shows("w0")
	for _, name := range []string{"wait", "logs", "later logs"} {
		followers[name].shows("\n30\n")
	}
	followers["program"].shows("task running idle-0")

	again := func(n int) {
		c.scheds[n].start()
		c.scheds[n].ready()
	}
	gone := `lost the scheduler at \S+; continuing with the one at \S+`
	for n, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		c.scheds[n].proc.signal(sig)
		<-c.scheds[n].proc.done
		if n == 0 { // what changes while nobody looks
			c.change(c.scheds[1], "during", "a01")
		}
		each(func(f *follower) { f.says(gone, n+1) })
		again(n)
	}
	for _, s := range c.scheds {
		s.proc.signal(syscall.SIGKILL)
		<-s.proc.done
	}
	each(func(f *follower) { f.says(`no scheduler answers .*; waiting for one \(Ctrl-C ends the wait\)`, 1) })
	left := followers["left"]
	left.proc.signal(syscall.SIGINT)
	left.end(128 + int(syscall.SIGINT))
	left.says(`the job goes on; follow it with: rota job logs -f 0190a6e0\S+; stop it with: rota job stop 0190a6e0\S+`, 1)
	delete(followers, "left")
	again(0)
	again(1)
	each(func(f *follower) { f.says(gone, 3) })
	c.change(c.scheds[0], "after", "a00")
	followers["tasks"].shows(`"after"`)
	followers["task rows"].shows("after")

	if err := os.WriteFile(ended, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, 60*time.Second, "a scheduler leads, which keeps the ends of programs", func() bool {
		return slices.ContainsFunc(c.scheds, func(s *sched) bool { return strings.Contains(s.proc.out.String(), "msg=leading") })
	})
	endProgram()
	followers["wait"].end(7)
	for _, name := range []string{"logs", "later logs", "program"} {
		followers[name].end(0)
	}
	for _, name := range []string{"wait", "logs"} {
		f := followers[name]
		f.numbered("standard output", f.proc.out.String(), "")
		f.numbered("standard error", f.errs.String(), "e")
	}
	if whole, part := followers["logs"].proc.out.String(), followers["later logs"].proc.out.String(); !strings.HasSuffix(whole, part) || len(whole)-len(part) > 20 {
		t.Errorf("from an offset on %.20q of %.40q", part, whole)
	}
	if got, want := followers["program"].proc.out.String(), c.job(t, "program", "logs", "counted"); got != want {
		t.Errorf("followed:\n%s\nthere is:\n%s", got, want)
	}
	for _, name := range []string{"tasks", "task rows", "workers"} {
		f := followers[name]
		f.proc.signal(syscall.SIGINT)
		f.end(0)
	}
	told := followers["tasks"].changes()
	for _, want := range []string{"synced", "deleted a01", "deleted a00"} {
		if n := len(slices.DeleteFunc(slices.Clone(told), func(s string) bool { return s != want })); n != 1 {
			t.Errorf("%q was told %d times: %v", want, n, told)
		}
	}
	for _, want := range []string{"set during", "set after"} {
		if !slices.Contains(told, want) {
			t.Errorf("%q was not told: %v", want, told)
		}
	}
	followers["workers"].changes()
}

// change declares a task and deletes another.
func (c *cluster) change(s *sched, add, remove string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	tasks := rotav1.NewTasksClient(s.conn)
	_, err := tasks.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: add, Kind: "hold"}}}, grpc.WaitForReady(true))
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := tasks.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{remove}}); err != nil {
		c.t.Fatal(err)
	}
}

// runProgram runs a program until end is called.
func runProgram(t *testing.T, c *cluster, schedulers []string) (end func()) {
	t.Helper()
	w, err := worker.New(worker.Config{Name: "programs", Schedulers: schedulers})
	if err != nil {
		t.Fatal(err)
	}
	err = w.RegisterTaskFunc("idle", func(in <-chan programs.Msg, _ chan<- programs.Msg, _ []string, _ map[string]string) error {
		for range in {
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() { _ = w.Stop(context.Background()) })
	await(t, 20*time.Second, "the worker of programs is there", func() bool { return len(c.scheds[0].pids()) == 2 })
	p := programs.New("counted")
	asked := make(chan struct{})
	if err := p.SpawnTask("idle", 2, programs.Resources{}); err != nil {
		t.Fatal(err)
	}
	err = p.RegisterSchedFunc(func(in <-chan programs.Msg, _ chan<- programs.Msg, _ <-chan programs.Event) { <-asked })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Run(ctx, programs.Cluster(schedulers...))
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	await(t, 20*time.Second, "the program runs", func() bool {
		p, err := rotav1.NewProgramsClient(c.scheds[0].conn).GetProgram(ctx, &rotav1.GetProgramRequest{Name: "counted"})
		return err == nil && p.GetPhase() == "running"
	})
	return func() {
		close(asked)
		<-done
	}
}
