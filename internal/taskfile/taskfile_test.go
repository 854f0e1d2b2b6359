package taskfile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/taskfile"
)

// want is the list that every spelling below says.
func want() []rota.Task {
	return []rota.Task{
		{ID: "a", Weight: 2.5, Group: "g", Payload: []byte("hello"), Replicas: 2, Mode: rota.Available},
		{
			ID: "b", Kind: "k", Key: "12", Priority: -3, Payload: []byte{0, 255}, Resources: map[string]float64{"cpus": 1.5},
			Rules: rota.Rules{
				Require:  []string{"zone=a"},
				Prefer:   []rota.Preference{{Label: "ssd", Weight: 2}},
				Affinity: []rota.Affinity{{Group: "g", Anti: true, Required: true}},
				Spread:   &rota.Spread{Label: "zone", Shares: map[string]float64{"x": 1}, ByGroup: true},
				Gang:     "gang", Pinned: "w1", Preempt: true,
			},
		},
	}
}

const yamlList = `# two tasks
- id: a
  weight: 2.5
  group: g
  payload: hello
  replicas: 2
  mode: available
- {id: b, kind: k, key: 12, priority: -3, payload_base64: AP8=, resources: {cpus: 1.5}, require: ["zone=a"],
   prefer: [{label: ssd, weight: 2}], affinity: [{group: g, anti: true, required: true}],
   spread: {label: zone, shares: {x: 1}, by_group: true}, gang: gang, pinned: w1, preempt: true}
`

const (
	jsonA = `{"id":"a","weight":2.5,"group":"g","payload":"hello","payload_base64":"","replicas":2,"mode":"available","spread":null}`
	jsonB = `{"id":"b","kind":"k","key":"12","priority":-3,"payload":"","payload_base64":"AP8=","resources":{"cpus":1.5},"require":["zone=a"],` +
		`"prefer":[{"label":"ssd","weight":2}],"affinity":[{"group":"g","anti":true,"required":true}],` +
		`"spread":{"label":"zone","shares":{"x":1},"by_group":true},"gang":"gang","pinned":"w1","preempt":true}`
)

const csvList = `id,weight,group,payload,replicas,mode,kind,key,priority,payload_base64,resources,require,prefer,affinity,spread,gang,pinned,preempt
a,2.5,g,hello,2,available,,,,,,,,,,,,
b,,,,,,k,12,-3,AP8=,"{""cpus"":1.5}","[""zone=a""]","[{""label"":""ssd"",""weight"":2}]","[{""group"":""g"",""anti"":true,""required"":true}]","{""label"":""zone"",""shares"":{""x"":1},""by_group"":true}",gang,w1,true
`

func TestSpellings(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"list.yaml":                      yamlList,
		"table.yml":                      "tasks:\n" + yamlList,
		"docs.yaml":                      "---\n" + jsonA + "\n---\n" + jsonB + "\n",
		"list.json":                      "[" + jsonA + ",\n" + jsonB + "]",
		"table.json":                     `{"tasks": [` + jsonA + "," + jsonB + "]}",
		"lines.jsonl":                    jsonA + "\n" + jsonB + "\n",
		"lines.ndjson":                   jsonA + "\n\n" + jsonB,
		"list.csv":                       csvList,
		"bom.csv":                        "\ufeff" + csvList,
		"crlf.csv":                       strings.ReplaceAll(csvList, "\n", "\r\n"),
		"-1":                             yamlList,
		"-2":                             " \n[" + jsonA + "," + jsonB + "]",
		"-3":                             jsonA + "\n" + jsonB,
		"-4":                             csvList,
		"http://localhost/tasks.csv?x=1": csvList,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := taskfile.Parse([]byte(text), name, taskfile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 {
				t.Fatalf("%d tasks: %+v", len(got), got)
			}
			for i, w := range want() {
				if !got[i].Equal(w) {
					t.Errorf("got  %+v\nwant %+v", got[i], w)
				}
			}
		})
	}
}

// TestNothing: a file with nothing in it is an error, in every format: somebody
// is about to write it. A list without tasks says that it is one.
func TestNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.yaml", "a.json", "a.jsonl", "a.csv", "-"} {
		for _, text := range []string{"", "\n", "\n\n", "\ufeff"} {
			_, err := taskfile.Parse([]byte(text), name, taskfile.Options{})
			var e *taskfile.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), "nothing in it") || e.File != name {
				t.Errorf("%s %q: %v", name, text, err)
			}
		}
	}
	// Nor is any way to write that something is nothing.
	for _, c := range [][2]string{
		{"a.yaml", "# to be written\n---\n"},
		{"a.yaml", "# tasks:\n# - id: a\n"},
		{"a.yaml", "null\n"},
		{"a.yaml", "~"},
		{"a.yaml", "---\n...\n---\n"},
		{"a.yaml", "tasks:\n"},
		{"a.yaml", "tasks:\n# - id: a\n#   weight: 2\n"},
		{"a.yaml", "tasks: null"},
		{"a.yaml", "tasks: ~"},
		{"a.yaml", "tasks: &none\n"},
		{"a.yaml", "tasks: !!null ''"},
		{"a.yaml", "- id: a\n---\ntasks:\n"}, // half of it is nothing
		{"a.yaml", "tasks: ''"},
		{"a.yaml", "tasks: {}"},
		{"a.yaml", "tasks: false"},
		{"a.yaml", "-\n# id: a\n"},
		{"a.yaml", "- null"},
		{"a.yaml", "{}"},
		{"a.json", "null"},
		{"a.json", " null\n"},
		{"a.json", `{"tasks":null}`},
		{"a.json", "\ufeff{ \"tasks\" :\n null }"},
		{"a.json", `{"tasks":null,"tasks":[]}`},
		{"a.json", `{"tasks":{}}`},
		{"a.json", `{"tasks":""}`},
		{"a.json", `{"tasks":[null]}`},
		{"a.json", `[null]`},
		{"a.json", `{}`},
		{"a.jsonl", "\nnull\n"},
		{"a.jsonl", "{\"id\":\"a\"}\nnull\n"},
		{"a.jsonl", "{\"id\":\"a\"}\n{\"tasks\":null}\n"},
		{"a.csv", "\ufeff\n\n"},
		{"a.csv", "id,weight\n,\n"},
		{"-", "tasks:\n"},
		{"-", `{"tasks":null}`},
		{"-", "# nothing\n"},
	} {
		got, err := taskfile.Parse([]byte(c[1]), c[0], taskfile.Options{})
		var e *taskfile.Error
		if !errors.As(err, &e) || e.File != c[0] || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %q: %v %v", c[0], c[1], got, err)
		}
	}
	for name, text := range map[string]string{"a.yaml": "[]", "b.yaml": "tasks: []", "a.json": "[]", "a.jsonl": "[]\n", "a.csv": "id,weight\n", "-": "[]"} {
		if got, err := taskfile.Parse([]byte(text), name, taskfile.Options{}); err != nil || len(got) != 0 {
			t.Errorf("%s %q: %v %v", name, text, got, err)
		}
	}
}

// TestErrors: each fault is one line that names file, line, task and field.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		line       int
		record     int
		field      string // of a *rota.FieldError
		says       string
	}{
		{"a.yaml", "- id: a\n- weight: 1\n", 2, 2, "id", "missing"},
		{"a.yaml", "- id: a\n- id: b\n- id: a\n", 3, 3, "id", "line 1 has it too"},
		{"a.yaml", "- id: a\n  weight: -1\n", 2, 1, "weight", "zero or more"},
		{"a.yaml", "- id: a\n  weight: .nan\n", 2, 1, "weight", "finite"},
		{"a.yaml", "- id: a\n  weigth: 1\n", 2, 1, "weigth", "unknown field"},
		{"a.yaml", "- id: a\n  weigth:\n", 2, 1, "weigth", "unknown field"},
		{"a.yaml", "- id: a\n  weight: heavy\n", 2, 1, "weight", "a number"},
		{"a.yaml", "- id: a\n  weight: \"1\"\n", 2, 1, "weight", "a number"},
		{"a.yaml", "- id: a\n  replicas: 1.5\n", 2, 1, "replicas", "whole number"},
		{"a.yaml", "- id: a\n  mode: both\n", 2, 1, "mode", "exclusive"},
		{"a.yaml", "- id: a\n  payload: x\n  payload_base64: eA==\n", 3, 1, "payload_base64", "only one"},
		{"a.yaml", "- id: a\n  payload_base64: '*'\n", 2, 1, "payload_base64", "base64"},
		{"a.yaml", "- id: a\n  require: zone=a\n", 2, 1, "require", "a list"},
		{"a.yaml", "- id: a\n  prefer:\n  - label: x\n    wait: 1\n", 4, 1, "prefer[0].wait", "unknown field"},
		{"a.yaml", "- id: a\n  resources:\n    cpus: x\n", 3, 1, "resources.cpus", "a number"},
		{"a.yaml", "- id: a\n  affinity: [{}]\n", 2, 1, "affinity", "exactly one"},
		{"a.yaml", "- id: a\n  id: b\n", 2, 0, "", "id"},
		{"a.yaml", "- a\n", 1, 1, "", "want a task"},
		{"a.yaml", "a\n", 1, 0, "", "want a task"},
		{"a.yaml", "tasks: {}\n", 1, 0, "tasks", "a list"},
		{"a.yaml", "tasks: []\nmore: 1\n", 2, 0, "more", "nothing beside"},
		{"a.yaml", "- id: a\n  <<: {weight: 1}\n", 2, 1, "<<", "unknown field"},
		{"a.yaml", "- id: [\n", 2, 0, "", "no YAML"},
		{"a.json", "[{\"id\": \"a\"},\n{\"id\": 5}]", 2, 2, "id", "text"},
		{"a.json", "[{\"id\": \"a\",\n\"id\": \"b\"}]", 2, 0, "", "twice"},
		{"a.json", "[\n{\"id\": \"a\"\n", 3, 0, "", "ends in the middle"},
		{"a.json", "[\n{\"id\": tru}]", 2, 0, "", "no JSON"},
		{"a.json", "5", 1, 0, "", "want a task"},
		{"a.json", `[{"id":"a","weight":1e999}]`, 1, 0, "", "1e999"},
		{"a.json", strings.Repeat("[", 100), 1, 0, "", "nested deeper"},
		{"a.jsonl", "{\"id\": \"a\"}\n{\"id\": \"a\"}\n", 2, 2, "id", "line 1 has it too"},
		{"a.csv", "ORD,LAX,5\n", 1, 0, "id", "names the columns"},
		{"a.csv", "id,weight\na,1\nb,x\n", 3, 2, "weight", "a number"},
		{"a.csv", "id,weight\na\n", 2, 0, "", "wrong number of fields"},
		{"a.csv", "id,colour\na,red\n", 1, 0, "colour", "unknown field"},
		{"a.csv", "id,id\na,b\n", 1, 0, "id", "once"},
		{"a.csv", "id,resources\na,cpus\n", 2, 1, "resources", "JSON"},
		{"a.csv", "id,weight\n,1\n", 2, 1, "id", "missing"},
		{"a.csv", "id\n\"a\n", 2, 0, "", "no CSV"},
	} {
		got, err := taskfile.Parse([]byte(c.text), c.name, taskfile.Options{})
		var te *taskfile.Error
		if !errors.As(err, &te) {
			t.Errorf("%s %q: got %v, %v, want an error", c.name, c.text, got, err)
			continue
		}
		field := ""
		if fe := (*rota.FieldError)(nil); errors.As(err, &fe) {
			field = fe.Field
		}
		if te.File != c.name || te.Line != c.line || te.Record != c.record || field != c.field || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %q:\n got %v (line %d, task %d, field %q)\nwant line %d, task %d, field %q, %q",
				c.name, c.text, err, te.Line, te.Record, field, c.line, c.record, c.field, c.says)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %q: more than one line: %q", c.name, c.text, err)
		}
	}
}

func TestAliases(t *testing.T) {
	t.Parallel()
	got, err := taskfile.Parse([]byte("- id: a\n  resources: &r {cpus: 2}\n- id: b\n  resources: *r\n"), "a.yaml", taskfile.Options{})
	if err != nil || len(got) != 2 || got[1].Resources["cpus"] != 2 {
		t.Errorf("%+v %v", got, err)
	}
	bomb := "- &a0 {id: x}\n"
	for i := range 12 {
		prev := string(rune('0' + i))
		bomb += "- &a" + string(rune('1'+i)) + " [" + strings.TrimSuffix(strings.Repeat("*a"+prev+" , ", 9), ", ") + "]\n"
	}
	if _, err := taskfile.Parse([]byte(bomb), "bomb.yaml", taskfile.Options{}); err == nil || !strings.Contains(err.Error(), "alias") {
		t.Errorf("a bomb of aliases: %v", err)
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	routes := "origin,destination,count\nABE,ATL,853\nABE,BHM,1\n"
	columns := map[string]string{"id": "{origin}-{destination}", "group": "{origin}", "weight": "{count}", "kind": "flight"}
	got, err := taskfile.Parse([]byte(routes), "routes.csv", taskfile.Options{Columns: columns})
	if err != nil {
		t.Fatal(err)
	}
	if want := (rota.Task{ID: "ABE-BHM", Group: "ABE", Weight: 1, Kind: "flight"}); len(got) != 2 || !got[1].Equal(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for says, columns := range map[string]map[string]string{
		"one of the columns": {"id": "{from}"},
		"a } for each":       {"id": "{origin"},
		"unknown field":      {"id": "{origin}", "colour": "red"},
		"makes the id":       {"group": "{origin}"},
	} {
		if _, err := taskfile.Parse([]byte(routes), "routes.csv", taskfile.Options{Columns: columns}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: got %v, want %q", columns, err, says)
		}
	}
	if _, err := taskfile.Parse([]byte("[]"), "a.json", taskfile.Options{Columns: columns}); err == nil {
		t.Error("columns of JSON are taken")
	}
}

func TestFormatAndFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "tasks.txt")
	if err := os.WriteFile(name, []byte(csvList), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := taskfile.ReadFile(name, taskfile.Options{Format: taskfile.CSV}); err != nil || len(got) != 2 {
		t.Errorf("%v %v", got, err)
	}
	if _, err := taskfile.ReadFile(name, taskfile.Options{Format: "xml"}); err == nil || !strings.Contains(err.Error(), "yaml, json, jsonl or csv") {
		t.Errorf("an unknown format: %v", err)
	}
	if _, err := taskfile.ReadFile(name+".not", taskfile.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	long := append([]byte("- id: a\n  payload: "), make([]byte, taskfile.MaxYAMLBytes)...)
	if _, err := taskfile.Parse(long, "a.yaml", taskfile.Options{}); err == nil || !strings.Contains(err.Error(), "bytes of YAML") {
		t.Errorf("got %v", err)
	}
	payload := strings.Repeat("x", rota.MaxPayload+1)
	if _, err := taskfile.Parse([]byte(`{"id":"a","payload":"`+payload+`"}`), "a.json", taskfile.Options{}); err == nil || !strings.Contains(err.Error(), "payload") {
		t.Errorf("got %v", err)
	}
}

// fuzz checks that whatever the text, a list is valid or the error is ours.
func fuzz(f *testing.F, name string, seeds ...string) {
	f.Helper()
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tasks, err := taskfile.Parse([]byte(text), name, taskfile.Options{})
		if err != nil {
			var te *taskfile.Error
			if !errors.As(err, &te) || tasks != nil {
				t.Fatalf("%v, %v", tasks, err)
			}
			return
		}
		seen := map[string]bool{}
		for _, task := range tasks {
			if err := task.Validate(); err != nil || seen[task.ID] {
				t.Fatalf("%+v: %v, twice %v", task, err, seen[task.ID])
			}
			seen[task.ID] = true
		}
	})
}

func FuzzYAML(f *testing.F) {
	fuzz(f, "a.yaml", yamlList, "tasks:\n- &x {id: a}\n- *x\n", "? [a]\n: b", "- id: !!binary aGk=\n")
}
func FuzzJSON(f *testing.F) { fuzz(f, "a.json", jsonA+"\n"+jsonB, `{"tasks":[{"id":"a"}]}`) }
func FuzzCSV(f *testing.F)  { fuzz(f, "a.csv", csvList, "id\n\"a\nb\"\n") }
func FuzzSniff(f *testing.F) {
	fuzz(f, "-", csvList, yamlList, jsonA)
}

func FuzzColumns(f *testing.F) {
	f.Add("a,b\n1,2\n", "{a}-{b}")
	f.Fuzz(func(t *testing.T, text, id string) {
		_, err := taskfile.Parse([]byte(text), "a.csv", taskfile.Options{Columns: map[string]string{"id": id}})
		var te *taskfile.Error
		if err != nil && !errors.As(err, &te) {
			t.Fatal(err)
		}
	})
}

func BenchmarkJSONLines(b *testing.B) {
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "%s", strings.Replace(jsonB, `"b"`, fmt.Sprintf("%q", fmt.Sprint("b", i)), 1))
		text.WriteByte('\n')
	}
	data := []byte(text.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		tasks, err := taskfile.Parse(data, "a.jsonl", taskfile.Options{})
		if err != nil || len(tasks) != 10_000 {
			b.Fatal(len(tasks), err)
		}
	}
}
