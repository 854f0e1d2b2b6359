package auth

import (
	"strings"
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

func TestTarget(t *testing.T) {
	t.Parallel()
	many := &rotav1.DeleteTasksRequest{}
	for range 10 {
		many.Ids = append(many.Ids, "t")
	}
	for _, c := range []struct {
		req  any
		want string
	}{
		{&rotav1.WorkerRequest{Name: "w1"}, "worker=w1"},
		{&rotav1.GetTaskRequest{Id: strings.Repeat("x", 100)}, "id=" + strings.Repeat("x", 64) + "..."},
		{&rotav1.GetTaskRequest{Id: "a b=\"\n"}, `id="a b=\"\n"`},
		{many, strings.TrimSpace(strings.Repeat("ids=t ", 8)) + " and 2 more"},
		{&rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "a"}, {Id: "b", Payload: "secret"}}}, "id=a id=b"},
		{nil, ""},
		{"text", ""},
	} {
		if got := Target(c.req); got != c.want {
			t.Errorf("%v: %q, want %q", c.req, got, c.want)
		}
	}
}
