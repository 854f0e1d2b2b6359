package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/api/jsonpb"
	"github.com/rota-project/rota/internal/text"
)

func eventsOf(conn *grpc.ClientConn) rotav1.EventsClient { return rotav1.NewEventsClient(conn) }

// eventsPage is how many events are asked for at once.
const eventsPage = 1000

// eventsLast is how many are printed unless somebody says since when, or how many.
const eventsLast = 50

func (a *app) eventsCommand() *cobra.Command {
	req := &rotav1.ListEventsRequest{}
	var follow bool
	var since, until string
	last := 0
	c := &cobra.Command{
		Use:   "events",
		Short: "show what happened, latest last",
		Long: "Show what happened in the cluster, latest last: workers that came and went, passes and their moves,\n" +
			"changes of tasks, jobs and programs, and who asked for them. docs/events.md lists the kinds.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if req.Since, err = moment("since", since); err != nil {
				return err
			}
			if req.Until, err = moment("until", until); err != nil {
				return err
			}
			switch {
			case last < 0:
				return usagef("--last: %d: want 0 or more", last)
			case follow && until != "":
				return usagef("--until: want it without --follow, which never ends")
			case follow && a.output == "json":
				return usagef("--follow: want -o table or -o jsonl: a JSON array would never end")
			case !cmd.Flags().Changed("last") && since == "":
				last = eventsLast
			case !cmd.Flags().Changed("last"):
				last = -1
			}
			if follow {
				return a.followEvents(cmd.Context(), req, last)
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				list, _, err := lastEvents(ctx, eventsOf(conn), req, last)
				if err != nil {
					return err
				}
				return printList(a, list, func(w io.Writer) error { return a.eventTable(w, list, req, false) })
			})
		},
	}
	fs := c.Flags()
	fs.StringVar(&req.Task, "task", "", "show only events about this task")
	fs.StringVar(&req.Worker, "worker", "", "show only events about this worker")
	fs.StringVar(&req.Job, "job", "", "show only events about this job")
	fs.StringVar(&req.Program, "program", "", "show only events about this program")
	fs.StringVar(&req.Pool, "pool", "", "show only events about this pool")
	fs.StringVar(&req.Kind, "kind", "", "show only events of this kind: task.failed, or task for all kinds of task events")
	fs.StringVar(&since, "since", "", "show only events since this time or of this last duration: 2006-01-02T15:04:05Z or 10m")
	fs.StringVar(&until, "until", "", "show only events before this time, or older than this duration")
	fs.IntVarP(&last, "last", "n", eventsLast, "number of latest events to show; with --since the default is all")
	fs.BoolVarP(&follow, "follow", "f", false, "print each event as it is recorded, until interrupted; survives the loss of a scheduler")
	_ = c.RegisterFlagCompletionFunc("task", a.completeTasks)
	_ = c.RegisterFlagCompletionFunc("pool", a.completePools)
	return c
}

// moment is a time that a flag names, or so long ago, as the API has times.
func moment(flag, value string) (string, error) {
	if value == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(value); err == nil && d >= 0 {
		return time.Now().Add(-d).UTC().Format(time.RFC3339Nano), nil
	}
	if t, err := time.Parse(time.RFC3339, value); err == nil {
		return t.Format(time.RFC3339Nano), nil
	}
	return "", usagef("--%s: %q: want a time such as 2006-01-02T15:04:05Z, or a duration such as 10m", flag, value)
}

// lastEvents are the last of those that are asked for, oldest first by their times, as the
// log is in the order in which schedulers have written. They are at most so many, or all if
// most is below zero. latest is where a watch goes on.
func lastEvents(ctx context.Context, client rotav1.EventsClient, req *rotav1.ListEventsRequest, most int) (list []*rotav1.Event, latest string, err error) {
	req = proto.CloneOf(req)
	for {
		req.PageSize = eventsPage
		if most >= 0 {
			req.PageSize = int64(min(eventsPage, max(1, most-len(list))))
		}
		resp, err := client.ListEvents(ctx, req)
		if err != nil {
			return nil, "", err
		}
		if latest == "" {
			latest = resp.GetLatest()
		}
		list = append(list, resp.GetEvents()...)
		req.PageToken = resp.GetNextPageToken()
		if req.GetPageToken() == "" || most >= 0 && len(list) >= most {
			if most >= 0 {
				list = list[:min(len(list), most)]
			}
			slices.Reverse(list)
			slices.SortStableFunc(list, func(a, b *rotav1.Event) int { return a.GetTime().AsTime().Compare(b.GetTime().AsTime()) })
			return list, latest, nil
		}
	}
}

// followEvents prints the last events and then each that comes.
func (a *app) followEvents(ctx context.Context, req *rotav1.ListEventsRequest, most int) error {
	after, headed := "", false
	show := func(list ...*rotav1.Event) error {
		if a.output == "jsonl" {
			for _, e := range list {
				line, err := jsonpb.Marshal(e)
				if err != nil {
					return err
				}
				if err := a.printJSON(line); err != nil {
					return err
				}
			}
			return nil
		}
		err := a.eventTable(a.env.Stdout, list, req, headed)
		headed = true
		return err
	}
	return a.follow(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		if after == "" {
			one, cancel := context.WithTimeout(ctx, a.client.timeout)
			list, latest, err := lastEvents(one, eventsOf(conn), req, most)
			cancel()
			if err != nil {
				return err
			}
			after = latest
			if err := show(list...); err != nil {
				return err
			}
		}
		stream, err := eventsOf(conn).WatchEvents(ctx, &rotav1.WatchEventsRequest{
			Task: req.GetTask(), Worker: req.GetWorker(), Job: req.GetJob(), Program: req.GetProgram(), Pool: req.GetPool(), Kind: req.GetKind(), After: after,
		})
		if err != nil {
			return err
		}
		for {
			news, err := received(stream.Recv())
			if err != nil {
				return err
			}
			switch {
			case news.GetType() == "missed" && news.GetMissed() > 0:
				a.say("%s missed: they are no longer kept", text.Count(news.GetMissed(), "event was", "events were"))
			case news.GetType() == "missed":
				a.say("some events may be missing: they are no longer kept")
			case news.GetEvent() != nil:
				after = news.GetEvent().GetId()
				if err := show(news.GetEvent()); err != nil {
					return err
				}
			}
		}
	})
}

// movesShown is of how many moves of a pass a table tells, where nobody in particular
// is asked for.
const movesShown = 3

func (a *app) eventTable(w io.Writer, list []*rotav1.Event, req *rotav1.ListEventsRequest, headless bool) error {
	most := movesShown
	if req.GetTask() != "" || req.GetWorker() != "" {
		most = math.MaxInt
	}
	t := terminal.NewTable(eventColumns...)
	t.Headless = headless
	for _, e := range list {
		addEvent(t, e)
		addMoves(t, e, most)
	}
	return t.Write(w, a.paint())
}

var eventColumns = []string{"TIME", "KIND", "SUBJECT", "WHO", "WHAT"}

func addEvent(t *terminal.Table, e *rotav1.Event) {
	t.Add(e.GetTime().AsTime().Local().Format(time.DateTime), e.GetKind(), dash(subjectText(e.GetSubject())), dash(e.GetWho()), eventText(e))
}

// addMoves adds rows for the moves of an event, at most so many.
func addMoves(t *terminal.Table, e *rotav1.Event, most int) {
	moves := e.GetMoves()
	moves = moves[:min(len(moves), most)]
	for _, m := range moves {
		i := rota.Instance{Task: m.GetTask(), Index: int(m.GetIndex())}
		t.Add("", "", "task "+i.String(), "", moveText(m))
	}
	if more := int64(len(e.GetMoves())-len(moves)) + e.GetLeftOut(); more > 0 && len(e.GetMoves()) > 0 {
		t.Add("", "", "", "", fmt.Sprintf("and %d more", more))
	}
}

func moveText(m *rotav1.Move) string {
	from, to := "waiting", "no worker"
	if m.GetFrom() != "" {
		from = m.GetFrom()
	}
	if m.GetTo() != "" {
		to = m.GetTo()
	}
	return fmt.Sprintf("%s -> %s: %s", from, to, m.GetReason())
}

// subjectText says what an event is about.
func subjectText(s *rotav1.Subject) string {
	var parts []string
	switch {
	case s.GetTask() != "":
		parts = append(parts, "task "+rota.Instance{Task: s.GetTask(), Index: int(s.GetIndex())}.String())
	case s.GetJob() != "":
		parts = append(parts, "job "+s.GetJob())
	case s.GetProgram() != "":
		parts = append(parts, "program "+s.GetProgram())
	case s.GetPool() != "" && s.GetWorker() == "":
		parts = append(parts, "pool "+s.GetPool())
	case s.GetWorker() != "":
		return "worker " + s.GetWorker()
	}
	if s.GetWorker() != "" {
		parts = append(parts, "on "+s.GetWorker())
	}
	return strings.Join(parts, " ")
}

// eventText says what happened.
func eventText(e *rotav1.Event) string {
	var parts []string
	if e.GetFrom() != "" {
		parts = append(parts, "from "+e.GetFrom())
	}
	if e.GetText() != "" {
		parts = append(parts, e.GetText())
	}
	// The error of a process says it already.
	if exit := fmt.Sprintf("exit status %d", e.GetExitCode()); e.ExitCode != nil && !strings.Contains(e.GetText(), exit) {
		parts = append(parts, exit)
	}
	if e.GetCount() > 1 {
		parts = append(parts, fmt.Sprintf("%d times", e.GetCount()))
	}
	return strings.Join(parts, "; ")
}
