package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/test/compat/internal/suite"
)

const (
	common = `package main

import got "github.com/yglcode/mesosgot"

func say(task, text string) got.GoTaskMsg { return got.GoTaskMsg{TaskName: task, MessageData: text} }
`
	executor = `// +build gotask-exec

package main

import (
	"fmt"

	exec "github.com/mesos/mesos-go/executor"
	got "github.com/yglcode/mesosgot"
)

func task(in <-chan got.GoTaskMsg, out chan<- got.GoTaskMsg, args []string) error {
	out <- say(args[0], "here")
	if m, ok := <-in; ok {
		out <- say(args[0], m.MessageData+"^"+args[0])
	}
	FAULT
	for range in {
	}
	return nil
}

func main() {
	e := got.NewGoTaskExecutor(nil)
	e.RegisterTaskFunc("NAME", task)
	d, err := exec.NewMesosExecutorDriver(e.DriverConfig())
	if err != nil {
		fmt.Println(err)
	}
	if _, err := d.Start(); err != nil {
		fmt.Println(err)
		return
	}
	d.Join()
}
`
	schedulers = `// +build app-sched

package main

import (
	"fmt"
	"os"

	sched "github.com/mesos/mesos-go/scheduler"
	got "github.com/yglcode/mesosgot"
)

func run(in <-chan got.GoTaskMsg, out chan<- got.GoTaskMsg, events <-chan got.SchedEvent) {
	go func() {
		for range events {
		}
	}()
	var all []string
	for i := 0; i < 3; i++ {
		m := <-in
		all = append(all, m.TaskName)
	}
	for _, name := range all {
		out <- say(name, "go")
	}
	for i := 0; i < 3; i++ {
		if m := <-in; m.MessageData != "go^"+m.TaskName {
			fmt.Println("odd message", m)
			os.Exit(3)
		}
	}
	END
}

func main() {
	s := got.NewGoTaskScheduler("", got.LoadSchedulerConfig(), nil)
	s.SpawnTask("NAME", 3, map[string]float64{"cpus": 0.1, "mem": 1})
	s.RegisterSchedFunc(run)
	d, err := sched.NewMesosSchedulerDriver(s.DriverConfig())
	if err != nil {
		fmt.Println(err)
	}
	if stat, err := d.Run(); err != nil {
		fmt.Printf("Framework stopped with status %s and error: %s\n", stat.String(), err.Error())
	}
}
`
)

// checkout is a stand-in that we have written in the form of the old one, which has no
// go.mod: programs by name, with what their tasks do at the end, and their scheduler.
func checkout(t *testing.T, programs map[string][2]string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("gotask_scheduler.go", "package mesosgot\n")
	write("gotask_executor.go", "package mesosgot\n")
	for name, ends := range programs {
		fill := strings.NewReplacer("NAME", name, "FAULT", ends[0], "END", ends[1])
		write(name+"/common.go", common)
		write(name+"/"+name+"_executor.go", fill.Replace(executor))
		write(name+"/"+name+"_scheduler.go", fill.Replace(schedulers))
	}
	return dir
}

func TestStandIn(t *testing.T) {
	t.Parallel()
	dir := checkout(t, map[string][2]string{
		"bad":    {`return fmt.Errorf("the task has failed")`, "for range in {\n\t}"},
		"broken": {"", "missing()"},
		"good":   {"", ""},
	})
	var out, errs bytes.Buffer
	status := suite.Run(t.Context(), "mesosgot", dir, known, limits{run: time.Minute, after: time.Minute}.try, &out, &errs)
	if status != 1 || errs.Len() > 0 {
		t.Errorf("status %d: %s", status, &errs)
	}
	for _, want := range []string{
		`^FAIL +bad:runs +fails: .*the task has failed`, `^ok +bad:leaves-nothing$`,
		`^FAIL +broken:scheduler +unbuilt: .*undefined: missing`,
		`^ok +good:runs$`, `^ok +good:leaves-nothing$`,
	} {
		if !regexp.MustCompile("(?m)" + want).MatchString(out.String()) {
			t.Errorf("want %s in\n%s", want, &out)
		}
	}
}

// TestHangs: a program that does not end is ended.
func TestHangs(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	status := suite.Run(t.Context(), "mesosgot", checkout(t, map[string][2]string{"hangs": {"", "select {}"}}), known,
		limits{run: 2 * time.Second}.try, &out, &errs)
	if status != 1 || !regexp.MustCompile(`(?m)^FAIL +hangs:runs +endless: `).MatchString(out.String()) {
		t.Errorf("status %d: %s%s", status, &out, &errs)
	}
}

// TestUnusable: a checkout without programs is status 2 with the reason.
func TestUnusable(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if status := suite.Run(t.Context(), "mesosgot", checkout(t, nil), known, limits{}.try, &out, &errs); status != 2 || !strings.Contains(errs.String(), "it has no program: want") {
		t.Errorf("status %d: %s%s", status, &out, &errs)
	}
}
