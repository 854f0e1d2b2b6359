// Command escheduler runs the suite of a checkout of escheduler with package peer in
// the library's place, by the names of the shim, on an etcd that it starts. README.md
// says how; people and CI run it by test/compat/escheduler/run.
package main

import (
	"context"
	_ "embed"
	"errors"
	"path/filepath"
	"time"

	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/test/compat/internal/suite"
)

//go:embed known.txt
var known string

func main() { suite.Main("escheduler", known, try(addresses...)) }

// addresses are where the suite expects an etcd.
var addresses = []string{"127.0.0.1:2379", "127.0.0.1:23790"}

var library = suite.Library{
	Base: "escheduler", Package: "escheduler", Shim: "test/compat/escheduler/shim",
	Limit: 2 * time.Minute, Endless: 20 * time.Second,
}

// try runs the suite while an etcd listens at each address.
func try(addresses ...string) func(context.Context, suite.Place) ([]suite.Result, error) {
	return func(ctx context.Context, p suite.Place) (list []suite.Result, err error) {
		for _, addr := range addresses {
			node, err := etcd.Embed(ctx, etcd.EmbedConfig{DataDir: filepath.Join(p.Dir, addr), Listen: addr, NoSync: true})
			if err != nil {
				return nil, suite.Unusable("the suite needs an etcd at %s, which cannot be started: %v", addr, err)
			}
			defer func() { err = errors.Join(err, node.Stop()) }()
		}
		return library.Try(ctx, p)
	}
}
