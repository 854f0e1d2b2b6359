package store_test

import (
	"context"
	"fmt"

	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// A change that is made only if nobody made another meanwhile, and a watch that sees it.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var s store.Store = memory.New() // or etcd.Open
	write := func(key, value string, seen int64) {
		ok, _, err := s.Txn(ctx,
			[]store.Cond{{Key: key, By: store.ByMod, Revision: seen}}, []store.Op{{Key: key, Value: []byte(value)}})
		fmt.Println("write", value, ok, err)
	}
	write("sources/list", "one", 0) // 0: nobody has written it yet
	kv, _, revision, err := s.Get(ctx, "sources/list")
	if err != nil {
		panic(err)
	}
	changes := s.Watch(ctx, store.SourcesPrefix, revision+1)
	write("sources/list", "two", kv.Mod)
	write("sources/list", "three", kv.Mod) // of what it was before
	for _, e := range (<-changes).Events {
		fmt.Println("changed", e.Key, string(e.Value))
	}
	// Output:
	// write one true <nil>
	// write two true <nil>
	// write three false <nil>
	// changed sources/list two
}
