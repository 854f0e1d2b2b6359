package events

import (
	"fmt"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
)

// shelf is one of the parts of the log, each of which is bounded by itself: a flood of
// what happens to tasks does not push out who drained a worker.
type shelf int

const (
	cluster shelf = iota // workers, passes, leaders, programs, what people asked for
	work                 // tasks and jobs
	shelves
)

// shelfNames are parts of keys.
var shelfNames = [shelves]string{cluster: "cluster", work: "work"}

// shelfOf is where an event is kept.
func shelfOf(kind string) shelf {
	if strings.HasPrefix(kind, "task.") || strings.HasPrefix(kind, "job.") {
		return work
	}
	return cluster
}

// shelfIn is the shelf of a key below store.EventsPrefix.
func shelfIn(name string) (shelf, bool) {
	for s, have := range shelfNames {
		if name == have {
			return shelf(s), true
		}
	}
	return 0, false
}

// encode is an event as the store keeps it.
func encode(e Event, at uint32) *storepb.Event {
	m := &storepb.Event{
		At: at, UnixUs: e.Time.UnixMicro(), Kind: text.Clip(e.Kind, maxWord), Task: valid(e.Subject.Task), Index: int64(e.Subject.Index),
		Generation: uint64(e.Subject.Generation), Worker: valid(e.Subject.Worker), Job: valid(e.Subject.Job), Program: valid(e.Subject.Program), Pool: valid(e.Subject.Pool),
		Text: text.Clip(e.Text, maxText), Who: text.Clip(e.Who, maxWord), From: valid(e.From), LeftOut: int64(e.LeftOut),
	}
	if e.Count > 1 {
		m.Count = int64(e.Count)
	}
	if e.Exit != nil {
		code := int64(*e.Exit)
		m.ExitCode = &code
	}
	for n, move := range e.Moves {
		if n == MaxMoves {
			m.LeftOut += int64(len(e.Moves) - n)
			break
		}
		m.Moves = append(m.Moves, &storepb.EventMove{
			Task: valid(move.Instance.Task), Index: int64(move.Instance.Index), From: valid(move.From), To: valid(move.To),
			Reason: text.Clip(move.Reason, maxWord), Forced: move.Forced,
		})
	}
	return m
}

// valid is a name that can be written. Names have their own limits, so whole ones are
// never cut.
func valid(name string) string { return text.Clip(name, rota.MaxIDLen) }

// decode reads a page that was written at a revision.
func decode(value []byte, revision int64) ([]Kept, error) {
	var p storepb.EventPage
	if err := record.Decode(value, &p); err != nil {
		return nil, err
	}
	out := make([]Kept, 0, len(p.GetEvents()))
	for n, m := range p.GetEvents() {
		if n > 0 && m.GetAt() <= out[n-1].ID.At {
			return nil, fmt.Errorf("%w: event %d is out of order", record.ErrMalformed, n)
		}
		e := Kept{ID: ID{revision, m.GetAt()}, Scheduler: p.GetScheduler(), Event: Event{
			Kind: m.GetKind(), Time: time.UnixMicro(m.GetUnixUs()).UTC(),
			Subject: Subject{
				Task: m.GetTask(), Index: int(m.GetIndex()), Generation: rota.Generation(m.GetGeneration()), Worker: m.GetWorker(),
				Job: m.GetJob(), Program: m.GetProgram(), Pool: m.GetPool(),
			},
			Text: m.GetText(), Who: m.GetWho(), From: m.GetFrom(), Count: max(1, int(m.GetCount())), LeftOut: max(0, int(m.GetLeftOut())),
		}}
		if m.ExitCode != nil {
			code := int(m.GetExitCode())
			e.Exit = &code
		}
		for _, move := range m.GetMoves() {
			e.Moves = append(e.Moves, rota.Move{
				Instance: rota.Instance{Task: move.GetTask(), Index: int(move.GetIndex())}, From: move.GetFrom(), To: move.GetTo(),
				Reason: move.GetReason(), Forced: move.GetForced(),
			})
		}
		out = append(out, e)
	}
	return out, nil
}
