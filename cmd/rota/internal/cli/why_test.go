package cli

import (
	"strings"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// TestWhyTable: rules have columns where more than one of them stops something, and what
// is left out is counted.
//
//nolint:dupword // a table repeats its verdicts
func TestWhyTable(t *testing.T) {
	t.Parallel()
	finding := func(rule, outcome string) *rotav1.WhyFinding {
		return &rotav1.WhyFinding{Rule: rule, Outcome: outcome, Value: "v", Limit: "l"}
	}
	here := &rotav1.WhyWorker{Worker: "w1", Fits: true, Chosen: true, Findings: []*rotav1.WhyFinding{finding("state", "passes"), finding("capacity", "passes"), finding("load", "weighs")}}
	small := &rotav1.WhyWorker{Worker: "w2", Reason: "needs 2 cpus, it has 1", Findings: []*rotav1.WhyFinding{finding("state", "passes"), finding("capacity", "stops"), finding("capacity", "passes"), finding("load", "passes")}}
	drains := &rotav1.WhyWorker{Worker: "w3", Reason: "is draining", Findings: []*rotav1.WhyFinding{finding("state", "stops"), finding("load", "passes")}}
	lists := &rotav1.WhyWorker{Worker: "w4", Reason: "does not allow command ls", Findings: []*rotav1.WhyFinding{finding("state", "passes"), finding("command", "stops")}}
	for name, c := range map[string]struct {
		why  explained
		want string
	}{
		"nothing": {&rotav1.WhyInstance{}, ""},
		"one rule": {&rotav1.WhyInstance{Workers: []*rotav1.WhyWorker{here, small}, AllWorkers: 2}, `
WORKER  FITS  WHY
w1      here  -
w2      no    needs 2 cpus, it has 1
`},
		"two rules, and more workers": {&rotav1.WhyInstance{Workers: []*rotav1.WhyWorker{here, drains, small}, AllWorkers: 2000, FittingWorkers: 0}, `
WORKER  FITS  STATE  CAPACITY  WHY
w1      here  ok     ok        -
w3      no    no     -         is draining
w2      no    ok     no        needs 2 cpus, it has 1
and 1997 other workers, ranked lower; 0 of 2000 workers in all could take it (--workers N shows more)
`},
		"a job": {&rotav1.JobDetail{Workers: []*rotav1.WhyWorker{drains, lists}, AllWorkers: 2}, `
WORKER  FITS  STATE  COMMAND  WHY
w3      no    no     -        is draining
w4      no    ok     no       does not allow command ls
`},
	} {
		var b strings.Builder
		if err := whyTable(&b, c.why); err != nil || b.String() != c.want {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
	}
}

// TestWhyOfJobsThatAreOver: the answer says how it ended, and where its output is if it ran.
func TestWhyOfJobsThatAreOver(t *testing.T) {
	t.Parallel()
	started := timestamppb.New(time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC))
	for name, c := range map[string]struct {
		job  *rotav1.Job
		want string
	}{
		"exit status": {
			&rotav1.Job{Id: "j1", State: "failed", Worker: "w1", Generation: 9, ExitCode: new(int64(4)), Attempts: 3, Started: started},
			"job j1 ran on w1 (failed, exit status 4, 3 attempts, generation 9)\n  rota job logs j1 shows its output\n",
		},
		"signal": {
			&rotav1.Job{Id: "j1", State: "stopped", Worker: "w1", Generation: 9, ExitCode: new(int64(-1)), Signal: "killed", Attempts: 1, Started: started},
			"job j1 ran on w1 (stopped, signal killed, 1 attempt, generation 9)\n  rota job logs j1 shows its output\n",
		},
		"never started": {
			&rotav1.Job{Id: "j1", State: "failed", Worker: "w1", Generation: 9, ExitCode: new(int64(-1)), Error: "no such program", Attempts: 1},
			"job j1 was placed on w1 (failed, 1 attempt, generation 9)\n  no such program\n",
		},
		"it runs": {
			&rotav1.Job{Id: "j1", State: "running", Worker: "w1", Generation: 9, Attempts: 1, Started: started},
			"job j1 is on w1 (running, generation 9)\n  rota job logs j1 shows its output\n",
		},
	} {
		var b strings.Builder
		if err := whyJob(&b, &rotav1.JobDetail{Job: c.job}); err != nil || b.String() != c.want {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
	}
}

// TestExitOf: a status that no process has is none.
func TestExitOf(t *testing.T) {
	t.Parallel()
	for want, j := range map[string]*rotav1.Job{
		"-":      {ExitCode: new(int64(-1))},
		"killed": {ExitCode: new(int64(-1)), Signal: "killed"},
		"0":      {ExitCode: new(int64(0))},
		"3":      {ExitCode: new(int64(3))},
	} {
		if got := exitOf(j); got != want {
			t.Errorf("%v: %q, want %q", j, got, want)
		}
	}
	if got := exitOf(&rotav1.Job{}); got != "-" {
		t.Errorf("not over: %q", got)
	}
}

// TestWhyOfWorkers: of a worker it is said what follows from its state, and where more is.
func TestWhyOfWorkers(t *testing.T) {
	t.Parallel()
	const more = `  rota worker get w1 shows its capacity, labels and kinds
  rota task list --worker w1 shows what it holds; rota why TASK, why that is there
  rota events --worker w1 shows what happened to it
`
	for name, c := range map[string]struct {
		worker *rotav1.Worker
		want   string
	}{
		"ready": {&rotav1.Worker{Name: "w1", State: "ready", Instances: 1, LeaseLeftMs: 4321}, `w1 is a worker: ready, 1 instance, lease for another 4.3s
  it may get tasks and jobs whose rules and needs it meets; rota why TASK shows it among the workers of a task
`},
		"full": {&rotav1.Worker{Name: "w1", State: "ready", Instances: 2, MaxTasks: 2}, `w1 is a worker: ready, 2 instances
  it may get tasks and jobs whose rules and needs it meets; rota why TASK shows it among the workers of a task
  it gets no more tasks: it has as many instances as it may (2)
`},
		"cordoned": {&rotav1.Worker{Name: "w1", State: "cordoned"}, `w1 is a worker: cordoned, 0 instances
  it keeps what it holds and gets nothing new until rota worker undrain
`},
	} {
		var b strings.Builder
		if err := whyWorker(&b, c.worker); err != nil || b.String() != c.want+more {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
	}
	for _, state := range []string{"ready", "cordoned", "draining", "away", "lost"} {
		if workerMeans[state] == "" {
			t.Errorf("nothing is said of %s workers", state)
		}
	}
}
