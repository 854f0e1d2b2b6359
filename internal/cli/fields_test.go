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
	"github.com/rota-project/rota/api/convert"
	"github.com/rota-project/rota/api/jsonpb"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/taskfile"
)

// fill gives every field that can be reached a value of its own that no other has.
func fill(v reflect.Value, n *int) (values []string) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("word%d", *n))
		return []string{v.String()}
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
		return []string{fmt.Sprint(v.Float())}
	case reflect.Int:
		v.SetInt(int64(*n))
		return []string{fmt.Sprint(v.Int())}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(fmt.Appendf(nil, "bytes%d", *n))
			return []string{string(v.Bytes())}
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return fill(v.Index(0), n)
	case reflect.Map:
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		values = append(fill(k, n), fill(e, n)...)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, e)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), n)
	case reflect.Struct:
		for k := range v.NumField() {
			values = append(values, fill(v.Field(k), n)...)
		}
	default:
		panic(v.Kind().String())
	}
	return values
}

// TestEveryFieldOfATask gives every field of a task a value and follows it: into
// the API and back, into the store and back, through every format of files, and
// into what "rota task get" shows. A field that is added and forgotten somewhere
// fails it.
func TestEveryFieldOfATask(t *testing.T) {
	t.Parallel()
	var task rota.Task
	n := 0
	values := fill(reflect.ValueOf(&task).Elem(), &n)
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
	for k := range reflect.TypeFor[rota.Task]().NumField() { // Equal sees each
		other := task
		f := reflect.ValueOf(&other).Elem().Field(k)
		f.Set(reflect.Zero(f.Type()))
		if task.Equal(other) {
			t.Errorf("Equal does not look at %s", reflect.TypeFor[rota.Task]().Field(k).Name)
		}
	}

	kept := record.NewTask(task, "declared")
	same("the store", kept.Task(), nil)

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
