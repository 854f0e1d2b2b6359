package top

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// keys are what help shows.
var keys = [][2]string{
	{"1 2 3 4, tab", "map, tasks, workers, jobs"},
	{"up down, j k", "choose a row"},
	{"pgup pgdn, home end", "a screen further; past the end, the next page of the list"},
	{"enter", "of a worker: its tasks; of a task or a job: why"},
	{"/", "search on the scheduler; esc ends the search"},
	{"s S", "sort by the next column; the other way round"},
	{"w", "why the task is where it is, or why it waits"},
	{"l", "logs of the task or the job"},
	{"d", "drain the worker: shows the plan, then asks"},
	{"c u", "cordon the worker; end a cordon or a drain"},
	{"esc", "back"},
	{"?", "these keys"},
	{"q, ctrl-c", "end"},
}

// mostTyped is the longest search, in bytes.
const mostTyped = 200

func (m *Model) key(k string) []Effect {
	switch {
	case k == "ctrl-c":
		return []Effect{Quit{}}
	case m.typing:
		return m.search(k)
	case m.question != nil:
		return m.decide(k)
	case m.help:
		m.help = false
		return nil
	}
	m.note, m.bad = "", false
	switch k {
	case "q":
		return []Effect{Quit{}}
	case "?":
		m.help = true
		return nil
	case "1", "2", "3", "4":
		return m.show(View(k[0] - '1'))
	case "tab":
		return m.show((m.view + 1) % views)
	case "backtab":
		return m.show((m.view + views - 1) % views)
	}
	if m.sheet != nil {
		return m.read(k)
	}
	switch k {
	case "up", "k", "down", "j", "left", "right", "pgup", "pgdn", "home", "end":
		return m.move(k)
	case "/":
		m.typing, m.typed = m.view != Map, m.list().text
		if m.view == Map {
			m.say(true, "the map has no search: 2, 3 and 4 have")
		}
	case "esc":
		return m.narrow("", "")
	case "s", "S":
		return m.sort(k == "S")
	case "enter":
		item, ok := m.list().chosen()
		if ok && (m.view == Map || m.view == Workers) {
			m.view = Tasks
			return m.narrow("", item.Worker)
		}
		return m.open("why")
	case "w":
		return m.open("why")
	case "l":
		return m.open("logs")
	case "d":
		return m.change("drain")
	case "c":
		return m.change("cordon")
	case "u":
		return m.change("undrain")
	}
	return nil
}

func (m *Model) show(v View) []Effect {
	m.view, m.sheet = v, nil
	return m.ask()
}

// narrow has the list hold only what has the text, and what is on the worker.
func (m *Model) narrow(text, worker string) []Effect {
	l := m.list()
	if l.text == text && l.worker == worker && len(l.tokens) == 1 {
		return nil
	}
	l.text, l.worker = text, worker
	l.first()
	return m.ask()
}

// first goes to the first page.
func (l *list) first() { l.tokens, l.before, l.cursor, l.top = []string{""}, 0, 0, 0 }

func (m *Model) search(k string) []Effect {
	switch k {
	case "enter":
		m.typing = false
		return m.narrow(strings.TrimSpace(m.typed), m.list().worker)
	case "esc":
		m.typing = false
		return m.narrow("", m.list().worker)
	case "backspace":
		_, n := utf8.DecodeLastRuneInString(m.typed)
		m.typed = m.typed[:len(m.typed)-n]
	default:
		if utf8.RuneCountInString(k) == 1 && len(m.typed)+len(k) <= mostTyped {
			m.typed += terminal.Printable(k)
		}
	}
	return nil
}

func (m *Model) sort(turn bool) []Effect {
	by, l := orders[m.view], m.list()
	if len(by) == 0 {
		m.say(true, "the "+Views[m.view]+" view cannot be sorted")
		return nil
	}
	if turn {
		l.down = !l.down
	} else {
		l.order = (l.order + 1) % len(by)
	}
	l.first()
	return m.ask()
}

func (m *Model) move(k string) []Effect {
	l, step := m.list(), 1
	if m.view == Map {
		step = m.tiles()
	}
	switch k {
	case "up", "k":
		l.cursor -= step
	case "down", "j":
		l.cursor += step
	case "left":
		l.cursor--
	case "right":
		l.cursor++
	case "pgup":
		l.cursor -= step * m.rows()
	case "pgdn":
		l.cursor += step * m.rows()
	case "home":
		l.cursor = 0
	case "end":
		l.cursor = len(l.items) - 1
	}
	forward := k == "down" || k == "j" || k == "pgdn" || k == "right"
	switch {
	case forward && l.cursor >= len(l.items) && l.next != "":
		l.tokens, l.before = append(l.tokens, l.next), l.before+l.entries
		l.cursor, l.top, l.next = 0, 0, ""
		return m.ask()
	case l.cursor < 0 && len(l.tokens) > 1:
		l.tokens = l.tokens[:len(l.tokens)-1]
		l.before = max(0, l.before-m.page())
		l.cursor, l.top = m.page()-1, 0
		l.items = slices.Clone(l.items[:0]) // of another page: nothing of it stays chosen
		return m.ask()
	}
	m.clamp()
	return nil
}

// page is how many entries a page of the view has.
func (m *Model) page() int {
	if m.view == Map {
		return mapSize
	}
	return pageSize
}

// open shows why, or logs, of what is chosen.
func (m *Model) open(what string) []Effect {
	item, ok := m.list().chosen()
	switch {
	case !ok:
		return nil
	case item.Task == "" && item.Job == "":
		m.say(true, "this is of tasks and jobs: enter shows the worker's tasks")
		return nil
	}
	name := item.Job
	if item.Task != "" {
		name = item.Task
		if what == "logs" && item.Instances > 1 {
			name = fmt.Sprintf("%s#%d", item.Task, item.Index)
		}
	}
	m.sheet = &sheet{look: Look{what, item}, title: what + " " + terminal.Printable(name)}
	return m.look()
}

func (m *Model) read(k string) []Effect {
	s := m.sheet
	switch k {
	case "esc", "enter", "left":
		m.sheet = nil
	case "up", "k":
		s.top--
	case "down", "j":
		s.top++
	case "pgup":
		s.top -= m.rows()
	case "pgdn":
		s.top += m.rows()
	case "home":
		s.top = 0
	case "end":
		s.top = 1 << 30
	case "w":
		return m.open("why")
	case "l":
		return m.open("logs")
	}
	return nil
}

// change asks whether a worker is to be changed; to drain it, with the plan.
func (m *Model) change(verb string) []Effect {
	item, ok := m.list().chosen()
	if !ok || item.Worker == "" {
		m.say(true, "no worker is chosen")
		return nil
	}
	if who := m.status.GetCaller(); who.GetRole() == "viewer" || who.GetRole() == "submitter" {
		m.say(true, fmt.Sprintf("%s needs the role operator; you are %s", verb, who.GetRole()))
		return nil
	}
	m.question = &question{do: Do{verb, item.Worker}, ready: verb != "drain"}
	if verb == "drain" {
		return []Effect{Plan{item.Worker}}
	}
	return nil
}

func (m *Model) decide(k string) []Effect {
	q := m.question
	switch k {
	case "y", "Y":
		if !q.ready {
			return nil
		}
		m.question = nil
		m.say(false, q.do.Verb+" "+q.do.Worker+" ...")
		return []Effect{q.do}
	case "up", "k":
		q.top--
	case "down", "j":
		q.top++
	case "pgup":
		q.top -= m.rows()
	case "pgdn":
		q.top += m.rows()
	case "n", "N", "q", "esc":
		m.question = nil
		m.say(false, "nothing was changed")
	}
	return nil
}
