package pools

import (
	"fmt"
	"testing"

	"github.com/rota-project/rota"
)

func tasks(n int, kind string, cpu float64) (out []rota.Task) {
	for i := range n {
		out = append(out, rota.Task{ID: fmt.Sprintf("%s-%d", kind, i), Kind: kind, Resources: map[string]float64{"cpu": cpu}, Replicas: 1})
	}
	return out
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	model := rota.Worker{Kinds: []string{"web"}, Capacity: map[string]float64{"cpu": 4}}
	for _, tc := range []struct {
		name       string
		tasks      []rota.Task
		most       int
		want, left int
	}{
		{"nothing waits", nil, 9, 0, 0},
		{"no room for any", tasks(3, "web", 1), 0, 0, 3},
		{"one worker", tasks(4, "web", 1), 9, 1, 0},
		{"two workers", tasks(5, "web", 1), 9, 2, 0},
		{"as many as there may be", tasks(20, "web", 2), 3, 3, 14},
		{"another kind", tasks(3, "gpu", 1), 9, 0, 3},
		{"too large for the template", tasks(3, "web", 5), 9, 0, 3},
		{"some of them", append(tasks(3, "gpu", 1), tasks(2, "web", 4)...), 9, 2, 3},
		{"replicas, each on a worker of its own", []rota.Task{{ID: "r", Kind: "web", Resources: map[string]float64{"cpu": 2}, Replicas: 6}}, 9, 6, 0},
		{"pinned elsewhere", []rota.Task{{ID: "p", Kind: "web", Rules: rota.Rules{Pinned: "w1"}}}, 9, 0, 1},
	} {
		n, left := needs(tc.tasks, model, tc.most)
		if n != tc.want || total(left) != tc.left {
			t.Errorf("%s: %d workers and %d left, want %d and %d", tc.name, n, total(left), tc.want, tc.left)
		}
	}
}

// TestSpare: what is left has a fifth free.
func TestSpare(t *testing.T) {
	t.Parallel()
	model := rota.Worker{Kinds: []string{"web"}, Capacity: map[string]float64{"cpu": 10}}
	for _, tc := range []struct {
		tasks      []rota.Task
		have, want int
	}{
		{nil, 3, 3},
		{tasks(8, "web", 1), 3, 2},
		{tasks(9, "web", 1), 3, 1},
		{tasks(16, "web", 1), 2, 0},
		{tasks(20, "web", 1), 2, 0},
		{tasks(1, "web", 9), 3, 0}, // with so little free none could do
	} {
		if got := spare(tc.tasks, model, tc.have); got != tc.want {
			t.Errorf("%d tasks on %d workers: %d could go, want %d", len(tc.tasks), tc.have, got, tc.want)
		}
	}
}
