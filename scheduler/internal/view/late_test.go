package view_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// held is a store whose watches say nothing until they are let go, and then one
// revision at a time.
type held struct {
	store.Store
	gone chan struct{}
}

func (h held) Watch(ctx context.Context, prefix string, from int64) <-chan store.Batch {
	in, out := h.Store.Watch(ctx, prefix, from), make(chan store.Batch)
	go func() {
		defer close(out)
		<-h.gone
		for b := range in {
			for _, one := range byRevision(b) {
				select {
				case out <- one:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// byRevision takes a batch apart.
func byRevision(b store.Batch) (out []store.Batch) {
	for _, e := range b.Events {
		if n := len(out); n == 0 || out[n-1].Revision != e.Mod {
			out = append(out, store.Batch{Revision: e.Mod})
		}
		last := &out[len(out)-1]
		last.Events = append(last.Events, e)
	}
	if len(out) == 0 || b.Err != nil {
		return []store.Batch{b}
	}
	return out
}

// TestLateWatch: what a scheduler wrote itself stands when the watch tells of the time
// before, also where its last write left a worker nothing. Nothing that was revoked or
// taken back is granted again for an instant, and in the end the worker is forgotten.
func TestLateWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		h := held{st, make(chan struct{})}
		v := view.New(h, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- v.Run(ctx) }()
		synctest.Wait()

		grants, acks := record.NewGrants("w"), record.NewAcks("w")
		last := int64(0)
		write := func(units []table.Unit, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			r := (commit.Writer{Txn: st.Txn, Done: v.Applied}).Together(ctx, units...)
			if !r.OK {
				t.Fatal(r.Err)
			}
			events := table.Events(units, r.Revision)
			grants.Apply(events)
			acks.Apply(events)
			last = r.Revision
		}
		revoked := grantOf("b", 1)
		revoked.Revoked = true
		stopped := ackOf("b", 1)
		stopped.State = ownership.Stopped
		write(grants.Stage([]record.Grant{grantOf("a", 1), grantOf("b", 1)}, nil))
		write(acks.Stage([]record.Ack{ackOf("a", 1), ackOf("b", 1)}, nil))
		write(grants.Stage([]record.Grant{revoked}, nil))
		write(acks.Stage([]record.Ack{stopped}, nil))
		write(grants.Stage(nil, []string{"a", "b"}))
		write(acks.Stage(nil, []string{"a", "b"}))
		if grants.Len()+acks.Len() > 0 {
			t.Fatal("the keys of records are others")
		}
		sub := v.Subscribe(func() {}, func(d *view.Delta) {
			for _, c := range d.Grants["w"] {
				t.Errorf("late: grant %s: %+v", c.Key, c.New)
			}
			for _, c := range d.Acks["w"] {
				t.Errorf("late: ack %s: %+v", c.Key, c.New)
			}
		})
		close(h.gone)
		if err := v.Wait(ctx, last); err != nil {
			t.Fatal(err)
		}
		v.Read(func() {
			if v.Grants["w"] != nil || v.Acks["w"] != nil {
				t.Error("the worker is not forgotten")
			}
		})
		sub.Close()
		cancel()
		<-ended
		st.Close()
	})
}
