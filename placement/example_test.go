package placement_test

import (
	"fmt"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
)

func Example() {
	p, err := placement.New(placement.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range []string{"w1", "w2"} {
		_ = p.SetWorker(rota.Worker{Name: w})
	}
	for _, id := range []string{"ams", "ber", "cdg", "dub"} {
		_ = p.SetTask(rota.Task{ID: id})
	}
	p.Commit(p.Plan())

	// What if a third worker came? Nothing changes by asking.
	plan, _ := p.With(1, rota.Worker{})
	for _, m := range plan.Moves {
		fmt.Println(m.Instance, m.From, "->", m.To+":", m.Reason)
	}
	// One is lost.
	p.RemoveWorker("w2")
	plan = p.Plan()
	fmt.Println(plan.Summary.Forced, "have to move")
	p.Commit(plan)
	fmt.Println(p.Plan().Moves)
	// Output:
	// ber w1 -> new-1: evens out load: w1 had 50% more than the mean
	// 2 have to move
	// []
}

func ExamplePlanner_Why() {
	p, _ := placement.New(placement.Options{})
	_ = p.SetWorker(rota.Worker{Name: "w1", Kinds: []string{"task"}})
	_ = p.SetWorker(rota.Worker{Name: "w2", Draining: true})
	_ = p.SetTask(rota.Task{ID: "render", Kind: "gpu"})
	fmt.Println(p.Why("render", 10).Instances[0].Reason)
	// Output: on no worker: 2 workers: 1 is draining, 1 does not run kind gpu
}
