package sessions

import (
	"context"
	"fmt"
	"strings"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/offer"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// bound refuses a worker whose name is that of a pool's worker, and which has not joined
// by its token, is not wanted any more, or is not what the template of its pool says.
func (s *Server) bound(ctx context.Context, info *rotav1.WorkerInfo) (*rotav1.ToWorker, error) {
	name := info.GetName()
	if !strings.HasPrefix(name, engine.NamePrefix) {
		return nil, nil //nolint:nilnil // nothing is to be said
	}
	ctx, cancel := timeout(ctx)
	defer cancel()
	// Not from the view: it may have joined a moment ago, at another scheduler.
	kv, ok, _, err := s.cfg.Store.Get(ctx, store.PoolWorkerKey(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", store.PoolWorkerKey(name), err)
	}
	m := &storepb.PoolWorker{}
	if ok {
		if err := record.Decode(kv.Value, m); err != nil {
			return nil, fmt.Errorf("key %s: %w", kv.Key, err)
		}
	}
	if m.GetJoinedUnixMs() == 0 {
		return refuse(rotav1.Refused_CODE_INVALID, fmt.Sprintf(
			"worker %s belongs to no pool: names that begin with %q are reserved for workers that a pool started and that joined with their token", name, engine.NamePrefix), 0), nil
	}
	t := m.GetTemplate()
	template := engine.Template{Zone: t.GetZone(), Labels: t.GetLabels(), Kinds: t.GetKinds(), Capacity: t.GetCapacity()}
	err = template.Binds(rota.Worker{Zone: info.GetZone(), Labels: info.GetLabels(), Kinds: info.GetKinds(), Capacity: info.GetCapacity()}, func(label string) bool {
		return offer.Reserved(label) || strings.HasPrefix(label, "program.")
	})
	if err != nil {
		return refuse(rotav1.Refused_CODE_INVALID, fmt.Sprintf("worker %s of pool %s: %v", name, m.GetPool(), err), 0), nil
	}
	return nil, nil //nolint:nilnil // it is as it should be
}
