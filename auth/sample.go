package auth

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How many refusals of strangers are told, each on its own.
const (
	toldEvery = time.Second // one in so long
	toldBurst = 20
)

// sampled is a log handler that tells a part of the refusals of callers without
// good credentials, of whom there may be thousands a second, and counts the
// others: the next line that is told says how many were left out before it. What
// else is said is told.
type sampled struct {
	slog.Handler
	state *sampling
}

type sampling struct {
	mu     sync.Mutex
	bucket *rate.Limiter
	left   int
}

func newSampled(h slog.Handler) slog.Handler {
	return &sampled{h, &sampling{bucket: rate.NewLimiter(rate.Every(toldEvery), toldBurst)}}
}

// Handle tells r, or counts it.
func (s *sampled) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn || !ofStranger(r) {
		return s.Handler.Handle(ctx, r)
	}
	s.state.mu.Lock()
	if !s.state.bucket.AllowN(r.Time, 1) {
		s.state.left++
		s.state.mu.Unlock()
		return nil
	}
	left := s.state.left
	s.state.left = 0
	s.state.mu.Unlock()
	if left > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", left))
	}
	return s.Handler.Handle(ctx, r)
}

// ofStranger reports whether a line of the audit is about somebody who has not
// shown who they are.
func ofStranger(r slog.Record) (yes bool) {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "kind" {
			yes = a.Value.String() == "" || a.Value.String() == string(Anonymous)
			return false
		}
		return true
	})
	return yes
}

// WithAttrs keeps on counting in the same place.
func (s *sampled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sampled{s.Handler.WithAttrs(attrs), s.state}
}

// WithGroup keeps on counting in the same place.
func (s *sampled) WithGroup(name string) slog.Handler {
	return &sampled{s.Handler.WithGroup(name), s.state}
}
