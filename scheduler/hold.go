package scheduler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/internal/storepb"
)

// A list that takes away much is more often a fault than a wish: an export that was
// cut short, a query that found nothing. It is held, and the one before stays, until
// somebody confirms it or it has been the same for some time. What is held, and what
// was confirmed, is in the store: a new leader reads the list anew and finds it held.

// heldError is a list that is held.
type heldError struct {
	digest      uint64 // of the list's ids
	removes, of int
}

func (e *heldError) Error() string {
	return fmt.Sprintf("held: it would remove %d of %d tasks", e.removes, e.of)
}

// describe puts it into a source's record; known says that it is there already.
func (e *heldError) describe(m *storepb.Source, known bool, wait time.Duration) {
	if !known {
		m.HeldSinceUnixMs, m.Confirmed = time.Now().UnixMilli(), 0
	}
	m.Held, m.HeldRemoves, m.HeldOf, m.HeldWaitMs = e.digest, int64(e.removes), int64(e.of), max(wait, 0).Milliseconds()
}

// heldList is a list that is held, in this term.
type heldList struct {
	list   sourceList
	digest uint64
	until  time.Time // when it is taken if it stays the same; zero is never
	// failing is set while its source gives no list. It waits on, and is not taken.
	failing bool
}

// due is when it is to be taken; false if no time is enough for that.
func (h *heldList) due() (at time.Time, ok bool) {
	return h.until, !h.failing && !h.until.IsZero()
}

// free is how many tasks any list may remove as long as it keeps one.
const free = 2

// holds is a *heldError if a list of a source is to be held. The view stands still.
func (l *leader) holds(name string, tasks []rota.Task, removes, of int) error {
	part := l.s.cfg.Hold
	switch {
	case removes == 0, part >= 1:
		return nil
	case len(tasks) > 0 && (removes <= free || float64(removes) <= part*float64(of)):
		return nil
	}
	e := &heldError{digest: digestOf(tasks), removes: removes, of: of}
	if l.s.view.Sources[name].GetConfirmed() == e.digest {
		return nil
	}
	if h := l.held[name]; h != nil && h.digest == e.digest && !h.until.IsZero() && !time.Now().Before(h.until) {
		return nil
	}
	return e
}

// hold keeps a list that is held. One that is the same goes on waiting.
func (l *leader) hold(list sourceList, e *heldError) {
	h := &heldList{list: list, digest: e.digest}
	if old := l.held[list.source.Name]; old != nil && old.digest == e.digest {
		h.until = old.until
	} else if l.s.cfg.HoldFor > 0 {
		h.until = time.Now().Add(l.s.cfg.HoldFor)
	}
	l.held[list.source.Name] = h
}

// unhold takes the held lists that were confirmed or have waited for long enough.
func (l *leader) unhold(ctx context.Context, now time.Time) error {
	for _, name := range slices.Sorted(maps.Keys(l.held)) {
		h, confirmed := l.held[name], false
		l.s.view.Read(func() { confirmed = l.s.view.Sources[name].GetConfirmed() == h.digest })
		at, timed := h.due()
		if waited := timed && !now.Before(at); h.failing || !confirmed && !waited {
			continue
		}
		l.s.log.Warn("held list accepted", "source", name, "confirmed", confirmed)
		if err := l.reconcile(ctx, h.list); err != nil {
			return err
		}
	}
	return nil
}

// digestOf tells lists of ids apart, whatever their order. It is kept in the store;
// 0 is no list's.
func digestOf(tasks []rota.Task) uint64 {
	sum := uint64(len(tasks)) + 1
	for _, t := range tasks {
		h := uint64(14695981039346656037) // FNV-1a
		for n := range len(t.ID) {
			h = (h ^ uint64(t.ID[n])) * 1099511628211
		}
		// A sum of these says little of its terms only after they were stirred.
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		sum += h ^ h>>31
	}
	return max(sum, 1)
}
