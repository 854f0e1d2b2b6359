package balance_test

import (
	"fmt"
	"runtime"
	"slices"
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

// batch is how many picks or releases share one reading of the clock.
const batch = 64

// picking is a caller of one Set that keeps two calls a worker in flight and
// times picks with their reservations, and releases, apart.
type picking struct {
	s           *balance.Set
	rule        balance.Rule
	fns         []*balance.Fn
	owners      []string
	flying      []balance.Pick
	at          int
	rnd         splitmix
	now         int64
	call        balance.Call
	pick, freed []time.Duration // of each batch
}

func newPicking(s *balance.Set, rule balance.Rule, fns []*balance.Fn, seed uint64, callers int) *picking {
	p := &picking{s: s, rule: rule, fns: fns, rnd: splitmix(seed)}
	for i := range 16 {
		p.owners = append(p.owners, s.Workers()[i%len(s.Workers())].Name())
	}
	p.flying = make([]balance.Pick, batch+2*len(s.Workers())/callers)
	for range 4 * len(p.flying) / batch { // until it goes round
		p.step()
	}
	p.pick, p.freed = nil, nil
	return p
}

// step ends the batch of calls that is in flight longest, and begins another.
func (p *picking) step() {
	p.now += 1e6
	begin := time.Now()
	at := p.at
	for range batch {
		p.flying[at].Done(p.now, 20e6)
		if at++; at == len(p.flying) {
			at = 0
		}
	}
	freed := time.Now()
	at = p.at
	for i := range batch {
		p.call.Fn, p.call.Owner = p.fns[i&15], p.owners[i&15]
		p.call.Rand, p.call.Now = p.rnd.next(), p.now
		p.call.Key = p.call.Rand | 1
		if p.s.Pick(p.rule, &p.call, &p.flying[at]) == nil {
			panic("no worker")
		}
		if at++; at == len(p.flying) {
			at = 0
		}
	}
	p.pick = append(p.pick, time.Since(freed))
	p.freed = append(p.freed, freed.Sub(begin))
	p.at = at
}

// report shows the median batch: a batch of microseconds is seldom interrupted,
// so that what else the machine does hardly shows.
func report(b *testing.B, unit string, batches []time.Duration) {
	slices.Sort(batches)
	b.ReportMetric(float64(batches[len(batches)/2].Nanoseconds())/batch, unit)
}

func functions() []*balance.Fn {
	var fns []*balance.Fn
	for i := range 16 {
		fns = append(fns, balance.NewFn(fmt.Sprintf("f%d", i), []string{fmt.Sprintf("p%d", i%7), "six"}))
	}
	return fns
}

// BenchmarkPick times a pick with its reservation (pick-ns) and a release
// (release-ns) apart, with two calls a worker in flight.
func BenchmarkPick(b *testing.B) {
	for _, name := range balance.Names() {
		rule, err := balance.RuleByName(name, 4)
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				p := newPicking(set(n), rule, functions(), 1, 1)
				b.ReportAllocs()
				b.ResetTimer()
				for range (b.N + batch - 1) / batch {
					p.step()
				}
				report(b, "pick-ns", p.pick)
				report(b, "release-ns", p.freed)
			})
		}
	}
}

// BenchmarkPickParallel is BenchmarkPick from as many goroutines as there are
// CPUs, on one Set and the same functions.
func BenchmarkPickParallel(b *testing.B) {
	for _, name := range balance.Names() {
		rule, err := balance.RuleByName(name, 4)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/100", func(b *testing.B) {
			s, fns := set(100), functions()
			var pick, freed []time.Duration
			b.ReportAllocs()
			var wg sync.WaitGroup
			var mu sync.Mutex
			callers := runtime.GOMAXPROCS(0)
			for g := range callers {
				wg.Go(func() {
					p := newPicking(s, rule, fns, uint64(g)+1, callers)
					for range (b.N + callers*batch - 1) / (callers * batch) {
						p.step()
					}
					mu.Lock()
					defer mu.Unlock()
					pick, freed = append(pick, p.pick...), append(freed, p.freed...)
				})
			}
			wg.Wait()
			report(b, "pick-ns", pick)
			report(b, "release-ns", freed)
		})
	}
}
