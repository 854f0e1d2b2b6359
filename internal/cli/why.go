package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "why TASK",
		Short: "say why a task is where it is, or why it waits",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := tasksOf(conn).Why(ctx, &rotav1.WhyRequest{Id: args[0]})
				if err != nil {
					return err
				}
				return a.print(resp, func(w io.Writer) error { return a.whyText(w, resp) })
			})
		},
		ValidArgsFunction: a.completeTasks,
	}
}

func (a *app) whyText(out io.Writer, resp *rotav1.WhyResponse) error {
	w := &strings.Builder{}
	for n, why := range resp.GetInstances() {
		in := why.GetInstance()
		if n > 0 {
			fmt.Fprintln(w)
		}
		name := rota.Instance{Task: resp.GetId(), Index: int(in.GetIndex())}
		if in.GetWorker() == "" {
			fmt.Fprintf(w, "%s is on no worker (%s)\n", printable(name.String()), in.GetState())
		} else {
			long := ""
			if in.GetSince() != nil {
				long = " for " + since(in)
			}
			fmt.Fprintf(w, "%s is on %s (%s%s, generation %s)\n", printable(name.String()), printable(in.GetWorker()), in.GetState(), long, generation(in))
		}
		for _, reason := range why.GetReasons() {
			fmt.Fprintf(w, "  %s\n", printable(reason))
		}
		if in.GetError() != "" {
			fmt.Fprintf(w, "  its last error, after %s: %s\n", plural(int64(in.GetRestarts()), "restart", "restarts"), printable(in.GetError()))
		}
		if len(why.GetWorkers()) == 0 {
			continue
		}
		t := newTable("WORKER", "FITS", "WHY")
		for _, other := range why.GetWorkers() {
			fits := "no"
			if other.GetFits() {
				fits = "yes"
			}
			t.add(other.GetWorker(), fits, dash(other.GetReason()))
		}
		fmt.Fprintln(w)
		if err := t.write(w, nil); err != nil {
			return err
		}
	}
	_, err := io.WriteString(out, w.String())
	return err
}
