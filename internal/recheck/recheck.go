// Package recheck asks things that go on for long, as connections and streams do,
// again and again whether they still may. What was decided when they began, about
// a certificate or a token, may end before they do.
package recheck

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// every is how often each thing is asked about.
const every = time.Second

// Set is the things that one owner asks about. The zero value is empty and ready.
// It has no goroutine: a timer runs while it is not empty.
type Set struct {
	mu     sync.Mutex
	things map[*thing]struct{}
	armed  bool // the timer runs
}

type thing struct {
	check func() error
	end   func(error)
}

// Add has check asked once a second until remove is called. Once it returns an error,
// end is called with that, and it is asked no more. Neither may block.
func (s *Set) Add(check func() error, end func(error)) (remove func()) {
	t := &thing{check, end}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.things == nil {
		s.things = map[*thing]struct{}{}
	}
	s.things[t] = struct{}{}
	s.arm()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.things, t)
	}
}

// arm starts the timer if there is anything to ask about. s.mu is held.
func (s *Set) arm() {
	if !s.armed && len(s.things) > 0 {
		s.armed = true
		time.AfterFunc(every, s.sweep)
	}
}

func (s *Set) sweep() {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.things))
	s.mu.Unlock()
	for _, t := range all {
		err := t.check()
		if err == nil {
			continue
		}
		s.mu.Lock()
		_, still := s.things[t]
		delete(s.things, t)
		s.mu.Unlock()
		if still {
			t.end(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	s.arm()
}
