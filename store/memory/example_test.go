package memory_test

import (
	"context"
	"fmt"

	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// A transaction that creates a key is refused if the key is there.
func Example() {
	ctx := context.Background()
	s := memory.New()
	absent := []store.Cond{{Key: "leader", By: store.ByCreate}}
	for _, name := range []string{"a", "b"} {
		ok, _, err := s.Txn(ctx, absent, []store.Op{{Key: "leader", Value: []byte(name)}})
		fmt.Println(name, ok, err)
	}
	kv, ok, _, err := s.Get(ctx, "leader")
	fmt.Println(string(kv.Value), ok, err)
	// Output:
	// a true <nil>
	// b false <nil>
	// a true <nil>
}
