package top

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/gdamore/tcell/v3/color"
	"pgregory.net/rapid"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// words are short ones.
func words() Words {
	say := func(w io.Writer, s string) error { _, err := io.WriteString(w, s); return err }
	return Words{
		Tasks: func(list []*rotav1.Task) *terminal.Table {
			t := terminal.NewTable("TASK", "STATE")
			for _, task := range list {
				if len(task.GetInstances()) == 0 {
					t.Add(task.GetId(), "waiting")
				}
				for _, in := range task.GetInstances() {
					t.Add(fmt.Sprintf("%s#%d", task.GetId(), in.GetIndex()), in.GetState())
				}
			}
			return t
		},
		Workers: func(list []*rotav1.Worker) *terminal.Table {
			t := terminal.NewTable("WORKER", "STATE")
			for _, w := range list {
				t.Add(w.GetName(), w.GetState())
			}
			return t
		},
		Jobs: func(list []*rotav1.Job) *terminal.Table {
			t := terminal.NewTable("JOB", "STATE")
			for _, j := range list {
				t.Add(j.GetId(), j.GetState())
			}
			return t
		},
		Events: func(list []*rotav1.Event) *terminal.Table {
			t := terminal.NewTable("KIND")
			for _, e := range list {
				t.Add(e.GetKind())
			}
			return t
		},
		Why:   func(w io.Writer, r *rotav1.WhyResponse) error { return say(w, r.GetId()) },
		Job:   func(w io.Writer, d *rotav1.JobDetail) error { return say(w, d.GetJob().GetId()) },
		Plan:  func(w io.Writer, p *rotav1.Plan) error { return say(w, fmt.Sprint(p.GetSummary().GetMoves())) },
		Error: error.Error,
	}
}

// world is a model, and a cluster of a million tasks that answers what it asks.
type world struct {
	t    rapid.TB
	m    *Model
	role string
	err  error // of all answers
	open []Effect
}

func newWorld(t rapid.TB, view View) *world {
	w := &world{t: t, m: New(words(), view, epoch), role: "operator"}
	w.send(Size{100, 30}, Tick(epoch))
	return w
}

// send takes messages, and answers all that comes of them.
func (w *world) send(msgs ...any) {
	w.t.Helper()
	for _, m := range msgs {
		w.open = append(w.open, w.m.Update(m)...)
		for len(w.open) > 0 {
			e := w.open[0]
			w.open = w.open[1:]
			if msg := w.answer(e); msg != nil {
				w.open = append(w.open, w.m.Update(msg)...)
			}
		}
	}
}

func (w *world) keys(keys ...string) {
	w.t.Helper()
	for _, k := range keys {
		w.send(Key(k))
	}
}

func (w *world) status() *rotav1.Status {
	return &rotav1.Status{
		Leader: "s1", Epoch: 3, Caller: &rotav1.Caller{Role: w.role}, Tasks: &rotav1.TaskCounts{Running: 1234567, Waiting: 2},
		Workers: &rotav1.WorkerCounts{Ready: 3},
	}
}

func (w *world) answer(e Effect) any {
	switch e := e.(type) {
	case Ask:
		a := Answer{Ask: e, At: w.m.now, Err: w.err}
		if w.err != nil {
			return a
		}
		a.Status = w.status()
		switch e.View {
		case Map, Workers:
			for i, state := range []string{"ready", "cordoned", "lost"} {
				a.Workers = append(a.Workers, &rotav1.Worker{Name: fmt.Sprintf("w%d", i+1), State: state, Zone: string(rune('b' - i%2)), Instances: int64(i * 100), Weight: float64(i * 100)})
			}
			a.Total = 3
			a.Events = []*rotav1.Event{{Kind: "worker.joined"}}
		case Tasks:
			from := 0
			if e.Token != "" {
				if _, err := fmt.Sscan(e.Token, &from); err != nil {
					w.t.Fatal(err)
				}
			}
			for i := range pageSize {
				a.Tasks = append(a.Tasks, &rotav1.Task{Id: fmt.Sprintf("t%07d", from+i), Instances: []*rotav1.Instance{{Worker: "w1", State: "running"}}})
			}
			if a.Total = 1e6; from+pageSize < 1e6 {
				a.Next = fmt.Sprint(from + pageSize)
			}
		case Jobs:
			a.Jobs, a.Total = []*rotav1.Job{{Id: "j1", State: "running", Worker: "w1"}}, 1
		}
		return a
	case Look:
		return Looked{Look: e, Text: e.What + " of " + e.Item.Task + e.Item.Job, Err: w.err}
	case Plan:
		return Planned{Worker: e.Worker, Text: "7 moves", Err: w.err}
	case Do:
		return Done{Do: e, Now: &rotav1.Worker{Name: e.Worker, State: e.Verb + "ed"}, Err: w.err}
	}
	return nil
}

func (w *world) text() string {
	var b strings.Builder
	for _, l := range w.m.Lines() {
		b.WriteString(l.plain() + "\n")
	}
	return b.String()
}

func (w *world) wants(texts ...string) {
	w.t.Helper()
	all := w.text()
	for _, s := range texts {
		if !strings.Contains(all, s) {
			w.t.Errorf("it does not show %q:\n%s", s, all)
		}
	}
}

// TestViews: each key leads to its view, and each view shows what it is for.
func TestViews(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Map)
	w.wants("[map]", "live", "1,234,567 running", "2 waiting", "leader s1, epoch 3", "zone a  1 worker, 100 instances", "zone b  2 workers", "● w1", "◐ w2", "✕ w3", "worker.joined")
	w.keys("2")
	w.wants("[tasks]", "1-200 of 1,000,000", "by id", "t0000000#0", "? keys")
	w.keys("tab")
	w.wants("[workers]", "cordoned")
	w.keys("4")
	w.wants("[jobs]", "j1")
	w.keys("s")
	w.wants("cannot be sorted")
	w.keys("backtab", "?")
	w.wants("drain the worker: shows the plan, then asks")
	w.keys("x", "enter") // help is gone; the worker's tasks
	w.wants("[tasks]", "on w1")
	w.keys("esc")
	if strings.Contains(w.text(), "on w1") {
		t.Error("esc does not show all again")
	}
}

// TestPages: of a million tasks one page is asked for at a time, in order and back.
func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Tasks)
	w.keys("end", "down")
	w.wants("201-400 of 1,000,000", "t0000200")
	w.keys("end", "j", "up")
	w.wants("201-400 of 1,000,000", "t0000399")
	w.keys("home", "up")
	w.wants("1-200 of 1,000,000", "t0000199")
	w.keys("home", "k")
	w.wants("t0000000")
	w.keys("/", "a", "ü", "backspace", "b", "enter")
	if a := w.m.wanted(); a.Text != "ab" || a.Token != "" {
		t.Errorf("%+v", a)
	}
	w.wants(`with "ab"`)
	w.keys("s", "S")
	if a := w.m.wanted(); a.Order != "-group" || a.Text != "ab" {
		t.Errorf("%+v", a)
	}
	w.keys("/", "q", "esc") // typed, not ended
	if a := w.m.wanted(); a.Text != "" {
		t.Errorf("%+v", a)
	}
}

// TestOneAtATime: while an answer is on its way nothing more is asked, and one that is
// not for what is shown any more is followed by the right one.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	m := New(words(), Map, epoch)
	first := m.Update(Tick(epoch))
	if len(first) != 1 {
		t.Fatalf("%v", first)
	}
	for _, msg := range []any{Tick(epoch.Add(time.Second)), Key("2"), Key("3"), Tick(epoch.Add(2 * time.Second))} {
		if more := m.Update(msg); len(more) > 0 {
			t.Errorf("%v: %v", msg, more)
		}
	}
	next := m.Update(Answer{Ask: first[0].(Ask), At: epoch, Status: &rotav1.Status{}})
	if want := []Effect{Ask{View: Workers, Order: "name"}}; !reflect.DeepEqual(next, want) {
		t.Errorf("%v, want %v", next, want)
	}
}

// TestDrain: the plan first, then a yes; nothing else changes anything.
func TestDrain(t *testing.T) {
	t.Parallel()
	done := func(m *Model, k string) bool {
		for _, e := range m.Update(Key(k)) {
			if _, is := e.(Do); is {
				return true
			}
		}
		return false
	}
	w := newWorld(t, Workers)
	w.keys("down")
	plan := w.m.Update(Key("d"))
	if want := []Effect{Plan{"w2"}}; !reflect.DeepEqual(plan, want) {
		t.Fatalf("%v, want %v", plan, want)
	}
	w.wants("drain w2?", "asking for the plan")
	if done(w.m, "y") || w.m.question == nil {
		t.Fatal("drained before the plan is there")
	}
	w.send(Planned{Worker: "w1", Text: "of another"})
	w.send(Planned{Worker: "w2", Text: "7 moves"})
	w.wants("7 moves", "drain w2: y does it, n does not")
	for _, k := range []string{"enter", "d", "1", " ", "down"} {
		if done(w.m, k) {
			t.Errorf("%q is no yes", k)
		}
	}
	w.keys("n")
	w.wants("nothing was changed")
	w.keys("d", "y")
	w.wants("w2 is drained")
	w.keys("c")
	w.wants("cordon w2?", "gets nothing new")
	w.keys("y")
	w.wants("w2 is cordoned")
	w.keys("u", "y")
	w.wants("w2 is undrained")

	w.err = errors.New("denied: x has the role viewer")
	w.keys("d")
	w.wants("no plan: denied")
	w.keys("c", "y")
	w.wants("cordon w2: denied")
}

// TestRoles: who may not is told so, before anything is asked.
func TestRoles(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"viewer", "submitter"} {
		w := newWorld(t, Workers)
		w.role = role
		w.send(Tick(epoch))
		for key, verb := range map[string]string{"d": "drain", "c": "cordon", "u": "undrain"} {
			if e := w.m.Update(Key(key)); len(e) > 0 || w.m.question != nil {
				t.Errorf("%s as %s: %v", verb, role, e)
			}
			w.wants(verb + " needs the role operator; you are " + role)
		}
	}
}

// TestSheets: why and logs of what is chosen, live, and back.
func TestSheets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Tasks)
	w.keys("down", "w")
	w.wants("why t0000001", "why of t0000001")
	w.keys("l")
	w.wants("logs t0000001", "logs of t0000001")
	again := w.m.Update(Tick(epoch))
	if len(again) != 2 {
		t.Errorf("a sheet is not asked for anew: %v", again)
	}
	for _, e := range again {
		w.send(w.answer(e))
	}
	w.keys("esc", "4", "enter")
	w.wants("why j1", "why of j1")
	w.keys("esc", "3", "l")
	w.wants("this is of tasks and jobs")
	w.err = errors.New("task t: away")
	w.keys("2", "l")
	w.wants("task t: away")
}

// TestLost: what was known stays, dim, and says since when; and it comes back.
func TestLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Tasks)
	w.err = errors.New("no scheduler answers")
	w.send(Tick(epoch.Add(5 * time.Second)))
	w.send(Tick(epoch.Add(65 * time.Second)))
	w.wants("no answer since "+epoch.Local().Format(time.TimeOnly)+" (1m5s): no scheduler answers", "t0000000")
	for i, l := range w.m.Lines()[1:29] {
		if !l.dim {
			t.Errorf("line %d is not dim", i+1)
		}
	}
	w.err = nil
	w.send(Tick(epoch.Add(66 * time.Second)))
	w.wants("live")
	for i, l := range w.m.Lines() {
		if l.dim {
			t.Errorf("line %d is still dim", i)
		}
	}
	// Keys that the cluster is not asked about go on meanwhile; the rest is refused.
	w.keys("3")
	if e := w.m.Update(Key("d")); len(e) != 1 {
		t.Fatal(e)
	}
	w.send(Refused{Plan{"w1"}})
	w.wants("no plan: the scheduler does not answer")
}

// TestAnything: whatever keys, sizes and answers come, of whatever texts, nothing is
// drawn outside, no text reaches the terminal that it would obey, one page is asked for
// at a time, and nothing is changed without a yes.
func TestAnything(t *testing.T) {
	t.Parallel()
	text := rapid.SampledFrom([]string{"", "a", "\x1b[31mred", "\x1b]0;title\x07", "a\nb\r", "日本語", "\u202e", "\x00\x9b", strings.Repeat("long ", 99), "👩\u200d👩\u200d👧"})
	rapid.Check(t, func(t *rapid.T) {
		m := New(words(), View(rapid.IntRange(0, int(views)-1).Draw(t, "view")), epoch)
		var asked []Effect
		asks := 0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			var msg any
			yes := false
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				msg = Size{rapid.IntRange(0, 200).Draw(t, "width"), rapid.IntRange(1, 60).Draw(t, "height")}
			case 1:
				msg = Tick(epoch)
			case 2, 3:
				k := rapid.SampledFrom(strings.Fields("1 2 3 4 tab up down left right pgup pgdn home end enter esc / s S w l d c u y n ? a backspace")).Draw(t, "key")
				msg, yes = Key(k), k == "y"
			default:
				if len(asked) == 0 {
					continue
				}
				e := asked[0]
				asked = asked[1:]
				one := text.Draw(t, "text")
				w := world{t: t, m: m, role: "admin"}
				msg = w.answer(e)
				switch a := msg.(type) {
				case Answer:
					asks--
					a.Status.Leader = one
					for _, x := range a.Workers {
						x.Name, x.Zone, x.State = one, text.Draw(t, "zone"), text.Draw(t, "state")
					}
					for _, x := range a.Tasks[:min(len(a.Tasks), 9)] {
						x.Id, x.Instances[0].Worker = one, text.Draw(t, "worker")
					}
					if rapid.Bool().Draw(t, "fails") {
						a = Answer{Ask: a.Ask, At: epoch, Err: errors.New("x" + one)}
					}
					msg = a
				case Looked:
					a.Text = one
					msg = a
				case Planned:
					a.Text = one
					msg = a
				}
			}
			for _, e := range m.Update(msg) {
				switch e.(type) {
				case Ask:
					asks++
				case Do:
					if !yes {
						t.Fatalf("%v without a yes", e)
					}
				case Quit:
					continue
				}
				asked = append(asked, e)
			}
			if asks > 1 {
				t.Fatalf("%d pages are asked for at once", asks)
			}
			lines := m.Lines()
			if m.height > 0 && len(lines) > m.height {
				t.Fatalf("%d lines on a screen of %d", len(lines), m.height)
			}
			for _, l := range lines {
				for _, s := range l.spans {
					if i := strings.IndexFunc(s.text, func(r rune) bool {
						return !unicode.IsPrint(r) && r != '\u200d' && r != '\u200c'
					}); i >= 0 {
						t.Fatalf("%q is drawn", s.text)
					}
				}
			}
		}
	})
}

// TestNoColor: without colours lines differ by weight only.
func TestNoColor(t *testing.T) {
	t.Parallel()
	for tn := plain; tn < hue+hues; tn++ {
		for _, l := range []Line{{}, {dim: true}, {chosen: true}} {
			if c := style(tn, l, true).GetForeground(); c != color.Default {
				t.Errorf("tone %d has the colour %v", tn, c)
			}
		}
	}
	if style(good, Line{}, false).GetForeground() == color.Default {
		t.Error("with colours there is none")
	}
}
