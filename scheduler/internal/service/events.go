package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/events"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	defaultEvents = 100
	maxEvents     = 1000
)

// newsMissed is the type of news that says that there was more.
const newsMissed, newsEvent = "missed", "event"

// ListEvents answers what happened, newest first.
func (s *Service) ListEvents(_ context.Context, r *rotav1.ListEventsRequest) (*rotav1.ListEventsResponse, error) {
	f, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	if f.Since, err = timeIn("since", r.GetSince()); err != nil {
		return nil, err
	}
	if f.Until, err = timeIn("until", r.GetUntil()); err != nil {
		return nil, err
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return nil, convert.FieldStatus("until", fmt.Sprintf("until: %q: want a time after since", r.GetUntil()))
	}
	size := int(r.GetPageSize())
	switch {
	case size < 0 || size > maxEvents:
		return nil, convert.FieldStatus("page_size", fmt.Sprintf("page_size: %d: want 0 to %d", size, maxEvents))
	case size == 0:
		size = defaultEvents
	}
	var before *events.ID
	if r.GetPageToken() != "" {
		id, ok := events.ParseID(r.GetPageToken())
		if !ok {
			return nil, convert.FieldStatus("page_token", fmt.Sprintf("page_token: %q: want the next_page_token of an earlier answer", text.Clip(r.GetPageToken(), text.Short)))
		}
		before = &id
	}
	out := &rotav1.ListEventsResponse{Latest: s.cfg.Log.Latest().String()} // before the list: what comes meanwhile is told twice, not never
	list, more := s.cfg.Log.List(f, before, size)
	for _, e := range list {
		out.Events = append(out.Events, eventOf(e))
	}
	if more {
		out.NextPageToken = list[len(list)-1].ID.String()
	}
	return out, nil
}

// WatchEvents answers what happens.
func (s *Service) WatchEvents(r *rotav1.WatchEventsRequest, stream grpc.ServerStreamingServer[rotav1.EventNews]) error {
	f, err := filterOf(r)
	if err != nil {
		return err
	}
	var after *events.ID
	if r.GetAfter() != "" {
		id, ok := events.ParseID(r.GetAfter())
		if !ok {
			return convert.FieldStatus("after", fmt.Sprintf("after: %q: want the id of an event", text.Clip(r.GetAfter(), text.Short)))
		}
		after = &id
	}
	send := func(n events.News) error {
		if n.Missed {
			if err := stream.Send(&rotav1.EventNews{Type: newsMissed, Missed: n.Lost}); err != nil {
				return err
			}
		}
		for _, e := range n.Events {
			if err := stream.Send(&rotav1.EventNews{Type: newsEvent, Event: eventOf(e)}); err != nil {
				return err
			}
		}
		return nil
	}
	w := s.cfg.Log.Watch(f, after)
	for more := true; more; {
		var n events.News
		n, more = w.Now()
		if err := send(n); err != nil {
			return err
		}
	}
	if err := stream.Send(&rotav1.EventNews{Type: eventSynced}); err != nil {
		return err
	}
	for {
		n, _, err := w.Next(stream.Context())
		if err != nil {
			return nil //nolint:nilerr // whoever watches has gone
		}
		if err := send(n); err != nil {
			return err
		}
	}
}

// filtered is a request that names whom events are about.
type filtered interface {
	GetTask() string
	GetWorker() string
	GetJob() string
	GetProgram() string
	GetPool() string
	GetKind() string
}

func filterOf(r filtered) (events.Filter, error) {
	f := events.Filter{Task: r.GetTask(), Worker: r.GetWorker(), Job: r.GetJob(), Program: r.GetProgram(), Pool: r.GetPool(), Kind: r.GetKind()}
	for field, name := range map[string]string{"task": f.Task, "worker": f.Worker, "job": f.Job, "program": f.Program, "pool": f.Pool} {
		if len(name) > rota.MaxIDLen {
			return f, convert.FieldStatus(field, fmt.Sprintf("%s: %q: want at most %d bytes", field, text.Clip(name, text.Short), rota.MaxIDLen))
		}
	}
	if f.Kind != "" && !events.Known(f.Kind) {
		return f, convert.FieldStatus("kind", fmt.Sprintf("kind: %q: want a kind such as task.failed, or task for all kinds that begin with it (docs/events.md)", text.Clip(f.Kind, text.Short)))
	}
	return f, nil
}

func timeIn(field, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return t, convert.FieldStatus(field, fmt.Sprintf("%s: %q: want an RFC 3339 time, such as 2006-01-02T15:04:05Z", field, text.Clip(value, text.Short)))
	}
	return t, nil
}

// eventOf is an event as the API shows it.
func eventOf(e events.Kept) *rotav1.Event {
	m := &rotav1.Event{
		Id: e.ID.String(), Time: timestamppb.New(e.Time), Kind: e.Kind,
		Subject: &rotav1.Subject{
			Task: e.Subject.Task, Index: int64(e.Subject.Index), Generation: uint64(e.Subject.Generation), Worker: e.Subject.Worker,
			Job: e.Subject.Job, Program: e.Subject.Program, Pool: e.Subject.Pool,
		},
		Text: e.Text, Who: e.Who, Scheduler: e.Scheduler, From: e.From, Count: int64(e.Count), LeftOut: int64(e.LeftOut),
	}
	if e.Exit != nil {
		code := int64(*e.Exit)
		m.ExitCode = &code
	}
	for _, move := range e.Moves {
		m.Moves = append(m.Moves, &rotav1.Move{
			Task: move.Instance.Task, Index: int64(move.Instance.Index), From: move.From, To: move.To, Reason: move.Reason, Forced: move.Forced,
		})
	}
	return m
}

// record has an event of what a caller asked for written down.
func (s *Service) record(ctx context.Context, kind string, about events.Subject, say string) {
	s.cfg.Events.Record(events.Event{Kind: kind, Subject: about, Text: say, Who: auth.From(ctx).Name})
}

// listed is of how many tasks of one call events tell one by one.
const listed = 20

// told are tasks of which to tell.
type told struct {
	ids []string
	all int
}

func (t *told) add(id string) {
	if t.all++; len(t.ids) < listed {
		t.ids = append(t.ids, id)
	}
}

// tell tells what a caller did to tasks: of the first few one by one, and of how many
// others.
func (s *Service) tell(ctx context.Context, kind string, tasks told) {
	for _, id := range tasks.ids {
		s.record(ctx, kind, events.Subject{Task: id}, "")
	}
	if more := tasks.all - len(tasks.ids); more > 0 {
		s.cfg.Events.Record(events.Event{
			Kind: kind, Text: fmt.Sprintf("and %d more tasks with the same call", more), Who: auth.From(ctx).Name, LeftOut: more,
		})
	}
}

// tellProgram tells what a program says of itself.
func (s *Service) tellProgram(name, was string, r *rotav1.ProgramReport) {
	if phase := r.GetPhase(); phase != was {
		say := phase
		if r.GetMissing() != "" {
			say += ": " + r.GetMissing()
		}
		s.cfg.Events.Record(events.Event{Kind: events.ProgramPhase, Subject: events.Subject{Program: name}, Text: say})
	}
	for _, e := range r.GetEvents() {
		if !s.cfg.Events.Wants(events.ProgramTask) {
			continue
		}
		say := e.GetKind()
		if e.GetText() != "" {
			say += ": " + e.GetText()
		}
		about := events.Subject{Program: name, Worker: e.GetWorker(), Generation: rota.Generation(e.GetGeneration())}
		if e.GetTask() != "" {
			about.Task = name + "/" + e.GetTask()
		}
		s.cfg.Events.Record(events.Event{Kind: events.ProgramTask, Subject: about, Text: say})
	}
}

// movesTold is how many of its last moves an instance is told with.
const movesTold = 10

// lastMoves are the last moves of a task's instances, by index, newest first: what passes
// planned, and what was granted since.
func (s *Service) lastMoves(task string) map[int64][]*rotav1.WhyMove {
	list, _ := s.cfg.Log.List(events.Filter{Task: task}, nil, maxEvents)
	out := map[int64][]*rotav1.WhyMove{}
	for _, e := range slices.Backward(list) { // oldest first
		for _, m := range e.Moves {
			i := int64(m.Instance.Index)
			out[i] = append(out[i], &rotav1.WhyMove{Time: timestamppb.New(e.Time), From: m.From, To: m.To, Reason: m.Reason})
		}
		if e.Kind != events.TaskGranted && e.Kind != events.TaskMoved {
			continue
		}
		i := int64(e.Subject.Index)
		if n := len(out[i]); n > 0 && out[i][n-1].GetGeneration() == 0 && out[i][n-1].GetTo() == e.Subject.Worker {
			out[i][n-1].Generation = uint64(e.Subject.Generation)
			continue
		}
		out[i] = append(out[i], &rotav1.WhyMove{
			Time: timestamppb.New(e.Time), From: e.From, To: e.Subject.Worker, Reason: e.Text, Generation: uint64(e.Subject.Generation),
		})
	}
	for i, moves := range out {
		slices.Reverse(moves)
		out[i] = moves[:min(len(moves), movesTold)]
	}
	return out
}
