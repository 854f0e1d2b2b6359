//go:build unix

package userdir

import (
	"strings"
	"testing"
)

// TestOwners: a directory is this user's or root's; whoever else has one may put
// what they like in it, whatever its mode is.
func TestOwners(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		owner, self int
		ok          bool
	}{{1000, 1000, true}, {0, 1000, true}, {0, 0, true}, {1000, 0, false}, {65534, 1000, false}} {
		if err := owned(c.owner, c.self, "/d"); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "chown") {
			t.Errorf("of %d, for %d: %v", c.owner, c.self, err)
		}
	}
}
