package worker

import (
	"log/slog"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// failing says which tasks fail again and again, but not each time: of each
// instance the 1st, 2nd, 4th, 8th, ... failure, and of all of them so many lines
// in a while. Used by the loop alone.
type failing struct {
	log   *slog.Logger
	since time.Time // when the while began
	lines int       // said since then
	kept  int       // not said since then
}

const (
	failingLines = 10
	failingWhile = 10 * time.Second
	failingText  = 300 // bytes of an error in the log; rota task get shows more
)

// note is told of each failure: n in a row, called again after that time.
func (f *failing) note(now time.Time, i rota.Instance, why string, n uint32, again time.Duration) {
	if n&(n-1) != 0 {
		return
	}
	if now.Sub(f.since) >= failingWhile {
		f.since, f.lines = now, 0
	}
	if f.lines == failingLines {
		f.kept++
		return
	}
	f.lines++
	args := []any{"task", i.String(), "failures", n, "again_in", again, "error", text.Clip(why, failingText)}
	if f.kept > 0 {
		args = append(args, "others_not_logged", f.kept)
		f.kept = 0
	}
	f.log.Warn("task failed, it is started again", args...)
}
