package ownership_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// A holder remembers what it holds and nothing else, however long it lives.
func TestHolderForgets(t *testing.T) {
	t.Parallel()
	h := ownership.NewHolder(ownership.DefaultTrust(5 * time.Second))
	now, seq, renewed := ownership.Time(0), uint64(0), 0
	for n := range 1000 {
		now += time.Second
		for range 3 {
			seq++
			h.Sent(seq, now)
		}
		if n%10 == 0 {
			renewed++
			h.Renewed(seq, 5*time.Second, now)
		}
		i, gen := rota.Instance{Task: fmt.Sprint("t", n)}, rota.Generation(n+1)
		h.Give([]ownership.Order{{Instance: i, Generation: gen}}, now)
		h.Called(i, now)
		h.Returned(i, "failed", now)
		h.Take(i, gen, now)
		h.Returned(i, "", now)
		if acks := h.Acks(); len(acks) != 1 || acks[0].State != ownership.Stopped {
			t.Fatalf("%v: acknowledged %v", i, acks)
		}
		if s := h.Size(); s > 64 {
			t.Fatalf("%d things are remembered after %d grants", s, n+1)
		}
		if n%10 == 0 && h.Size() != 0 {
			t.Fatalf("%d things are remembered after a renewal", h.Size())
		}
	}
	if renewed != 100 {
		t.Fatalf("%d renewals", renewed)
	}
}
