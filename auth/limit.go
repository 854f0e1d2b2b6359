package auth

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits of one identity. The zero value means the defaults.
type Limits struct {
	// Rate is how many calls a second, Burst how many at once.
	Rate  float64
	Burst int
	// Streams is how many streams (watches, logs) at once.
	Streams int
}

// Defaults of Limits: far above what people and programs do, far below what
// would hurt.
const (
	DefaultRate    = 2000
	DefaultBurst   = 4000
	DefaultStreams = 1000
)

// idle is how long an identity is remembered that does nothing.
const idle = 10 * time.Minute

// limiter counts what each identity does. Anonymous callers share one account.
type limiter struct {
	limits Limits

	mu      sync.Mutex
	callers map[string]*caller
	swept   time.Time
}

type caller struct {
	bucket  *rate.Limiter
	streams int
	seen    time.Time
}

func newLimiter(l Limits) *limiter {
	if l.Rate == 0 {
		l.Rate = DefaultRate
	}
	if l.Burst == 0 {
		l.Burst = max(int(l.Rate), DefaultBurst)
	}
	if l.Streams == 0 {
		l.Streams = DefaultStreams
	}
	return &limiter{limits: l, callers: map[string]*caller{}}
}

func (l *limiter) get(who Identity, now time.Time) *caller {
	key := string(who.Kind) + "/" + who.ID
	if now.Sub(l.swept) > idle {
		l.swept = now
		for k, c := range l.callers {
			if c.streams == 0 && now.Sub(c.seen) > idle {
				delete(l.callers, k)
			}
		}
	}
	c := l.callers[key]
	if c == nil {
		c = &caller{bucket: rate.NewLimiter(rate.Limit(l.limits.Rate), l.limits.Burst)}
		l.callers[key] = c
	}
	c.seen = now
	return c
}

// call reports whether the identity may call now.
func (l *limiter) call(who Identity, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.get(who, now).bucket.AllowN(now, 1)
}

// stream takes one of the identity's streams; give returns it.
func (l *limiter) stream(who Identity, now time.Time) (give func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.get(who, now)
	if c.streams >= l.limits.Streams {
		return nil, false
	}
	c.streams++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.streams--
	}, true
}
