//go:build !386

package poll

import (
	"net"
	"os"
	"syscall"
	"time"
)

// move changes who waits for the connection, if that is possible. The caller holds
// the using of both sides.
func (c *Conn) move() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Load() != 0 {
		return // it is closed
	}
	if c.tc != nil {
		c.toLoop()
	} else {
		c.toRuntime()
	}
}

// toLoop gives the connection to a loop. The runtime forgets a socket only with its
// descriptor, so the loop's is another one.
func (c *Conn) toLoop() {
	l := c.poller.pickLoop()
	if l == nil {
		return
	}
	var fd uintptr
	var e syscall.Errno
	if c.raw.Control(func(old uintptr) { fd, e = duplicate(old) }) != nil || e != 0 {
		return
	}
	if l.keep(c, fd) != nil {
		_ = syscall.Close(int(fd))
		return
	}
	_ = c.tc.Close()
	c.home = home{loop: l, fd: fd}
	c.in.dry = false
	c.arm(&c.in)
	c.arm(&c.out)
}

// toRuntime gives the connection back.
func (c *Conn) toRuntime() {
	fd, e := duplicate(c.fd)
	if e != 0 {
		return
	}
	f := os.NewFile(fd, "tcp")
	nc, err := net.FileConn(f) // which duplicates it once more
	_ = f.Close()
	if err != nil {
		return
	}
	tc, _ := nc.(*net.TCPConn) // what else
	raw, err := tc.SyscallConn()
	if err != nil || tc.SetReadDeadline(c.in.deadline) != nil || tc.SetWriteDeadline(c.out.deadline) != nil {
		_ = tc.Close()
		return
	}
	for _, s := range []*side{&c.in, &c.out} {
		if s.timer != nil {
			s.timer.Stop()
			s.timer = nil
		}
	}
	c.loop.forget(c)
	c.loop.drop(c)
	c.home = home{tc: tc, raw: raw}
}

// sample is what was counted at one time.
type sample struct {
	at            int64
	calls, sleeps uint64
}

// A process sleeps often if there are processors to spare: about once a call. If
// there are none its threads always find something to do.
const (
	sampleEvery = int64(250 * time.Millisecond)
	// busyRate is the calls a second from which that means anything.
	busyRate = 2000
	// crowdedCalls is how many calls there are at least for one sleep when processors
	// are scarce, calmCalls at most when they are not.
	crowdedCalls, calmCalls = 20, 3
	// calmFor is how long it must have been calm for loops to be given up.
	calmFor = int64(5 * time.Second)
)

// Sample tells, from time to time, how many calls there have been until now, in
// nanoseconds of any clock. Calls whose answers are gathered into few writes are
// not to be counted: they gain when many are ready at a time.
func (p *Poller) Sample(now int64, calls uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.sampled
	if now-was.at < sampleEvery {
		return
	}
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return
	}
	p.sampled = sample{now, calls, uint64(u.Nvcsw)}
	calls = max(calls, was.calls)
	p.judge(now-was.at, calls-was.calls, p.sampled.sleeps-was.sleeps)
}

// judge decides by what there was in a span of time.
func (p *Poller) judge(span int64, calls, sleeps uint64) {
	busy := float64(calls) >= busyRate*float64(span)/float64(time.Second)
	if busy && calls > calmCalls*sleeps {
		p.calm = 0
		if calls >= crowdedCalls*sleeps {
			p.crowded.Store(true)
		}
		return
	}
	if p.calm += span; p.calm >= calmFor {
		p.crowded.Store(false)
	}
}
