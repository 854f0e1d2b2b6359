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
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/taskfile"
	"github.com/rota-project/rota/internal/text"
)

func (a *app) planCommand() *cobra.Command {
	req := &rotav1.GetPlanRequest{}
	var files []string
	c := &cobra.Command{
		Use:   "plan",
		Short: "show the moves that the next pass would make, without making them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.GetWith() < 0 {
				return usagef("--with: %d: want zero or more", req.GetWith())
			}
			tasks, err := a.readTasks(files, taskfile.Options{})
			if err != nil {
				return err
			}
			req.Tasks = convert.TasksToProto(tasks)
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				plan, err := clusterOf(conn).GetPlan(ctx, req)
				if err != nil {
					return err
				}
				return a.print(plan, func(w io.Writer) error { return planText(w, plan) })
			})
		},
	}
	fs := c.Flags()
	fs.StringArrayVar(&req.Without, "without", nil, "plan as if this worker were gone; repeatable")
	fs.Int64Var(&req.With, "with", 0, "plan as if there were N more workers")
	fs.StringArrayVarP(&files, "file", "f", nil, "plan as if the tasks of this file were declared; - for stdin")
	fs.BoolVar(&req.All, "all", false, "show all moves, not only the first 1,000")
	_ = c.RegisterFlagCompletionFunc("without", a.completeWorkers)
	return c
}

func planText(out io.Writer, p *rotav1.Plan) error {
	w := &strings.Builder{}
	s := p.GetSummary()
	if len(p.GetMoves()) > 0 {
		t := terminal.NewTable("TASK", "FROM", "TO", "WHY")
		for _, m := range p.GetMoves() {
			in := rota.Instance{Task: m.GetTask(), Index: int(m.GetIndex())}
			t.Add(in.String(), dash(m.GetFrom()), dash(m.GetTo()), m.GetReason())
		}
		if err := t.Write(w, nil); err != nil {
			return err
		}
		if left := s.GetMoves() - int64(len(p.GetMoves())); left > 0 {
			fmt.Fprintf(w, "and %d more (--all shows them)\n", left)
		}
		fmt.Fprintln(w)
	}
	if len(p.GetWaiting()) > 0 {
		t := terminal.NewTable("WAITING", "SINCE", "WHY")
		for _, x := range p.GetWaiting() {
			in := rota.Instance{Task: x.GetTask(), Index: int(x.GetIndex())}
			since := "this plan"
			if x.GetAlready() {
				since = "before"
			}
			t.Add(in.String(), since, x.GetReason())
		}
		if err := t.Write(w, nil); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s: %d forced, %d chosen; %d placed, %d stopped, %s; imbalance %s, then %s\n",
		text.Count(s.GetMoves(), "move", "moves"), s.GetForced(), s.GetChosen(), s.GetPlaced(), s.GetStopped(), waitingText(s),
		ratio(s.GetImbalanceBefore()), ratio(s.GetImbalanceAfter()))
	_, err := io.WriteString(out, w.String())
	return err
}

// waitingText is how many would wait, and how many of them do anyway.
func waitingText(s *rotav1.PlanSummary) string {
	if s.GetWaitingAlready() == 0 {
		return fmt.Sprintf("%d waiting", s.GetWaiting())
	}
	return fmt.Sprintf("%d more waiting, beside %d that wait already", s.GetWaiting()-s.GetWaitingAlready(), s.GetWaitingAlready())
}
