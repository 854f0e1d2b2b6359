package view_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taken is a kind of work that workers say they take.
var taken = &view.Kind{TakerKey: store.JobWorkerKey, Taker: func() view.Taker { return &storepb.JobWorker{} }}

// bubble runs a test on a fake clock with a view of a store with faults.
func bubble(t *testing.T, decide faulty.Decide, test func(t *testing.T, v *view.View, st *faulty.Store, under *memory.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		under := memory.New()
		st := faulty.New(under, decide)
		v := view.New(st, slog.New(slog.DiscardHandler))
		v.Attach(taken)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- v.Run(ctx) }()
		synctest.Wait()
		test(t, v, st, under)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		st.Close()
		under.Close()
	})
}

func encode(t interface{ Fatal(args ...any) }, m proto.Message) []byte {
	b, err := record.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// must does a transaction without conditions.
func must(t interface{ Fatal(args ...any) }, st store.Store, ops ...store.Op) int64 {
	ok, rev, err := st.Txn(context.Background(), nil, ops)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return rev
}

func grantOf(task string, gen int64) record.Grant {
	return record.Grant{Grant: ownership.Grant{Instance: rota.Instance{Task: task}, Generation: rota.Generation(gen), Session: 1}}
}

func ackOf(task string, gen int64) record.Ack {
	return record.Ack{
		Ack: ownership.Ack{Instance: rota.Instance{Task: task}, Generation: rota.Generation(gen), State: ownership.Running}, Load: -1,
	}
}
