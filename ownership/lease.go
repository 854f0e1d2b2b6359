package ownership

import (
	"maps"
	"slices"
	"time"
)

// ending is how far the lease has ended.
type ending uint8

const (
	trusting ending = iota // exclusive instances may run
	fenced                 // they must stop
	over                   // they must have stopped
)

// maxSent bounds the renewals whose answers are waited for; the oldest go first.
const maxSent = 64

// Sent says that a hello or renewal is about to be sent.
func (h *Holder) Sent(seq uint64, now Time) {
	if len(h.sent) >= maxSent {
		delete(h.sent, slices.Min(slices.Collect(maps.Keys(h.sent))))
	}
	h.sent[seq] = now
}

// Renewed says that the store confirmed the renewal seq for ttl. The trust
// counts from when it was sent. A seq that was never sent changes nothing.
func (h *Holder) Renewed(seq uint64, ttl time.Duration, now Time) []Action {
	at, ok := h.sent[seq]
	if !ok {
		return nil
	}
	maps.DeleteFunc(h.sent, func(s uint64, _ Time) bool { return s <= seq })
	before := h.ending(now)
	until := at + time.Duration(float64(ttl)*(1-h.trust.Drift))
	if !h.trusted || until > h.until {
		h.until, h.trusted = until, true
	}
	if before == trusting {
		return nil
	}
	return h.all(now)
}

// Disconnected forgets renewals under way: their answers will not come.
func (h *Holder) Disconnected() { clear(h.sent) }

// Trusted says until when the lease is trusted; zero if it is not.
func (h *Holder) Trusted() Time {
	if !h.trusted {
		return 0
	}
	return h.until
}

// Fenced reports whether exclusive work must not go on; while it may, until is
// when that ends unless the lease is renewed.
func (h *Holder) Fenced(now Time) (yes bool, until Time) {
	return h.ending(now) != trusting, h.until - h.trust.Stop
}

// Until is how far the lease is trusted: what is exclusive has ended by then.
func (h *Holder) Until() Time { return h.until }

// Tick brings everything up to now.
func (h *Holder) Tick(now Time) []Action {
	if h.ending(now) != h.ended {
		return h.all(now)
	}
	var due []*item
	for !h.timed.empty() && h.timed.first().moment <= now {
		it := h.timed.first()
		h.timed.remove(it)
		due = append(due, it)
	}
	return h.steps(due, now)
}

// all looks at everything.
func (h *Holder) all(now Time) []Action {
	h.ended = h.ending(now)
	return h.steps(slices.Collect(maps.Values(h.items)), now)
}

func (h *Holder) steps(items []*item, now Time) []Action {
	slices.SortFunc(items, func(a, b *item) int { return compare(a.order, b.order) })
	var out []Action
	for _, it := range items {
		out = h.step(it, now, out)
	}
	return out
}

// Next is when Tick wants to be called next; ok is false if never. It may be
// before now: then Tick is late and should be called at once.
func (h *Holder) Next(now Time) (at Time, ok bool) {
	earlier := func(t Time) {
		if !ok || t < at {
			at, ok = t, true
		}
	}
	if !h.timed.empty() {
		earlier(h.timed.first().moment)
	}
	if h.trusted && len(h.items) > 0 {
		switch end := h.ending(now); {
		case end != h.ended:
			earlier(now)
		case end == trusting:
			earlier(h.until - h.trust.Stop)
		case end == fenced:
			earlier(h.until)
		}
	}
	return at, ok
}

// ending is how far the lease has ended by now.
func (h *Holder) ending(now Time) ending {
	switch {
	case now >= h.until:
		return over
	case !h.trusted || now >= h.until-h.trust.Stop:
		return fenced
	}
	return trusting
}
