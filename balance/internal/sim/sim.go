// Package sim tries picking rules on real popularity of functions and real costs
// of Python packages: a deterministic simulation of workers with cores, memory,
// warm instances and package caches, on a clock of its own.
//
// Tests call it; one of them writes docs/policies.md. It runs the rules of package
// balance as they are, beside twins of published ones. It must never depend on
// the machine's clock or speed: one seed gives one result.
package sim

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"sort"
)

// Fleet says what the workers are. Times are in milliseconds.
type Fleet struct {
	Workers int
	// Cores is how many instances of a worker run at once; what is above waits
	// in the worker's queue, first come, first served.
	Cores int
	// MemoryMB bounds the instances, idle and busy, of a worker: idle ones give
	// way, the longest unused first.
	MemoryMB float64
	// CacheMB bounds the unpacked packages of a worker: least recently used go.
	CacheMB float64
	// KeepAlive is how long an idle instance stays.
	KeepAlive float64
	// Sandbox is what an empty instance takes to create, in time and memory.
	Sandbox, SandboxMB float64
	// Slow makes the first so many workers half as fast.
	Slow int
}

// Workload says what is called.
type Workload struct {
	Functions []Function
	Calls     int
	// Load is the part of all cores that is busy if every call were warm.
	Load float64
	// Burst is how much busier the busy minutes are than the quiet ones; 1 is even.
	Burst float64
}

// Function is one function of a workload.
type Function struct {
	Name     string
	Share    float64 // of all calls
	Packages []Package
	// Exec is the mean time of a warm call; single calls vary around it.
	Exec float64
}

// Package is a package with its costs.
type Package struct {
	Name                string
	Install, Import, MB float64 // ms, MB of memory
	DiskMB              float64
}

// Picker chooses a worker for a call of function f. It is told when calls end
// and when instances go.
type Picker interface {
	Name() string
	Reset(workers int, fns []Function, seed uint64)
	Pick(f int, now float64) int
	Done(f, w int, now, took float64)
	Evicted(f, w int)
}

// Result is what one run shows. Times are in milliseconds.
type Result struct {
	Mean, P50, P80, P99 float64
	// Cold is the share of calls that had to start an instance.
	Cold float64
	// Uneven is the coefficient of variation of calls over the workers.
	Uneven float64
	Calls  int
}

type event struct {
	at   float64
	seq  int
	kind uint8 // 0 arrival, 1 end
	job  *job
}

type events []event

func (e *events) Len() int { return len(*e) }
func (e *events) Less(i, j int) bool {
	a, b := (*e)[i], (*e)[j]
	if a.at != b.at {
		return a.at < b.at
	}
	return a.seq < b.seq
}
func (e *events) Swap(i, j int) { (*e)[i], (*e)[j] = (*e)[j], (*e)[i] }
func (e *events) Push(x any)    { *e = append(*e, x.(event)) } //nolint:forcetypeassert // heap hands back what it got
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

type job struct {
	f, w  int
	begun float64 // arrival
	exec  float64
}

// idle is an instance that waits for a call.
type idle struct {
	f     int
	since float64
}

type machine struct {
	busy  int
	queue []*job
	idle  []idle // oldest first
	memMB float64
	// cache is what is unpacked: name → last use.
	cache  map[string]float64
	diskMB float64
	speed  float64
	calls  int
}

// Run simulates the workload with the picker.
func Run(fleet Fleet, load Workload, p Picker, seed uint64) Result {
	s := &run{fleet: fleet, fns: load.Functions, p: p, rnd: rand.New(rand.NewPCG(seed, 0x5eed))}
	for i := range fleet.Workers {
		speed := 1.0
		if i < fleet.Slow {
			speed = 0.5
		}
		s.ms = append(s.ms, &machine{cache: map[string]float64{}, speed: speed})
	}
	p.Reset(fleet.Workers, load.Functions, seed)
	s.arrivals(load)
	var times []float64
	warmup := load.Calls / 5
	for s.ev.Len() > 0 {
		e := heap.Pop(&s.ev).(event) //nolint:forcetypeassert // nothing else is in it
		s.now = e.at
		if e.kind == 0 {
			w := p.Pick(e.job.f, s.now)
			e.job.w = w
			s.ms[w].calls++
			s.begin(e.job)
			continue
		}
		s.end(e.job)
		if s.ended++; s.ended > warmup {
			times = append(times, s.now-e.job.begun)
		} else {
			s.cold = 0
		}
	}
	sort.Float64s(times)
	r := Result{Calls: len(times), Cold: float64(s.cold) / float64(len(times))}
	for _, t := range times {
		r.Mean += t / float64(len(times))
	}
	r.P50, r.P80, r.P99 = quantile(times, .5), quantile(times, .8), quantile(times, .99)
	mean, variance := float64(load.Calls)/float64(fleet.Workers), 0.0
	for _, m := range s.ms {
		variance += (float64(m.calls) - mean) * (float64(m.calls) - mean) / float64(fleet.Workers)
	}
	r.Uneven = math.Sqrt(variance) / mean
	return r
}

func quantile(sorted []float64, q float64) float64 {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

type run struct {
	fleet Fleet
	fns   []Function
	p     Picker
	rnd   *rand.Rand
	ms    []*machine
	ev    events
	seq   int
	now   float64
	ended int
	cold  int
}

func (s *run) push(at float64, kind uint8, j *job) {
	s.seq++
	heap.Push(&s.ev, event{at, s.seq, kind, j})
}

// arrivals draws all calls beforehand, so that every picker sees the same ones.
func (s *run) arrivals(load Workload) {
	cum := make([]float64, len(s.fns))
	sum, work := 0.0, 0.0
	for i, f := range s.fns {
		sum += f.Share
		cum[i] = sum
		work += f.Share * f.Exec
	}
	gap := work / sum / (load.Load * float64(s.fleet.Workers*s.fleet.Cores))
	at := 0.0
	burst := max(load.Burst, 1)
	for range load.Calls {
		// Busy and quiet spells of ten seconds, the mean as asked for.
		rate := 2 / (1 + burst)
		if int(at/10_000)%2 == 1 {
			rate *= burst
		}
		at += s.rnd.ExpFloat64() * gap / rate
		f := min(sort.SearchFloat64s(cum, s.rnd.Float64()*sum), len(s.fns)-1)
		// Single calls vary log-normally around the function's mean.
		exec := s.fns[f].Exec * math.Exp(s.rnd.NormFloat64()*0.5-0.125)
		s.push(at, 0, &job{f: f, begun: at, exec: exec})
	}
}

// begin runs the call if a core is free, else queues it.
func (s *run) begin(j *job) {
	m := s.ms[j.w]
	if m.busy >= s.fleet.Cores {
		m.queue = append(m.queue, j)
		return
	}
	m.busy++
	took := j.exec
	s.expire(j.w)
	if i := m.warm(j.f); i >= 0 {
		m.idle = append(m.idle[:i], m.idle[i+1:]...)
	} else {
		took += s.create(j)
	}
	s.push(s.now+took/m.speed, 1, j)
}

func (m *machine) warm(f int) int {
	for i := len(m.idle) - 1; i >= 0; i-- {
		if m.idle[i].f == f {
			return i
		}
	}
	return -1
}

// create is the time that a new instance takes.
func (s *run) create(j *job) float64 {
	s.cold++
	m, f := s.ms[j.w], &s.fns[j.f]
	need := s.memory(j.f)
	for m.memMB+need > s.fleet.MemoryMB && len(m.idle) > 0 {
		s.evict(j.w, 0)
	}
	m.memMB += need
	took := s.fleet.Sandbox
	for _, p := range f.Packages {
		if _, there := m.cache[p.Name]; !there {
			took += p.Install
			m.diskMB += p.DiskMB
		}
		m.cache[p.Name] = s.now
		took += p.Import
	}
	for m.diskMB > s.fleet.CacheMB {
		s.unpack(m)
	}
	return took
}

// unpack removes the package that was not used for the longest time, but for
// those that are being used.
func (s *run) unpack(m *machine) {
	oldest, at := "", math.Inf(1)
	for name, used := range m.cache {
		if used < at || used == at && name < oldest {
			oldest, at = name, used
		}
	}
	if at == s.now || oldest == "" { // only those are left
		m.diskMB = 0
		return
	}
	delete(m.cache, oldest)
	m.diskMB -= costs[oldest].DiskMB
}

func (s *run) memory(f int) float64 {
	mb := s.fleet.SandboxMB
	for _, p := range s.fns[f].Packages {
		mb += p.MB
	}
	return mb
}

func (s *run) evict(w, i int) {
	m := s.ms[w]
	x := m.idle[i]
	m.idle = append(m.idle[:i], m.idle[i+1:]...)
	m.memMB -= s.memory(x.f)
	s.p.Evicted(x.f, w)
}

func (s *run) expire(w int) {
	m := s.ms[w]
	for len(m.idle) > 0 && s.now-m.idle[0].since > s.fleet.KeepAlive {
		s.evict(w, 0)
	}
}

func (s *run) end(j *job) {
	m := s.ms[j.w]
	m.busy--
	m.idle = append(m.idle, idle{j.f, s.now})
	for m.memMB > s.fleet.MemoryMB && len(m.idle) > 0 {
		s.evict(j.w, 0)
	}
	s.p.Done(j.f, j.w, s.now, s.now-j.begun)
	if len(m.queue) > 0 {
		next := m.queue[0]
		m.queue = m.queue[1:]
		s.begin(next)
	}
}
