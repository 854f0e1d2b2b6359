package sessions_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// past brings the store to a revision: whoever holds a later generation proves that the
// store went back.
func (b *bench) past(revision int64) {
	for b.und.Revision() < revision {
		b.put(store.Op{Key: store.JoinKey})
	}
}

// TestAcksOfGrantsThatComeBack: what a worker says at its new connection of grants that a
// scheduler could not read for a while is written down as soon as it can: what runs is
// known to run, under its generation.
func TestAcksOfGrantsThatComeBack(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		b.past(10)
		c, w := b.join(info("w"), 0)
		b.declare("w", w.GetSession(), 10, nil, rota.Task{ID: "a"}, rota.Task{ID: "b"})
		c.say(acks(ack("a", 10, ownership.Running), ack("b", 10, ownership.Running)))
		pages, _, err := b.st.Range(b.t.Context(), store.WorkerGrants("w"))
		if err != nil || len(pages) == 0 {
			b.t.Fatal(pages, err)
		}
		said, _, err := b.st.Range(b.t.Context(), store.WorkerAcks("w"))
		if err != nil || len(said) == 0 {
			b.t.Fatal(said, err)
		}
		var bad, good []store.Op
		for _, kv := range pages {
			bad = append(bad, store.Op{Key: kv.Key, Value: []byte("garbage")})
			good = append(good, store.Op{Key: kv.Key, Value: kv.Value})
		}
		for _, kv := range said { // what was said is lost, too
			bad = append(bad, store.Op{Key: kv.Key, Delete: true})
		}
		b.put(bad...)
		c.stop()
		// Another scheduler, which has never seen what was there.
		v := view.New(b.st, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = v.Run(ctx)
		}()
		srv := sessions.New(sessions.Config{Store: b.st, View: v, Scheduler: "s2"})
		defer func() {
			srv.Close()
			cancel()
			<-ended
		}()
		first := b.srv
		b.srv = srv
		defer func() { b.srv = first }()
		synctest.Wait()
		held := []*rotav1.Ack{ack("a", 10, ownership.Running), ack("b", 10, ownership.Stopping)}
		d := b.dial()
		d.say(hello(info("w"), w.GetSession(), held...))
		if r, _ := last(d, (*rotav1.ToWorker).GetRefused); r.GetCode() != rotav1.Refused_CODE_UNAVAILABLE || !strings.Contains(r.GetText(), "cannot be read") {
			b.t.Errorf("while its grants cannot be read: %v", r)
		}
		b.put(good...) // whoever knew them has written them again
		b.join(info("w"), w.GetSession(), held...)
		for task, state := range map[string]ownership.State{"a": ownership.Running, "b": ownership.Stopping} {
			if a := b.ack("w", task); a.State != state || a.Generation != 10 {
				b.t.Errorf("%s is %+v, want %s", task, a, state)
			}
		}
		kvs, _, err := b.st.Range(b.t.Context(), store.WorkerAcks("w"))
		if err != nil || len(kvs) == 0 || kvs[0].Lease != store.LeaseID(w.GetLease()) {
			b.t.Errorf("what it said is bound to %v, %v; want the session's lease", kvs, err)
		}
	})
}

// TestAckOfAGrantThatIsGrantedAnew: what was said of a grant that was released and is
// granted again stays, whatever is cleared away of those that were released; and what is
// said of the earlier grant counts for nothing.
func TestAckOfAGrantThatIsGrantedAnew(t *testing.T) {
	t.Parallel()
	for _, reconnects := range []bool{false, true} {
		t.Run(fmt.Sprintf("reconnects %v", reconnects), func(t *testing.T) {
			t.Parallel()
			bubble(t, sessions.Config{}, func(b *bench) {
				b.past(20)
				c, w := b.join(info("w"), 0)
				var tasks []rota.Task
				var said []*rotav1.Ack
				var ids []string
				for n := range 80 {
					id := fmt.Sprintf("t%03d", n)
					tasks, ids = append(tasks, rota.Task{ID: id}), append(ids, id)
					said = append(said, ack(id, 10, ownership.Running))
				}
				b.declare("w", w.GetSession(), 10, nil, tasks...)
				c.say(acks(said...))
				b.declare("w", 0, 0, ids[:1]) // released, and too few for a write of their own
				b.declare("w", w.GetSession(), 20, nil, tasks[0])
				if reconnects {
					c.stop()
					time.Sleep(time.Second)
					c, _ = b.join(info("w"), w.GetSession(), append(said[1:], ack(ids[0], 20, ownership.Running))...)
				} else {
					c.say(acks(ack(ids[0], 20, ownership.Running)))
				}
				c.say(acks(ack(ids[0], 10, ownership.Stopped))) // late
				b.declare("w", 0, 0, ids[1:])                   // now all that were released are cleared away
				time.Sleep(time.Second)
				synctest.Wait()
				if a := b.ack("w", ids[0]); a.State != ownership.Running || a.Generation != 20 {
					b.t.Errorf("it is %+v, want it to run under 20", a)
				}
				b.v.Read(func() {
					if n := b.v.Acks["w"].Len(); n != 1 {
						b.t.Errorf("%d acknowledgements, want 1", n)
					}
				})
			})
		})
	}
}
