package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/rota-project/rota/gateway/internal/sock"
)

// upstream is a connection to a worker.
type upstream struct {
	sock.Sock
	w *worker
	// below is the connection below TLS, if there is TLS: what can be looked at.
	below sock.Sock
	// reused says that it has carried a call before.
	reused bool
	// since is when it was last used, in nanoseconds.
	since int64
	sent  uint64 // bytes written to it
	// born is when it was made, and carried how many calls it has carried.
	born    int64
	carried int
	epoch   uint32 // of the worker when it was made
	// cancel ends a call over HTTP/2, which has no connection of its own.
	cancel context.CancelCauseFunc
}

// pool keeps a worker's idle connections, the last used on top.
type pool struct {
	mu     sync.Mutex
	idle   []*upstream
	closed bool
}

const (
	// maxIdle bounds the idle connections to one worker.
	maxIdle = 1024
	// idleFor is how long a connection may lie idle.
	idleFor = 55 * time.Second
	// freshFor is how long a connection counts as fresh where nothing can prove
	// later that a request on it was never read.
	freshFor = time.Second
)

func (p *pool) init() { p.idle = make([]*upstream, 0, 16) }

// get takes the connection that was used last and that is still open. Those that
// have died are closed on the way.
func (p *pool) get(now int64, within time.Duration) *upstream {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		u := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if now-u.since > int64(within) {
			p.put(u) // this one and all below it are too old for this call
			return nil
		}
		if u.alive() {
			return u
		}
		u.w.drops(now, now-u.since)
		u.close()
	}
}

func (p *pool) put(u *upstream) {
	p.mu.Lock()
	if p.closed || len(p.idle) >= maxIdle || u.epoch != u.w.epoch.Load() {
		p.mu.Unlock()
		u.close()
		return
	}
	p.idle = append(p.idle, u)
	p.mu.Unlock()
}

// sweep closes the connections that have been idle for too long.
func (p *pool) sweep(now int64) {
	p.mu.Lock()
	i := 0
	for i < len(p.idle) && now-p.idle[i].since > int64(idleFor) {
		i++
	}
	old := append([]*upstream(nil), p.idle[:i]...)
	p.idle = append(p.idle[:0], p.idle[i:]...)
	p.mu.Unlock()
	for _, u := range old {
		u.close()
	}
}

// close closes all; later ones are closed when they come back. open undoes it.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.flush()
}

func (p *pool) open() {
	p.mu.Lock()
	p.closed = false
	p.mu.Unlock()
}

// flush closes the idle connections: their worker has died or restarted.
func (p *pool) flush() {
	p.mu.Lock()
	old := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, u := range old {
		u.close()
	}
}

// alive looks, without waiting, whether an idle connection is still open. What a worker
// says below TLS while it is idle can only be that it closes.
func (u *upstream) alive() bool {
	if u.below.NC != nil {
		return u.below.Alive()
	}
	return u.Alive()
}

func (u *upstream) close() {
	if u.cancel != nil {
		u.cancel(context.Canceled)
		return
	}
	_ = u.NC.Close()
}

// cut makes whoever waits for the worker's answer return: it is late.
func (u *upstream) cut() {
	if u.cancel != nil {
		u.cancel(errLate)
		return
	}
	_ = u.NC.SetDeadline(sock.LongAgo)
}
