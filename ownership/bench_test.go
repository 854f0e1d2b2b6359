package ownership_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// loaded is a ledger of n instances that run on 100 workers.
func loaded(n int) *ownership.Ledger {
	l := &ownership.Ledger{}
	for w := range 100 {
		l.Session(fmt.Sprint("w", w), int64(w+1))
	}
	for i := range n {
		in, w := rota.Instance{Task: fmt.Sprint("task-", i)}, i%100
		worker := fmt.Sprint("w", w)
		l.Target(in, ownership.Target{Worker: worker, Spec: 1})
		l.Record(worker, ownership.Grant{Instance: in, Generation: 1, Session: int64(w + 1), Spec: 1}, false)
		l.Ack(worker, in, 1, ownership.Running)
	}
	return l
}

func BenchmarkLedgerLoad(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if e := loaded(n).Ready(2); !e.Empty() {
					b.Fatal("a loaded ledger has something to do")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/instance")
		})
	}
}

// One of 100 workers is lost: what it held is released, granted to another and
// runs there. The cost must go with what it held, not with the ledger.
func BenchmarkLedgerWorkerLost(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := loaded(n)
			l.Ready(2)
			at, other := "w0", "w100"
			gen, held := 3, n/100
			b.ReportAllocs()
			for b.Loop() {
				l.Session(other, int64(1000+gen))
				l.Session(at, 0)
				for i := 0; i < n; i += 100 {
					l.Target(rota.Instance{Task: fmt.Sprint("task-", i)}, ownership.Target{Worker: other, Spec: 1})
				}
				e := l.Ready(rota.Generation(gen))
				if len(e.Release) != held || len(e.Grant) != held {
					b.Fatalf("%d released, %d granted", len(e.Release), len(e.Grant))
				}
				record(l, e)
				for _, g := range e.Grant {
					l.Ack(other, g.Instance, g.Generation, ownership.Running)
				}
				if e := l.Ready(rota.Generation(gen + 1)); !e.Empty() {
					b.Fatal("something is left to do")
				}
				gen += 2
				at, other = other, at
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(held), "ns/moved")
		})
	}
}

// All of n instances are to move, few at a time: each step must not look at
// those that wait.
func BenchmarkLedgerLimitedMoves(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := loaded(n)
			l.Limits = ownership.Limits{InAll: 32, PerWorker: 4}
			l.Ready(2)
			gen, moved, turn := 3, 0, 0
			aim := func() {
				turn++
				for i := range n {
					l.Target(rota.Instance{Task: fmt.Sprint("task-", i)}, ownership.Target{Worker: fmt.Sprint("w", (i+turn)%100), Spec: 1})
				}
			}
			aim()
			b.ReportAllocs()
			for b.Loop() {
				e := l.Ready(rota.Generation(gen))
				if e.Empty() {
					b.StopTimer()
					aim()
					b.StartTimer()
				}
				record(l, e)
				for _, r := range e.Revoke {
					l.Ack(r.Worker, r.Instance, r.Generation, ownership.Stopped)
				}
				for _, g := range e.Grant {
					l.Ack(g.Worker, g.Instance, g.Generation, ownership.Running)
				}
				moved += len(e.Grant)
				gen++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(max(moved, 1)), "ns/moved")
		})
	}
}

func BenchmarkHolderGiveTake(b *testing.B) {
	const n = 10_000
	orders := make([]ownership.Order, n)
	for i := range orders {
		orders[i] = ownership.Order{Instance: rota.Instance{Task: fmt.Sprint("task-", i)}}
	}
	h := ownership.NewHolder(ownership.DefaultTrust(5 * time.Second))
	h.Sent(1, 0)
	h.Renewed(1, 5*time.Second, 0)
	gen := rota.Generation(1)
	b.ReportAllocs()
	for b.Loop() {
		for i := range orders {
			orders[i].Generation = gen
		}
		if got := h.Give(orders, 0); len(got) != n {
			b.Fatalf("%d started", len(got))
		}
		for _, o := range orders {
			h.Called(o.Instance, 0)
		}
		for _, o := range orders {
			h.Take(o.Instance, gen, 0)
			h.Returned(o.Instance, "", ownership.Exit{}, 0)
		}
		if got := h.Acks(); len(got) != n || !h.Empty() {
			b.Fatalf("%d acknowledged", len(got))
		}
		gen++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/instance")
}

// Of 10,000 one fails and is called again: the others must not be looked at.
func BenchmarkHolderRestartOneOfMany(b *testing.B) {
	const n = 10_000
	var orders []ownership.Order
	for i := range n {
		orders = append(orders, ownership.Order{Instance: rota.Instance{Task: fmt.Sprint("task-", i)}, Generation: 1})
	}
	trust := ownership.DefaultTrust(5 * time.Second)
	trust.Backoff, trust.BackoffMax = time.Millisecond, time.Millisecond
	h := ownership.NewHolder(trust)
	now, seq := ownership.Time(0), uint64(1)
	renew := func() {
		seq++
		h.Sent(seq, now)
		h.Renewed(seq, 5*time.Second, now)
	}
	renew()
	h.Give(orders, now)
	b.ReportAllocs()
	for b.Loop() {
		renew()
		h.Returned(orders[0].Instance, "failed", ownership.Exit{}, now)
		at, ok := h.Next(now)
		if !ok {
			b.Fatal("nothing is waited for")
		}
		now = at
		if len(h.Tick(now)) != 1 {
			b.Fatal("not called again")
		}
		h.Acks()
	}
}
