package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

func programsOf(conn *grpc.ClientConn) rotav1.ProgramsClient { return rotav1.NewProgramsClient(conn) }

// programCommand is the noun.
func (a *app) programCommand() *cobra.Command {
	return group("program", "functions that run together and talk", a.programList(), a.programGet(), a.programStop(), a.programLogs())
}

func (a *app) programList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the programs that run",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := programsOf(conn).ListPrograms(ctx, &rotav1.ListProgramsRequest{})
				if err != nil {
					return err
				}
				return printList(a, resp.GetPrograms(), func(w io.Writer) error {
					t := newTable("PROGRAM", "STATE", ">TASKS", ">RUNNING", "HOST", "AGE", "MISSING")
					for _, p := range resp.GetPrograms() {
						t.add(p.GetName(), p.GetPhase(), fmt.Sprint(len(p.GetTasks())), fmt.Sprint(runningOf(p)),
							fmt.Sprintf("%s:%d", p.GetHost(), p.GetPid()), age(p.GetSince().AsTime()), dash(p.GetMissing()))
					}
					return t.write(w, a.paint())
				})
			})
		},
	}
}

func runningOf(p *rotav1.Program) (n int) {
	for _, t := range p.GetTasks() {
		if t.GetState() == "running" {
			n++
		}
	}
	return n
}

func (a *app) programGet() *cobra.Command {
	return &cobra.Command{
		Use:   "get PROGRAM",
		Short: "show one program, its tasks, and what it waits for",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				p, err := programsOf(conn).GetProgram(ctx, &rotav1.GetProgramRequest{Name: args[0]})
				if err != nil {
					return err
				}
				return a.print(p, func(w io.Writer) error { return a.programDetail(w, p) })
			})
		},
		ValidArgsFunction: a.completePrograms,
	}
}

func (a *app) programDetail(w io.Writer, p *rotav1.Program) error {
	head := newTable("", "")
	head.headless = true
	for _, row := range [][2]string{
		{"program", p.GetName()},
		{"state", p.GetPhase()},
		{"policy", p.GetPolicy()},
		{"runs on", fmt.Sprintf("%s, process %d", p.GetHost(), p.GetPid())},
		{"missing", p.GetMissing()},
	} {
		if row[1] != "" {
			head.add(row[0], row[1])
		}
	}
	if err := head.write(w, nil); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	t := newTable("TASK", "STATE", ">GENERATION", "WORKER", "ERROR")
	for _, task := range p.GetTasks() {
		t.add(task.GetName(), task.GetState(), fmt.Sprint(task.GetGeneration()), dash(task.GetWorker()), dash(task.GetError()))
	}
	return t.write(w, a.paint())
}

func (a *app) programStop() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "stop PROGRAM",
		Short: "end a program: its tasks are told to exit, in order",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				p, err := programsOf(conn).StopProgram(ctx, &rotav1.StopProgramRequest{Name: args[0], Reason: reason})
				if err != nil {
					return err
				}
				return a.print(p, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s is told to stop\n", printable(p.GetName()))
					return err
				})
			})
		},
		ValidArgsFunction: a.completePrograms,
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the program's log")
	return c
}

func (a *app) programLogs() *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:   "logs PROGRAM",
		Short: "show what happened to a program",
		Long: "Shows the last 100 events of a program that runs, or has ended within the last hour.\n" +
			"With --follow also what happens from now on, until it ends.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if follow {
				return a.followProgram(cmd.Context(), args[0])
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				p, err := programsOf(conn).GetProgram(ctx, &rotav1.GetProgramRequest{Name: args[0]})
				if err != nil {
					return err
				}
				return printList(a, p.GetEvents(), func(w io.Writer) error { return writeEvents(w, p.GetEvents()) })
			})
		},
		ValidArgsFunction: a.completePrograms,
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the program ends")
	return c
}

// followEvery is how often a program that is followed is asked after.
const followEvery = 500 * time.Millisecond

// followProgram prints events as they come, until the run that it found first has
// ended.
func (a *app) followProgram(ctx context.Context, name string) error {
	if a.output == "json" {
		return usagef("--follow: want -o table or jsonl: it has no end that a list could have")
	}
	run := ""
	var last *rotav1.ProgramEvent
	for {
		var p *rotav1.Program
		err := a.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			p, err = programsOf(conn).GetProgram(ctx, &rotav1.GetProgramRequest{Name: name})
			return err
		})
		switch {
		case run != "" && isNotFound(err), err == nil && run != "" && p.GetRun() != run:
			return nil
		case err != nil:
			return err
		}
		run = p.GetRun()
		news, whole := after(p.GetEvents(), last)
		if !whole {
			_, _ = fmt.Fprintln(a.env.Stderr, "rota: more has happened than is kept")
		}
		if len(news) > 0 {
			if err := printList(a, news, func(w io.Writer) error { return writeEvents(w, news) }); err != nil {
				return err
			}
			last = news[len(news)-1]
		}
		if p.GetPhase() == "ended" {
			return nil
		}
		timer := time.NewTimer(followEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// after are the events that follow last; all, and not whole, if that is no longer
// among them.
func after(events []*rotav1.ProgramEvent, last *rotav1.ProgramEvent) (news []*rotav1.ProgramEvent, whole bool) {
	if last == nil {
		return events, true
	}
	for n, e := range slices.Backward(events) {
		if proto.Equal(e, last) {
			return events[n+1:], true
		}
	}
	return events, false
}

func writeEvents(w io.Writer, events []*rotav1.ProgramEvent) error {
	for _, e := range events {
		if _, err := fmt.Fprintln(w, eventLine(e)); err != nil {
			return err
		}
	}
	return nil
}

func eventLine(e *rotav1.ProgramEvent) string {
	words := []string{e.GetTime().AsTime().Local().Format(time.TimeOnly), e.GetKind()}
	if e.GetTask() != "" {
		words = append(words, e.GetTask())
	}
	if e.GetWorker() != "" {
		words = append(words, "on", e.GetWorker())
	}
	line := strings.Join(words, " ")
	if e.GetText() != "" {
		line += ": " + e.GetText()
	}
	return printable(line)
}

// completePrograms offers the names of programs to the shell.
func (a *app) completePrograms(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.globals(cmd.Root()) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	err := a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := programsOf(conn).ListPrograms(ctx, &rotav1.ListProgramsRequest{})
		for _, p := range resp.GetPrograms() {
			if strings.HasPrefix(p.GetName(), prefix) {
				found = append(found, p.GetName())
			}
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
