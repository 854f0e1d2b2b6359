package events

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// change is a page that was written at a revision.
func change(t *testing.T, s shelf, revision int64, list ...Event) store.Event {
	t.Helper()
	p := &storepb.EventPage{Version: record.Version, Scheduler: "s1"}
	for n, e := range list {
		if e.Time.IsZero() {
			e.Time = time.Now()
		}
		p.Events = append(p.Events, encode(e, uint32(n)))
	}
	value, err := record.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return store.Event{KV: store.KV{Key: store.EventKey(shelfNames[s], fmt.Sprintf("b-%06d", revision)), Value: value, Create: revision, Mod: revision}}
}

func deleted(e store.Event) store.Event {
	return store.Event{KV: store.KV{Key: e.Key, Mod: e.Mod + 1000}, Deleted: true}
}

func texts(list []Kept) (out []string) {
	for _, e := range list {
		out = append(out, e.Text)
	}
	return out
}

func TestIDsSortAsTexts(t *testing.T) {
	t.Parallel()
	ids := []ID{{0, 0}, {0, 1}, {0, 0xffff}, {1, 0}, {15, 3}, {16, 0}, {1 << 40, 7}}
	for n, id := range ids {
		got, ok := ParseID(id.String())
		if !ok || got != id {
			t.Errorf("%v: read as %v, %v", id, got, ok)
		}
		if n > 0 && (!ids[n-1].Less(id) || ids[n-1].String() >= id.String()) {
			t.Errorf("%v is not before %v", ids[n-1], id)
		}
	}
	for _, s := range []string{"", "1", "1.1", "000000000000000g.0000", "-00000000000001.0000", "0000000000000001.000", strings.Repeat("0", 17) + ".0000"} {
		if id, ok := ParseID(s); ok {
			t.Errorf("%q is read as %v", s, id)
		}
	}
}

// TestEveryKindIsKnown: a kind that is recorded can be asked for.
func TestEveryKindIsKnown(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, k := range kinds {
		sort, _, _ := strings.Cut(k, ".")
		if seen[k] || !Known(k) || !Known(sort) {
			t.Errorf("%s: twice %v, known %v, its sort known %v", k, seen[k], Known(k), Known(sort))
		}
		seen[k] = true
	}
	for _, k := range []string{"", "task.", "tas", "task.failed.x", "Task.failed"} {
		if Known(k) {
			t.Errorf("%q is known", k)
		}
	}
}

func TestEventsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	code := 3
	e := Event{
		Kind: TaskFailed, Time: time.UnixMicro(1_700_000_000_000_001).UTC(),
		Subject: Subject{Task: "t", Index: 2, Generation: 9, Worker: "w", Job: "j", Program: "p"},
		Text:    "it broke", Who: "alice", From: "w0", Exit: &code, Count: 4, LeftOut: 5,
		Moves: []rota.Move{{Instance: rota.Instance{Task: "t", Index: 1}, From: "a", To: "b", Reason: "why", Forced: true}},
	}
	l := NewLog(Limits{Age: 100 * 365 * 24 * time.Hour}, silent())
	l.Take([]store.Event{change(t, work, 7, e)})
	got, more := l.List(Filter{}, nil, 10)
	if more || len(got) != 1 {
		t.Fatalf("%v, %v", got, more)
	}
	want := Kept{ID: ID{7, 0}, Scheduler: "s1", Event: e}
	if fmt.Sprint(*got[0].Exit, got[0].Moves, got[0].Subject) != fmt.Sprint(code, e.Moves, e.Subject) {
		t.Errorf("%+v, want %+v", got[0], want)
	}
	g := got[0]
	g.Exit, g.Moves, want.Exit, want.Moves = nil, nil, nil, nil
	if fmt.Sprint(g) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", g, want)
	}
}

// TestBoundsOfAnEvent: whatever is recorded, what is written is bounded and can be read.
func TestBoundsOfAnEvent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 1<<20)
	e := Event{
		Kind: Pass, Text: long, Who: long + "\xff", From: long, Subject: Subject{Task: long, Worker: long, Job: long, Program: "\xff"},
		Moves: make([]rota.Move, 100_000),
	}
	for n := range e.Moves {
		e.Moves[n] = rota.Move{Instance: rota.Instance{Task: long}, From: long, To: long, Reason: long}
	}
	c := change(t, cluster, 1, e)
	if len(c.Value) > 64<<10 {
		t.Errorf("%d bytes", len(c.Value))
	}
	got, err := decode(c.Value, 1)
	if err != nil || len(got[0].Moves) != MaxMoves || got[0].LeftOut != len(e.Moves)-MaxMoves {
		t.Errorf("%v: %d moves, %d left out", err, len(got[0].Moves), got[0].LeftOut)
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	move := func(task, from, to string) rota.Move {
		return rota.Move{Instance: rota.Instance{Task: task}, From: from, To: to}
	}
	list := []Event{
		{Text: "0", Kind: WorkerJoined, Subject: Subject{Worker: "w1"}, Time: now.Add(-5 * time.Minute)},
		{Text: "1", Kind: Pass, Moves: []rota.Move{move("a", "w1", "w2"), move("b", "w3", "w2"), move("b", "", "w1")}, LeftOut: 7, Time: now.Add(-4 * time.Minute)},
		{Text: "2", Kind: TaskMoved, Subject: Subject{Task: "a", Worker: "w2", Program: "p"}, From: "w1", Time: now.Add(-3 * time.Minute)},
		{Text: "3", Kind: JobFailed, Subject: Subject{Job: "j", Worker: "w2"}, Time: now.Add(-2 * time.Minute)},
		{Text: "4", Kind: PassAsked, Time: now.Add(-time.Minute)},
	}
	l := NewLog(Limits{}, silent())
	for n, e := range list {
		l.Take([]store.Event{change(t, shelfOf(e.Kind), int64(n+1), e)})
	}
	for _, c := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "[4 3 2 1 0]"},
		{Filter{Task: "a"}, "[2 1]"},
		{Filter{Task: "b"}, "[1]"},
		{Filter{Task: "c"}, "[]"},
		{Filter{Worker: "w1"}, "[2 1 0]"},
		{Filter{Worker: "w3"}, "[1]"},
		{Filter{Worker: "w2", Task: "a"}, "[2 1]"},
		{Filter{Worker: "w3", Task: "a"}, "[]"},
		{Filter{Job: "j"}, "[3]"},
		{Filter{Program: "p"}, "[2]"},
		{Filter{Kind: "pass"}, "[4 1]"},
		{Filter{Kind: "task"}, "[2]"},
		{Filter{Kind: "task.moved", Worker: "w1"}, "[2]"},
		{Filter{Since: now.Add(-3 * time.Minute)}, "[4 3 2]"},
		{Filter{Until: now.Add(-3 * time.Minute)}, "[1 0]"},
	} {
		got, _ := l.List(c.f, nil, 100)
		if s := fmt.Sprint(texts(got)); s != c.want {
			t.Errorf("%+v: %s, want %s", c.f, s, c.want)
		}
	}
	got, _ := l.List(Filter{Task: "b", Worker: "w1"}, nil, 1)
	if len(got) != 1 || len(got[0].Moves) != 1 || got[0].Moves[0].To != "w1" || got[0].LeftOut != 9 {
		t.Errorf("a pass with another's moves: %+v", got)
	}
	if all, _ := l.List(Filter{Kind: Pass}, nil, 9); len(all[1].Moves) != 3 || all[1].LeftOut != 7 {
		t.Errorf("a list has changed the log: %+v", all)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	l := NewLog(Limits{}, silent())
	const all = 57
	for n := range all {
		kind := []string{TaskStarted, WorkerJoined}[n/3%2]
		l.Take([]store.Event{change(t, shelfOf(kind), int64(n+1), Event{Kind: kind, Text: fmt.Sprint(n)})})
	}
	for _, size := range []int{1, 2, 10, 57, 100} {
		var got []string
		var before *ID
		for {
			list, more := l.List(Filter{}, before, size)
			got = append(got, texts(list)...)
			if !more {
				break
			}
			before = &list[len(list)-1].ID
		}
		if len(got) != all || got[0] != "56" || got[all-1] != "0" || len(slices.Compact(slices.Clone(got))) != all {
			t.Errorf("by %d: %v", size, got)
		}
	}
}

// TestRetention: a list never has more, or older events than is stated, and what is
// surplus is named for removal, oldest first, on each shelf by itself.
func TestRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLog(Limits{Keep: 10, Age: time.Hour}, silent())
		var pages []store.Event
		for n := range 30 {
			c := change(t, work, int64(n+1), Event{Kind: TaskStarted, Text: fmt.Sprint(n)}, Event{Kind: TaskStopped, Text: fmt.Sprint(n)})
			pages = append(pages, c)
			l.Take([]store.Event{c})
		}
		l.Take([]store.Event{change(t, cluster, 100, Event{Kind: WorkerDraining, Text: "who"})})
		if got, _ := l.List(Filter{}, nil, 100); len(got) != 11 || got[0].Text != "who" || got[10].Text != "25" {
			t.Errorf("%v", texts(got))
		}
		keys := l.surplus(time.Now(), 100)
		if len(keys) != 25 || keys[0] != pages[0].Key || keys[24] != pages[24].Key {
			t.Errorf("surplus: %v", keys)
		}
		if keys := l.surplus(time.Now(), 3); len(keys) != 3 {
			t.Errorf("at most 3: %v", keys)
		}
		for _, p := range pages[:25] {
			l.Take([]store.Event{deleted(p), deleted(p)})
		}
		if keys := l.surplus(time.Now(), 100); len(keys) != 0 {
			t.Errorf("after the removal: %v", keys)
		}
		time.Sleep(time.Hour + time.Second)
		if got, _ := l.List(Filter{}, nil, 100); len(got) != 0 {
			t.Errorf("after an hour: %v", texts(got))
		}
		if keys := l.surplus(time.Now(), 100); len(keys) != 6 {
			t.Errorf("surplus after an hour: %v", keys)
		}
	})
}

// TestValuesOfStrangers: what cannot be read harms nothing, and goes in its time.
func TestValuesOfStrangers(t *testing.T) {
	t.Parallel()
	l := NewLog(Limits{Keep: 1}, silent())
	good := change(t, work, 5, Event{Kind: TaskStarted, Text: "good"})
	newer := &storepb.EventPage{Version: 99}
	value, err := record.Encode(newer)
	if err != nil {
		t.Fatal(err)
	}
	double := change(t, work, 6, Event{Kind: TaskStarted}, Event{Kind: TaskStarted})
	twice := &storepb.EventPage{Version: record.Version, Events: []*storepb.Event{{At: 1}, {At: 1}}}
	if double.Value, err = record.Encode(twice); err != nil {
		t.Fatal(err)
	}
	for n, c := range []store.Event{
		{KV: store.KV{Key: "events/work/x", Value: []byte("\xff\xff"), Create: 1}},
		{KV: store.KV{Key: "events/work/y", Value: value, Create: 2}},
		{KV: store.KV{Key: "events/work/z", Value: nil, Create: 3}},
		{KV: store.KV{Key: "events/", Value: good.Value, Create: 4}},
		{KV: store.KV{Key: "events/other/z", Value: good.Value, Create: 4}},
		double, good, good,
		{KV: store.KV{Key: "events/work/gone"}, Deleted: true},
	} {
		l.Take([]store.Event{c})
		if got, _ := l.List(Filter{}, nil, 10); n >= 6 && fmt.Sprint(texts(got)) != "[good]" || n < 6 && len(got) != 0 {
			t.Errorf("after %d: %v", n, texts(got))
		}
	}
	l.Take([]store.Event{change(t, work, 9, Event{Kind: TaskStarted, Text: "next"})})
	if keys := l.surplus(time.Now(), 10); len(keys) != 5 {
		t.Errorf("surplus: %v", keys)
	}
}

// TestResetTakesThePlace: a listing replaces the picture, and what is in both is not new.
func TestResetTakesThePlace(t *testing.T) {
	t.Parallel()
	l := NewLog(Limits{}, silent())
	one, two, three := change(t, work, 1, Event{Kind: TaskStarted, Text: "1"}), change(t, work, 2, Event{Kind: TaskStarted, Text: "2"}), change(t, work, 3, Event{Kind: TaskStarted, Text: "3"})
	l.Take([]store.Event{one, two})
	w := l.Watch(Filter{}, nil)
	l.Reset([]store.Event{three, two})
	if got, _ := l.List(Filter{}, nil, 9); fmt.Sprint(texts(got)) != "[3 2]" {
		t.Errorf("%v", texts(got))
	}
	if n, _ := w.Now(); fmt.Sprint(texts(n.Events)) != "[3]" || n.Missed {
		t.Errorf("news: %+v", n)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	l := NewLog(Limits{}, silent())
	var pages []store.Event
	at := int64(0)
	add := func(kind, text string) {
		at++
		pages = append(pages, change(t, shelfOf(kind), at, Event{Kind: kind, Text: text}))
		l.Take(pages[len(pages)-1:])
	}
	add(TaskStarted, "a")
	add(WorkerJoined, "b")
	w, start := l.Watch(Filter{}, nil), l.Watch(Filter{}, &ID{})
	after := ID{Revision: 1}
	resumed := l.Watch(Filter{}, &after)
	tasks := l.Watch(Filter{Kind: "task"}, nil)
	if n, more := w.Now(); more || n.Missed || len(n.Events) != 0 {
		t.Errorf("a watch from now on begins with %+v", n)
	}
	add(TaskStopped, "c")
	add(WorkerLeft, "d")
	for _, c := range []struct {
		name string
		w    *Watch
		want string
	}{{"from now on", w, "[c d]"}, {"from the start", start, "[a b c d]"}, {"from an event on", resumed, "[b c d]"}, {"of tasks", tasks, "[c]"}} {
		n, _, err := c.w.Next(t.Context())
		if err != nil || n.Missed || fmt.Sprint(texts(n.Events)) != c.want {
			t.Errorf("%s: %v, %+v, want %s", c.name, err, n, c.want)
		}
		if n, more := c.w.Now(); more || len(n.Events) != 0 {
			t.Errorf("%s: once more %+v", c.name, n)
		}
	}
	// Two of those that nobody has taken yet are not kept any more, one in the middle.
	add(TaskStarted, "e")
	add(TaskStarted, "f")
	add(TaskStarted, "g")
	l.Take([]store.Event{deleted(pages[4])})
	n, _ := w.Now()
	if !n.Missed || n.Lost != 1 || fmt.Sprint(texts(n.Events)) != "[f g]" {
		t.Errorf("a slow one is told %+v", n)
	}
	l.Take([]store.Event{deleted(pages[5])})
	var got []string
	lost, missed := int64(0), 0
	for more := true; more; {
		n, more = tasks.Now()
		got = append(got, texts(n.Events)...)
		if n.Missed {
			missed++
			lost += n.Lost
		}
	}
	if missed != 1 || lost != 2 || fmt.Sprint(got) != "[g]" {
		t.Errorf("missed %d times %d, got %v", missed, lost, got)
	}
	// Who goes on after an event that is long gone may have missed some.
	if n, _ := l.Watch(Filter{}, &after).Now(); !n.Missed || n.Lost != 0 {
		t.Errorf("after %v: %+v", after, n)
	}
	last := l.Latest()
	if n, more := l.Watch(Filter{}, &last).Now(); more || n.Missed || len(n.Events) != 0 {
		t.Errorf("after the latest: %+v", n)
	}
}

// TestWatchOverAGap: a page that goes from between others is missed, not skipped in silence.
func TestWatchOverAGap(t *testing.T) {
	t.Parallel()
	l := NewLog(Limits{}, silent())
	var pages []store.Event
	for n := range 5 {
		pages = append(pages, change(t, work, int64(n+1), Event{Kind: TaskStarted, Text: fmt.Sprint(n)}, Event{Kind: TaskStopped, Text: fmt.Sprint(n)}))
	}
	w := l.Watch(Filter{}, nil)
	l.Take(pages)
	l.Take([]store.Event{deleted(pages[2])})
	var got []string
	lost := int64(0)
	for more := true; more; {
		var n News
		n, more = w.Now()
		lost += n.Lost
		got = append(got, texts(n.Events)...)
	}
	if lost != 2 || fmt.Sprint(got) != "[0 0 1 1 3 3 4 4]" {
		t.Errorf("lost %d, got %v", lost, got)
	}
}
