package worker

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/worker/internal/tasklog"

	"pgregory.net/rapid"
)

// TestWithLast: what goes with a failure has both the error and what was written last,
// within its bound, whatever they are.
func TestWithLast(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		k := tasklog.New("k")
		run := k.Begin(rota.Instance{Task: "a"}, 1)
		w := run.Writer(tasklog.Stdout)
		unit := rapid.SampledFrom([]string{"", "x", "é\n", "\xff", "日本語 ", "line of output\n"})
		_, _ = fmt.Fprint(w, strings.Repeat(unit.Draw(t, "output"), rapid.IntRange(0, 3000).Draw(t, "n")))
		_ = w.Close()
		said := "why " + strings.Repeat(unit.Draw(t, "error"), rapid.IntRange(0, 3000).Draw(t, "m"))
		got, last := withLast(said, run.Last(maxLast)), run.Last(maxLast)
		if last == "" && got != said {
			t.Fatalf("%q", got)
		}
		if last != "" && (len(got) > 2*maxErrorText || !utf8.ValidString(got) || !strings.HasPrefix(got, "why ") || !strings.Contains(got, text.LastIs)) {
			t.Fatalf("%d bytes: %q", len(got), got)
		}
		if last != "" && utf8.ValidString(last) && !strings.HasSuffix(got, last) {
			t.Fatalf("%q does not end with %q", got, last)
		}
	})
}

// TestLogger: what a function logs is in the worker's log, with its task, and kept;
// what is below the level is neither. One that is made by hand has somewhere to write, too.
func TestLogger(t *testing.T) {
	t.Parallel()
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelError} {
		var own bytes.Buffer
		k := tasklog.New("k")
		i := rota.Instance{Task: "a"}
		run := k.Begin(i, 1)
		a := Assigned{output: &output{run: run, log: slog.New(slog.NewTextHandler(&own, &slog.HandlerOptions{Level: level})).With("task", "a")}}
		a.Logger().WithGroup("g").Debug("one", "k", 1)
		a.Logger().Info("two", "k", 2)
		_, _ = fmt.Fprint(a.Stdout(), "three\n")
		kept := run.Last(1000)
		for text, is := range map[string][2]bool{
			"msg=one g.k=1": {false, level <= slog.LevelDebug}, "msg=two k=2": {false, true}, "three": {false, true},
			"msg=one task=a g.k=1": {level <= slog.LevelDebug, false}, "msg=two task=a k=2": {level <= slog.LevelInfo, false},
		} {
			if got := [2]bool{strings.Contains(own.String(), text), strings.Contains(kept, text)}; got != is {
				t.Errorf("level %v: %q is in the worker's log, and kept: %v, want %v\n%s\n%s", level, text, got, is, own.String(), kept)
			}
		}
	}
	var byHand Assigned
	byHand.Logger().Info("nobody hears")
	if n, err := byHand.Stderr().Write([]byte("x")); n != 1 || err != nil {
		t.Error(n, err)
	}
}
