package worker

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
)

// TestFailing: each failure of a task is spoken of, with its back-off; a thousand at
// once do not flood the log, and are counted.
func TestFailing(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	f := newFailing(slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Unix(1e9, 0)
	for n := range uint32(20) {
		now = now.Add(time.Minute)
		f.note(now, rota.Instance{Task: "a"}, "no such "+strings.Repeat("€", 1000), n+1, time.Duration(n)*time.Second)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 20 || !strings.Contains(lines[19], "failures=20") || !strings.Contains(lines[19], "again_in=19s") || !strings.Contains(lines[19], "level=WARN") || len(lines[19]) > 600 {
		t.Errorf("%d lines, the last %s", len(lines), lines[len(lines)-1])
	}
	out.Reset()
	for k := range 1000 {
		f.note(now.Add(time.Hour), rota.Instance{Task: "b", Index: k}, "no", 1, time.Second)
	}
	f.note(now.Add(2*time.Hour), rota.Instance{Task: "c"}, "no", 1, time.Second)
	if n := strings.Count(out.String(), "\n"); n != failingBurst+1 || !strings.Contains(out.String(), "others_not_logged=990") {
		t.Errorf("%d lines: %s", n, out.String())
	}
}
