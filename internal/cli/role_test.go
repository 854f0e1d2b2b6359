package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/rota-project/rota/config"
)

// TestRole: the noun worker may be a role too, with the commands it has.
func TestRole(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		ran    bool
		status bool // done
		says   string
	}{
		"worker --max-tasks 3 --exec a=b": {ran: true, status: true},
		"worker --max-tasks=-1":           {says: `--max-tasks: "-1": want`},
		"worker liszt":                    {says: `unknown command "liszt"`},
		"worker list --server x":          {says: `--server: "x": want host:port`},
	} {
		var errs, out bytes.Buffer
		a := newApp(Env{Stdout: &out, Stderr: &errs})
		cfg, opts := config.NewWorker()
		ran := false
		noun := a.role(a.workerCommand(), opts, func(context.Context) error {
			ran = cfg.MaxTasks == 3 && cfg.Exec["a"] == "b"
			return nil
		})
		root := a.root()
		for _, c := range root.Commands() {
			if c.Name() == noun.Name() {
				root.RemoveCommand(c)
			}
		}
		root.AddCommand(noun)
		root.SetArgs(strings.Fields(args))
		err := root.ExecuteContext(t.Context())
		if ran != want.ran || (err == nil) != want.status || (err != nil && !strings.Contains(err.Error(), want.says)) {
			t.Errorf("rota %s: ran %v, %v, want %+v", args, ran, err, want)
		}
	}
}
