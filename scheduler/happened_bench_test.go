package scheduler

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/mailbox"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// passing is a leader of so many tasks on so many workers, whose store does nothing else.
type passing struct {
	*leader
	st *memory.Store
}

func newPassing(b *testing.B, tasks, workers int, limits EventLimits) *passing {
	b.Helper()
	st := memory.New()
	s, err := New(Config{Store: st, Name: "s1", Events: limits})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = s.view.Run(ctx); close(done) }()
	b.Cleanup(func() {
		s.events.Close()
		s.sessions.Close()
		s.capacity.Close()
		cancel()
		<-done
		st.Close()
	})
	planner, err := placement.New(placement.Options{})
	if err != nil {
		b.Fatal(err)
	}
	p := &passing{st: st, leader: &leader{
		s: s, planner: planner, moving: map[rota.Instance]string{}, workers: map[string]bool{}, graceUntil: map[string]time.Time{},
		held: map[string]*heldList{}, suspects: newSuspects(0, time.Now()), inbox: mailbox.New[*view.Delta](),
	}}
	for n := range workers {
		name := fmt.Sprintf("w%04d", n)
		p.put(b, store.SessionKey(name), &storepb.Session{Version: record.Version, Name: name, AnyKind: true})
		p.workers[name] = true
	}
	for n := range tasks {
		if err := planner.SetTask(rota.Task{ID: fmt.Sprintf("task-%07d", n), Weight: 1}); err != nil {
			b.Fatal(err)
		}
	}
	return p
}

func (p *passing) put(b *testing.B, key string, m record.Versioned) {
	b.Helper()
	value, err := record.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	_, rev, err := p.st.Txn(b.Context(), nil, []store.Op{{Key: key, Value: value}})
	if err == nil {
		err = p.s.view.Wait(b.Context(), rev)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPass is a pass that empties a worker, or fills it again, and learning that
// all of that was granted: with events and without. Store writes of events, and what
// they take, are told beside it.
//
//	go test -run '^$' -bench Pass -count 5 ./scheduler
func BenchmarkPass(b *testing.B) {
	const workers = 100
	for _, tasks := range []int{10_000, 100_000} {
		for _, c := range []struct {
			name   string
			limits EventLimits
		}{{"off", EventLimits{Keep: -1}}, {"on", EventLimits{}}} {
			b.Run(fmt.Sprintf("tasks=%d/events=%s", tasks, c.name), func(b *testing.B) {
				p := newPassing(b, tasks, workers, c.limits)
				p.pass(time.Now())
				moved := 0
				for n := 0; b.Loop(); n++ {
					b.StopTimer()
					name := fmt.Sprintf("w%04d", n/2%workers)
					p.put(b, store.NodeKey(name), &storepb.Node{Version: record.Version, Name: name, Draining: n%2 == 0})
					p.workers[name] = true
					grants := map[string][]table.Change[record.Grant]{}
					all := tasks / workers
					for i := range all { // about as many as move
						g := &record.Grant{Grant: ownership.Grant{Instance: rota.Instance{Task: fmt.Sprintf("task-%07d", i)}, Generation: rota.Generation(n + 1), Reason: "worker w0001 is draining"}}
						to := fmt.Sprintf("w%04d", i%workers)
						grants[to] = append(grants[to], table.Change[record.Grant]{Key: g.Instance.Task, New: g})
					}
					moved += all
					b.StartTimer()
					p.pass(time.Now())
					p.recordGrants(grants)
				}
				b.StopTimer()
				p.s.events.Close()
				if counts := p.s.events.Counts(); counts.Recorded > 0 {
					b.ReportMetric(float64(counts.Writes)/float64(moved), "writes/move")
					b.ReportMetric(float64(counts.Bytes)/float64(counts.Recorded), "B/event")
					b.ReportMetric(float64(counts.Writes)/b.Elapsed().Seconds(), "writes/s")
				}
			})
		}
	}
}
