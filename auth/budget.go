package auth

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// bytesWait is how long a call waits for others to give back bytes before it is
// refused.
const bytesWait = 5 * time.Second

// budget counts the bytes of requests that are under way, of each identity and
// of all. A request is paid for before it is read; what is over waits for a while,
// in order of arrival.
type budget struct {
	whose     string // all of them are
	each, all int64

	mu      sync.Mutex
	used    int64
	waiting []*waiter
}

type waiter struct {
	c     *caller
	n     int64
	ready chan struct{} // closed when the bytes are its own
}

// fits reports whether c may have n bytes more. The lock is held.
func (b *budget) fits(c *caller, n int64) bool {
	return c.bytes+n <= b.each && b.used+n <= b.all
}

func (b *budget) add(c *caller, n int64) {
	c.bytes += n
	b.used += n
}

// try takes n bytes if they are there.
func (b *budget) try(c *caller, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.fits(c, n) {
		return b.exhausted(c, n)
	}
	b.add(c, n)
	return nil
}

// take takes n bytes, and waits for them if others have them.
func (b *budget) take(ctx context.Context, c *caller, n int64) error {
	b.mu.Lock()
	if n > b.each || len(b.waiting) == 0 && b.fits(c, n) {
		defer b.mu.Unlock()
		if n > b.each {
			return b.exhausted(c, n)
		}
		b.add(c, n)
		return nil
	}
	w := &waiter{c, n, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.serve() // others may wait for what concerns only themselves
	b.mu.Unlock()
	late := time.NewTimer(bytesWait)
	defer late.Stop()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	case <-late.C:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, w)
	if i < 0 { // it was served in the end
		return nil
	}
	b.waiting = slices.Delete(b.waiting, i, i+1)
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	return b.exhausted(c, n)
}

// give gives n bytes back.
func (b *budget) give(c *caller, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(c, -n)
	b.serve()
}

// serve gives those that wait what there is now. The lock is held.
func (b *budget) serve() {
	b.waiting = slices.DeleteFunc(b.waiting, func(w *waiter) bool {
		if !b.fits(w.c, w.n) {
			return false
		}
		b.add(w.c, w.n)
		close(w.ready)
		return true
	})
}

func (b *budget) exhausted(c *caller, n int64) error {
	whose, limit, used := "these credentials", b.each, c.bytes
	if c.bytes+n <= b.each {
		whose, limit, used = b.whose, b.all, b.used
	}
	return status.Error(codes.ResourceExhausted, fmt.Sprintf(
		"requests of %s would hold %d bytes of memory, at most %d are allowed: %d are held now, and this one takes %d", whose, used+n, limit, used, n))
}

// Pass is an admitted call and the resources that it holds. It is safe for concurrent use.
// A nil Pass holds nothing and allows everything.
type Pass struct {
	who     Identity
	limiter *limiter
	budget  *budget
	c       *caller
	counted bool // as one of the calls at once

	mu    sync.Mutex
	bytes int64
	ended bool
}

// Who returns the identity of the caller.
func (p *Pass) Who() Identity {
	if p == nil {
		return From(context.Background())
	}
	return p.who
}

// Take reserves n bytes that are about to be read, and waits while others hold them. The
// error is a status ResourceExhausted that names the limit, or ctx's error.
func (p *Pass) Take(ctx context.Context, n int) error {
	if p == nil {
		return nil
	}
	return p.keep(p.budget.take(ctx, p.c, int64(n)), int64(n))
}

// Try is Take without waiting, for a call that already holds bytes that others may wait
// for.
func (p *Pass) Try(n int) error {
	if p == nil {
		return nil
	}
	return p.keep(p.budget.try(p.c, int64(n)), int64(n))
}

func (p *Pass) keep(err error, n int64) error {
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended { // while it waited
		p.budget.give(p.c, n)
		return status.Error(codes.Canceled, "the call has ended")
	}
	p.bytes += n
	return nil
}

// Give releases n bytes that were taken.
func (p *Pass) Give(n int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended { // End gave them back
		return
	}
	p.bytes -= int64(n)
	p.budget.give(p.c, int64(n))
}

// End ends the call and releases everything that it holds. It may be called more than once.
func (p *Pass) End() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	p.budget.give(p.c, p.bytes)
	p.bytes = 0
	p.limiter.leave(p)
}

type passKey struct{}

// PassFrom returns the pass of a call that Enter admitted, or nil.
func PassFrom(ctx context.Context) *Pass {
	p, _ := ctx.Value(passKey{}).(*Pass)
	return p
}
