package placement

import (
	"testing"

	"github.com/rota-project/rota"
)

// TestEveryReasonHasItsSentence: but the one that counts what keeps an instance from each worker.
func TestEveryReasonHasItsSentence(t *testing.T) {
	t.Parallel()
	for c := rota.ReasonCode(0); c.String() != "unknown"; c++ {
		if _, ok := sentences[c]; !ok && c != rota.NoPlace {
			t.Errorf("%s has none", c)
		}
	}
}

// TestLoadText: large loads are whole numbers that people can read.
func TestLoadText(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 2.3333: "2.33", 999: "999", 1000: "1,000", 12345.6: "12,346", 2336589: "2,336,589", 1e9: "1,000,000,000"} {
		if got := loadText(v); got != want {
			t.Errorf("%v is %s, want %s", v, got, want)
		}
	}
}
