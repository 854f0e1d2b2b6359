//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// hold is one run of a task's process, as it told it.
type hold struct {
	worker, task string
	generation   uint64
	// The process ran from somewhere in began to somewhere in ended; zero while it runs.
	began, ended [2]time.Duration
	beat         time.Duration // when it was last heard of
	// frozen says that its worker was stopped meanwhile: it may be followed
	// before it ends, by a greater generation.
	frozen bool
}

// record is the history of owners.
type record struct {
	socket string
	zero   time.Time
	mu     sync.Mutex
	holds  []*hold
	live   map[*hold]bool
	open   map[net.Conn]bool // nil when the record is closed
	conns  sync.WaitGroup
}

func newRecord(t *testing.T, dir string) *record {
	t.Helper()
	r := &record{socket: filepath.Join(dir, "s"), zero: time.Now(), live: map[*hold]bool{}, open: map[net.Conn]bool{}}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	r.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.conns.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.close()
	})
	return r
}

// close ends the processes that still run, as they do when nobody listens: of a test that
// failed others end only after it, and it would wait for them for ever.
func (r *record) close() {
	r.mu.Lock()
	for c := range r.open {
		_ = c.Close()
	}
	r.open = nil
	r.mu.Unlock()
	r.conns.Wait()
}

func (r *record) now() time.Duration { return time.Since(r.zero) }

func (r *record) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	r.mu.Lock()
	closed := r.open == nil
	if !closed {
		r.open[c] = true
	}
	r.mu.Unlock()
	if closed {
		return
	}
	h := &hold{}
	h.began[0] = r.now()
	in := bufio.NewScanner(c)
	for in.Scan() {
		r.mu.Lock()
		h.beat = r.now()
		if h.task == "" {
			words := strings.Fields(in.Text())
			if len(words) != 3 {
				r.mu.Unlock()
				return
			}
			h.worker, h.task = words[0], words[1]
			h.generation, _ = strconv.ParseUint(words[2], 10, 64)
			h.began[1] = h.beat
			r.holds = append(r.holds, h)
			r.live[h] = true
		}
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h.ended = [2]time.Duration{h.beat, r.now()}
	delete(r.live, h)
	delete(r.open, c)
}

// TestRecordOfWhatRuns: a test that ends while its processes run does not wait for them;
// they end with its record.
func TestRecordOfWhatRuns(t *testing.T) {
	t.Parallel()
	var p *proc
	t.Run("failed", func(inner *testing.T) {
		r := newRecord(inner, shortDir(t))
		p = start(t, nil, holderBin, r.socket, "w", "a", "1") // the outer test's end kills it
		await(inner, time.Minute, "it runs", func() bool { tasks, _ := r.running(); return tasks["a"] == 1 })
	})
	p.wait(t, time.Minute)
}

// freeze marks what runs on a worker that is stopped.
func (r *record) freeze(worker string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for h := range r.live {
		if h.worker == worker {
			h.frozen = true
		}
	}
}

// running is the number of processes by task, and by worker.
func (r *record) running() (tasks map[string]int, workers map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tasks, workers = map[string]int{}, map[string]int{}
	for h := range r.live {
		tasks[h.task]++
		workers[h.worker]++
	}
	return tasks, workers
}

// where is the worker of each task that runs.
func (r *record) where() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]string{}
	for h := range r.live {
		out[h.task] = h.worker
	}
	return out
}

// count is the number of runs so far.
func (r *record) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.holds)
}

// op is an operation on the lock of one instance.
type op struct {
	take bool // or let go
	*hold
}

// lock is the state of the lock: the greatest generation accepted, and whether
// it is held.
type lock struct {
	generation   uint64
	worker       string
	held, frozen bool
}

// fencedLock is a lock with a fencing token. It is taken with a greater
// generation than ever before, while nobody holds it; one whose holder's worker
// was stopped may be taken from it, which only the generation makes safe. A
// worker that let go because it could not trust its lease, and whose lease turns
// out to be alive, takes it again with the generation that it has.
var fencedLock = porcupine.Model{
	Init: func() any { return lock{} },
	Step: func(state, input, _ any) (bool, any) {
		s, in := state.(lock), input.(op)
		switch {
		case in.take && in.generation == s.generation:
			return !s.held && in.worker == s.worker, lock{in.generation, in.worker, true, in.frozen}
		case in.take:
			return in.generation > s.generation && (!s.held || s.frozen), lock{in.generation, in.worker, true, in.frozen}
		case s.generation == in.generation:
			return s.held, lock{s.generation, s.worker, false, false}
		default:
			return in.frozen && in.generation < s.generation, s // was taken from it
		}
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, _ any) string {
		in := input.(op)
		verb := "lets go"
		if in.take {
			verb = "takes"
		}
		return fmt.Sprintf("%s %s generation %d", in.worker, verb, in.generation)
	},
}

// check checks the history of every task, and answers how often a task began on
// another worker than before. All processes have ended.
func (r *record) check(t *testing.T) (moves int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	ops := map[string][]porcupine.Operation{}
	for n, h := range r.holds {
		if h.ended[1] == 0 {
			t.Errorf("%s of %s generation %d still runs", h.task, h.worker, h.generation)
			continue
		}
		ops[h.task] = append(ops[h.task],
			porcupine.Operation{ClientId: n, Input: op{true, h}, Call: int64(h.began[0]), Return: int64(h.began[1])},
			porcupine.Operation{ClientId: n, Input: op{false, h}, Call: int64(h.ended[0]), Return: int64(h.ended[1])})
	}
	for task, history := range ops {
		if porcupine.CheckOperationsTimeout(fencedLock, history, time.Minute) == porcupine.Ok {
			continue
		}
		t.Errorf("%s: no order of these is that of a fenced lock:", task)
		for _, o := range history {
			in := o.Input.(op)
			t.Logf("  %v to %v: %s", time.Duration(o.Call), time.Duration(o.Return), fencedLock.DescribeOperation(in, nil))
		}
	}
	return r.countMoves()
}

// moves is how often a task has begun on another worker than before.
func (r *record) moves() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.countMoves()
}

func (r *record) countMoves() (moves int) {
	last := map[string]string{}
	for _, h := range r.holds {
		if w := last[h.task]; w != "" && w != h.worker {
			moves++
		}
		last[h.task] = h.worker
	}
	return moves
}

// TestFencedLockRefuses keeps the checker honest.
func TestFencedLockRefuses(t *testing.T) {
	t.Parallel()
	by := func(worker string, gen uint64, from, to time.Duration, frozen bool) []porcupine.Operation {
		h := &hold{worker: worker, task: "t", generation: gen, frozen: frozen}
		return []porcupine.Operation{
			{Input: op{true, h}, Call: int64(from), Return: int64(from) + 1},
			{Input: op{false, h}, Call: int64(to), Return: int64(to) + 1},
		}
	}
	mk := func(gen uint64, from, to time.Duration, frozen bool) []porcupine.Operation {
		return by(fmt.Sprint("w", gen), gen, from, to, frozen)
	}
	for _, c := range []struct {
		name string
		ops  []porcupine.Operation
		ok   bool
	}{
		{"one after the other", append(mk(1, 0, 10, false), mk(2, 20, 30, false)...), true},
		{"two at once", append(mk(1, 0, 25, false), mk(2, 20, 30, false)...), false},
		{"two at once, the old one frozen", append(mk(1, 0, 25, true), mk(2, 20, 30, false)...), true},
		{"two at once, the new one frozen", append(mk(1, 0, 25, false), mk(2, 20, 30, true)...), false},
		{"the same worker again", append(mk(2, 0, 10, false), mk(2, 20, 30, false)...), true},
		{"the same worker twice at once", append(mk(2, 0, 25, false), mk(2, 20, 30, false)...), false},
		{"another worker with the same generation", append(by("a", 2, 0, 10, false), by("b", 2, 20, 30, false)...), false},
		{"the same worker after another", slices.Concat(mk(1, 0, 10, false), mk(2, 12, 18, false), mk(1, 20, 30, false)), false},
		{"a lower generation", append(mk(2, 0, 10, true), mk(1, 20, 30, false)...), false},
	} {
		if got := porcupine.CheckOperations(fencedLock, c.ops); got != c.ok {
			t.Errorf("%s: legal %v, want %v", c.name, got, c.ok)
		}
	}
}
