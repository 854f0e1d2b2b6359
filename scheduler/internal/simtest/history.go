package simtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota"
)

// Counts say how much work a run did, so that one that did too little can fail.
type Counts struct {
	Starts, Moves, Restarts          int // of task functions; a move is a start on another worker
	Epochs                           int // terms of leaders
	Grants                           int // grants seen in the store
	Kept                             int // grants that a worker found again when it came back
	Sessions                         int // sessions of workers seen in the store
	Fenced                           int // processes that fenced themselves to death
	Kills, Leaves, Cuts, Partitions  int // of workers and connections
	SchedulerStops, SchedulerOutages int
	Applied, Deleted, Unknown        int // tasks; calls whose outcome was unknown
	Garbage                          int // values of the store that somebody else wrote
}

// garbage reports whether somebody wrote nonsense to the store: what a worker held
// that was away may then be known to nobody.
func (h *history) garbage() (yes bool) {
	h.count(func(n *Counts) { yes = n.Garbage > 0 })
	return yes
}

// Add adds d.
func (c *Counts) Add(d Counts) {
	c.Starts += d.Starts
	c.Moves += d.Moves
	c.Restarts += d.Restarts
	c.Epochs += d.Epochs
	c.Grants += d.Grants
	c.Kept += d.Kept
	c.Sessions += d.Sessions
	c.Fenced += d.Fenced
	c.Kills += d.Kills
	c.Leaves += d.Leaves
	c.Cuts += d.Cuts
	c.Partitions += d.Partitions
	c.SchedulerStops += d.SchedulerStops
	c.SchedulerOutages += d.SchedulerOutages
	c.Applied += d.Applied
	c.Deleted += d.Deleted
	c.Unknown += d.Unknown
	c.Garbage += d.Garbage
}

// history is what happened, and what must not have.
type history struct {
	mu     sync.Mutex
	began  time.Time
	counts Counts
	// running are the calls of task functions, by instance.
	running map[rota.Instance][]*run
	last    map[rota.Instance]lastRun
	// exclusive is the greatest generation of an exclusive call. One of an
	// available task may be followed by a late one of a lower generation.
	exclusive map[rota.Instance]lastRun
	granted   map[rota.Instance]granted
	called    map[granted]int
	wrong     []string
	log       []string
	wrongAt   int // lines of the log until what first went wrong
}

// run is one call of a task function.
type run struct {
	instance   rota.Instance
	process    string // worker/incarnation
	worker     string
	generation rota.Generation
	exclusive  bool
	declared   func() rota.Task // as its worker was told
}

type lastRun struct {
	worker, process string
	generation      rota.Generation
}

type granted struct {
	worker     string
	generation rota.Generation
}

func newHistory() *history {
	return &history{
		began: time.Now(), running: map[rota.Instance][]*run{}, last: map[rota.Instance]lastRun{},
		exclusive: map[rota.Instance]lastRun{}, granted: map[rota.Instance]granted{}, called: map[granted]int{},
	}
}

func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noteLocked(format, args...)
}

func (h *history) noteLocked(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%9.4f  %s", time.Since(h.began).Seconds(), fmt.Sprintf(format, args...)))
}

// fail notes a broken promise.
func (h *history) fail(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failLocked(format, args...)
}

func (h *history) failLocked(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	h.wrong = append(h.wrong, fmt.Sprintf("at %.4f s: %s", time.Since(h.began).Seconds(), text))
	h.noteLocked("WRONG: %s", text)
	if h.wrongAt == 0 {
		h.wrongAt = len(h.log)
	}
}

func (h *history) count(f func(*Counts)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.counts)
}

// start is told by a task function that it runs. One owner: no other process
// runs the same exclusive instance. A generation that another process ran under
// is never run under again, nor is a lower one.
func (h *history) start(r *run) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts.Starts++
	h.called[granted{r.process + " " + r.instance.String(), r.generation}]++
	h.noteLocked("%s starts %s generation %d", r.process, r.instance, r.generation)
	if r.exclusive {
		for _, o := range h.running[r.instance] {
			if o.exclusive {
				h.failLocked("%s runs on %s (generation %d) and on %s (generation %d)",
					r.instance, o.process, o.generation, r.process, r.generation)
			}
		}
	}
	last, known := h.last[r.instance]
	switch {
	case !known:
	case last.process == r.process && last.generation == r.generation:
		h.counts.Restarts++
	case last.worker != r.worker:
		h.counts.Moves++
	}
	this := lastRun{r.worker, r.process, r.generation}
	if !known || r.generation > last.generation {
		h.last[r.instance] = this
	}
	if r.exclusive {
		before, known := h.exclusive[r.instance]
		if known && this != before && this.generation <= before.generation {
			h.failLocked("%s starts on %s under generation %d, after %s under %d", r.instance, r.process, r.generation, before.process, before.generation)
		}
		h.exclusive[r.instance] = this
	}
	h.running[r.instance] = append(h.running[r.instance], r)
}

// calls counts the calls under one grant.
func (h *history) calls(r *run) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.called[granted{r.process + " " + r.instance.String(), r.generation}]
}

// stop is told by a task function that it has ended.
func (h *history) stop(r *run) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopLocked(r)
}

func (h *history) stopLocked(r *run) {
	list := h.running[r.instance]
	at := slices.Index(list, r)
	if at < 0 {
		return // its process was killed: then it ended
	}
	h.noteLocked("%s ends %s generation %d", r.process, r.instance, r.generation)
	if list = slices.Delete(list, at, at+1); len(list) == 0 {
		delete(h.running, r.instance)
	} else {
		h.running[r.instance] = list
	}
}

// killed ends all that a process ran.
func (h *history) killed(process string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, list := range h.running {
		for _, r := range slices.Clone(list) {
			if r.process == process {
				h.stopLocked(r)
			}
		}
	}
}

// grant is told by the auditor of a grant that is new in the store.
func (h *history) grant(i rota.Instance, worker string, g rota.Generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.granted[i]
	if g == last.generation && worker == last.worker {
		return
	}
	if g <= last.generation {
		h.failLocked("%s is granted to %s under generation %d, after %s under %d", i, worker, g, last.worker, last.generation)
	}
	h.counts.Grants++
	h.granted[i] = granted{worker, g}
}

// runs is a copy of who runs what.
func (h *history) runs() map[rota.Instance][]run {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[rota.Instance][]run, len(h.running))
	for i, list := range h.running {
		for _, r := range list {
			out[i] = append(out[i], *r)
		}
	}
	return out
}

// tell is the history: all of it, or the end of what led to what first went wrong.
func (h *history) tell(whole bool) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if whole {
		return strings.Join(h.log, "\n")
	}
	from := max(0, h.wrongAt-lastTold)
	told := strings.Join(h.log[from:h.wrongAt], "\n")
	if from > 0 {
		told = fmt.Sprintf("... %d lines before\n%s", from, told)
	}
	return told
}

// Write takes the lines of a log.
func (h *history) Write(p []byte) (int, error) {
	h.note("%s", strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
