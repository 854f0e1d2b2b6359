package auth

import (
	"context"
	"log/slog"
	"time"

	"github.com/rota-project/rota/internal/logs"
)

// How many refusals of strangers are told, each on its own.
const (
	toldEvery = time.Second // one in so long
	toldBurst = 20
)

// trail is where the lines of the audit go. Of what callers without good credentials
// did not achieve, refused or not, of whom there may be thousands a second, it tells a part and counts
// the others: the next line that is told says how many were left out before it. What
// is left out costs next to nothing.
type trail struct {
	log       *slog.Logger
	strangers *logs.Sampler[struct{}]
}

func newTrail(log *slog.Logger) *trail {
	return &trail{log: log, strangers: logs.NewSampler[struct{}](toldEvery, toldBurst)}
}

// write writes one line: who did what to which, and what came of it.
func (t *trail) write(ctx context.Context, who Identity, method, target string, err error) {
	level, reason := slog.LevelInfo, refusal(err)
	var left int
	if reason != "" {
		level = slog.LevelWarn
	}
	if err != nil && who.Kind == Anonymous {
		var ok bool
		if left, ok = t.strangers.Take(struct{}{}, time.Now()); !ok {
			return
		}
	}
	attrs := line(ctx, who, method, target, err)
	if reason != "" {
		attrs = append(attrs, slog.String("reason", reason))
	}
	if left > 0 {
		attrs = append(attrs, slog.Int("left_out", left))
	}
	t.log.LogAttrs(ctx, level, "audit", attrs...)
}
