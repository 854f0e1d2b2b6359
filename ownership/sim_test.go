package ownership_test

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

var (
	seeds = flag.Uint64("seeds", 300, "how many simulated histories to try")
	seed  = flag.Uint64("seed", 0, "try only this history and print it")
)

// The simulated cluster. One seed replays any history.
const (
	simTTL    = 5 * time.Second
	simFaults = 60 * time.Second // so long things go wrong,
	simCalm   = 60 * time.Second // and then so long nothing does
)

// atLeast is the work that a history does on average; less proves nothing.
var atLeast = map[string]int{
	"grants": 40, "moves": 15, "fences": 2, "sessions lost": 3, "leaders": 3, "unknown outcomes": 3,
	"late transactions": 1, "late transactions refused": 1, "streams broken": 10, "starts": 30, "restarts": 1,
}

// now and then, over all histories.
var atLeastInAll = []string{
	"deaths by fence", "stuck", "adopted", "overlaps", "spec changes", "left in order", "zombie leaders refused",
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	first, last := uint64(1), *seeds
	if *seed != 0 {
		first, last = *seed, *seed
	}
	total := map[string]int{}
	for n := first; n <= last; n++ {
		s := newSim(n, *seed != 0)
		s.run()
		if s.failure != "" {
			again := newSim(n, true)
			again.run()
			t.Fatalf("seed %d: %s\nhistory (go test ./ownership -run Simulation -seed=%d):\n%s",
				n, s.failure, n, strings.Join(again.history, "\n"))
		}
		if *seed != 0 {
			t.Log(strings.Join(s.history, "\n"))
		}
		for what, times := range s.work {
			total[what] += times
		}
	}
	t.Logf("%d histories: %v", last-first+1, total)
	if *seed != 0 {
		return
	}
	for what, times := range atLeast {
		if total[what] < times*int(last-first+1) {
			t.Errorf("%d %s in %d histories: too little work to mean anything", total[what], what, last-first+1)
		}
	}
	if last-first+1 >= 100 {
		for _, what := range atLeastInAll {
			if total[what] < int(last-first+1)/20 {
				t.Errorf("%d %s in %d histories: too little work to mean anything", total[what], what, last-first+1)
			}
		}
	}
}

// sim is a cluster in simulated real time; the store's clock is right, those of
// the workers run up to 10% apart from it.
type sim struct {
	rng     *rand.Rand
	now     time.Duration
	events  simEvents
	count   int
	calm    bool
	failure string

	tracing bool
	history []string
	work    map[string]int

	store     simStore
	workers   []*simWorker
	leader    *simLeader
	instances []rota.Instance
	desired   map[rota.Instance]ownership.Target

	granted map[rota.Instance]rota.Generation // the greatest written
	begun   map[rota.Instance]rota.Generation // the greatest that an exclusive call began with
}

type simEvent struct {
	at  time.Duration
	seq int
	do  func()
}

type simEvents []simEvent

func (e simEvents) Len() int { return len(e) }
func (e simEvents) Less(a, b int) bool {
	return e[a].at < e[b].at || e[a].at == e[b].at && e[a].seq < e[b].seq
}
func (e simEvents) Swap(a, b int) { e[a], e[b] = e[b], e[a] }
func (e *simEvents) Push(x any)   { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

func newSim(seed uint64, tracing bool) *sim {
	s := &sim{
		rng: rand.New(rand.NewPCG(seed, 1)), tracing: tracing, work: map[string]int{},
		desired: map[rota.Instance]ownership.Target{},
		granted: map[rota.Instance]rota.Generation{}, begun: map[rota.Instance]rota.Generation{},
	}
	s.store = simStore{
		sim: s, rev: 1, sessions: map[string]*simSession{},
		grants: map[string]map[rota.Instance]ownership.Grant{}, acks: map[string]map[rota.Instance]ownership.Ack{},
	}
	for n := range 2 + s.rng.IntN(4) {
		s.workers = append(s.workers, &simWorker{sim: s, name: fmt.Sprintf("w%d", n)})
	}
	for n := range 3 + s.rng.IntN(8) {
		s.instances = append(s.instances, rota.Instance{Task: fmt.Sprintf("t%d", n/2), Index: n % 2})
	}
	return s
}

func (s *sim) run() {
	for _, w := range s.workers {
		s.after(s.within(time.Second), w.boot)
	}
	s.after(0, s.elect)
	s.after(s.within(time.Second), s.replan)
	s.after(time.Second, s.fault)
	s.after(simFaults, s.becalm)
	spins := 0
	for s.failure == "" && len(s.events) > 0 && s.now < simFaults+simCalm {
		e := heap.Pop(&s.events).(simEvent)
		if spins++; e.at > s.now+time.Microsecond {
			spins = 0
		} else if spins > 10_000 {
			s.fail("the same moment for ever")
		}
		s.now = e.at
		e.do()
	}
	if s.failure == "" {
		s.settled()
	}
}

func (s *sim) after(d time.Duration, do func()) {
	s.count++
	heap.Push(&s.events, simEvent{s.now + max(d, 0), s.count, do})
}

func (s *sim) within(d time.Duration) time.Duration { return time.Duration(s.rng.Int64N(int64(d))) }

func (s *sim) chance(percent int) bool { return s.rng.IntN(100) < percent }

// delay is how long a message or a request takes.
func (s *sim) delay() time.Duration {
	if !s.calm && s.chance(5) {
		return s.within(simTTL / 4)
	}
	return time.Millisecond + s.within(20*time.Millisecond)
}

func (s *sim) did(what string) { s.work[what]++ }

func (s *sim) trace(format string, args ...any) {
	if s.tracing {
		s.history = append(s.history, fmt.Sprintf("%12v ", s.now)+fmt.Sprintf(format, args...))
	}
}

func (s *sim) fail(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf("at %v: ", s.now) + fmt.Sprintf(format, args...)
		s.trace("FAILED %s", s.failure)
	}
}

// modeOf makes the mode a part of the digest of the spec, as it must be.
func modeOf(spec uint64) rota.Mode {
	if spec%3 == 0 {
		return rota.Available
	}
	return rota.Exclusive
}

// replan is the placement: targets of no reason at all.
func (s *sim) replan() {
	if s.calm {
		return
	}
	for _, i := range s.instances {
		t, known := s.desired[i]
		if known && !s.chance(25) {
			continue
		}
		if !known {
			t.Spec = uint64(1 + s.rng.IntN(3))
		} else if s.chance(15) {
			t.Spec = uint64(1 + s.rng.IntN(6))
			s.did("spec changes")
		}
		t.Worker = s.workers[s.rng.IntN(len(s.workers))].name
		if s.chance(5) {
			t.Worker = ""
		}
		t.Mode, t.Priority = modeOf(t.Spec), float64(s.rng.IntN(2))
		s.aim(i, t)
	}
	// Mostly the lost and the leaving are replaced soon.
	for _, i := range s.instances {
		x := s.store.sessions[s.desired[i].Worker]
		if t := s.desired[i]; t.Worker != "" && (x == nil || x.leaving) && s.chance(70) {
			t.Worker = s.workers[s.rng.IntN(len(s.workers))].name
			s.aim(i, t)
		}
	}
	s.after(s.within(3*time.Second), s.replan)
}

func (s *sim) aim(i rota.Instance, t ownership.Target) {
	s.desired[i] = t
	s.trace("plan    %v at %s spec %d %s", i, t.Worker, t.Spec, t.Mode)
	if s.leader != nil && !s.leader.dead {
		s.leader.ledger.Target(i, t)
		s.leader.wake()
	}
}

// fault does one bad thing, and then another.
func (s *sim) fault() {
	if s.calm {
		return
	}
	w := s.workers[s.rng.IntN(len(s.workers))]
	switch n := s.rng.IntN(100); {
	case n < 25:
		w.cut()
	case n < 45:
		up, down := s.chance(60), s.chance(60)
		s.trace("%s      cannot send: %v, hear: %v", w.name, up, down)
		w.block(up, down)
		s.after(s.within(2*simTTL), func() { w.block(false, false) })
	case n < 55:
		w.kill("is killed", s.chance(50))
	case n < 63:
		w.leave()
	case n < 75:
		s.elect()
	case n < 80:
		s.trace("store   is down")
		s.store.down = true
		s.after(s.within(2*simTTL), func() { s.store.down = false })
	case n < 90:
		w.stubborn = !w.stubborn
	default:
		w.silent(s.within(simTTL))
	}
	s.after(s.within(2*time.Second), s.fault)
}

// becalm ends all faults and gives everything somewhere to be.
func (s *sim) becalm() {
	s.trace("calm")
	s.calm, s.store.down = true, false
	for _, w := range s.workers {
		w.block(false, false)
		w.stubborn = false
		w.release()
		if w.leaving {
			w.kill("is killed as it leaves", true) // nobody plans any more
		}
	}
	for _, i := range s.instances {
		t := s.desired[i]
		if t.Worker == "" || t.Spec == 0 {
			t.Worker, t.Spec = s.workers[0].name, max(t.Spec, 1)
			t.Mode = modeOf(t.Spec)
			s.aim(i, t)
		}
	}
	if s.leader == nil || s.leader.dead {
		s.elect()
	}
}

// began checks what must never be: two exclusive calls of one instance, or an
// older one after a newer.
func (s *sim) began(w *simWorker, i rota.Instance, c *simCall) {
	if !c.strict {
		return
	}
	for _, other := range s.workers {
		if o := other.calls[i]; other != w && o != nil && o.strict {
			s.fail("%v runs on %s (generation %d) and on %s (generation %d)", i, other.name, o.gen, w.name, c.gen)
		}
	}
	if c.gen < s.begun[i] {
		s.fail("%v begins with generation %d on %s after generation %d", i, c.gen, w.name, s.begun[i])
	}
	s.begun[i] = c.gen
}

// settled checks that what should be is, after the calm.
func (s *sim) settled() {
	for _, i := range s.instances {
		var runs, grants []string
		for _, w := range s.workers {
			if c := w.calls[i]; c != nil && !c.stopping {
				runs = append(runs, w.name)
			}
			if g, ok := s.store.grants[w.name][i]; ok {
				grants = append(grants, w.name)
				if a := s.store.acks[w.name][i]; a.State != ownership.Running || a.Generation != g.Generation {
					s.fail("%v: granted generation %d, acknowledged %s of %d", i, g.Generation, a.State, a.Generation)
				}
			}
		}
		want := s.desired[i].Worker
		if len(runs) != 1 || runs[0] != want {
			s.fail("%v should run on %s, runs on %v, granted to %v", i, want, runs, grants)
		}
		if len(grants) != 1 || grants[0] != want {
			s.fail("%v should be granted to %s, is to %v", i, want, grants)
		}
	}
	if n := s.leader.ledger.Moving(); n != 0 {
		s.fail("%d moves under way", n)
	}
	if e := s.leader.ledger.Ready(rota.Generation(s.leader.seen + 1)); !e.Empty() {
		s.fail("still to do: %v", e)
	}
}
