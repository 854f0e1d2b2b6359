package room

import (
	"slices"
	"sync"
	"time"
)

// listShare is the part of the time that a list may be on its way: an engine that
// answers slowly is asked less often.
const listShare = 20

// Listing keeps what an engine has listed last. It is safe for concurrent use.
type Listing struct {
	// Every is how often the engine is asked at most, unless something has changed.
	Every time.Duration

	mu      sync.Mutex
	next    time.Time // when the engine is to be asked again
	changes int       // how often Forget was called
	copies  []Copy
	err     error
}

// Get returns the list, by ask if it is time for a new one.
func (l *Listing) Get(ask func() ([]Copy, error)) ([]Copy, error) {
	l.mu.Lock()
	if time.Now().Before(l.next) {
		defer l.mu.Unlock()
		return slices.Clone(l.copies), l.err
	}
	changes := l.changes
	l.mu.Unlock()
	began := time.Now()
	copies, err := ask()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changes == changes { // else it may be from before the change
		l.next, l.copies, l.err = began.Add(max(l.Every, listShare*time.Since(began))), copies, err
	}
	return slices.Clone(copies), err
}

// Forget has the next Get ask: a worker was started or stopped.
func (l *Listing) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
	l.next = time.Time{}
}
