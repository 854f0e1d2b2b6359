package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/engine"
)

const whole = `
name: web
engine: local
size: {from: 1, to: 8}
preference: 2
idle_after: 20m
start_timeout: 90s
template:
  role: worker
  zone: a
  labels: {tier: web, "n": 1}
  kinds: [web, feed]
  capacity: {cpu: 2, gpu: 0.5}
  max_tasks: 10
  strength: 2
  command: [rota, worker, --exec, "web=serve {ID:word}"]
---
pools:
  - name: api
    engine: local
    size: 3
    template: {command: [rota, worker, --demo]}
`

func TestRead(t *testing.T) {
	t.Parallel()
	got, err := engine.Read("f", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	want := []engine.Pool{
		{
			Name: "web", Engine: "local", Size: engine.Size{From: 1, To: 8}, Preference: 2, IdleAfter: 20 * time.Minute, StartTimeout: 90 * time.Second,
			Template: engine.Template{
				Role: "worker", Zone: "a", Labels: map[string]string{"tier": "web", "n": "1"}, Kinds: []string{"web", "feed"},
				Capacity: map[string]float64{"cpu": 2, "gpu": 0.5}, MaxTasks: 10, Strength: 2, Command: []string{"rota", "worker", "--exec", "web=serve {ID:word}"},
			},
		},
		{Name: "api", Engine: "local", Size: engine.Size{From: 3, To: 3}, Template: engine.Template{Command: []string{"rota", "worker", "--demo"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	n := got[0].Normalize()
	if n.IdleAfter != 20*time.Minute || got[1].Normalize().IdleAfter != engine.DefaultIdleAfter || got[1].Normalize().Template.Role != engine.RoleWorker {
		t.Errorf("%+v", n)
	}
}

func TestReadWrong(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, want string }{
		{"", "f: no pool in it"},
		{"[]", "f: no pool in it"},
		{"3", "f:1: pool: "},
		{"name: a\nengin: local", `f:2: engin: unknown field: want one of name, engine, size`},
		{"name: a\nengine: borg", `f:2: engine: "borg": want one of `},
		{"name: a\nengine: kubernetes\noptions: {requests: cpu=1}\ntemplate: {command: [x]}", `f:3: options.image: "": want an image`},
		{"name: a\nengine: kubernetes\noptions:\n  image: x\n  grace: 5", `f:5: options.grace: "5": want a duration`},
		{"name: a\nengine: local\nsize: many", "f:3: size: \"many\": want a whole number"},
		{"name: a\nengine: local\nsize:\n  from: 3\n  to: 1", "f:4: size.from: 3: want no more than size.to, which is 1"},
		{"name: a\nengine: local\nsize: 1.5", "f:3: size: 1.5: want a whole number"},
		{"name: a\nengine: local\nidle_after: 10", "f:3: idle_after: 10: want a duration"},
		{"name: a\nengine: local\nidle_after: -1m", "f:3: idle_after"},
		{"name: a\nengine: local\noptions: {x: y}", "f:3: options: \"x\": want"},
		{"name: a\nengine: local\ntemplate: {role: gateway}", "f:3: template.role: \"gateway\": want worker"},
		{"name: a\nengine: local\ntemplate:\n  command: rota", "f:4: template.command: \"rota\": want a list of words"},
		{"name: a\nengine: local\ntemplate:\n  command: [rota, [x]]", "f:4: template.command[1]"},
		{"name: a\nengine: local\ntemplate:\n  capacity: {cpu: much}", "f:4: template.capacity.cpu: \"much\": want a number"},
		{"name: a\nengine: local", "f:1: template.command"},
		{"name: a\nname: b", "f:2: "},
		{"name: a\nengine: local\ntemplate: {command: [x]}", `f:1: size: "": want a number of workers, or {from: 1, to: 8}; it is missing`},
		{"- {name: a, engine: local, size: 1, template: {command: [x]}}\n- {name: b, engine: local, size: null, template: {command: [x]}}", "f:2: size: "},
		{"- &a {name: a, engine: local, size: 1, template: {command: [x]}}\n- *a", "name: \"a\": want a unique name"},
		{"{", "no YAML"},
	} {
		pools, err := engine.Read("f", []byte(tc.text))
		var at *engine.FileError
		if pools != nil || !errors.As(err, &at) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, error %v, want %q", tc.text, pools, err, tc.want)
		}
	}
	if _, err := engine.Read("f", make([]byte, engine.MaxFile+1)); err == nil {
		t.Error("too long a file is read")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("[{}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pools, err := engine.Read("f", data)
		if err == nil && len(pools) == 0 {
			t.Error("neither pools nor an error")
		}
		for _, p := range pools {
			if err := p.Validate(); err != nil {
				t.Error(err)
			}
			if err := p.Normalize().Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestBinds: a worker says what the template of its pool says, and nothing else.
func TestBinds(t *testing.T) {
	t.Parallel()
	template := engine.Template{Zone: "a", Labels: map[string]string{"tier": "web"}, Kinds: []string{"web", "feed"}, Capacity: map[string]float64{"cpu": 2}}
	free := func(label string) bool { return strings.HasPrefix(label, "function.") }
	good := func() rota.Worker {
		return rota.Worker{Name: "w", Zone: "a", Labels: map[string]string{"tier": "web", "function.f": ""}, Kinds: []string{"web"}, Capacity: map[string]float64{"cpu": 2}}
	}
	if err := template.Binds(good(), free); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(w *rota.Worker){
		"zone":        func(w *rota.Worker) { w.Zone = "b" },
		"labels.tier": func(w *rota.Worker) { w.Labels["tier"] = "db" },
		"labels":      func(w *rota.Worker) { w.Labels["gpu"] = "yes" },
		"kinds":       func(w *rota.Worker) { w.Kinds = append(w.Kinds, "pay") },
		"capacity":    func(w *rota.Worker) { w.Capacity["cpu"] = 64 },
	} {
		w := good()
		change(&w)
		var fe *rota.FieldError
		if err := template.Binds(w, free); !errors.As(err, &fe) || fe.Field != want {
			t.Errorf("%v, want an error of %s", err, want)
		}
	}
	w := good()
	delete(w.Labels, "tier")
	if template.Binds(w, free) == nil {
		t.Error("a worker without the labels of its template is taken")
	}
}

// TestExamples: the files that are there to be copied are pools.
func TestExamples(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../deploy/*/pool.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%q, error %v", paths, err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Read(path, data); err != nil {
			t.Error(err)
		}
	}
}
