package logs

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxKinds bounds how many kinds a Sampler tells apart at a time.
const maxKinds = 100

// Sampler bounds how many lines of each kind are written when there may be thousands
// a second: the first few, then one in a while. It counts the others, so that the log
// says how many there were. Use NewSampler. Its methods are safe for concurrent use.
type Sampler[K comparable] struct {
	every time.Duration
	burst int

	mu     sync.Mutex
	kinds  map[K]*kind
	forget time.Time // before it no kind is looked for to forget
}

// kind is what is known of the lines of one kind.
type kind struct {
	bucket *rate.Limiter
	left   int       // out, since the last line
	since  time.Time // when the first of those was
}

// Left is how many lines of a kind were left out.
type Left[K comparable] struct {
	Kind  K
	Lines int
}

// NewSampler returns a Sampler that lets burst lines of a kind be written at once, and
// then one in each span of every. Of more than a hundred kinds at a time the further
// ones count as the zero kind.
func NewSampler[K comparable](every time.Duration, burst int) *Sampler[K] {
	return &Sampler[K]{every: every, burst: burst, kinds: map[K]*kind{}}
}

// Take reports whether a line of that kind is to be written, and how many of it were
// left out since the last one was.
func (s *Sampler[K]) Take(k K, now time.Time) (left int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.kind(k, now)
	if !one.bucket.AllowN(now, 1) {
		if one.left == 0 {
			one.since = now
		}
		one.left++
		return 0, false
	}
	left, one.left = one.left, 0
	return left, true
}

func (s *Sampler[K]) kind(k K, now time.Time) *kind {
	if one := s.kinds[k]; one != nil {
		return one
	}
	if len(s.kinds) >= maxKinds && !now.Before(s.forget) {
		s.forget = now.Add(s.every)
		for k, one := range s.kinds {
			if one.left == 0 && one.bucket.TokensAt(now) >= float64(s.burst) {
				delete(s.kinds, k)
			}
		}
	}
	if len(s.kinds) >= maxKinds {
		var others K
		k = others
		if one := s.kinds[k]; one != nil {
			return one
		}
	}
	one := &kind{bucket: rate.NewLimiter(rate.Every(s.every), s.burst)}
	s.kinds[k] = one
	return one
}

// Rest returns what was left out of kinds that no line was written of for as long as
// one is written at the latest, and counts it no more: the end of a flood has no line
// of its own that could tell.
func (s *Sampler[K]) Rest(now time.Time) []Left[K] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []Left[K]
	for k, one := range s.kinds {
		if one.left > 0 && now.Sub(one.since) >= s.every {
			rest = append(rest, Left[K]{k, one.left})
			one.left = 0
		}
	}
	return rest
}
