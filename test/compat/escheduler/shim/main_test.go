package escheduler

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rota-project/rota/store/etcd"
)

// compatEtcd is the address of the etcd that the tests of this package share.
var compatEtcd string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "rota-shim-*")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		node, err := etcd.Embed(context.Background(), etcd.EmbedConfig{DataDir: dir, Listen: "127.0.0.1:0", NoSync: true})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = node.Stop() }()
		compatEtcd = strings.TrimPrefix(node.Endpoints()[0], "http://")
		return m.Run()
	}())
}
