package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rota-project/rota/gateway/internal/sock"
)

// Conn is a connection to a worker.
type Conn struct {
	sock.Sock
	w *Worker
	// below is the connection below TLS, if there is TLS: what can be looked at.
	below sock.Sock
	// Reused says that it has carried a call before.
	Reused bool
	// since is when it was last used, in nanoseconds.
	since int64
	Sent  uint64 // bytes written to it
	// born is when it was made, and carried how many calls it has carried.
	born    int64
	Carried int
	epoch   uint32 // of the worker when it was made
	// Cancel ends a call over HTTP/2, which has no connection of its own.
	Cancel context.CancelCauseFunc
}

// Life is how old a connection may become, and how many calls it may carry, before it is
// used no more; 0 means no limit.
type Life struct {
	Age   time.Duration
	Calls int
}

// pool keeps a worker's idle connections, the last used on top.
type pool struct {
	mu     sync.Mutex
	idle   []*Conn
	closed bool
}

const (
	// maxIdle bounds the idle connections to one worker.
	maxIdle = 1024
	// IdleFor is how long a connection may lie idle.
	IdleFor = 55 * time.Second
	// freshFor is how long a connection counts as fresh where nothing can prove
	// later that a request on it was never read.
	freshFor = time.Second
)

func (p *pool) init() { p.idle = make([]*Conn, 0, 16) }

// Idle takes a connection to the worker that has been idle for at most so long, and is not
// at the end of its life; nil if there is none.
func (w *Worker) Idle(now int64, within time.Duration, most Life) *Conn {
	for {
		u := w.pool.get(now, within)
		if u == nil || !u.Worn(now, most) {
			return u
		}
		u.Close()
	}
}

// get takes the connection that was used last and that is still open. Those that
// have died are closed on the way.
func (p *pool) get(now int64, within time.Duration) *Conn {
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
		u.Close()
	}
}

func (p *pool) put(u *Conn) {
	p.mu.Lock()
	if p.closed || len(p.idle) >= maxIdle || u.epoch != u.w.epoch.Load() {
		p.mu.Unlock()
		u.Close()
		return
	}
	p.idle = append(p.idle, u)
	p.mu.Unlock()
}

// sweep closes the connections that have been idle for too long.
func (p *pool) sweep(now int64) {
	p.mu.Lock()
	i := 0
	for i < len(p.idle) && now-p.idle[i].since > int64(IdleFor) {
		i++
	}
	old := append([]*Conn(nil), p.idle[:i]...)
	p.idle = append(p.idle[:0], p.idle[i:]...)
	p.mu.Unlock()
	for _, u := range old {
		u.Close()
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
		u.Close()
	}
}

// alive looks, without waiting, whether an idle connection is still open. What a worker
// says below TLS while it is idle can only be that it closes.
func (u *Conn) alive() bool {
	if u.below.NC != nil {
		return u.below.Alive()
	}
	return u.Alive()
}

// Close closes the connection, or ends a call over HTTP/2.
func (u *Conn) Close() {
	if u.Cancel != nil {
		u.Cancel(context.Canceled)
		return
	}
	_ = u.NC.Close()
}

// Cut makes whoever waits for the worker's answer return: it is late.
func (u *Conn) Cut() {
	if u.Cancel != nil {
		u.Cancel(ErrLate)
		return
	}
	_ = u.NC.SetDeadline(sock.LongAgo)
}

// ErrLate is why a call was cut off.
var ErrLate = errors.New("the worker took too long to answer")

// Keep has the connection carry other calls later.
func (u *Conn) Keep(now int64) {
	u.since = now
	u.w.pool.put(u)
}

// Died notes that the connection was found to have died while it was idle.
func (u *Conn) Died(now int64) { u.w.drops(now, now-u.since) }

// Worn says whether the connection is to be used no more.
func (u *Conn) Worn(now int64, most Life) bool {
	return most.Calls > 0 && u.Carried >= most.Calls || most.Age > 0 && now-u.born > int64(most.Age)
}

// Unread says that nothing of the request that began after sent bytes can have
// been read by the worker.
func (u *Conn) Unread(sent uint64) bool {
	acked, ok := u.Acked()
	// The handshake counts as one byte.
	return ok && acked <= sent+1
}

// LastWord is err, or the worker's alert if it has sent one before it hung up.
func (u *Conn) LastWord(err error) error {
	_ = u.NC.SetReadDeadline(time.Now().Add(wordWithin))
	var one [1]byte
	if _, rerr := u.NC.Read(one[:]); Alerted(rerr) {
		return rerr
	}
	return err
}
