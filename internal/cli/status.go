package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "the cluster at a glance",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				s, err := clusterOf(conn).GetStatus(ctx, &rotav1.GetStatusRequest{})
				if err != nil {
					return err
				}
				return a.print(s, func(w io.Writer) error { return statusText(w, s) })
			})
		},
	}
}

func statusText(w io.Writer, s *rotav1.Status) error {
	leader := s.GetLeader()
	if leader == "" {
		leader = "none"
	}
	t := newTable("WHAT", "HOW IT IS")
	t.add("leader", fmt.Sprintf("%s, epoch %d", leader, s.GetEpoch()))
	for _, sc := range s.GetSchedulers() {
		t.add("scheduler", fmt.Sprintf("%s, gRPC %s, HTTP %s", sc.GetName(), dash(sc.GetGrpc()), dash(sc.GetHttp())))
	}
	workers := s.GetWorkers()
	t.add("workers", fmt.Sprintf("%d ready, %d draining, %d lost", workers.GetReady(), workers.GetDraining(), workers.GetLost()))
	tasks := s.GetTasks()
	t.add("tasks", fmt.Sprintf("%d declared, %d running, %d waiting", tasks.GetDeclared(), tasks.GetRunning(), tasks.GetWaiting()))
	t.add("imbalance", ratio(s.GetImbalance()))
	t.add("moving", fmt.Sprint(s.GetMoving()))
	if s.GetBarrier() {
		t.add("barrier", "workers still wait for each other before the first plan")
	}
	for _, src := range s.GetSources() {
		text := fmt.Sprintf("%s, %s", src.GetName(), plural(src.GetTasks(), "task", "tasks"))
		if src.GetError() != "" {
			text += ", fails: " + src.GetError()
		}
		t.add("source", text)
	}
	asOf := time.Duration(s.GetAgeMs()) * time.Millisecond
	if s.GetStale() {
		t.add("as of", fmt.Sprintf("%v ago: nothing has been heard of the store since", asOf.Round(time.Second)))
	} else {
		t.add("as of", fmt.Sprintf("%.1f s ago", asOf.Seconds()))
	}
	t.add("revision", fmt.Sprint(s.GetRevision()))
	t.add("version", dash(s.GetVersion()))
	t.headless = true
	return t.write(w, nil)
}

func (a *app) scheduleCommand() *cobra.Command {
	var reason string
	notify := &cobra.Command{
		Use:   "notify",
		Short: "ask the leader to plan now",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := clusterOf(conn).NotifySchedule(ctx, &rotav1.NotifyScheduleRequest{Reason: reason})
				if err != nil {
					return err
				}
				return a.print(resp, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, "asked for a pass")
					return err
				})
			})
		},
	}
	notify.Flags().StringVar(&reason, "reason", "command line", "why, for the log")
	return group("schedule", "the passes of the leader", notify)
}
