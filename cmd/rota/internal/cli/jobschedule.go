package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

func jobSchedulesOf(conn *grpc.ClientConn) rotav1.JobSchedulesClient {
	return rotav1.NewJobSchedulesClient(conn)
}

func (a *app) jobScheduleCommand() *cobra.Command {
	return group("schedule", "jobs that run at times of the calendar", a.jobScheduleApply(), a.jobScheduleList(), a.jobScheduleGet(),
		a.jobSchedulePause(), a.jobScheduleResume(), a.jobScheduleRun(), a.jobScheduleDelete())
}

func (a *app) jobScheduleApply() *cobra.Command {
	var files []string
	var f jobFlags
	var catchUp time.Duration
	var paused bool
	def := &rotav1.JobScheduleDefinition{}
	req := &rotav1.ApplyJobSchedulesRequest{}
	c := &cobra.Command{
		Use:   "apply -f FILE | NAME --cron TIMES [flags] -- COMMAND [ARGUMENT...]",
		Short: "declare or change schedules of jobs",
		Long: "Declare the schedules of files (YAML or JSON; - for stdin), or one by flags, and change those already declared.\n" +
			"If one schedule is invalid, nothing changes. docs/schedules.md describes the fields.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(files) > 0 && len(args) > 0:
				return usagef("-f: want a file, or a name and a command, not both")
			case len(files) == 0 && (len(args) < 2 || def.GetCron() == ""):
				return usagef("want a file with -f, or a name, --cron and a command: rota job schedule apply backup --cron '0 2 * * *' -- backup all")
			case len(files) == 0:
				if err := f.complete(a, args[1:]); err != nil {
					return err
				}
				def.Name, def.Job, def.CatchUpMs = args[0], &f.def, catchUp.Milliseconds()
				if cmd.Flags().Changed("paused") {
					def.Paused = &paused
				}
				req.Schedules = append(req.Schedules, def)
			}
			for _, name := range files {
				schedules, err := a.readSchedules(name)
				if err != nil {
					return err
				}
				req.Schedules = append(req.Schedules, schedules...)
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := jobSchedulesOf(conn).ApplyJobSchedules(ctx, req)
				if err != nil {
					return err
				}
				return a.print(resp, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%d created, %d changed, %d unchanged%s\n", resp.GetCreated(), resp.GetChanged(), resp.GetUnchanged(), dryRunText(req.GetDryRun()))
					return err
				})
			})
		},
	}
	fs := c.Flags()
	fs.StringArrayVarP(&files, "file", "f", nil, "file of schedules; - for stdin; repeatable")
	fs.BoolVar(&req.DryRun, "dry-run", false, "check the schedules without declaring them")
	fs.StringVar(&def.Cron, "cron", "", "times: five fields (minute, hour, day, month, weekday), @daily or the like, or \"@every 10m\"")
	fs.StringVar(&def.TimeZone, "time-zone", "", "time zone of the times, such as Europe/Berlin; empty for UTC")
	fs.StringVar(&def.Overlap, "overlap", "", "what to do while an earlier job runs: skip, allow or replace; empty for skip")
	fs.DurationVar(&catchUp, "catch-up", 0, "how late a job may be declared; 0 for 1m")
	fs.BoolVar(&paused, "paused", false, "declare the schedule paused")
	f.flags(a, c)
	return c
}

func (a *app) jobScheduleList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list schedules of jobs and when they run next",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := jobSchedulesOf(conn).ListJobSchedules(ctx, &rotav1.ListJobSchedulesRequest{})
				if err != nil {
					return err
				}
				return printList(a, resp.GetSchedules(), func(w io.Writer) error {
					t := terminal.NewTable("SCHEDULE", "CRON", "TIME ZONE", "NEXT", "LAST", ">FIRED", ">SKIPPED", ">MISSED", "COMMAND")
					for _, s := range resp.GetSchedules() {
						d := s.GetDefinition()
						t.Add(d.GetName(), d.GetCron(), d.GetTimeZone(), nextText(s), dash(s.GetLastJobState()),
							fmt.Sprint(s.GetFired()), fmt.Sprint(s.GetSkipped()), fmt.Sprint(s.GetMissed()), commandOf(d.GetJob().GetArgv()))
					}
					return t.Write(w, a.paint())
				})
			})
		},
	}
}

// nextText says when a schedule is due.
func nextText(s *rotav1.JobSchedule) string {
	switch {
	case s.GetError() != "":
		return "error"
	case s.GetDefinition().GetPaused():
		return "paused"
	case s.GetNext() == nil:
		return "never"
	}
	return "in " + max(0, time.Until(s.GetNext().AsTime())).Round(time.Second).String()
}

func (a *app) jobScheduleGet() *cobra.Command {
	return get(a, "get SCHEDULE", "show a schedule: its definition, its times and its last job", a.completeSchedules, a.jobScheduleDetail,
		func(ctx context.Context, conn *grpc.ClientConn, name string) (*rotav1.JobSchedule, error) {
			return jobSchedulesOf(conn).GetJobSchedule(ctx, &rotav1.GetJobScheduleRequest{Name: name})
		})
}

func (a *app) jobScheduleDetail(w io.Writer, s *rotav1.JobSchedule) error {
	d := s.GetDefinition()
	t := terminal.NewTable("FIELD", "VALUE")
	stamp := func(at *timestamppb.Timestamp) string {
		if at == nil {
			return ""
		}
		return at.AsTime().Local().Format("2006-01-02 15:04:05 MST")
	}
	rows := [][2]string{
		{"name", d.GetName()},
		{"cron", d.GetCron()},
		{"time_zone", d.GetTimeZone()},
		{"overlap", d.GetOverlap()},
		{"catch_up", (time.Duration(d.GetCatchUpMs()) * time.Millisecond).String()},
		{"paused", fmt.Sprint(d.GetPaused())},
		{"error", s.GetError()},
		{"next", stamp(s.GetNext())},
		{"last_due", stamp(s.GetLastDue())},
		{"last_job", s.GetLastJob()},
		{"last_job_state", s.GetLastJobState()},
		{"fired", fmt.Sprint(s.GetFired())},
		{"skipped", fmt.Sprint(s.GetSkipped())},
		{"missed", fmt.Sprint(s.GetMissed())},
		{"declared_by", s.GetDeclaredBy()},
		{"command", commandOf(d.GetJob().GetArgv())},
	}
	for _, row := range append(rows, definitionRows(d.GetJob())...) {
		if row[1] != "" {
			t.Add(row[0], row[1])
		}
	}
	return t.Write(w, nil)
}

func (a *app) jobSchedulePause() *cobra.Command {
	return a.jobScheduleVerb("pause", "run no more jobs of a schedule until it is resumed", func(ctx context.Context, c rotav1.JobSchedulesClient, name string) (proto.Message, string, error) {
		s, err := c.PauseJobSchedule(ctx, &rotav1.PauseJobScheduleRequest{Name: name})
		return s, name + " is paused", err
	})
}

func (a *app) jobScheduleResume() *cobra.Command {
	return a.jobScheduleVerb("resume", "run the jobs of a paused schedule again", func(ctx context.Context, c rotav1.JobSchedulesClient, name string) (proto.Message, string, error) {
		s, err := c.ResumeJobSchedule(ctx, &rotav1.ResumeJobScheduleRequest{Name: name})
		return s, name + " runs " + nextText(s), err
	})
}

func (a *app) jobScheduleRun() *cobra.Command {
	return a.jobScheduleVerb("run", "run the job of a schedule now, and print its id", func(ctx context.Context, c rotav1.JobSchedulesClient, name string) (proto.Message, string, error) {
		j, err := c.RunJobSchedule(ctx, &rotav1.RunJobScheduleRequest{Name: name})
		return j, j.GetId(), err
	})
}

func (a *app) jobScheduleDelete() *cobra.Command {
	return a.jobScheduleVerb("delete", "delete a schedule; its jobs stay", func(ctx context.Context, c rotav1.JobSchedulesClient, name string) (proto.Message, string, error) {
		d, err := c.DeleteJobSchedule(ctx, &rotav1.DeleteJobScheduleRequest{Name: name})
		return d, name + " is deleted", err
	})
}

// jobScheduleVerb is a command that does something to a schedule and says so in a line, or
// prints the answer where JSON is asked for.
func (a *app) jobScheduleVerb(verb, short string, do func(context.Context, rotav1.JobSchedulesClient, string) (proto.Message, string, error)) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " SCHEDULE",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				answer, line, err := do(ctx, jobSchedulesOf(conn), args[0])
				if err != nil {
					return err
				}
				return a.print(answer, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, terminal.Printable(line))
					return err
				})
			})
		},
		ValidArgsFunction: a.completeSchedules,
	}
}

// completeSchedules offers the names of schedules to the shell.
func (a *app) completeSchedules(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.globals(cmd.Root(), cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	err := a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := jobSchedulesOf(conn).ListJobSchedules(ctx, &rotav1.ListJobSchedulesRequest{})
		for _, s := range resp.GetSchedules() {
			if d := s.GetDefinition(); strings.HasPrefix(d.GetName(), prefix) {
				found = append(found, d.GetName()+"\t"+d.GetCron())
			}
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
