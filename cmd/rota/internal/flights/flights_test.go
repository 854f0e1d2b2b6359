package flights_test

import (
	"testing"

	"github.com/rota-project/rota/cmd/rota/internal/flights"
)

func TestTasks(t *testing.T) {
	t.Parallel()
	tasks, err := flights.Tasks()
	if err != nil {
		t.Fatal(err)
	}
	if len(tasks) != 5366 {
		t.Fatalf("%d tasks, want 5,366", len(tasks))
	}
	if got := tasks[0]; got.ID != "ABE-ATL" || got.Group != "ABE" || got.Weight != 853 {
		t.Fatalf("first task %+v", got)
	}
}
