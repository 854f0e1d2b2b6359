package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/backoff"
)

func programsOf(conn *grpc.ClientConn) rotav1.ProgramsClient { return rotav1.NewProgramsClient(conn) }

// programCommand is the noun.
func (a *app) programCommand() *cobra.Command {
	return group("program", "show and stop programs: Go functions that talk over channels", a.programList(), a.programGet(), a.programStop(), a.programLogs())
}

func (a *app) programList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list programs that are running or waiting",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := programsOf(conn).ListPrograms(ctx, &rotav1.ListProgramsRequest{})
				if err != nil {
					return err
				}
				return printList(a, resp.GetPrograms(), func(w io.Writer) error {
					t := terminal.NewTable("PROGRAM", "STATE", ">TASKS", ">RUNNING", ">MSG/S", "HOST", "AGE", "MISSING")
					for _, p := range resp.GetPrograms() {
						since := ""
						if p.GetSince() != nil {
							since = age(p.GetSince().AsTime())
						}
						t.Add(p.GetName(), p.GetPhase(), fmt.Sprint(len(p.GetTasks())), fmt.Sprint(runningOf(p)), messagesOf(p),
							dash(process(p, ":")), dash(since), dash(p.GetMissing()))
					}
					return t.Write(w, a.paint())
				})
			})
		},
	}
}

// messagesOf is how many messages a second a program has.
func messagesOf(p *rotav1.Program) string {
	return strconv.FormatFloat(p.GetMessagesPerSecond(), 'f', -1, 64)
}

// process is where a program's scheduler function runs; empty if it runs nowhere.
func process(p *rotav1.Program, by string) string {
	if p.GetRun() == "" {
		return ""
	}
	return p.GetHost() + by + fmt.Sprint(p.GetPid())
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
	return get(a, "get PROGRAM", "show a program: its tasks, and what it waits for", a.completePrograms, a.programDetail, func(ctx context.Context, conn *grpc.ClientConn, name string) (*rotav1.Program, error) {
		return programsOf(conn).GetProgram(ctx, &rotav1.GetProgramRequest{Name: name})
	})
}

func (a *app) programDetail(w io.Writer, p *rotav1.Program) error {
	messages := ""
	if p.GetRun() != "" {
		messages = messagesOf(p) + " a second"
	}
	head := terminal.NewTable("", "")
	head.Headless = true
	for _, row := range [][2]string{
		{"program", p.GetName()},
		{"state", p.GetPhase()},
		{"policy", p.GetPolicy()},
		{"runs on", process(p, ", process ")},
		{"messages", messages},
		{"missing", p.GetMissing()},
	} {
		if row[1] != "" {
			head.Add(row[0], row[1])
		}
	}
	if err := head.Write(w, nil); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	t := terminal.NewTable("TASK", "STATE", ">GENERATION", "WORKER", "ERROR")
	for _, task := range p.GetTasks() {
		t.Add(task.GetName(), task.GetState(), fmt.Sprint(task.GetGeneration()), dash(task.GetWorker()), dash(task.GetError()))
	}
	return t.Write(w, a.paint())
}

func (a *app) programStop() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "stop PROGRAM",
		Short: "stop a program; its tasks exit in order",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				p, err := programsOf(conn).StopProgram(ctx, &rotav1.StopProgramRequest{Name: args[0], Reason: reason})
				if err != nil {
					return err
				}
				return a.print(p, func(w io.Writer) error {
					said := "is told to stop"
					if p.GetPhase() == "ended" { // it ran nowhere
						said = "is stopped"
					}
					_, err := fmt.Fprintf(w, "%s %s\n", terminal.Printable(p.GetName()), said)
					return err
				})
			})
		},
		ValidArgsFunction: a.completePrograms,
	}
	c.Flags().StringVar(&reason, "reason", "", "reason, for the program's log")
	return c
}

func (a *app) programLogs() *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:   "logs PROGRAM",
		Short: "show the events of a program",
		Long: "Show the last 100 events of a program that is running or has ended within the last hour.\n" +
			"With --follow, also show new events until the program ends; the command survives the loss of a scheduler.",
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
	c.Flags().BoolVarP(&follow, "follow", "f", false, "follow the events until the program ends")
	return c
}

// followEvery is how often a program that is followed is asked after.
const followEvery = 500 * time.Millisecond

// endedTime is how long the last events of a program that has ended may take to be
// kept: the leader does that, and one that died is followed by another.
var endedTime = 30 * time.Second

// another reports whether p is another program than the one whose events up to last were
// shown: its name was free, and is used again. One that moves to another worker is a new
// run, too, and keeps its events.
func another(p *rotav1.Program, run string, last *rotav1.ProgramEvent) bool {
	if run == "" || p.GetRun() == run {
		return false
	}
	_, whole := after(p.GetEvents(), last)
	return last == nil || !whole
}

// followProgram prints events as they come, until the program that it found first has
// ended.
func (a *app) followProgram(ctx context.Context, name string) error {
	if a.output == "json" {
		return usagef("--follow: want -o table or jsonl: a JSON array would never end")
	}
	run, seen := "", false
	var last *rotav1.ProgramEvent
	var gone time.Time // when it had ended
	return a.follow(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		for {
			p, err := a.askProgram(ctx, conn, name)
			switch {
			case err == nil && another(p, run, last):
				return nil
			case seen && run == "" && isNotFound(err):
				a.say("the program was stopped before it began")
				return nil
			case run != "" && isNotFound(err):
				if gone.IsZero() {
					gone = time.Now()
				}
				if time.Since(gone) > endedTime {
					a.say("the program has ended; its last events are unknown")
					return nil
				}
				if err := backoff.Sleep(ctx, followEvery); err != nil {
					return err
				}
				continue
			case err != nil:
				return err
			}
			seen, gone = true, time.Time{}
			if p.GetRun() != "" {
				run = p.GetRun()
			}
			news, whole := after(p.GetEvents(), last)
			if !whole {
				a.say("older events are no longer kept")
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
			if err := backoff.Sleep(ctx, followEvery); err != nil {
				return err
			}
		}
	})
}

// askProgram asks for a program within the time that a call may take.
func (a *app) askProgram(ctx context.Context, conn *grpc.ClientConn, name string) (*rotav1.Program, error) {
	ctx, cancel := context.WithTimeout(ctx, a.client.timeout)
	defer cancel()
	return programsOf(conn).GetProgram(ctx, &rotav1.GetProgramRequest{Name: name})
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
	return terminal.Printable(line)
}

// completePrograms offers the names of programs to the shell.
func (a *app) completePrograms(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.globals(cmd.Root(), cmd) != nil {
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
