package balance_test

import (
	"fmt"

	"github.com/rota-project/rota/balance"
)

// A call goes to the worker that has the fewest.
func Example() {
	var set balance.Set
	set.Update([]balance.Member{{Worker: balance.NewWorker("a"), Weight: 1}, {Worker: balance.NewWorker("b"), Weight: 1}})
	var first, second balance.Pick
	set.Pick(balance.LeastLoaded{}, &balance.Call{}, &first)
	set.Pick(balance.LeastLoaded{}, &balance.Call{}, &second)
	fmt.Println(first.Worker() != second.Worker())
	first.Release()
	second.Release()
	// Output: true
}
