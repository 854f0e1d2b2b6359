package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/internal/blame"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// TestAccountFits: however many are suspected, and however long all names are, their
// account fits into a transaction, beside others, and names all of them.
func TestAccountFits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, n := range []int{1, 10, 200, 1024} {
		l := &leader{suspects: newSuspects(3, now)}
		long := func(n int) string { return fmt.Sprintf("%0*d", rota.MaxIDLen, n) }
		var list []blame.Suspect
		for id := range n {
			var workers []string
			for w := range 8 {
				workers = append(workers, long(w))
			}
			list = append(list, blame.Suspect{Task: blame.Task{ID: long(id), Spec: 1<<64 - 1}, State: blame.Held, Deaths: math.MaxInt, Workers: workers})
		}
		l.suspects.docket.Load(0, list, 3)
		l.suspects.dirty = true
		op, err := l.suspectsOp()
		if err != nil || op.Size() > store.MaxTxnBytes*5/8 {
			t.Errorf("%d suspects take %d bytes, %v", n, op.Size(), err)
		}
		var m storepb.Suspects
		if err := record.Decode(op.Value, &m); err != nil || len(m.GetSuspects()) != n {
			t.Errorf("%d of %d suspects, %v", len(m.GetSuspects()), n, err)
		}
		if got := m.GetSuspects()[0].GetWorkers(); n < 200 && len(got) != 8 || n == 200 && (len(got) == 0 || got[len(got)-1] != long(7)) {
			t.Errorf("of %d suspects one has the workers %s", n, strings.Join(got, " "))
		}
		if !slices.IsSortedFunc(m.GetSuspects(), func(a, b *storepb.Suspect) int { return strings.Compare(a.GetTask(), b.GetTask()) }) {
			t.Error("not in order")
		}
	}
}
