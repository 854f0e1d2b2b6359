package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// TestEndedAs: a job's exit status is the command's, also if something else was wrong
// with the job, as a disk that refused its output.
func TestEndedAs(t *testing.T) {
	t.Parallel()
	code := func(n int64) *int64 { return &n }
	for _, c := range []struct {
		job    *rotav1.Job
		status int
		said   string
	}{
		{&rotav1.Job{State: "succeeded", ExitCode: code(0)}, 0, ""},
		{&rotav1.Job{State: "failed", ExitCode: code(3)}, 3, ""},
		{&rotav1.Job{State: "failed", ExitCode: code(3), Error: "output: no space"}, 3, "rota: the job failed: output: no space\n"},
		{&rotav1.Job{State: "failed", Signal: "killed"}, 137, ""},
	} {
		said := &bytes.Buffer{}
		err, status := newApp(Env{Stderr: said}).endedAs(c.job), 0
		if exit := (*exitError)(nil); errors.As(err, &exit) {
			status = exit.status
		} else if err != nil {
			t.Errorf("%v: %v", c.job, err)
		}
		if status != c.status || said.String() != c.said {
			t.Errorf("%v: status %d, said %q; want %d, %q", c.job, status, said, c.status, c.said)
		}
	}
	// Without a status of its own it is only a failure.
	if err := newApp(Env{}).endedAs(&rotav1.Job{State: "failed", Error: "not found"}); err == nil || !strings.Contains(err.Error(), "the job failed: not found") {
		t.Error(err)
	}
}

// TestWhyOfOneAway: a task whose worker is gone is not said to be there.
func TestWhyOfOneAway(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{
		"waiting": "a is on no worker (waiting); it was on w1, which is away (generation 7)\n",
		"running": "a is on w1 (running, generation 7)\n",
	} {
		out := &bytes.Buffer{}
		err := newApp(Env{}).whyText(out, &rotav1.WhyResponse{Id: "a", Instances: []*rotav1.WhyInstance{
			{Instance: &rotav1.Instance{State: state, Worker: "w1", Generation: 7}},
		}})
		if err != nil || !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: %q, %v; want %q", state, out, err, want)
		}
	}
}
