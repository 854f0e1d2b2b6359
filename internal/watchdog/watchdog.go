// Package watchdog notices a loop that stands still.
//
// The leader's loop, a scheduler's loop for a session and a worker's own loop
// decide by the clock what may run where. One that hangs, in a call that ignores
// its context or in a callback of somebody else's, must be noticed from outside,
// and what depends on it given up. A Dog only tells; its owner decides what
// follows, and must not do it on the loop.
package watchdog

import (
	"sync"
	"time"
)

// Dog watches one loop. Its methods are safe for concurrent use.
type Dog struct {
	limit time.Duration
	late  func(place string, standing time.Duration)

	mu    sync.Mutex
	timer *time.Timer
	place string // "" while the loop waits for work
	since time.Time
	bites bool
	over  bool
}

// New returns a Dog that calls late, once and in a goroutine of its own, when the
// loop has been at one place for longer than limit.
func New(limit time.Duration, late func(place string, standing time.Duration)) *Dog {
	return &Dog{limit: limit, late: late}
}

// At says that the loop begins something now that is not to take longer than the
// limit.
func (d *Dog) At(place string) { d.set(place) }

// Goes says that the loop has got on with what it is at, which may go on for any number
// of such steps.
func (d *Dog) Goes() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to(d.place)
}

// Rest says that the loop waits for work, which may take any time.
func (d *Dog) Rest() { d.set("") }

func (d *Dog) set(place string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to(place)
}

// to has the loop at a place from now on; d.mu is held.
func (d *Dog) to(place string) {
	d.place, d.since = place, time.Now()
	switch {
	case d.over:
	case place == "":
		if d.timer != nil {
			d.timer.Stop()
		}
	case d.timer == nil:
		d.timer = time.AfterFunc(d.limit, d.look)
	default:
		d.timer.Reset(d.limit)
	}
}

func (d *Dog) look() {
	d.mu.Lock()
	place, standing := d.place, time.Since(d.since)
	if d.over || d.bites || place == "" || standing < d.limit {
		d.mu.Unlock()
		return
	}
	d.bites = true
	d.mu.Unlock()
	d.late(place, standing)
}

// Late reports whether late was called.
func (d *Dog) Late() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bites
}

// Stop ends the watch: the loop has ended.
func (d *Dog) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.timer != nil {
		d.timer.Stop()
	}
}
