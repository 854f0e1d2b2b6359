package top

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// tone is how a piece of a line looks. Without colours a shape or a word beside it
// says the same.
type tone int

const (
	plain tone = iota
	strong
	quiet
	good
	warn
	bad
	picked // the cursor is on this piece
	hue    // the first of hues, which groups have
)

// hues is how many tones there are for groups.
const hues = 6

// span is a piece of a line.
type span struct {
	text string
	tone tone
}

// Line is a line of the screen.
type Line struct {
	spans  []span
	chosen bool // the cursor is on it
	dim    bool // it is from before the connection was lost
}

func (l *Line) add(t tone, text string) { l.spans = append(l.spans, span{text, t}) }

func text(t tone, s string) Line { return Line{spans: []span{{s, t}}} }

// plain is the line as text.
func (l Line) plain() string {
	var b strings.Builder
	for _, s := range l.spans {
		b.WriteString(s.text)
	}
	return strings.TrimRight(b.String(), " ")
}

// headLines are above the rows, footLines below them: the views, the facts, what is
// shown, the columns, and the last line.
const (
	headLines = 4
	footLines = 1
)

// rows is how many rows fit.
func (m *Model) rows() int {
	n := m.height - headLines - footLines
	if m.view == Map {
		n -= recentSize + 1
	}
	return max(1, n)
}

// Lines are what is to be drawn, at most as many as the screen has.
func (m *Model) Lines() []Line {
	lines := []Line{m.bar(), m.facts()}
	switch {
	case m.help:
		lines = append(lines, helpLines()...)
	case m.question != nil:
		lines = append(lines, m.asking()...)
	case m.sheet != nil:
		lines = append(lines, m.reading()...)
	case m.view == Map:
		lines = append(lines, m.mapLines()...)
	default:
		lines = append(lines, m.listLines()...)
	}
	if m.height <= 0 {
		return lines
	}
	if m.height < 3 {
		return lines[:min(len(lines), m.height)]
	}
	lines = lines[:min(len(lines), m.height-footLines)]
	for len(lines) < m.height-footLines {
		lines = append(lines, Line{})
	}
	if m.lost != "" {
		for i := range lines[1:] {
			lines[1+i].dim = true
		}
	}
	return append(lines, m.foot())
}

// bar names the views, and says how old the picture is.
func (m *Model) bar() Line {
	var l Line
	l.add(strong, "rota")
	for v, name := range Views {
		t := quiet
		if View(v) == m.view {
			t = strong
			name = "[" + name + "]"
		}
		l.add(t, fmt.Sprintf("  %d %s", v+1, name))
	}
	l.add(plain, "   ")
	switch {
	case m.lost != "" && m.heard.IsZero():
		l.add(bad, "no answer yet: "+m.lost)
	case m.lost != "":
		l.add(bad, fmt.Sprintf("no answer since %s (%s): %s", m.lostSince.Local().Format(time.TimeOnly), seconds(m.now.Sub(m.lostSince)), m.lost))
	case m.status == nil:
		l.add(quiet, "connecting")
	case m.status.GetStale():
		l.add(bad, fmt.Sprintf("the scheduler has heard nothing of its store for %s", seconds(time.Duration(m.status.GetAgeMs())*time.Millisecond)))
	default:
		l.add(good, "live")
	}
	return l
}

func seconds(d time.Duration) string { return d.Round(time.Second).String() }

// facts are the numbers of the cluster.
func (m *Model) facts() Line {
	s := m.status
	if s == nil {
		return Line{}
	}
	var l Line
	fact := func(n int64, word string, t tone) {
		if len(l.spans) > 0 {
			l.add(quiet, " · ")
		}
		if n == 0 && t != plain {
			t = quiet
		}
		l.add(t, count(n)+" "+word)
	}
	fact(s.GetTasks().GetRunning(), "running", plain)
	fact(s.GetTasks().GetWaiting()-s.GetTasks().GetFailing(), "waiting", warn)
	fact(s.GetTasks().GetFailing(), "failing", bad)
	fact(s.GetMoving(), "moving", plain)
	fact(s.GetWorkers().GetReady(), "workers ready", plain)
	fact(s.GetWorkers().GetDraining(), "draining", warn)
	fact(s.GetWorkers().GetLost(), "lost", bad)
	l.add(quiet, " · imbalance "+strconv.FormatFloat(s.GetImbalance(), 'f', 3, 64))
	if s.GetLeader() == "" {
		l.add(bad, " · no leader")
	} else {
		l.add(quiet, fmt.Sprintf(" · leader %s, epoch %d", terminal.Printable(s.GetLeader()), s.GetEpoch()))
	}
	return l
}

// count is a number with its thousands apart.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// shown says which part of a list is shown, and how it is narrowed.
func (m *Model) shown() Line {
	l := m.list()
	parts := []string{}
	switch {
	case !l.known:
	case l.entries == 0:
		parts = append(parts, "none")
	case int64(l.entries) == l.total:
		parts = append(parts, count(l.total))
	default:
		parts = append(parts, fmt.Sprintf("%s-%s of %s", count(int64(l.before+1)), count(int64(l.before+l.entries)), count(l.total)))
	}
	if by := orders[m.view]; len(by) > 0 {
		how := "by " + by[l.order]
		if l.down {
			how += ", descending"
		}
		parts = append(parts, how)
	}
	if l.text != "" {
		parts = append(parts, "with "+strconv.Quote(l.text))
	}
	if l.worker != "" {
		parts = append(parts, "on "+terminal.Printable(l.worker))
	}
	return text(quiet, Views[m.view]+": "+strings.Join(parts, " · "))
}

// toneOf is how a state looks.
func toneOf(state string) tone {
	switch state {
	case "ready", "running", "succeeded":
		return good
	case "lost", "stuck", "failing", "held", "failed", "timed-out":
		return bad
	case "cordoned", "draining", "away", "waiting", "stopping", "starting", "granted", "queued", "stopped":
		return warn
	}
	return plain
}

// nothing teaches what fills an empty view.
var nothing = [views]string{
	Map:     "No workers. rota worker --schedulers HOST:50000 starts one.",
	Tasks:   "No tasks. rota task apply -f FILE declares some.",
	Workers: "No workers. rota worker --schedulers HOST:50000 starts one.",
	Jobs:    "No jobs. rota job run -- COMMAND runs one.",
}

func (m *Model) empty() string {
	l := m.list()
	switch {
	case !l.known:
		return "asking"
	case l.text != "" || l.worker != "":
		return "Nothing matches; esc shows all."
	}
	return nothing[m.view]
}

func (m *Model) listLines() []Line {
	l := m.list()
	lines := []Line{m.shown()}
	if l.table == nil || len(l.items) == 0 {
		return append(lines, Line{}, text(plain, m.empty()))
	}
	cells, state := l.table.Cells(), l.table.Column("STATE")
	lines = append(lines, text(strong, strings.Join(cells[0], "  ")))
	from, to := 0, len(l.items)
	if m.height > 0 {
		from, to = l.top, min(len(l.items), l.top+m.rows())
	}
	for i := from; i < to; i++ {
		row := Line{chosen: m.height > 0 && i == l.cursor}
		for c, cell := range cells[1+i] {
			t := plain
			if c == state {
				t = toneOf(l.table.Text(1+i, c))
			}
			if c > 0 {
				row.add(plain, "  ")
			}
			row.add(t, cell)
		}
		lines = append(lines, row)
	}
	return lines
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

func (m *Model) reading() []Line {
	s := m.sheet
	lines := []Line{text(strong, s.title), {}}
	if !s.known {
		return append(lines, text(quiet, "asking"))
	}
	t := plain
	if s.fail {
		t = bad
	}
	said := s.text
	if strings.TrimSpace(said) == "" {
		said, t = "Nothing is written yet.", quiet
	}
	return append(lines, m.window(said, t, &s.top)...)
}

// window is the part of a text that fits, from its line top on, which is held to it.
func (m *Model) window(said string, t tone, top *int) (lines []Line) {
	all := terminal.Wrap(said, m.width)
	room := max(1, m.height-headLines-footLines)
	*top = max(0, min(*top, len(all)-room))
	for _, l := range all[*top:min(len(all), *top+room)] {
		lines = append(lines, text(t, l))
	}
	return lines
}

func (m *Model) asking() []Line {
	q := m.question
	lines := []Line{text(strong, fmt.Sprintf("%s %s?", q.do.Verb, terminal.Printable(q.do.Worker))), {}}
	switch {
	case !q.ready:
		return append(lines, text(quiet, "asking for the plan"))
	case q.text != "":
		return append(lines, m.window(q.text, plain, &q.top)...)
	case q.do.Verb == "undrain":
		return append(lines, text(plain, "It gets tasks again."))
	}
	return append(lines, text(plain, "It gets nothing new; what it runs stays."))
}

func helpLines() []Line {
	lines := []Line{text(strong, "keys"), {}}
	for _, k := range keys {
		var l Line
		l.add(strong, terminal.Fit(k[0], 22))
		l.add(plain, k[1])
		lines = append(lines, l)
	}
	return lines
}

// foot is the last line: what is typed or asked, what was done, or the keys.
func (m *Model) foot() Line {
	switch {
	case m.typing:
		return text(strong, "/"+m.typed+"_")
	case m.question != nil && m.question.ready:
		return text(strong, fmt.Sprintf("%s %s: y does it, n does not", m.question.do.Verb, terminal.Printable(m.question.do.Worker)))
	case m.question != nil:
		return text(quiet, "esc leaves it")
	case m.note != "" && m.bad:
		return text(bad, m.note)
	case m.note != "":
		return text(strong, m.note)
	case m.help:
		return text(quiet, "any key goes back")
	case m.sheet != nil:
		return text(quiet, "esc back   up down pgup pgdn   w why   l logs   q end")
	case m.view == Map:
		return text(quiet, "? keys   enter tasks   d drain   c cordon   u undrain   q end")
	case m.view == Workers:
		return text(quiet, "? keys   / search   s sort   enter tasks   d drain   c cordon   u undrain   q end")
	}
	return text(quiet, "? keys   / search   s sort   w why   l logs   q end")
}
