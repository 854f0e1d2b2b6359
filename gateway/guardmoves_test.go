package gateway_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/rota-project/rota/gateway"
)

// While reloads move a function's guard, from the function to its route and back, no call
// finds it without: what holds for a call is what one of the two configurations says.
func TestGuardsHoldWhileTheyMove(t *testing.T) {
	t.Parallel()
	many := map[string]gateway.Function{} // so that a reload takes a while
	for i := range 2000 {
		many[fmt.Sprintf("f%d", i)] = gateway.Function{}
	}
	guard := gateway.Rules{Guard: keyed("", "alice")}
	byFunction := simple(named(t, "a"))
	byRoute := byFunction
	byFunction.Defaults.Rules = guard
	byFunction.Functions, byRoute.Functions = many, many
	byFunction.Routes = []gateway.Route{routeTo("/r", "f1")}
	for i := range 2000 {
		byRoute.Routes = append(byRoute.Routes, gateway.Route{Prefix: fmt.Sprintf("/r%d", i), Function: fmt.Sprintf("f%d", i), Rules: guard})
	}
	g, addr := start(t, byFunction)
	over := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				if status, _ := get(t, addr, fmt.Sprintf("/run/f%d", i%2000)); status == http.StatusOK {
					t.Errorf("f%d was called without a key", i%2000)
					return
				}
			}
		})
	}
	for i := range 60 {
		if err := g.Reload([]gateway.Config{byRoute, byFunction}[i%2]); err != nil {
			t.Error(err)
		}
	}
	close(over)
	callers.Wait()
}
