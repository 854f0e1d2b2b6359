// Package seeds runs a test once for each seed of a range, as `make seeds` and
// `make seeds-jobs` ask.
package seeds

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// group is how many seeds are begun at once. Each waits in a goroutine for its
// turn, and a million of those would not fit in memory.
const group = 2000

// Each runs one for each seed in a parallel subtest of its own, and returns how
// many there were when all have ended. ROTA_SEEDS seeds are run, from ROTA_SEED on:
// otherwise seeds from 1 on if neither is set, and with a ROTA_SEED alone that one.
// A seed that runs alone should tell all that it can. What failed says that again,
// a make target, runs it alone, and that its namesake of replay finds it if it passes.
func Each(t *testing.T, otherwise int, again string, one func(t *testing.T, seed uint64, alone bool)) int {
	t.Helper()
	first, picked := number(t, "ROTA_SEED", 1)
	n, counted := number(t, "ROTA_SEEDS", uint64(otherwise))
	if picked && !counted {
		n = 1
	}
	for begun := uint64(0); begun < n; begun += group {
		from, to := first+begun, first+min(begun+group, n)
		ok := t.Run(fmt.Sprintf("%d-%d", from, to-1), func(t *testing.T) {
			for seed := from; seed < to; seed++ {
				t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
					t.Parallel()
					defer func() {
						if t.Failed() {
							t.Logf("run it again with: make %s SEED=%d; if it passes, look for an order in which it fails with: make %s SEED=%d ORDERS=300",
								again, seed, strings.Replace(again, "seeds", "replay", 1), seed)
						}
					}()
					one(t, seed, n == 1)
				})
			}
		})
		if counted && n > group {
			verdict := "passed"
			if !ok {
				verdict = "FAILED"
			}
			fmt.Printf("seeds %d to %d of %d: %s\n", from, to-1, n, verdict)
		}
	}
	return int(n)
}

// number reads a variable of the environment.
func number(t *testing.T, name string, otherwise uint64) (n uint64, set bool) {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}
