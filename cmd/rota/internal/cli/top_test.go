package cli_test

import (
	"strings"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/test/fakecluster"
)

// TestTopOnce: a view as text, with the words of the command line, and without what a
// terminal would obey.
func TestTopOnce(t *testing.T) {
	t.Parallel()
	c := fakecluster.New("w1", "w2", "w\x1b[31mred\x1b]0;x\x07\u009b2J")
	if err := c.Apply(rota.Task{ID: "c/d"}, rota.Task{ID: "e"}); err != nil {
		t.Fatal(err)
	}
	addr, stop, err := c.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	for _, x := range []struct {
		args   string
		status int
		has    []string
	}{
		{"--once", 0, []string{"[map]", "zone a  1 worker", "● w1", "● w2"}},
		{"--once --view tasks", 0, []string{"[tasks]", "TASK", "c/d", "running"}},
		{"--once --view workers", 0, []string{"WORKER", "STATE", "disk=ssd", "red"}},
		{"--once --view pools", 2, []string{`--view: "pools": want map, tasks, workers, jobs`}},
		{"--once -o json", 2, []string{"--output"}},
		{"", 2, []string{"not a terminal: rota top --once"}},
		{"extra", 2, []string{"extra"}},
	} {
		status, out, errs := run(t, "", map[string]string{"COLUMNS": "60"}, append([]string{"top", "--server", addr}, strings.Fields(x.args)...)...)
		if status != x.status {
			t.Errorf("top %s: status %d: %s%s", x.args, status, out, errs)
		}
		for _, s := range x.has {
			if !strings.Contains(out+errs, s) {
				t.Errorf("top %s does not say %q: %s%s", x.args, s, out, errs)
			}
		}
		if strings.ContainsAny(out+errs, "\x1b\x07\u009b") {
			t.Errorf("top %s: %q", x.args, out+errs)
		}
	}
	status, _, errs := run(t, "", nil, "top", "--once", "--server", "127.0.0.1:1")
	if status != 1 || strings.Count(errs, "\n") != 1 {
		t.Errorf("without a scheduler: status %d: %s", status, errs)
	}
}
