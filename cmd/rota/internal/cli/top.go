package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/cmd/rota/internal/top"
	"github.com/rota-project/rota/internal/ending"
)

// topEvery is how often rota top asks, and topTimeout the most that a call of it may take.
const (
	topEvery   = time.Second
	topTimeout = 5 * time.Second
)

// topWidth is how wide --once writes where COLUMNS does not say it.
const topWidth = 120

func (a *app) topCommand() *cobra.Command {
	once, name := false, top.Views[top.Map]
	c := &cobra.Command{
		Use:   "top",
		Short: "watch the cluster in the terminal",
		Long: `Watch the cluster live in the terminal: a map of the workers by zone, with each instance as a
cell by weight and group, and lists of tasks, workers and jobs. Keys drain a worker, show logs
and explain placement. With more than 60 workers, each is one column as high as its load.

Keys: 1 to 4 or tab choose map, tasks, workers or jobs; / searches; s sorts; w explains why a
task is where it is; l shows logs; d shows the plan of a drain, then drains a worker; c cordons
one; u ends a drain or cordon; ? shows all keys; q quits. The scheduler searches and sorts the
lists, and sends one page at a time.

If the scheduler goes away, the view dims and shows since when; it reconnects by itself, to any
address of --server. NO_COLOR turns colours off. --once writes one view as plain text and exits,
for scripts and without a terminal. COLUMNS sets the width of its map.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			view := slices.Index(top.Views[:], name)
			switch {
			case view < 0:
				return usagef("--view: %q: want %s", name, strings.Join(top.Views[:], ", "))
			case a.output != "table":
				return usagef("--output: rota top draws tables; rota status, task, worker and job have -o %s", a.output)
			case !once && (!onTerminal(a.env.Stdin) || !onTerminal(a.env.Stdout)):
				return usagef("not a terminal: rota top --once writes the view as text")
			}
			cfg := top.Config{
				Connect: a.connect, Disconnect: a.disconnect, Timeout: min(a.client.timeout, topTimeout), Every: topEvery,
				View: top.View(view), NoColor: a.noColor(), Words: a.topWords(),
			}
			if once {
				cfg.Timeout = a.client.timeout
				return top.Once(cmd.Context(), cfg, a.columns(), a.env.Stdout)
			}
			return a.watchTop(cmd.Context(), cfg)
		},
	}
	c.Flags().BoolVar(&once, "once", false, "write the view once, as plain text")
	c.Flags().StringVar(&name, "view", name, "view to begin with: "+strings.Join(top.Views[:], ", "))
	_ = c.RegisterFlagCompletionFunc("view", cobra.FixedCompletions(top.Views[:], cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) watchTop(ctx context.Context, cfg top.Config) error {
	// An error of the first call is said where it can be read afterwards.
	err := a.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := clusterOf(conn).GetStatus(ctx, &rotav1.GetStatusRequest{})
		return err
	})
	if err != nil {
		return err
	}
	ctx = ending.Hangup(ctx)
	s, err := top.Open()
	if err != nil {
		return errors.New("cannot draw on this terminal: rota top --once writes the view as text: " + err.Error())
	}
	defer s.Close()
	defer ending.Left(func() string { s.Close(); return "" })()
	err = top.Run(ctx, cfg, s)
	a.stale = 0 // it was shown
	return err
}

func onTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// columns is how wide the user's terminal is.
func (a *app) columns() int {
	v, _ := a.env.Lookup("COLUMNS")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return n
	}
	return topWidth
}

func (a *app) topWords() top.Words {
	uncoloured := newApp(Env{})
	return top.Words{
		Tasks:   func(list []*rotav1.Task) *terminal.Table { return tableOf(taskColumns, addTask, list) },
		Workers: func(list []*rotav1.Worker) *terminal.Table { return tableOf(workerColumns, addWorker, list) },
		Jobs:    func(list []*rotav1.Job) *terminal.Table { return tableOf(jobColumns, addJob, list) },
		Events:  func(list []*rotav1.Event) *terminal.Table { return tableOf(eventColumns, addEvent, list) },
		Why:     uncoloured.whyText,
		Job:     uncoloured.jobDetail,
		Plan:    planText,
		Error:   oneLine,
	}
}
