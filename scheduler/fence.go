package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/store"
)

// Fence makes a store that was restored from a backup one to go on from, before any
// scheduler runs on it. It waits until no worker can trust a lease that was renewed
// before: what such a worker runs the backup need not know. Then it forgets who lived
// and who was granted what, so that everything is granted anew, under generations that
// are greater than all before, and no session of before goes on.
func Fence(ctx context.Context, st store.Store, lease time.Duration) error {
	wait := time.NewTimer(time.Duration(float64(lease) * (1 + drift)))
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
	}
	kvs, _, err := st.Range(ctx, "")
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	lived := map[store.LeaseID]bool{} // workers, by the leases of their sessions
	for _, kv := range kvs {
		if strings.HasPrefix(kv.Key, store.SessionsPrefix) && kv.Lease != 0 {
			lived[kv.Lease] = true
		}
	}
	var units []table.Unit
	for _, kv := range kvs {
		// What else goes with a worker's session says what kinds of work it takes.
		if lived[kv.Lease] || slices.ContainsFunc(forgotten, func(prefix string) bool { return strings.HasPrefix(kv.Key, prefix) }) {
			units = append(units, table.Unit{Ops: []store.Op{{Key: kv.Key, Delete: true}}})
		}
	}
	for r := range (commit.Writer{Txn: st.Txn}).Write(ctx, units) {
		if r.Err != nil {
			return fmt.Errorf("fence: %w", r.Err)
		}
	}
	return nil
}

var forgotten = []string{store.LeaderKey, store.SchedulersPrefix, store.SessionsPrefix, store.GrantsPrefix, store.AcksPrefix}
