package engine_test

import (
	"fmt"

	"github.com/rota-project/rota/engine"
)

func ExampleRead() {
	pools, err := engine.Read("pools.yaml", []byte(`
name: web
engine: local
size: {from: 1, to: 5}
idle_after: 10m
template: {kinds: [page], command: [rota, worker]}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pools[0].Name, pools[0].Size.From, pools[0].Size.To, pools[0].IdleAfter)
	// Output: web 1 5 10m0s
}
