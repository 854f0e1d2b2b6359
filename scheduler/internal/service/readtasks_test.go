package service_test

import (
	"fmt"
	"strings"
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"

	"google.golang.org/grpc/codes"
)

// What the command line takes from a file the API takes as its text, and says as exactly
// what is wrong.
func TestReadTasks(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		for name, text := range map[string]string{
			"a.yaml": "- id: a\n  weight: 2\n- id: b\n", "a.yml": "tasks:\n- {id: a, weight: 2}\n- {id: b}\n", "a.json": `[{"id":"a","weight":2},{"id":"b"}]`,
			"a.csv": "id,weight\na,2\nb,\n", "a.jsonl": "{\"id\":\"a\",\"weight\":2}\n{\"id\":\"b\"}\n", "": "# tasks\n- id: a\n  weight: 2\n- id: b\n",
		} {
			r, err := b.svc.ReadTasks(b.Context(), &rotav1.ReadTasksRequest{Name: name, Text: text})
			if err != nil || len(r.GetTasks()) != 2 || r.GetTasks()[0].GetId() != "a" || r.GetTasks()[0].GetWeight() != 2 || r.GetTasks()[1].GetId() != "b" {
				b.Errorf("%s: %v, %v", name, r, err)
			}
		}
		for _, bad := range []struct{ name, text, says, field string }{
			{"a.yaml", "- id: a\n- id: b\n  weigth: 2\n", "a.yaml:3: task 2: weigth", "weigth"},
			{"a.yaml", "- id: a\n  weight: much\n", "a.yaml:2: task 1: weight", "weight"},
			{"a.yaml", "- id: a\n  - b: [\n", "a.yaml:", "text"},
			{"a.json", `[{"id":"a"},]`, "a.json:1", "text"},
			{"a.csv", "id,weight\na,2\nb,x\n", "a.csv:3: task 2: weight", "weight"},
			{"", "", "text: nothing in it", "text"},
			{"a.csv", "id\n" + strings.Repeat("x\n", 2), "a.csv:3: task 2: id", "id"},
		} {
			_, err := b.svc.ReadTasks(b.Context(), &rotav1.ReadTasksRequest{Name: bad.name, Text: bad.text})
			b.wants(err, codes.InvalidArgument, bad.says, bad.field)
		}
		_, err := b.svc.ReadTasks(b.Context(), &rotav1.ReadTasksRequest{Text: strings.Repeat(" ", 4<<20+1)})
		b.wants(err, codes.InvalidArgument, "want at most", "text")
		_, err = b.svc.ReadTasks(b.Context(), &rotav1.ReadTasksRequest{Name: "a.csv", Text: "id\n" + many(100_001)})
		b.wants(err, codes.InvalidArgument, "a.csv:100002: task 100001: more than 100000 tasks", "text")
		if r, err := b.svc.ListTasks(b.Context(), &rotav1.ListTasksRequest{}); err != nil || len(r.GetTasks()) != 0 {
			b.Errorf("reading declares: %v, %v", r, err)
		}
	})
}

// many is as many ids, one a line.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}
