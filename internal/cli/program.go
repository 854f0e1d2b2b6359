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
	return &cobra.Command{
		Use:   "logs PROGRAM",
		Short: "show what happened to a program: its last 100 events",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				p, err := programsOf(conn).GetProgram(ctx, &rotav1.GetProgramRequest{Name: args[0]})
				if err != nil {
					return err
				}
				return printList(a, p.GetEvents(), func(w io.Writer) error {
					for _, e := range p.GetEvents() {
						if _, err := fmt.Fprintln(w, eventLine(e)); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
		ValidArgsFunction: a.completePrograms,
	}
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
