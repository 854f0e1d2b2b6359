package etcd_test

import (
	"context"
	"fmt"
	"os"

	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// An etcd in this process, and what a scheduler keeps in it. For an etcd of your own
// give Endpoints in place of Node.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	node, err := etcd.Embed(ctx, etcd.EmbedConfig{DataDir: dir, NoSync: true}) // it may be lost
	if err != nil {
		panic(err)
	}
	defer func() { _ = node.Stop() }()
	s, err := etcd.Open(ctx, etcd.Config{Node: node, Root: store.DefaultRoot + "/"})
	if err != nil {
		panic(err)
	}
	defer func() { _ = s.Close() }()
	if _, _, err := s.Txn(ctx, nil, []store.Op{{Key: "sources/list", Value: []byte("a, b")}}); err != nil {
		panic(err)
	}
	kvs, _, err := s.Range(ctx, store.SourcesPrefix)
	for _, kv := range kvs {
		fmt.Println(kv.Key, string(kv.Value), err)
	}
	// Output: sources/list a, b <nil>
}
