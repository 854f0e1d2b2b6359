package top

import (
	"fmt"
	"strings"
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// mapped is a model of a screen that was told of these workers and tasks.
func mapped(workers []*rotav1.Worker, tasks []*rotav1.Task, width, height int) *Model {
	m := New(words(), Map, epoch)
	m.Update(Size{width, height})
	ask, _ := m.Update(Tick(epoch))[0].(Ask)
	m.Update(Answer{Ask: ask, At: epoch, Status: &rotav1.Status{Leader: "s1"}, Workers: workers, Tasks: tasks, Total: int64(len(workers))})
	return m
}

// drawn are the lines between the head and the foot that say something.
func drawn(m *Model) (lines []string) {
	all := m.Lines()
	for _, l := range all[3 : len(all)-footLines] {
		if s := l.plain(); s != "" {
			lines = append(lines, s)
		}
	}
	return lines
}

// TestCells: a bar is as long as the worker's load, a cell in it as wide as the weight of
// its instance; groups differ by glyph and by tone, and what fails is said by a sign.
func TestCells(t *testing.T) {
	t.Parallel()
	on := func(worker, state string) []*rotav1.Instance {
		return []*rotav1.Instance{{Worker: worker, State: state}}
	}
	m := mapped([]*rotav1.Worker{
		{Name: "w1", State: "ready", Weight: 40, Instances: 3},
		{Name: "w2", State: "ready", Weight: 20, Strength: 2, Instances: 2},
		{Name: "w3", State: "draining"},
	}, []*rotav1.Task{
		{Id: "a", Group: "ingest", Weight: 20, Instances: on("w1", "running")},
		{Id: "b", Group: "web", Weight: 10, Instances: on("w1", "running")},
		{Id: "c", Group: "web", Weight: 10, Instances: on("w1", "failing")},
		{Id: "d", Weight: 10, Instances: on("w2", "running")},
		{Id: "e", Group: "ingest", Weight: 10, Instances: on("w2", "starting")},
		{Id: "waits", Group: "web", Weight: 1},
	}, tileFrame+40, 30)
	want := []string{
		"█ d  ▓ ingest  ▒ web",
		"no zone  3 workers, 5 instances",
		">● w1             " + strings.Repeat("▓", 19) + " " + strings.Repeat("▒", 9) + " " + strings.Repeat("!", 9) + "  3",
		" ● w2             " + "████▌" + "▓▓▓▓ " + strings.Repeat("·", 30) + " 2",
		" ◌ w3             " + strings.Repeat("·", 40) + " 0",
	}
	got := drawn(m)[:len(want)]
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d\n%q, want\n%q", i, got[i], want[i])
		}
	}
	tones := map[tone]bool{}
	for _, l := range m.Lines() {
		for _, s := range l.spans {
			if s.tone >= hue {
				tones[s.tone] = true
			}
		}
	}
	if len(tones) != 3 {
		t.Errorf("three groups have %d tones", len(tones))
	}
}

// TestGroups: those that weigh most have marks of their own, the same at the next look.
func TestGroups(t *testing.T) {
	t.Parallel()
	var tasks []*rotav1.Task
	for i := range 40 {
		tasks = append(tasks, &rotav1.Task{Id: fmt.Sprint(i), Group: fmt.Sprintf("g%02d", i%10), Weight: float64(100 - i%10), Instances: []*rotav1.Instance{{Worker: "w"}}})
	}
	of, legend := marks(tasks)
	again, _ := marks(tasks)
	if !strings.HasSuffix(legend.plain(), "▪ 4 other groups") || len(of) != 10 {
		t.Errorf("%d groups: %s", len(of), legend.plain())
	}
	for g := range of {
		if of[g] != again[g] {
			t.Errorf("%s has changed its mark", g)
		}
	}
}

// TestThousands: 2,000 workers fit on a screen, each a column; what is not ready is seen,
// and the cursor's is named.
func TestThousands(t *testing.T) {
	t.Parallel()
	var workers []*rotav1.Worker
	for i := range 2000 {
		w := &rotav1.Worker{Name: fmt.Sprintf("node-%04d", i), Zone: string(rune('a' + i/500)), State: "ready", Weight: float64(1000 + i%8), Instances: 500}
		if i == 1234 {
			w.State, w.Weight = "lost", 0
		}
		workers = append(workers, w)
	}
	m := mapped(workers, nil, 160, 50)
	m.Update(Key("right"))
	all := strings.Join(drawn(m), "\n")
	for _, want := range []string{"node-0001 ready", "500 instances", "zone a  500 workers, 250,000 instances", "zone d"} {
		if !strings.Contains(all, want) {
			t.Errorf("it does not show %q:\n%s", want, all)
		}
	}
	if n := strings.Count(all, "✕"); n != 1 {
		t.Errorf("%d lost workers", n)
	}
	if n := strings.Count(all, "▇") + strings.Count(all, "█"); n != 1999 {
		t.Errorf("%d ready workers", n)
	}
	picks := 0
	for _, l := range m.Lines() {
		width := 0
		for _, s := range l.spans {
			if s.tone == picked {
				picks++
			}
			width += terminal.Width(s.text)
		}
		if width > 160 && !strings.HasPrefix(l.plain(), "map:") {
			t.Errorf("%d columns: %s", width, l.plain())
		}
	}
	if picks != 1 {
		t.Errorf("%d columns are picked", picks)
	}
	m.Update(Key("end"))
	if all := strings.Join(drawn(m), "\n"); !strings.Contains(all, "node-1999 ready") {
		t.Errorf("the last is not named:\n%s", all)
	}
}
