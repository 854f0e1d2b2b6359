package top

import (
	"cmp"
	"slices"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// View is one of the screens.
type View int

// The screens, in the order of their keys.
const (
	Map View = iota
	Tasks
	Workers
	Jobs
	views
)

// Views are the names of the screens.
var Views = [views]string{"map", "tasks", "workers", "jobs"}

// How many entries of a list are asked for at once: of lists, and of workers for the map.
const (
	pageSize   = 200
	mapSize    = 2500
	recentSize = 8
)

// orders are what lists can be ordered by, as the API calls it. Jobs are always the
// newest first, and the map is by zone.
var orders = [views][]string{
	Tasks:   {"id", "group", "kind", "weight", "priority", "worker", "state", "since", "restarts"},
	Workers: {"name", "state", "zone", "instances", "weight"},
}

// What happens to a Model.
type (
	// Key is a key by its name: "a", "up", "ctrl-c".
	Key string
	// Tick is the time, now and then.
	Tick time.Time
	// Size is that of the screen, in columns and lines. Height 0 is as many as it takes.
	Size struct{ Width, Height int }
	// Answer is what a scheduler says to an Ask.
	Answer struct {
		Ask    Ask
		At     time.Time
		Err    error
		Status *rotav1.Status
		// Of the view that was asked for; the map has tasks, too, while they are few.
		Tasks   []*rotav1.Task
		Workers []*rotav1.Worker
		Jobs    []*rotav1.Job
		Events  []*rotav1.Event
		Next    string
		Total   int64
	}
	// Looked is what a Look has found.
	Looked struct {
		Look Look
		Text string
		Err  error
	}
	// Planned is what a drain would do.
	Planned struct {
		Worker string
		Text   string
		Err    error
	}
	// Done is how a Do ended.
	Done struct {
		Do  Do
		Now *rotav1.Worker
		Err error
	}
	// Refused says that an effect was not begun.
	Refused struct{ Effect Effect }
)

// Effect is what a Model wants done: Ask, Look, Plan, Do or Quit.
type Effect any

// What is to be done.
type (
	// Ask asks for the status and a page of a view.
	Ask struct {
		View                       View
		Text, Worker, Order, Token string
	}
	// Look asks for what the sheet shows: "why" or "logs" of an item.
	Look struct {
		What string
		Item Item
	}
	// Plan asks what would move if a worker left.
	Plan struct{ Worker string }
	// Do changes a worker: "cordon", "drain" or "undrain".
	Do struct{ Verb, Worker string }
	// Quit ends it all.
	Quit struct{}
)

// Item is what a row of a list is about. What does not concern it is empty.
type Item struct {
	Task  string
	Index int64
	// Instances is how many the task has.
	Instances   int
	Worker, Job string
}

// list is the state of one view.
type list struct {
	text, worker string   // what it is narrowed by
	order        int      // of orders
	down         bool     // the other way round
	tokens       []string // of the pages before this one, and of this one
	next         string   // of the page after it; empty: there is none
	total        int64
	before       int  // entries on the pages before
	entries      int  // on this one
	known        bool // one was there

	table       *terminal.Table
	items       []Item
	cursor, top int
}

// sheet shows one thing in place of the list.
type sheet struct {
	look  Look
	title string
	text  string
	fail  bool
	known bool // the first answer is here
	busy  bool // an answer is on its way
	top   int
}

// question waits for a yes.
type question struct {
	do    Do
	text  string
	ready bool
	top   int
}

// Model is what is known and shown. Make it by New.
type Model struct {
	words         Words
	width, height int // height 0: as much as it takes
	view          View
	lists         [views]list
	workers       []*rotav1.Worker // of the map
	tasks         []*rotav1.Task   // of the map; nil: they are too many
	recent        *terminal.Table
	status        *rotav1.Status
	now           time.Time
	heard         time.Time // when the last answer came; zero before the first
	lost          string    // why none comes; empty while they do
	lostSince     time.Time
	busy          bool // an Ask is on its way
	again         bool // and is not for what is shown any more
	note          string
	bad           bool // the note is about something that did not work
	typing        bool
	typed         string
	help          bool
	sheet         *sheet
	question      *question
}

// New returns a model that shows a view and knows nothing yet.
func New(words Words, view View, now time.Time) *Model {
	m := &Model{words: words, view: view, now: now, width: 80}
	for i := range m.lists {
		m.lists[i].tokens = []string{""}
	}
	return m
}

// Update takes a message and answers what is to be done.
func (m *Model) Update(msg any) []Effect {
	switch msg := msg.(type) {
	case Size:
		m.width, m.height = msg.Width, msg.Height
		m.clamp()
	case Tick:
		m.now = time.Time(msg)
		return append(m.ask(), m.look()...)
	case Key:
		return m.key(string(msg))
	case Answer:
		return m.answer(msg)
	case Looked:
		if s := m.sheet; s != nil && s.look == msg.Look {
			s.busy = false
			if s.known && msg.Err != nil { // what is known stays
				break
			}
			s.known, s.text, s.fail = true, msg.Text, msg.Err != nil
			if msg.Err != nil {
				s.text = m.words.Error(msg.Err)
			}
		}
	case Planned:
		if q := m.question; q != nil && q.do.Verb == "drain" && q.do.Worker == msg.Worker {
			if msg.Err != nil {
				m.question = nil
				m.say(true, "no plan: "+m.words.Error(msg.Err))
				break
			}
			q.text, q.ready = msg.Text, true
		}
	case Done:
		if msg.Err != nil {
			m.say(true, msg.Do.Verb+" "+msg.Do.Worker+": "+m.words.Error(msg.Err))
			break
		}
		m.say(false, msg.Now.GetName()+" is "+msg.Now.GetState())
		return m.ask()
	case Refused:
		m.refused(msg.Effect)
	}
	return nil
}

func (m *Model) refused(e Effect) {
	switch e := e.(type) {
	case Ask:
		m.busy = false
	case Look:
		if m.sheet != nil {
			m.sheet.busy = false
		}
	case Plan:
		m.question = nil
		m.say(true, "no plan: the scheduler does not answer")
	case Do:
		m.say(true, e.Verb+" "+e.Worker+": not done: the scheduler does not answer")
	}
}

func (m *Model) say(bad bool, text string) { m.note, m.bad = terminal.Printable(text), bad }

func (m *Model) list() *list { return &m.lists[m.view] }

// wanted is the Ask for what is shown.
func (m *Model) wanted() Ask {
	l := m.list()
	a := Ask{View: m.view, Text: l.text, Worker: l.worker, Token: l.tokens[len(l.tokens)-1]}
	if by := orders[m.view]; len(by) > 0 {
		if a.Order = by[l.order]; l.down {
			a.Order = "-" + a.Order
		}
	}
	return a
}

// ask asks for what is shown, one answer at a time.
func (m *Model) ask() []Effect {
	if m.busy {
		m.again = true
		return nil
	}
	m.busy, m.again = true, false
	return []Effect{m.wanted()}
}

// look asks for the sheet anew.
func (m *Model) look() []Effect {
	if m.sheet == nil || m.sheet.busy {
		return nil
	}
	m.sheet.busy = true
	return []Effect{m.sheet.look}
}

func (m *Model) answer(a Answer) []Effect {
	m.busy = false
	if a.Err != nil {
		if m.lost == "" {
			m.lostSince = cmp.Or(m.heard, a.At)
		}
		m.lost = terminal.Printable(m.words.Error(a.Err))
	} else {
		m.heard, m.lost, m.status = a.At, "", a.Status
	}
	if m.wanted() != a.Ask {
		return m.ask()
	}
	again := m.again
	m.again = false
	if a.Err != nil {
		return nil // with the next tick
	}
	l := m.list()
	chosen, had := l.chosen()
	l.next, l.total, l.known = a.Next, a.Total, true
	switch a.View() {
	case Map, Workers:
		l.entries = len(a.Workers)
		l.items = nil
		if a.View() == Map {
			slices.SortStableFunc(a.Workers, func(x, y *rotav1.Worker) int {
				return cmp.Or(cmp.Compare(x.GetZone(), y.GetZone()), cmp.Compare(x.GetName(), y.GetName()))
			})
			m.workers, m.tasks, m.recent = a.Workers, a.Tasks, m.words.Events(a.Events)
		} else {
			l.table = m.words.Workers(a.Workers)
		}
		for _, w := range a.Workers {
			l.items = append(l.items, Item{Worker: w.GetName()})
		}
	case Tasks:
		l.entries, l.table, l.items = len(a.Tasks), m.words.Tasks(a.Tasks), nil
		for _, t := range a.Tasks {
			if len(t.GetInstances()) == 0 {
				l.items = append(l.items, Item{Task: t.GetId()})
			}
			for _, in := range t.GetInstances() {
				l.items = append(l.items, Item{Task: t.GetId(), Index: in.GetIndex(), Instances: len(t.GetInstances()), Worker: in.GetWorker()})
			}
		}
	case Jobs:
		l.entries, l.table, l.items = len(a.Jobs), m.words.Jobs(a.Jobs), nil
		for _, j := range a.Jobs {
			l.items = append(l.items, Item{Job: j.GetId(), Worker: j.GetWorker()})
		}
	}
	if had { // the row stays chosen where it moves
		for i, item := range l.items {
			if item.same(chosen) {
				l.cursor = i
				break
			}
		}
	}
	m.clamp()
	if again {
		return m.ask()
	}
	return nil
}

// View is the one that the answer is for.
func (a Answer) View() View { return a.Ask.View }

// same reports whether two items are of one thing, wherever it is now.
func (i Item) same(other Item) bool {
	if i.Task != "" || i.Job != "" {
		return i.Task == other.Task && i.Index == other.Index && i.Job == other.Job
	}
	return i.Worker == other.Worker && other.Task == "" && other.Job == ""
}

// chosen is the item under the cursor.
func (l *list) chosen() (Item, bool) {
	if l.cursor < 0 || l.cursor >= len(l.items) {
		return Item{}, false
	}
	return l.items[l.cursor], true
}

// clamp keeps the cursor within the rows, and the rows that are drawn around it.
func (m *Model) clamp() {
	for v := range m.lists {
		l := &m.lists[v]
		l.cursor = max(0, min(l.cursor, len(l.items)-1))
		if rows := m.rows(); m.height > 0 {
			l.top = max(0, min(l.top, l.cursor), l.cursor-rows+1)
		}
	}
}
