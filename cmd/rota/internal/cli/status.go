package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/text"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "show the cluster at a glance",
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
	t := terminal.NewTable("WHAT", "HOW IT IS")
	t.Add("leader", fmt.Sprintf("%s, epoch %d", leader, s.GetEpoch()))
	for _, sc := range s.GetSchedulers() {
		t.Add("scheduler", fmt.Sprintf("%s, gRPC %s, HTTP %s", sc.GetName(), dash(sc.GetGrpc()), dash(sc.GetHttp())))
	}
	workers := s.GetWorkers()
	t.Add("workers", fmt.Sprintf("%d ready, %d draining, %d lost", workers.GetReady(), workers.GetDraining(), workers.GetLost()))
	tasks := s.GetTasks()
	t.Add("tasks", fmt.Sprintf("%d declared, %d running, %d waiting, %d failing",
		tasks.GetDeclared(), tasks.GetRunning(), tasks.GetWaiting()-tasks.GetFailing(), tasks.GetFailing()))
	t.Add("imbalance", ratio(s.GetImbalance()))
	t.Add("moving", fmt.Sprint(s.GetMoving()))
	if s.GetBarrier() {
		t.Add("barrier", "the first plan waits until enough workers have joined")
	}
	for _, src := range s.GetSources() {
		text := fmt.Sprintf("%s, %s", src.GetName(), text.Count(src.GetTasks(), "task", "tasks"))
		if src.GetError() != "" {
			text += ", fails: " + src.GetError()
		}
		text += heldText(src.GetHeld(), time.Now())
		t.Add("source", text)
	}
	for _, m := range s.GetStore() {
		t.Add("etcd", memberText(m))
	}
	if n := len(s.GetUnread()); n > 0 {
		t.Add("store", fmt.Sprintf("%s cannot be read, the first is %s: run rota doctor", text.Count(n, "value", "values"), terminal.Printable(s.GetUnread()[0].GetKey())))
	}
	for _, x := range s.GetSuspects() {
		t.Add("suspect", x.GetTask()+": "+suspectText(x))
	}
	asOf := time.Duration(s.GetAgeMs()) * time.Millisecond
	if s.GetStale() {
		t.Add("as of", fmt.Sprintf("%v ago: no word from the store since then", asOf.Round(time.Second)))
	} else {
		t.Add("as of", fmt.Sprintf("%.1f s ago", asOf.Seconds()))
	}
	t.Add("revision", fmt.Sprint(s.GetRevision()))
	t.Add("version", dash(s.GetVersion()))
	t.Headless = true
	return t.Write(w, nil)
}

// memberText says how a member of etcd is.
func memberText(m *rotav1.StoreMember) string {
	if m.GetError() != "" {
		return m.GetEndpoint() + ", does not answer" + askedText(m)
	}
	text := fmt.Sprintf("%s, version %s, %s", m.GetEndpoint(), m.GetVersion(), bytesText(m.GetDbBytes()))
	if q := m.GetQuotaBytes(); q > 0 {
		text += fmt.Sprintf(" of %s (%.0f%%)", bytesText(q), 100*float64(m.GetDbBytes())/float64(q))
	}
	if m.GetLeader() {
		text += ", leader"
	}
	for _, a := range m.GetAlarms() {
		text += ", ALARM " + a
	}
	return text + askedText(m)
}

// askedText says how old what is known of a member of etcd is, unless it is new.
func askedText(m *rotav1.StoreMember) string {
	if age := time.Duration(m.GetAgeMs()) * time.Millisecond; age >= time.Second {
		return fmt.Sprintf(", as of %v ago", age.Round(time.Second))
	}
	return ""
}

// suspectText says what is held against a task that may be killing its workers.
func suspectText(x *rotav1.Suspect) string {
	text := fmt.Sprintf("%s died while running it (%s)", text.Count(x.GetDeaths(), "worker", "workers"), strings.Join(x.GetWorkers(), ", "))
	switch x.GetState() {
	case "held":
		return "held for " + age(x.GetSince().AsTime()) + ", " + text + "; rota task release lets it run"
	case "trial":
		return "on trial, " + text
	}
	return "waits before it is tried again, " + text
}

// heldText says what a held list waits for.
func heldText(h *rotav1.HeldList, now time.Time) string {
	if h == nil {
		return ""
	}
	text := fmt.Sprintf(", holds a list that would remove %d of %d: rota schedule confirm takes it", h.GetRemoves(), h.GetOf())
	if wait := time.Duration(h.GetWaitMs()) * time.Millisecond; wait > 0 {
		left := max(h.GetSince().AsTime().Add(wait).Sub(now), 0)
		text += fmt.Sprintf(", and so does %v more without a change", left.Round(time.Second))
	}
	return text
}

func (a *app) scheduleCommand() *cobra.Command {
	var reason string
	notify := &cobra.Command{
		Use:   "notify",
		Short: "start a planning pass now",
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
	notify.Flags().StringVar(&reason, "reason", "command line", "reason, for the log")
	return group("schedule", "control planning and task lists", notify, a.scheduleConfirm())
}

func (a *app) scheduleConfirm() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm [SOURCE]",
		Short: "accept a held task list that removes many tasks",
		Long: "Accept a list that is held because it would remove a large part of its tasks (--tasks-hold): that of SOURCE, or\n" +
			"all of them. rota status shows the lists that are held. A list that has changed since then is checked again.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &rotav1.ConfirmListRequest{}
			if len(args) > 0 {
				req.Source = args[0]
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := clusterOf(conn).ConfirmList(ctx, req)
				if err != nil {
					return err
				}
				return a.print(resp, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "confirmed: %s\n", strings.Join(resp.GetSources(), ", "))
					return err
				})
			})
		},
	}
}
