package worker

import (
	"log/slog"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/internal/text"
)

// failing says of each failure of a task when it is started again. Of a flood it says
// so many lines, and how many it has left out. Used by the loop alone.
type failing struct {
	log   *slog.Logger
	lines *logs.Sampler[struct{}]
}

const (
	failingBurst = 10
	failingEvery = time.Second // each further line of a flood
	failingText  = 300         // bytes of an error in the log; rota task get shows more
)

func newFailing(log *slog.Logger) failing {
	return failing{log: log, lines: logs.NewSampler[struct{}](failingEvery, failingBurst)}
}

// note is told of each failure: n in a row, called again after that time.
func (f *failing) note(now time.Time, i rota.Instance, why string, n uint32, again time.Duration) {
	left, ok := f.lines.Take(struct{}{}, now)
	if !ok {
		return
	}
	args := []any{"task", i.String(), "failures", n, "again_in", again, "error", text.Clip(why, failingText)}
	if left > 0 {
		args = append(args, "others_not_logged", left)
	}
	f.log.Warn("task failed; it will be started again", args...)
}
