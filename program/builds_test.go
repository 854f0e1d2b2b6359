package program_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/program/build"
	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/worker"
)

// built adds a worker whose functions are of another build than this executable.
func (c *cluster) built(t *testing.T, name, module, set, version string, fs map[string]program.ConnFunc) {
	t.Helper()
	c.workerWith(t, worker.Config{Name: name, Labels: map[string]string{
		build.ModuleLabel: module, build.SetLabel: set, build.VersionLabel: version,
	}}, fs)
}

// where runs a program of four tasks until all run, and answers on which workers,
// and what it was told while it waited. waits is called at the first wait.
func where(t *testing.T, c *cluster, name string, require []string, waits func()) (workers []string, said []string) {
	t.Helper()
	p := program.New(name, program.Config{Require: require})
	must(t, p.SpawnTask("echo", 4, program.Resources{}))
	must(t, p.RegisterSchedFunc(func(_ <-chan program.Msg, _ chan<- program.Msg, events <-chan program.Event) {
		running := 0
		for e := range events {
			switch e.Kind {
			case program.Waits:
				said = append(said, e.Text)
				if waits == nil {
					return
				}
				waits()
				waits = func() {}
			case program.TaskRunning:
				if !slices.Contains(workers, e.Worker) {
					workers = append(workers, e.Worker)
				}
				if running++; running == 4 {
					return
				}
			}
		}
	}))
	must(t, p.Run(t.Context(), program.Cluster(c.grpc)))
	slices.Sort(workers)
	return workers, said
}

// TestStrangersFunctions: functions of the same name that belong to another module
// are not taken, unless the program says so; it says who offers them.
func TestStrangersFunctions(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.built(t, "demo", "example.com/demo", "example.com/demo/cmd/demo", "v1", echoes)
	_, said := where(t, c, "asks", nil, nil)
	if len(said) != 1 || !strings.Contains(said[0], "no worker of module github.com/rota-project/rota offers echo") ||
		!strings.Contains(said[0], "example.com/demo/cmd/demo@v1 (demo)") {
		t.Errorf("it waits because of %q", said)
	}
	if on, _ := where(t, c, "wants", []string{"program.set=example.com/demo/cmd/demo"}, nil); !slices.Equal(on, []string{"demo"}) {
		t.Errorf("with a rule it runs on %v", on)
	}
	on, said := where(t, c, "waits", nil, func() { c.worker(t, "own", nil, echoes) })
	if !slices.Equal(on, []string{"own"}) || len(said) == 0 {
		t.Errorf("it runs on %v after %q", on, said)
	}
}

// TestBuildsAreNotMixed: two executables of one module that offer the same function
// are not mixed, unless the program says so.
func TestBuildsAreNotMixed(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	own := build.Own().Module
	c.built(t, "a1", own, own+"/a", "v1", echoes)
	c.built(t, "a2", own, own+"/a", "v2", echoes)
	c.built(t, "b1", own, own+"/b", "v1", echoes)
	for name, r := range map[string]struct {
		require []string
		on      string // or what it says
	}{
		"none":    {nil, "3 builds"},
		"set":     {[]string{"program.set=" + own + "/a"}, "2 builds"},
		"version": {[]string{"program.version=v1"}, "2 builds"},
		"both":    {[]string{"program.set=" + own + "/a", "program.version=v2"}, "[a2]"},
		"one set": {[]string{"program.set=" + own + "/b"}, "[b1]"},
		"mixed":   {[]string{"program.set=" + own + "/a", "program.version"}, "[a1 a2]"},
		"all":     {[]string{"program.set", "program.version"}, "[a1 a2 b1]"},
		"missing": {[]string{"program.set=nobody's"}, "do not meet"},
	} {
		on, said := where(t, c, "p-"+strings.ReplaceAll(name, " ", "-"), r.require, nil)
		got := fmt.Sprint(on)
		if len(on) == 0 {
			got = strings.Join(said, "\n")
		}
		if !strings.Contains(got, r.on) {
			t.Errorf("%s: %s", name, got)
		}
	}
	// Its own executable's build goes before others.
	c.worker(t, "self", nil, echoes)
	if on, said := where(t, c, "itself", nil, nil); !slices.Equal(on, []string{"self"}) {
		t.Errorf("it runs on %v, said %q", on, said)
	}
}

// TestBuildIsKept: a task that is started again stays with the build of the others
// as long as a worker of it lives, and takes another when none does.
func TestBuildIsKept(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	own := build.Own().Module
	label := func(version string) map[string]string {
		return map[string]string{build.ModuleLabel: own, build.SetLabel: own + "/a", build.VersionLabel: version}
	}
	w1, _ := c.workerWith(t, worker.Config{Name: "a1", Labels: label("v1"), MaxTasks: 2}, echoes)
	w2, _ := c.workerWith(t, worker.Config{Name: "a2", Labels: label("v1"), MaxTasks: 2}, echoes)
	p := program.New("kept", program.Config{Policy: program.RestartTask})
	must(t, p.SpawnTask("echo", 2, program.Resources{}))
	must(t, p.RegisterSchedFunc(func(_ <-chan program.Msg, _ chan<- program.Msg, events <-chan program.Event) {
		running := map[string]string{}
		step := 0
		for e := range events {
			switch {
			case e.Final():
				delete(running, e.Task)
			case e.Kind == program.TaskRunning:
				running[e.Task] = e.Worker
			}
			if len(running) < 2 {
				continue
			}
			on := map[string]bool{}
			for _, w := range running {
				on[w] = true
			}
			switch {
			case step == 0: // a worker of another version comes, and one of theirs goes
				c.workerWith(t, worker.Config{Name: "b1", Labels: label("v2")}, echoes)
				go func() {
					if err := w1.Stop(context.Background()); err != nil {
						t.Error(err)
					}
				}()
				step++
				if !on["a1"] {
					step++
				}
			case step == 1 && !on["a1"]:
				step++
			}
			if step == 2 {
				if on["b1"] {
					t.Errorf("it is mixed: %v", running)
				}
				go func() {
					if err := w2.Stop(context.Background()); err != nil {
						t.Error(err)
					}
				}()
				step++
			}
			if step == 3 && on["b1"] && len(on) == 1 {
				return
			}
		}
		t.Error("it ended")
	}))
	must(t, p.Run(t.Context(), program.Cluster(c.grpc)))
}

// TestSubmitMeansOneSet: the scheduler function of a submitted program runs on
// workers of one set.
func TestSubmitMeansOneSet(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	cfg := program.ClusterConfig{Addresses: []string{c.grpc}}
	ran := make(chan string, 10)
	add := func(name string, labels map[string]string) {
		w, err := worker.New(worker.Config{Name: name, Schedulers: []string{c.grpc}, Labels: labels})
		must(t, err)
		must(t, w.RegisterProgram("offered", func(as string, _ []string) (*program.Program, error) {
			p := program.New(as)
			return p, p.RegisterSchedConn(func(context.Context, program.Conn) error {
				ran <- name
				return nil
			})
		}))
		w.Start()
		t.Cleanup(func() { must(t, w.Stop(context.Background())) })
		v := c.server.Scheduler().View()
		for there := false; !there; {
			at := v.Revision()
			v.Read(func() { there = v.Sessions[name] != nil })
			if !there {
				must(t, v.Wait(t.Context(), at+1))
			}
		}
	}
	label := func(module, set string) map[string]string {
		return map[string]string{build.ModuleLabel: module, build.SetLabel: set, build.VersionLabel: "v1"}
	}
	own := build.Own().Module
	must(t, program.Submit(t.Context(), cfg, "early", "offered")) // it waits for workers of its module
	add("stranger", label("example.com/x", "x"))
	if err := program.Submit(t.Context(), cfg, "p", "offered"); err == nil || !strings.Contains(err.Error(), "x@v1 (stranger)") {
		t.Errorf("only strangers offer it: %v", err)
	}
	add("a", label(own, own+"/a"))
	if on := <-ran; on != "a" {
		t.Errorf("what waited runs on %s", on)
	}
	must(t, program.Submit(t.Context(), cfg, "p", "offered"))
	if on := <-ran; on != "a" {
		t.Errorf("it runs on %s", on)
	}
	add("b", label(own, own+"/b"))
	if err := program.Submit(t.Context(), cfg, "q", "offered"); err == nil || !strings.Contains(err.Error(), "2 builds") {
		t.Errorf("two sets offer it: %v", err)
	}
	must(t, program.Submission{Name: "q", Offered: "offered", Require: []string{"program.set=x"}}.Submit(t.Context(), cfg))
	if on := <-ran; on != "stranger" {
		t.Errorf("it runs on %s", on)
	}
	if err := (program.Submission{Name: "r", Offered: "offered", Require: []string{"=x"}}).Submit(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "require") {
		t.Errorf("a bad rule: %v", err)
	}
	if _, err := c.server.Service().Why(t.Context(), &rotav1.WhyRequest{Id: "nobody"}); err == nil {
		t.Error("why of nobody")
	}
}
