package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/rota-project/rota/cmd/rota/internal/config"
)

// TestRole: a noun may be a role too, as worker is, with the commands it has.
func TestRole(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		ran    bool
		status bool // done
		says   string
	}{
		"noun --max-tasks 3 --exec a=b": {ran: true, status: true},
		"noun --max-tasks=-1":           {says: `--max-tasks: "-1": want`},
		"noun liszt":                    {says: `unknown command "liszt"`},
		"noun list --server x":          {says: `--server: "x": want host:port`},
	} {
		var errs, out bytes.Buffer
		a := newApp(Env{Stdout: &out, Stderr: &errs})
		cfg, opts := config.NewWorker()
		ran := false
		noun := a.role(group("noun", "for the test", a.workerList()), opts, func(context.Context) error {
			ran = cfg.MaxTasks == 3 && cfg.Exec["a"] == "b"
			return nil
		})
		root := a.root()
		root.AddCommand(noun)
		root.SetArgs(strings.Fields(args))
		err := root.ExecuteContext(t.Context())
		if ran != want.ran || (err == nil) != want.status || (err != nil && !strings.Contains(err.Error(), want.says)) {
			t.Errorf("rota %s: ran %v, %v, want %+v", args, ran, err, want)
		}
	}
}
