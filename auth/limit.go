package auth

import (
	"cmp"
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Limits of one identity. The zero value means the defaults.
type Limits struct {
	// Rate is the number of calls per second, Burst the number of calls at once.
	Rate  float64
	Burst int
	// Streams is the number of concurrent calls and streams (watches, logs). Uploads is the
	// number of streams on which the client keeps sending, AllUploads that of all
	// identities together. A message of such a stream is accounted after it has arrived, so
	// each stream may hold one more message.
	Streams, Uploads, AllUploads int
	// Bytes is the memory in bytes that concurrent requests may hold, AllBytes that of all
	// identities together, ClusterBytes that of all certificates of the cluster, which
	// nobody else can use up. As much again may be held by data that waits to be read; see
	// Guard.Waiting.
	Bytes, AllBytes, ClusterBytes int64
}

// Defaults of Limits: well above normal use, well below what would do harm.
const (
	DefaultRate         = 2000
	DefaultBurst        = 4000
	DefaultStreams      = 1000
	DefaultUploads      = 64
	DefaultAllUploads   = 128
	DefaultBytes        = 256 << 20
	DefaultAllBytes     = 512 << 20
	DefaultClusterBytes = 1 << 30 // a cluster that runs a million tasks reports what it runs
)

const (
	// idle is how long an identity is remembered that does nothing.
	idle = 10 * time.Minute
	// strangersRate and strangersBurst are how many calls a second, and at once, callers
	// without credentials may make from one address where anybody may: none of them needs
	// more than the files of a page.
	strangersRate, strangersBurst = 100, 1000
	// maxStrangers is how many addresses have an account of their own. The others
	// share one.
	maxStrangers = 10_000
)

// limiter counts what each identity does. Callers without credentials have an
// account for each address.
type limiter struct {
	limits  Limits
	bytes   budget
	cluster budget // of certificates
	// What waits to be read is counted like requests, and apart from them.
	waiting, clusterWaiting budget

	mu      sync.Mutex
	callers map[string]*caller
	swept   time.Time
	uploads int
}

type caller struct {
	bucket  *rate.Limiter
	seen    time.Time
	streams int
	uploads int
	passes  int
	bytes   int64 // guarded by the budget's lock
}

func newLimiter(l Limits) *limiter {
	l.Rate = cmp.Or(l.Rate, DefaultRate)
	l.Burst = cmp.Or(l.Burst, max(int(l.Rate), DefaultBurst))
	l.Streams = cmp.Or(l.Streams, DefaultStreams)
	l.Uploads = cmp.Or(l.Uploads, min(DefaultUploads, l.Streams))
	l.AllUploads = cmp.Or(l.AllUploads, max(DefaultAllUploads, l.Uploads))
	l.Bytes = cmp.Or(l.Bytes, DefaultBytes)
	l.AllBytes = cmp.Or(l.AllBytes, max(DefaultAllBytes, l.Bytes))
	l.ClusterBytes = cmp.Or(l.ClusterBytes, max(DefaultClusterBytes, l.Bytes))
	return &limiter{
		limits: l, callers: map[string]*caller{},
		bytes:   budget{whose: "all callers", each: l.Bytes, all: l.AllBytes},
		cluster: budget{whose: "all certificates", each: l.Bytes, all: l.ClusterBytes},
		waiting: budget{whose: "all callers", each: l.Bytes, all: l.AllBytes}, clusterWaiting: budget{whose: "all certificates", each: l.Bytes, all: l.ClusterBytes},
	}
}

// account is whose account a call is on.
func account(ctx context.Context, who Identity) string {
	if who.Kind != Anonymous {
		return string(who.Kind) + "/" + who.ID
	}
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		if host, _, err := net.SplitHostPort(p.Addr.String()); err == nil {
			return string(Anonymous) + "/" + host
		}
	}
	return string(Anonymous)
}

func (l *limiter) get(key string, now time.Time) *caller {
	if now.Sub(l.swept) > idle {
		l.swept = now
		for k, c := range l.callers {
			if c.passes == 0 && c.streams == 0 && now.Sub(c.seen) > idle {
				delete(l.callers, k)
			}
		}
	}
	c, stranger := l.callers[key], strings.HasPrefix(key, string(Anonymous))
	if c == nil && len(l.callers) >= maxStrangers && stranger {
		key = string(Anonymous)
		c = l.callers[key]
	}
	if c == nil {
		c = &caller{bucket: rate.NewLimiter(rate.Limit(l.limits.Rate), l.limits.Burst)}
		if stranger {
			c.bucket = rate.NewLimiter(rate.Limit(min(l.limits.Rate, strangersRate)), min(l.limits.Burst, strangersBurst))
		}
		l.callers[key] = c
	}
	c.seen = now
	return c
}

// call reports whether a call on the account may be made now.
func (l *limiter) call(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.get(key, now).bucket.AllowN(now, 1)
}

// enter lets in a call that was admitted. It reports false if the account has too
// many under way; those that are not counted are never too many.
func (l *limiter) enter(key string, who Identity, counted bool, now time.Time) (*Pass, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.get(key, now)
	if counted {
		if c.streams >= l.limits.Streams {
			return nil, false
		}
		c.streams++
	}
	c.passes++
	p := &Pass{who: who, limiter: l, budget: &l.bytes, c: c, counted: counted}
	if who.Kind == ByCert {
		p.budget = &l.cluster
	}
	return p, true
}

func (l *limiter) leave(p *Pass) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.c.passes--
	if p.counted {
		p.c.streams--
	}
}

// upload takes one of the streams on which the client of a pass goes on sending;
// give returns it. The error is a status that says the limit.
func (l *limiter) upload(p *Pass) (give func(), err error) {
	if p == nil || !p.counted {
		return func() {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.c.uploads >= l.limits.Uploads {
		return nil, status.Errorf(codes.ResourceExhausted, "more than %d concurrent client streams with these credentials", l.limits.Uploads)
	}
	if l.uploads >= l.limits.AllUploads {
		return nil, status.Errorf(codes.ResourceExhausted, "more than %d concurrent client streams of all callers", l.limits.AllUploads)
	}
	p.c.uploads++
	l.uploads++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.c.uploads--
		l.uploads--
	}, nil
}
