package balance_test

import (
	"testing"

	"github.com/rota-project/rota/internal/purity"
)

// The rules are pure but for counters that many goroutines share: sync and
// sync/atomic. The hash of olscheduler's ring is BLAKE2b.
func TestPure(t *testing.T) {
	t.Parallel()
	found, err := purity.Check(".", "sync", "sync/atomic", "golang.org/x/crypto/blake2b")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}
