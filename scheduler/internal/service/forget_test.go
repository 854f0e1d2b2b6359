package service_test

import (
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
)

// TestForgetWorker: a worker is forgotten that is lost or away, with its drain, and none
// that lives or may come back to what it runs.
func TestForgetWorker(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply("a")
		b.worker("w1", false)
		remembered := func(n *storepb.Node) store.Op {
			n.Version = 1
			return store.Op{Key: store.NodeKey(n.GetName()), Value: b.value(n)}
		}
		b.put(remembered(&storepb.Node{Name: "w1", Cordoned: true}), remembered(&storepb.Node{Name: "lost", LostUnixMs: 1, Draining: true}),
			remembered(&storepb.Node{Name: "away", LostUnixMs: 1, Last: &storepb.Session{Leaving: true}}), remembered(&storepb.Node{Name: "back", LostUnixMs: 1}))
		b.grant("back", "a", 1, false, ownership.Running)
		for _, c := range []struct {
			name string
			code codes.Code
			said string // an error, or the state that it was in
		}{
			{"lost", codes.OK, "lost"},
			{"lost", codes.NotFound, `"lost"`},
			{"away", codes.OK, "away"},
			{"w1", codes.FailedPrecondition, "is cordoned: only one that is lost or away"},
			{"back", codes.FailedPrecondition, "may come back to 1 instance"},
			{"", codes.NotFound, `""`},
		} {
			w, err := b.svc.ForgetWorker(b.Context(), &rotav1.WorkerRequest{Name: c.name})
			if c.code != codes.OK {
				b.wants(err, c.code, c.said, "")
			} else if err != nil || w.GetState() != c.said {
				b.Errorf("forget %s: %v, %v", c.name, w, err)
			}
		}
		l, err := b.svc.ListWorkers(b.Context(), &rotav1.ListWorkersRequest{})
		if err != nil || len(l.GetWorkers()) != 2 {
			b.Errorf("left are %v, %v", l, err)
		}
	})
}
