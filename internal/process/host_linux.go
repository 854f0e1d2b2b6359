package process

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// theHost is this process as the parent of all that it starts. It adopts what
// their parents leave (PR_SET_CHILD_SUBREAPER), so that every descendant of a
// Process is below this process until it ends: those whose parents have ended
// are children of ours which we did not start. While any Process lives, two
// goroutines serve it: the spawner forks, the reaper looks after the adopted.
var theHost host

type host struct {
	mu     sync.Mutex
	users  int
	spawns chan func() // run on the spawner's thread
	bound  chan func() // the same, and what it forks gains no privileges
	wake   chan struct{}
	quit   chan struct{}
	own    map[int]*Process // started here and not buried, by pid
	tokens map[uint64]bool  // of what has not ended
	asked  []*request       // for the reaper

	forking sync.Mutex // held while a fork is under way

	adopts     sync.Once
	adoptError error
}

// request asks the reaper to see to what belongs to a Process beside its group.
type request struct {
	p     *Process
	asks  bool      // only asks what has left the group to end
	left  int       // how many lived at the last look
	again bool      // one had died since the list of that look was read
	until time.Time // when to give up, once they are being killed
	done  chan struct{}
}

// unkillable is how long the end of what was killed is waited for: what is stuck
// in the kernel longer than that runs none of its own code any more.
const unkillable = 10 * time.Second

var nextToken atomic.Uint64

// enter registers a process that is to be started; leave is called when all of
// it has ended.
func (h *host) enter(p *Process) error {
	h.adopts.Do(func() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			h.adoptError = fmt.Errorf("adopt descendants: %w", err)
		} else {
			h.adoptError = keepFiles()
		}
	})
	if h.adoptError != nil {
		return h.adoptError
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == 0 {
		h.spawns, h.bound, h.wake, h.quit = make(chan func()), make(chan func()), make(chan struct{}, 1), make(chan struct{})
		h.own, h.tokens = map[int]*Process{}, map[uint64]bool{}
		go spawner(h.spawns, false)
		go spawner(h.bound, true)
		go h.reap(h.wake, h.quit)
	}
	h.users++
	p.token, p.asked = nextToken.Add(1)&tokenMask, map[int]bool{}
	h.tokens[p.token] = true
	return nil
}

func (h *host) leave(p *Process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tokens, p.token)
	if h.own[p.pid] == p {
		delete(h.own, p.pid)
	}
	if h.users--; h.users == 0 {
		close(h.spawns)
		close(h.bound)
		close(h.quit)
	}
}

// spawner runs what forks. The kernel sends the parent-death signal when the
// *thread* that forked ends, and Go ends threads as it likes: so one goroutine,
// locked to its thread, forks all children, and outlives them. One that is bound
// takes from its thread, for good, and from all that this forks, what programs with
// set-user-ID and the like would give them: its thread ends with it.
func spawner(calls <-chan func(), bound bool) {
	runtime.LockOSThread()
	if !bound {
		defer runtime.UnlockOSThread()
	}
	for call := range calls {
		call()
	}
}

// spawn calls start, which forks p and answers its pid, on the thread of a spawner.
func (h *host) spawn(p *Process, bound bool, start func() (pid int, err error)) error {
	done := make(chan error, 1)
	spawns := h.spawns
	if bound {
		spawns = h.bound
	}
	spawns <- func() {
		if bound {
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				done <- fmt.Errorf("no_new_privs: %w", err)
				return
			}
		}
		h.forking.Lock()
		defer h.forking.Unlock()
		done <- marking(newMark(os.Getpid(), p.token), func() error {
			pid, err := start()
			if err != nil {
				return err
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			p.pid = pid
			h.own[pid] = p
			return nil
		})
	}
	return <-done
}

// end waits until nothing is left of p but its first process, a zombie. What
// lives when p is due is killed. It answers how many could not be.
func (h *host) end(p *Process) (left int) {
	if adopted, stable := h.adopted(); stable && len(adopted) == 0 {
		return 0 // as is usual
	}
	r := &request{p: p, done: make(chan struct{})}
	h.request(r)
	<-r.done
	return r.left
}

// ask asks what has left p's group to end. It does not wait.
func (h *host) ask(p *Process) { h.request(&request{p: p, asks: true}) }

func (h *host) request(r *request) {
	h.mu.Lock()
	if h.users > 0 {
		h.asked = append(h.asked, r)
	}
	h.mu.Unlock()
	h.poke()
}

// poke has the reaper look now.
func (h *host) poke() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users > 0 {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// buryEvery is how long the reaper lets dead children collect that nobody waits for.
const buryEvery = 100 * time.Millisecond

// reap is the reaper's life: it looks when it is asked to, and now and then
// while children die.
func (h *host) reap(wake <-chan struct{}, quit <-chan struct{}) {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	var pending []*request
	bury := time.NewTimer(0)
	defer bury.Stop()
	burying := true
	pause := time.Duration(0)
	for {
		var again <-chan time.Time
		if len(pending) > 0 {
			pause = min(max(2*pause, 200*time.Microsecond), 20*time.Millisecond)
			again = time.After(pause)
		}
		select {
		case <-quit:
			return
		case <-wake:
			pause = 0
		case <-again:
		case <-died:
			switch {
			case len(pending) > 0: // it may be what is waited for
				pause = 0
			case burying:
				continue
			default:
				burying = true
				bury.Reset(buryEvery)
				continue
			}
		case <-bury.C:
			burying = false
		}
		h.mu.Lock()
		pending = append(pending, h.asked...)
		h.asked = nil
		h.mu.Unlock()
		pending = h.look(pending)
	}
}

// look sees to the adopted once, and answers the requests that it could not
// complete.
func (h *host) look(pending []*request) []*request {
	now := time.Now()
	asked, ending := map[uint64]*Process{}, map[uint64]*request{}
	for _, r := range pending {
		r.left, r.again = 0, false
		switch {
		case !r.asks:
			ending[r.p.token] = r
		case h.owns(r.p):
			asked[r.p.token] = r.p
			for _, c := range childrenOf(r.p.pid) {
				r.p.askTree(c)
			}
		}
	}
	stray := 0 // of hosts that are dead
	adopted, stable := h.adopted()
	for _, pid := range adopted {
		m, marked := markOf(pid)
		s, err := statOf(pid)
		if err != nil || !marked && os.Getpid() != 1 || s.group == unix.Getpgrp() {
			continue // gone, or started by other means
		}
		mine := marked && m.host() == os.Getpid()
		if s.zombie {
			h.bury(pid)
			if r := ending[m.token()]; mine && r != nil {
				r.again = true // what it left may have come here after the list was read
			}
		}
		switch {
		case s.zombie, !marked:
		case !mine && gone(m.host()):
			stray++
			killTree(pid, m)
		case !mine:
		case ending[m.token()] != nil:
			r := ending[m.token()]
			r.left++
			if r.p.due(now) {
				killTree(pid, m)
			} else {
				r.p.askTree(pid)
			}
		case asked[m.token()] != nil:
			asked[m.token()].askTree(pid)
		case !h.live(m.token()):
			killTree(pid, m)
		}
	}
	return slices.DeleteFunc(pending, func(r *request) bool {
		if r.asks {
			return true
		}
		if r.until.IsZero() && r.p.due(now) {
			r.until = now.Add(unkillable)
		}
		over := stable && !r.again && r.left+stray == 0 || !r.until.IsZero() && now.After(r.until)
		if over {
			close(r.done)
		}
		return over
	})
}

// adopted lists the children that were not started here. Where children come
// and go while the list is read it may lack some: stable says that two looks
// agree.
func (h *host) adopted() (pids []int, stable bool) {
	pids = adoptedChildren()
	for range 5 {
		again := adoptedChildren()
		if stable = slices.Equal(again, pids); stable {
			break
		}
		pids = again
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(pids, func(pid int) bool { return h.own[pid] != nil }), stable
}

func (h *host) owns(p *Process) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.own[p.pid] == p
}

func (h *host) live(token uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tokens[token]
}

// bury waits for a dead child that nobody else waits for.
func (h *host) bury(pid int) {
	if !h.forking.TryLock() {
		return // it may be one that is being started; the next look sees
	}
	defer h.forking.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.own[pid] != nil {
		return // it was being started when it was listed
	}
	_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
}

// askTree asks a process that has left p's group, and those below it, to end:
// each once, however often it is called.
func (p *Process) askTree(pid int) {
	walk(pid, newMark(os.Getpid(), p.token), func(pid int, s stat, fd int) {
		if s.group != p.pid && !p.asked[pid] {
			p.asked[pid] = true
			_ = unix.PidfdSendSignal(fd, syscall.SIGTERM, nil, 0)
			_ = unix.PidfdSendSignal(fd, syscall.SIGCONT, nil, 0)
		}
	})
}

// killTree kills a process and those of its descendants that have the same mark.
func killTree(pid int, m mark) {
	walk(pid, m, func(_ int, _ stat, fd int) { _ = unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0) })
}

// walk visits a process, held by a descriptor, and its descendants, where they
// have the mark.
func walk(pid int, want mark, visit func(pid int, s stat, fd int)) {
	children := childrenOf(pid)
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		s, err := statOf(pid)
		if m, ok := markOf(pid); ok && err == nil && m == want {
			visit(pid, s, fd)
		}
		_ = unix.Close(fd)
	}
	for _, c := range children {
		walk(c, want, visit)
	}
}
