package etcd

import (
	"testing"

	"github.com/rota-project/rota/store"
)

// TestGuarded: only what cannot be done twice is asked of several members.
func TestGuarded(t *testing.T) {
	t.Parallel()
	put := store.Op{Key: "a"}
	for name, c := range map[string]struct {
		cond store.Cond
		op   store.Op
		want bool
	}{
		"written if unchanged":          {store.Cond{Key: "a", By: store.ByMod, Revision: 3}, put, true},
		"deleted if unchanged":          {store.Cond{Key: "a", By: store.ByMod, Revision: 3}, store.Op{Key: "a", Delete: true}, true},
		"deleted if the same":           {store.Cond{Key: "a", By: store.ByCreate, Revision: 3}, store.Op{Key: "a", Delete: true}, true},
		"written if the same":           {store.Cond{Key: "a", By: store.ByCreate, Revision: 3}, put, false},
		"made if absent":                {store.Cond{Key: "a", By: store.ByMod}, put, false}, // it may be deleted meanwhile
		"made if absent, under a lease": {store.Cond{Key: "a", By: store.ByCreate}, store.Op{Key: "a", Lease: 7}, true},
		"deleted if absent":             {store.Cond{Key: "a", By: store.ByMod}, store.Op{Key: "a", Delete: true}, false},
		"another's condition":           {store.Cond{Key: "b", By: store.ByMod, Revision: 3}, put, false},
	} {
		if got := guarded([]store.Cond{c.cond}, []store.Op{c.op}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if guarded(nil, []store.Op{put}) {
		t.Error("without a condition it is guarded")
	}
}
