package events

import (
	"context"
	"slices"
)

// batchMost is how many events a watch is given at once.
const batchMost = 256

// News is what a watch is given.
type News struct {
	// Missed says that events before these are not kept any more; of which Lost were
	// counted, 0 if nobody knows how many.
	Missed bool
	Lost   int64
	Events []Kept
}

// Watch is a place in the log. It holds nothing: who reads slowly finds that what was
// not kept so long is missed. It is for one goroutine.
type Watch struct {
	log  *Log
	f    Filter
	next [shelves]int64 // of how many of the shelf it is to be given the next
	// unsure says that nobody knows whether something was missed before the first.
	unsure bool
}

// Watch returns a place after an event; nil: at the end.
func (l *Log) Watch(f Filter, after *ID) *Watch {
	l.mu.RLock()
	defer l.mu.RUnlock()
	w := &Watch{log: l, f: f}
	for s := range l.racks {
		r := &l.racks[s]
		w.next[s] = r.seen
		if after == nil {
			continue
		}
		w.unsure = w.unsure || len(r.pages) > 0 && after.Less(r.gone) && *after != ID{}
		for _, p := range slices.Backward(r.pages) {
			if n := len(p.events); n > 0 && !after.Less(p.events[n-1].ID) {
				break
			}
			at, _ := slices.BinarySearchFunc(p.events, *after, func(e Kept, id ID) int {
				if id.Less(e.ID) {
					return 1
				}
				return -1
			})
			w.next[s] = p.first + int64(at)
		}
	}
	return w
}

// Next waits until there is something, and answers it. more is false if it is all that
// there is now. The error is ctx's.
func (w *Watch) Next(ctx context.Context) (n News, more bool, err error) {
	for {
		n, more, moved := w.take()
		if n.Missed || len(n.Events) > 0 {
			return n, more, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return News{}, false, ctx.Err()
		}
	}
}

// Now answers what there is without waiting.
func (w *Watch) Now() (n News, more bool) {
	n, more, _ = w.take()
	return n, more
}

func (w *Watch) take() (n News, more bool, moved <-chan struct{}) {
	l := w.log
	l.mu.RLock()
	defer l.mu.RUnlock()
	n.Missed, w.unsure = w.unsure, false
	var left [shelves][]*page // that are not given yet
	for s := range l.racks {
		r := &l.racks[s]
		at, _ := slices.BinarySearchFunc(r.pages, w.next[s], func(p *page, next int64) int {
			if p.first+int64(len(p.events)) <= next {
				return -1
			}
			return 1
		})
		left[s] = r.pages[at:]
		oldest := r.seen
		if len(left[s]) > 0 {
			oldest = left[s][0].first
		}
		if lost := oldest - w.next[s]; lost > 0 {
			n.Missed, n.Lost, w.next[s] = true, n.Lost+lost, oldest
		}
	}
	for passed := 0; ; passed++ {
		oldest := -1
		var e *Kept
		for s := range left {
			for len(left[s]) > 0 && w.next[s] >= left[s][0].first+int64(len(left[s][0].events)) {
				left[s] = left[s][1:]
			}
			if len(left[s]) == 0 {
				continue
			}
			if w.next[s] < left[s][0].first { // a page in between is gone: the next answer says so
				return n, true, closed
			}
			if mine := &left[s][0].events[w.next[s]-left[s][0].first]; e == nil || mine.ID.Less(e.ID) {
				oldest, e = s, mine
			}
		}
		if e == nil {
			return n, false, l.moved
		}
		if len(n.Events) == batchMost || passed == 16*batchMost {
			return n, true, closed
		}
		w.next[oldest]++
		if e, ok := w.f.match(*e); ok {
			n.Events = append(n.Events, e)
		}
	}
}

// closed is a channel on which nobody waits.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
