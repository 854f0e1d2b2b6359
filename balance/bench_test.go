package balance_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota/balance"
)

func set(n int) *balance.Set {
	var s balance.Set
	var ms []balance.Member
	for i := range n {
		ms = append(ms, balance.Member{Worker: balance.NewWorker(fmt.Sprintf("http://w%d:80", i)), Weight: 1})
	}
	s.Update(ms)
	return &s
}

// splitmix is the random source that the callers hand in.
type splitmix uint64

func (s *splitmix) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// BenchmarkPick times a pick with its reservation; ns/op is the pick and its
// release together, pick-ns the pick alone. 512 calls are in flight.
func BenchmarkPick(b *testing.B) {
	for _, name := range balance.Names() {
		rule, err := balance.RuleByName(name, 3)
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				s := set(n)
				b.ReportAllocs()
				benchPick(b, s, rule, n)
			})
		}
	}
}

func benchPick(b *testing.B, s *balance.Set, rule balance.Rule, n int) {
	var fns [16]*balance.Fn
	var owners [16]string
	for i := range fns {
		fns[i] = balance.NewFn(fmt.Sprintf("f%d", i), []string{fmt.Sprintf("p%d", i%7), "six"})
		owners[i] = fmt.Sprintf("http://w%d:80", i%n)
	}
	flying := make([]balance.Pick, max(512, n/2))
	rnd := splitmix(1)
	call := &balance.Call{}
	var picking time.Duration
	i, at := 0, 0
	const batch = 512 // one reading of the clock for so many picks
	rnds := [batch]uint64{}
	for b.Loop() {
		if i%batch == 0 {
			for j := range batch {
				flying[(at+j)%len(flying)].Done(int64(i)*1000, 20_000)
				rnds[j] = rnd.next()
			}
			begin := time.Now()
			for j := range batch {
				call.Fn, call.Owner, call.Rand, call.Now = fns[j&15], owners[j&15], rnds[j], int64(i)*1000
				call.Key = call.Rand
				if s.Pick(rule, call, &flying[at]) == nil {
					b.Fatal("no worker")
				}
				if at++; at == len(flying) {
					at = 0
				}
			}
			picking += time.Since(begin)
		}
		i++
	}
	b.ReportMetric(float64(picking.Nanoseconds())/float64((i+batch-1)/batch*batch), "pick-ns")
}

// BenchmarkPickParallel is BenchmarkPick from several goroutines on one Set.
func BenchmarkPickParallel(b *testing.B) {
	for _, name := range []string{"smart", "least-loaded", "pkg-aware", "p2c"} {
		rule, err := balance.RuleByName(name, 3)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/100", func(b *testing.B) {
			s := set(100)
			fn := balance.NewFn("f", []string{"p"})
			var mu sync.Mutex
			seed := splitmix(7)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				mu.Lock()
				rnd := splitmix(seed.next())
				mu.Unlock()
				call := &balance.Call{Fn: fn}
				var p balance.Pick
				for pb.Next() {
					call.Rand = rnd.next()
					call.Now++
					s.Pick(rule, call, &p)
					p.Done(call.Now, 1000)
				}
			})
		})
	}
}
