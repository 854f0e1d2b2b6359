package top

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// Up to so many workers each has a bar, and up to so many tasks beside them each instance
// has a cell in it. Of more workers each is one column of a block; of more tasks bars
// show loads.
const (
	mapBars  = 60
	mapTasks = 2000
)

// The parts of a tile of the map, in columns: what stands beside the bar, and the least
// that the bar takes.
const (
	tileName  = 14
	tileFrame = 3 + tileName + 1 + 1 + 9 + 2
	leastBar  = 20
)

// dense says that each worker is one column.
func (m *Model) dense() bool { return len(m.workers) > mapBars }

// tiles is how many workers stand beside each other on the map. While there is a line for
// each, its bar takes the whole line.
func (m *Model) tiles() int {
	switch {
	case m.dense():
		return max(1, m.width-1)
	case m.height > 0 && len(m.workers)+len(zonesOf(m.workers)) <= m.rows():
		return 1
	}
	return max(1, m.width/(tileFrame+leastBar))
}

// zone is a run of the workers of the map.
type zone struct {
	name    string
	workers []*rotav1.Worker
}

func zonesOf(workers []*rotav1.Worker) (all []zone) {
	for _, w := range workers {
		if n := len(all); n == 0 || all[n-1].name != w.GetZone() {
			all = append(all, zone{name: w.GetZone()})
		}
		last := &all[len(all)-1]
		last.workers = append(last.workers, w)
	}
	return all
}

// load is the weight that a worker bears for its strength.
func load(w *rotav1.Worker) float64 {
	if w.GetStrength() > 0 {
		return w.GetWeight() / w.GetStrength()
	}
	return w.GetWeight()
}

// shape says the state of a worker without colour.
func shape(state string) string {
	switch state {
	case "ready":
		return "●"
	case "cordoned":
		return "◐"
	case "draining":
		return "◌"
	case "lost":
		return "✕"
	}
	return "○"
}

// mark is how the cells of a group look: by tone, and by glyph where there are no colours.
type mark struct {
	glyph string
	tone  tone
}

// glyphs are those of the groups that weigh most. All others have the last one.
var glyphs = [...]string{"█", "▓", "▒", "░", "▚", "▤", "▪"}

// groupOf is the group of a task: its own id without one.
func groupOf(t *rotav1.Task) string { return cmp.Or(t.GetGroup(), t.GetId()) }

// marks gives each group of tasks its mark, and has the words for it. The same groups
// have the same marks while they are those that weigh most.
func marks(tasks []*rotav1.Task) (of map[string]mark, legend Line) {
	weights := map[string]float64{}
	for _, t := range tasks {
		weights[groupOf(t)] += t.GetWeight() * float64(len(t.GetInstances()))
	}
	heavy := slices.SortedFunc(maps.Keys(weights), func(a, b string) int {
		return cmp.Or(cmp.Compare(weights[b], weights[a]), cmp.Compare(a, b))
	})
	own := slices.Clone(heavy[:min(len(heavy), len(glyphs)-1)])
	slices.Sort(own)
	of = map[string]mark{}
	for i, g := range own {
		of[g] = mark{glyphs[i], hue + tone(i%hues)}
		legend.add(of[g].tone, glyphs[i]+" ")
		legend.add(quiet, strings.TrimRight(terminal.Fit(terminal.Printable(g), tileName), " ")+"  ")
	}
	others := mark{glyphs[len(glyphs)-1], quiet}
	for _, g := range heavy[len(own):] {
		of[g] = others
	}
	if n := len(heavy) - len(own); n > 0 {
		legend.add(others.tone, others.glyph+" "+plural(int64(n), "other group", "other groups"))
	}
	return of, legend
}

// cell is an instance on the map.
type cell struct {
	mark   mark
	group  string
	weight float64
}

// cellsOf are the instances of each worker, by group and, within one, the heaviest first.
func cellsOf(tasks []*rotav1.Task, of map[string]mark) map[string][]cell {
	all := map[string][]cell{}
	for _, t := range tasks {
		for _, in := range t.GetInstances() {
			c := cell{of[groupOf(t)], groupOf(t), t.GetWeight()}
			if toneOf(in.GetState()) == bad {
				c.mark = mark{"!", bad}
			}
			all[in.GetWorker()] = append(all[in.GetWorker()], c)
		}
	}
	for _, list := range all {
		slices.SortStableFunc(list, func(a, b cell) int {
			return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(b.weight, a.weight))
		})
	}
	return all
}

// bar draws the cells within so many columns: each as wide as its weight, the gap between
// two where there is room for one.
func bar(to *Line, cells []cell, columns int) {
	total := 0.0
	for _, c := range cells {
		total += c.weight
	}
	if total <= 0 {
		to.add(quiet, strings.Repeat("▪", columns))
		return
	}
	sum, from := 0.0, 0
	for _, c := range cells {
		sum += c.weight
		until := int(sum/total*float64(columns) + 0.5)
		n := until - from
		from = until
		switch {
		case n >= 3 && c.mark.glyph == glyphs[0]:
			to.add(c.mark.tone, strings.Repeat(c.mark.glyph, n-1)+"▌")
		case n >= 3:
			to.add(c.mark.tone, strings.Repeat(c.mark.glyph, n-1)+" ")
		case n > 0:
			to.add(c.mark.tone, strings.Repeat(c.mark.glyph, n))
		}
	}
}

// mapLines are the workers by zone, and what happened.
func (m *Model) mapLines() []Line {
	l := m.list()
	most := 0.0
	for _, w := range m.workers {
		most = max(most, load(w))
	}
	of, legend := marks(m.tasks)
	cells := cellsOf(m.tasks, of)
	head := m.shown()
	switch {
	case m.dense():
		head.add(quiet, " · a column a worker, as high as its load · ◐ cordoned ◌ draining ○ away ✕ lost")
		legend = m.named()
	case m.tasks != nil:
		head.add(quiet, " · a bar is as long as the load, a cell in it as wide as its weight · ● ready ◐ cordoned ◌ draining ○ away ✕ lost")
	default:
		head.add(quiet, " · a bar is as long as the load · ● ready ◐ cordoned ◌ draining ○ away ✕ lost")
	}
	var rows []Line
	at, i := 0, 0 // the row that the cursor is on; the worker
	for _, z := range zonesOf(m.workers) {
		all := int64(0)
		for _, w := range z.workers {
			all += w.GetInstances()
		}
		name := "zone " + terminal.Printable(z.name)
		if z.name == "" {
			name = "no zone"
		}
		rows = append(rows, text(strong, fmt.Sprintf("%s  %s, %s", name, plural(int64(len(z.workers)), "worker", "workers"), plural(all, "instance", "instances"))))
		for some := range slices.Chunk(z.workers, m.tiles()) {
			var row Line
			for _, w := range some {
				chosen := m.height > 0 && i == l.cursor
				if chosen {
					at = len(rows)
				}
				if m.dense() {
					column(&row, w, most, chosen)
				} else {
					m.tile(&row, w, most, cells[w.GetName()], chosen)
				}
				i++
			}
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		rows = append(rows, text(plain, m.empty()))
	}
	if room := m.rows(); m.height > 0 {
		from := max(0, min(at-room/2, len(rows)-room))
		rows = rows[from:min(len(rows), from+room)]
		for len(rows) < room {
			rows = append(rows, Line{})
		}
	}
	lines := append([]Line{head, legend}, rows...)
	if m.recent == nil {
		return lines
	}
	for i, row := range m.recent.Cells() {
		t := plain
		if i == 0 {
			t = strong
		}
		if i > recentSize {
			break
		}
		lines = append(lines, text(t, strings.Join(row, "  ")))
	}
	return lines
}

// named says which worker the cursor is on, where the map has no room for names.
func (m *Model) named() (l Line) {
	i := m.list().cursor
	if m.height <= 0 || i < 0 || i >= len(m.workers) {
		return l
	}
	w := m.workers[i]
	l.add(strong, terminal.Printable(w.GetName()))
	l.add(toneOf(w.GetState()), " "+terminal.Printable(w.GetState()))
	l.add(quiet, fmt.Sprintf(" · load %.4g · %s", load(w), plural(w.GetInstances(), "instance", "instances")))
	return l
}

// column is a worker where there are many: as high as its load against the fullest.
func column(row *Line, w *rotav1.Worker, most float64, chosen bool) {
	levels := []rune("▁▂▃▄▅▆▇█")
	glyph, t := shape(w.GetState()), toneOf(w.GetState())
	if w.GetState() == "ready" {
		n := 0
		if most > 0 {
			n = int(load(w) / most * float64(len(levels)-1))
		}
		glyph, t = string(levels[max(0, min(n, len(levels)-1))]), plain
	}
	if chosen {
		t = picked
	}
	row.add(t, glyph)
}

// tile is a worker with its bar.
func (m *Model) tile(row *Line, w *rotav1.Worker, most float64, cells []cell, chosen bool) {
	t := toneOf(w.GetState())
	width := max(leastBar, m.width/m.tiles()-tileFrame)
	long := 0
	if most > 0 {
		long = max(0, min(int(load(w)/most*float64(width)+0.5), width))
	}
	mark, of := " ", plain
	if chosen {
		mark, of = ">", strong
	}
	row.add(strong, mark)
	row.add(t, shape(w.GetState())+" ")
	row.add(of, terminal.Fit(terminal.Printable(w.GetName()), tileName)+" ")
	if len(cells) > 0 {
		bar(row, cells, long)
	} else {
		row.add(t, strings.Repeat("▪", long))
	}
	row.add(quiet, strings.Repeat("·", width-long))
	row.add(plain, terminal.Fit(" "+count(w.GetInstances()), 10)+"  ")
}
