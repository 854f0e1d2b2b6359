package placement

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rota-project/rota"
)

var update = flag.Bool("update", false, "write the golden output of the scripts anew")

// TestScripts runs the scripts of testdata. A script is blocks of commands, each
// followed by a line of dashes and the output they must give, up to an empty
// line. See script.run for the commands.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(text))
			if got == string(text) {
				return
			}
			if !*update {
				t.Errorf("%s gives other output (-update writes it):\n%s", file, got)
			} else if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Error(err)
			}
		})
	}
}

type script struct {
	p    *Planner
	last rota.Plan
	out  strings.Builder
}

// runScript returns the text with the output that its commands really give.
func runScript(t *testing.T, text string) string {
	t.Helper()
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &script{p: p}
	var b strings.Builder
	inOutput := false
	for _, line := range strings.SplitAfter(text, "\n") {
		bare := strings.TrimSpace(line)
		switch {
		case inOutput:
			if bare == "" {
				inOutput = false
				b.WriteString(line)
			}
			continue
		case strings.HasPrefix(bare, "----"):
			b.WriteString(line)
			b.WriteString(s.out.String())
			s.out.Reset()
			inOutput = true
			continue
		}
		b.WriteString(line)
		if bare != "" && bare[0] != '#' {
			if err := s.run(bare); err != nil {
				fmt.Fprintf(&s.out, "error: %v\n", err)
			}
		}
	}
	if s.out.Len() > 0 {
		t.Error("output that no line of dashes asks for:", s.out.String())
	}
	return b.String()
}

// fields splits at spaces that are not within quotes.
func fields(line string) []string {
	var list []string
	quoted := false
	for _, f := range strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	}) {
		list = append(list, strings.ReplaceAll(f, `"`, ""))
	}
	return list
}

func amounts(v string) map[string]float64 {
	m := map[string]float64{}
	for part := range strings.SplitSeq(v, ",") {
		name, n, _ := strings.Cut(part, ":")
		m[name], _ = strconv.ParseFloat(n, 64)
	}
	return m
}

func instanceNamed(s string) rota.Instance {
	id, index, _ := strings.Cut(s, "#")
	n, _ := strconv.Atoi(index)
	return rota.Instance{Task: id, Index: n}
}

func (s *script) run(line string) error {
	f := fields(line)
	switch f[0] {
	case "options":
		return s.p.SetOptions(options(f[1:]))
	case "worker":
		return s.p.SetWorker(workerOf(f[1], f[2:]))
	case "gone":
		s.p.RemoveWorker(f[1])
	case "claim": // claim WORKER [RESOURCE:AMOUNT,...]
		var u Use
		if len(f) > 2 {
			u.Add(amounts(f[2]))
		}
		s.p.Claim(f[1], u)
	case "task", "tasks": // tasks N id-prefix ...
		if f[0] == "task" {
			return s.p.SetTask(taskOf(f[1], f[2:]))
		}
		n, _ := strconv.Atoi(f[1])
		for k := range n {
			if err := s.p.SetTask(taskOf(f[2]+strconv.Itoa(k), f[3:])); err != nil {
				return err
			}
		}
	case "delete":
		s.p.RemoveTask(f[1])
	case "assign":
		return s.p.Assign(instanceNamed(f[1]), f[2])
	case "unassign":
		s.p.Unassign(instanceNamed(f[1]))
	case "load":
		v, _ := strconv.ParseFloat(f[3], 64)
		s.p.SetLoad(instanceNamed(f[1]), f[2], v)
	case "plan":
		s.last = s.p.Plan()
		s.print(s.last)
	case "commit":
		s.p.Commit(s.last)
	case "settle": // plan and commit, without words
		s.p.Commit(s.p.Plan())
	case "show":
		s.show()
	case "why":
		s.why(f[1])
	case "stoppable":
		v := s.p.Stoppable(f[1:]...)
		fmt.Fprintf(&s.out, "stoppable %v, %d would move\n", v.OK, v.Moves)
		for _, r := range v.Reasons {
			fmt.Fprintf(&s.out, "  %s\n", r)
		}
	default:
		return fmt.Errorf("no command %q", f[0])
	}
	return nil
}

func (s *script) print(plan rota.Plan) {
	for _, m := range plan.Moves {
		kind := "chosen"
		if m.Forced {
			kind = "forced"
		}
		fmt.Fprintf(&s.out, "%s: %s -> %s (%s; %s)\n", m.Instance, dash(m.From), dash(m.To), kind, m.Reason)
	}
	for _, w := range plan.Waiting {
		fmt.Fprintf(&s.out, "%s waits: %s\n", w.Instance, w.Reason)
	}
	u := plan.Summary
	fmt.Fprintf(&s.out, "placed %d, stopped %d, forced %d, chosen %d, waiting %d; imbalance %.3f -> %.3f\n",
		u.Placed, u.Stopped, u.Forced, u.Chosen, u.Waiting, u.ImbalanceBefore, u.ImbalanceAfter)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (s *script) show() {
	s.p.Imbalance() // rates the workers by the measured load
	for _, w := range s.p.order {
		k := &s.p.workers[w]
		if k.gone {
			continue
		}
		var ids []string
		for _, e := range s.p.scratchOrder(k.list) {
			ids = append(ids, s.p.instance(e.inst).String())
		}
		fmt.Fprintf(&s.out, "%s (%.4g): %s\n", k.name, s.p.level[w], strings.Join(ids, " "))
	}
}

func (s *script) why(id string) {
	e := s.p.Why(id, 10)
	if !e.Known {
		fmt.Fprintf(&s.out, "no task %s\n", id)
	}
	for _, i := range e.Instances {
		fmt.Fprintf(&s.out, "%s: %s\n", i.Instance, i.Reason)
	}
}

func options(f []string) Options {
	var o Options
	for _, kv := range f {
		k, v, _ := strings.Cut(kv, "=")
		n, _ := strconv.Atoi(v)
		x, _ := strconv.ParseFloat(v, 64)
		switch k {
		case "max_moves":
			o.MaxMoves = n
		case "max_moves_per_worker":
			o.MaxMovesPerWorker = n
		case "hysteresis":
			o.Hysteresis = x
		case "balance_groups":
			o.BalanceGroups = true
		case "group_budget":
			o.GroupBudget.Count = n
		case "zone_budget":
			o.ZoneBudget.Fraction = x
		case "min_workers":
			o.MinWorkers = n
		case "freeze":
			o.Freeze = true
		case "load_blend":
			o.LoadBlend = x
		case "load_band":
			o.LoadBand = x
		default:
			panic("option " + k)
		}
	}
	return o
}

func workerOf(name string, f []string) rota.Worker {
	w := rota.Worker{Name: name}
	for _, kv := range f {
		k, v, _ := strings.Cut(kv, "=")
		switch k {
		case "zone":
			w.Zone = v
		case "labels":
			w.Labels = map[string]string{}
			for part := range strings.SplitSeq(v, ",") {
				l, x, _ := strings.Cut(part, ":")
				w.Labels[l] = x
			}
		case "kinds":
			w.Kinds = strings.Split(v, ",")
		case "capacity":
			w.Capacity = amounts(v)
		case "max":
			w.MaxTasks, _ = strconv.Atoi(v)
		case "strength":
			w.Strength, _ = strconv.ParseFloat(v, 64)
		case "ramp":
			w.Ramp, _ = strconv.ParseFloat(v, 64)
		case "cordoned":
			w.Cordoned = true
		case "draining":
			w.Draining = true
		default:
			panic("worker " + k)
		}
	}
	return w
}

func taskOf(id string, f []string) rota.Task {
	t := rota.Task{ID: id}
	for _, kv := range f {
		k, v, _ := strings.Cut(kv, "=")
		x, _ := strconv.ParseFloat(v, 64)
		target := func(v string) rota.Affinity {
			what, name, _ := strings.Cut(v, ":")
			if what == "group" {
				return rota.Affinity{Group: name}
			}
			return rota.Affinity{Task: name}
		}
		switch k {
		case "kind":
			t.Kind = v
		case "group":
			t.Group = v
		case "key":
			t.Key = v
		case "weight":
			t.Weight = x
		case "priority":
			t.Priority = x
		case "replicas":
			t.Replicas, _ = strconv.Atoi(v)
		case "resources":
			t.Resources = amounts(v)
		case "require":
			t.Rules.Require = append(t.Rules.Require, v)
		case "prefer":
			v, weight := heft(v)
			t.Rules.Prefer = append(t.Rules.Prefer, rota.Preference{Label: v, Weight: weight})
		case "near", "away", "likes", "avoids":
			v, weight := heft(v)
			a := target(v)
			a.Anti = k == "away" || k == "avoids"
			a.Required = k == "near" || k == "away"
			a.Weight = weight
			t.Rules.Affinity = append(t.Rules.Affinity, a)
		case "spread", "spread_group":
			label, shares, ok := strings.Cut(v, "/")
			t.Rules.Spread = &rota.Spread{Label: label, ByGroup: k == "spread_group"}
			if ok {
				t.Rules.Spread.Shares = amounts(shares)
			}
		case "gang":
			t.Rules.Gang = v
		case "pinned":
			t.Rules.Pinned = v
		case "preempt":
			t.Rules.Preempt = true
		default:
			panic("task " + k)
		}
	}
	return t
}

// heft cuts a weight off: "zone=a*3". Without one it is 1.
func heft(s string) (string, float64) {
	s, by, ok := strings.Cut(s, "*")
	if !ok {
		return s, 1
	}
	w, _ := strconv.ParseFloat(by, 64)
	return s, w
}

// scratchOrder returns a copy of the list in the order of turns.
func (p *Planner) scratchOrder(list []entry) []entry {
	s := &p.scratch
	s.begin(p)
	c := append([]entry(nil), list...)
	s.inOrder(c)
	return c
}
