package sessions_test

import (
	"testing"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// TestAllRunningIsTold: workers are told that all runs while a leader that leads
// says so, nothing has changed since, and the picture is fresh.
func TestAllRunningIsTold(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, w := b.join(info("w"), 0)
		wants := func(all bool, when string) {
			b.t.Helper()
			if s, _ := last(c, (*rotav1.ToWorker).GetCluster); s.GetAllRunning() != all {
				b.t.Errorf("%s: all run: %v", when, !all)
			}
		}
		seq := uint64(100)
		renew := func() {
			seq++
			c.say(&rotav1.FromWorker{Body: &rotav1.FromWorker_Renew{Renew: &rotav1.Renew{Seq: seq}}})
		}
		lead := func(name string) (epoch int64) {
			lease, _, err := b.und.Grant(b.t.Context(), 1000*time.Hour)
			if err != nil {
				b.t.Fatal(err)
			}
			b.put(store.Op{Key: store.LeaderKey, Lease: lease, Value: encode(b, &storepb.Leader{Version: 1, Name: name})})
			b.v.Read(func() { epoch = b.v.Leader.Epoch })
			return epoch
		}
		say := func(epoch int64) {
			b.put(store.Op{Key: store.ClusterKey, Value: encode(b, &storepb.Cluster{Version: 1, Started: true, AllRunning: true, Epoch: epoch})})
		}
		wants(false, "nobody leads")
		first := lead("one")
		wants(false, "the leader has said nothing")
		say(first)
		wants(true, "the leader says so")
		b.put(store.Op{Key: store.LeaderKey, Delete: true})
		wants(false, "the leader is gone")
		second := lead("two")
		wants(false, "the next one has said nothing")
		say(second)
		wants(true, "the next one says so")

		b.declare("w", w.GetSession(), 10, nil, rota.Task{ID: "a"})
		wants(false, "a task was declared")
		c.say(acks(ack("a", 10, ownership.Running)))
		wants(true, "it runs")
		for range 20 {
			b.next(faulty.Get, faulty.Fault{Refuse: true})
			time.Sleep(200 * time.Millisecond)
			renew()
		}
		wants(false, "the store has not confirmed the picture for four seconds")
		time.Sleep(2 * time.Second)
		renew()
		wants(true, "it has again")
	})
}
