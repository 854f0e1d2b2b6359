package jobs

import (
	"testing"
	"time"

	"github.com/rota-project/rota/internal/job"
)

// TestEventsOfFailedJobs: the event of an attempt that failed has how it ended, and the end of
// what it wrote.
func TestEventsOfFailedJobs(t *testing.T) {
	t.Parallel()
	now := time.Now()
	spec := job.Spec{Argv: []string{"x"}}
	for name, c := range map[string]struct {
		res  job.Result
		last string
		text string
		exit int // -1 for none
	}{
		"exit status":    {job.Result{State: job.Failed, ExitCode: 3}, "boom", "exit status 3; last output: boom", 3},
		"signal":         {job.Result{State: job.Failed, ExitCode: -1, Signal: "killed"}, "boom", "signal killed; last output: boom", -1},
		"nothing to say": {job.Result{State: job.Failed, ExitCode: 1}, "", "", 1},
	} {
		j := job.New("j", now)
		j, err := j.Place("w", "i", 1, 7, now)
		if err != nil {
			t.Fatal(err)
		}
		if j, err = j.Begin(1, 7, now, now); err != nil {
			t.Fatal(err)
		}
		is, err := j.End(7, spec, c.res, now)
		if err != nil {
			t.Fatal(err)
		}
		e, ok := eventOf("j", &change{old: &entry{job: j}, next: &entry{job: is}, asked: []*update{{last: c.last}}})
		if !ok || e.Kind != "job.failed" || e.Text != c.text || (e.Exit == nil) != (c.exit < 0) || e.Exit != nil && *e.Exit != c.exit {
			t.Errorf("%s: %v %+v", name, ok, e)
		}
	}
}
