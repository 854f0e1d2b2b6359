package placement

import (
	"errors"
	"math"
	"testing"

	"github.com/rota-project/rota"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	w := rota.Worker{Name: "w", Zone: "a", Labels: map[string]string{"disk": "ssd", "cores": "8", "rack": "r1"}}
	for text, want := range map[string]bool{
		"zone=a": true, "zone==a": true, " zone = a ": true, "zone=b": false, "zone!=a": false, "zone!=b": true,
		"disk in (ssd,nvme)": true, "disk in(hdd)": false, "disk not in (tape)": true, "disk not in (ssd, tape)": false,
		"tier in (x)": false, "tier not in (x)": true, "tier!=x": true, "tier=x": false,
		"disk": true, "gpu": false, "!gpu": true, "! gpu": true, "!disk": false,
		"cores>7": true, "cores>8": false, "cores<64": true, "cores<8": false, "cores>=8": true, "cores<=7.5": false,
		"rack>1": false, "gpus>1": false, "gpus<1": false,
	} {
		c, err := ParseCondition(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := c.Met(&w); got != want {
			t.Errorf("%q is %v of %v", text, got, w)
		}
	}
	for _, text := range []string{
		"", " ", "=a", "!", "!=", "a=", "a=b c", "a in", "a in ()", "a in (b", "a in b", "a in (b,,c)", "a notin (b)",
		"a not(b)", "a>x", "a>", "a<NaN", "a>Inf", "a=b=c", "a b", "!a=b", "a in (b) c", "a=(b)",
	} {
		var field *rota.FieldError
		if c, err := ParseCondition(text); !errors.As(err, &field) {
			t.Errorf("%q parses as %v, %v", text, c, err)
		}
	}
}

// FuzzCondition wants no panic, and that a condition's text means itself.
func FuzzCondition(f *testing.F) {
	for _, s := range []string{"zone=a", "disk in (ssd,nvme)", "disk not in (a)", "!gpu", "cores>=8.5", "a!=b", "x<1e300", "é=ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCondition(s)
		if err != nil {
			return
		}
		again, err := ParseCondition(c.String())
		if err != nil || again.String() != c.String() {
			t.Errorf("%q is %q, which is %q, %v", s, c, again, err)
		}
	})
}

// TestBadInput wants the field by name, and nothing changed.
func TestBadInput(t *testing.T) {
	t.Parallel()
	for field, task := range map[string]rota.Task{
		"id":              {},
		"weight":          {ID: "t", Weight: math.NaN()},
		"priority":        {ID: "t", Priority: math.Inf(1)},
		"replicas":        {ID: "t", Replicas: -1},
		"resources.cpus":  {ID: "t", Resources: map[string]float64{"cpus": -1}},
		"require":         {ID: "t", Rules: rota.Rules{Require: []string{"zone in"}}},
		"prefer":          {ID: "t", Rules: rota.Rules{Prefer: []rota.Preference{{Label: "zone=", Weight: 1}}}},
		"prefer.weight":   {ID: "t", Rules: rota.Rules{Prefer: []rota.Preference{{Label: "zone=a", Weight: -1}}}},
		"affinity":        {ID: "t", Rules: rota.Rules{Affinity: []rota.Affinity{{}}}},
		"spread.label":    {ID: "t", Rules: rota.Rules{Spread: &rota.Spread{}}},
		"spread.shares.a": {ID: "t", Rules: rota.Rules{Spread: &rota.Spread{Label: "zone", Shares: map[string]float64{"a": math.NaN()}}}},
	} {
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		var wrong *rota.FieldError
		if err := p.SetTask(task); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("want %s, got %v", field, err)
		}
		if tasks, _ := p.Len(); tasks != 0 || len(p.Plan().Waiting) != 0 {
			t.Errorf("%s: it is there all the same", field)
		}
	}
	for field, w := range map[string]rota.Worker{
		"name": {}, "capacity.cpus": {Name: "w", Capacity: map[string]float64{"cpus": math.Inf(1)}},
		"max_tasks": {Name: "w", MaxTasks: -1}, "strength": {Name: "w", Strength: math.NaN()}, "ramp": {Name: "w", Ramp: 2},
	} {
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		var wrong *rota.FieldError
		if err := p.SetWorker(w); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("want %s, got %v", field, err)
		}
		if _, workers := p.Len(); workers != 0 {
			t.Errorf("%s: it is there all the same", field)
		}
	}
	for field, o := range map[string]Options{
		"max_moves": {MaxMoves: -1}, "hysteresis": {Hysteresis: math.NaN()}, "load_blend": {LoadBlend: 1.1},
		"group_budget.fraction": {GroupBudget: Budget{Fraction: -0.1}}, "min_workers": {MinWorkers: -1},
	} {
		var wrong *rota.FieldError
		if _, err := New(o); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("want %s, got %v", field, err)
		}
	}
}

// FuzzPlanner makes what a fuzzer likes of bytes, garbage too, and wants plans
// that end, the same each time, with all sums right.
func FuzzPlanner(f *testing.F) {
	f.Add([]byte("a few bytes to begin with, of no meaning at all, but long enough for some changes"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		next := func() int {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return int(b)
		}
		word := func() string {
			n := min(next()%6, len(data))
			s := string(data[:n])
			data = data[n:]
			return s
		}
		number := func() float64 {
			return []float64{0, 1, -1, math.NaN(), math.Inf(1), 1e300, 1e-300, math.MaxFloat64, 0.1, 7}[next()%10]
		}
		for range 60 {
			if len(data) == 0 {
				break
			}
			switch next() % 9 {
			case 0, 1, 2:
				u := rota.Task{ID: word(), Kind: word(), Group: word(), Key: word(), Weight: number(), Priority: number(), Replicas: next()%5 - 1}
				if next()%2 == 0 {
					u.Resources = map[string]float64{word(): number()}
				}
				switch next() % 8 {
				case 0:
					u.Rules.Require = []string{word() + "=" + word(), word()}
				case 1:
					u.Rules.Affinity = []rota.Affinity{{Task: word(), Group: word(), Anti: next()%2 == 0, Required: next()%2 == 0, Weight: number()}}
				case 2:
					u.Rules.Spread = &rota.Spread{Label: word(), Shares: map[string]float64{word(): number()}}
				case 3:
					u.Rules.Gang = word()
				case 4:
					u.Rules.Pinned, u.Rules.Preempt = word(), true
				}
				_ = p.SetTask(u)
			case 3, 4:
				w := rota.Worker{Name: word(), Zone: word(), Strength: number(), Ramp: number(), MaxTasks: next()%9 - 1, Draining: next()%9 == 0}
				if next()%2 == 0 {
					w.Capacity = map[string]float64{word(): number()}
				}
				_ = p.SetWorker(w)
			case 5:
				p.RemoveTask(word())
			case 6:
				p.RemoveWorker(word())
			case 7:
				_ = p.Assign(rota.Instance{Task: word(), Index: next() - 3}, word())
			default:
				p.SetLoad(rota.Instance{Task: word(), Index: next() - 3}, word(), number())
			}
		}
		plan := p.Plan()
		if !samePlan(plan, p.Plan()) {
			t.Fatal("asked twice, two plans")
		}
		p.Commit(plan)
		for _, w := range p.order {
			p.Stoppable(p.workers[w].name)
		}
		for n := range p.tasks {
			p.Why(p.tasks[n].id, 1)
		}
	})
}
