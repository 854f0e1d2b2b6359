package worker

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
)

// TestFailing: a task that fails again and again is spoken of, with its back-off,
// ever more rarely; a thousand of them do not flood the log.
func TestFailing(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	f := failing{log: slog.New(slog.NewTextHandler(&out, nil))}
	now := time.Unix(1e9, 0)
	for n := range uint32(1000) {
		now = now.Add(time.Minute)
		f.note(now, rota.Instance{Task: "a"}, "no such "+strings.Repeat("€", 1000), n+1, time.Duration(n)*time.Second)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 10 || !strings.Contains(lines[9], "failures=512") || !strings.Contains(lines[9], "again_in=8m31s") || !strings.Contains(lines[9], "level=WARN") || len(lines[9]) > 600 {
		t.Errorf("%d lines, the last %s", len(lines), lines[len(lines)-1])
	}
	out.Reset()
	for k := range 1000 {
		f.note(now.Add(time.Hour), rota.Instance{Task: "b", Index: k}, "no", 1, time.Second)
	}
	f.note(now.Add(2*time.Hour), rota.Instance{Task: "c"}, "no", 1, time.Second)
	if n := strings.Count(out.String(), "\n"); n != failingLines+1 || !strings.Contains(out.String(), "others_not_logged=990") {
		t.Errorf("%d lines: %s", n, out.String())
	}
}
