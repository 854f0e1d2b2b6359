package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/api/jsonpb"
	"github.com/rota-project/rota/internal/taskfile"
	"github.com/rota-project/rota/internal/test/filled"
)

// TestEveryFieldOfATask gives every field of a task a value and follows it: into
// the API and back, through every format of files, and into what "rota task get"
// shows. A field that is added and forgotten somewhere fails it. The store has a
// test of the same name.
func TestEveryFieldOfATask(t *testing.T) {
	t.Parallel()
	var task rota.Task
	n := 0
	values := filled.Fill(reflect.ValueOf(&task).Elem(), &n)
	task.Mode = rota.Available
	task.Rules.Affinity[0].Group = "" // either that or the task
	values = slices.DeleteFunc(values, func(s string) bool {
		return !strings.Contains(fmt.Sprintf("%+v %s %+v", task, task.Payload, task.Rules.Spread), s)
	})
	same := func(what string, got rota.Task, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, task) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", what, err, got, task)
		}
	}
	def := convert.TaskToProto(task)
	back, err := convert.TaskFromProto(def)
	same("the API", back, err)
	// Equal sees each, those of rules too, and those within them.
	var other rota.Task
	m := 0
	filled.Fill(reflect.ValueOf(&other).Elem(), &m)
	other.Mode, other.Rules.Affinity[0].Group = task.Mode, ""
	filled.EachZeroed(reflect.ValueOf(&other).Elem(), "", func(field string) {
		if task.Equal(other) {
			t.Errorf("Equal does not look at %s", field)
		}
	})
	if !task.Equal(other) {
		t.Error("not the same again")
	}

	text, err := jsonpb.Marshal(def)
	if err != nil {
		t.Fatal(err)
	}
	var cells map[string]json.RawMessage
	if err := json.Unmarshal(text, &cells); err != nil {
		t.Fatal(err)
	}
	delete(cells, "payload_base64") // empty
	var head, row []string
	for _, k := range slices.Sorted(maps.Keys(cells)) {
		cell := string(cells[k])
		if json.Unmarshal(cells[k], new(string)) == nil {
			_ = json.Unmarshal(cells[k], &cell)
		}
		head, row = append(head, k), append(row, `"`+strings.ReplaceAll(cell, `"`, `""`)+`"`)
	}
	if text, err = json.Marshal(cells); err != nil {
		t.Fatal(err)
	}
	csv := strings.Join(head, ",") + "\n" + strings.Join(row, ",") + "\n"
	for format, text := range map[taskfile.Format]string{
		taskfile.JSON: string(text), taskfile.JSONLines: string(text) + "\n", taskfile.YAML: string(text), taskfile.CSV: csv,
	} {
		list, err := taskfile.Read(strings.NewReader(text), "list", taskfile.Options{Format: format})
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %v\n%s", format, err, text)
			continue
		}
		same(string(format), list[0], nil)
	}

	detail := &rotav1.TaskDetail{Task: def, Source: "declared"}
	for _, output := range []string{"table", "json"} {
		var out bytes.Buffer
		a := newApp(Env{Stdout: &out})
		a.output = output
		if err := a.print(detail, func(w io.Writer) error { return a.taskDetail(w, detail) }); err != nil {
			t.Fatal(err)
		}
		for _, v := range append(values, "available", "preempt", "by_group", "anti", "required") {
			if !strings.Contains(out.String(), v) {
				t.Errorf("task get -o %s does not show %q:\n%s", output, v, out.String())
			}
		}
	}
}

// TestEveryFieldOfAJobShown gives every field of a job's definition a value and looks for
// it in what "rota job get" shows. Of the environment that is the names.
func TestEveryFieldOfAJobShown(t *testing.T) {
	t.Parallel()
	def := &rotav1.JobDefinition{
		Argv: []string{"arg1"}, Env: map[string]string{"NAME2": "secret"}, Dir: "dir3", Stdin: "input", StdinBase64: []byte("in"), TimeoutMs: 6000,
		GraceMs: 7000, Resources: map[string]float64{"cpus8": 8.5}, Worker: "worker9", Require: []string{"zone=a10"}, Retries: 11,
		BackoffMs: 12000, MaxBackoffMs: 13000, Rerun: true, KeepMs: 15000,
	}
	for k := range def.ProtoReflect().Descriptor().Fields().Len() {
		f := def.ProtoReflect().Descriptor().Fields().Get(k)
		if v := def.ProtoReflect().Get(f); !def.ProtoReflect().Has(f) {
			t.Errorf("%s is not tried: %v", f.Name(), v)
		}
	}
	d := &rotav1.JobDetail{Job: &rotav1.Job{Argv: def.GetArgv(), State: "queued", Reason: "because"}, Definition: def, Workers: []*rotav1.WhyWorker{
		{Worker: "w14", Reason: "needs 7 cpus, it has 2"},
	}}
	var out bytes.Buffer
	a := newApp(Env{Stdout: &out})
	a.output = "table"
	if err := a.print(d, func(w io.Writer) error { return a.jobDetail(w, d) }); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{
		"arg1", "NAME2", "dir3", "5 bytes", "2 bytes", "6s", "7s", "cpus8=8.5", "worker9", "zone=a10", "11", "12s", "13s", "rerun", "15s",
		"because", "w14", "needs 7 cpus, it has 2",
	} {
		if !strings.Contains(out.String(), v) {
			t.Errorf("job get does not show %q:\n%s", v, out.String())
		}
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("job get shows the environment:\n%s", out.String())
	}
	out.Reset()
	if err := whyJob(&out, d); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"is on no worker (queued)", "because", "w14", "needs 7 cpus, it has 2"} {
		if !strings.Contains(out.String(), v) {
			t.Errorf("why does not show %q:\n%s", v, out.String())
		}
	}
}
