package logs

import (
	"bytes"
	"io"
	"log/slog"
)

// Logger returns a logger of the format (text or json) that leaves out what is
// below level. If w is a Writer, its notices have the same format.
func Logger(w io.Writer, level slog.Level, format string) *slog.Logger {
	if w, ok := w.(*Writer); ok {
		w.SetNotice(func(dropped uint64) []byte {
			var b bytes.Buffer
			slog.New(handler(&b, level, format)).Error("log lines dropped: nobody read them in time", "lines", dropped)
			return b.Bytes()
		})
	}
	return slog.New(handler(w, level, format))
}

// Output returns a logger for the lines that other programs write. They are
// written whatever the level of the process's own log is, and may fill half of
// w's queue only.
func Output(w io.Writer, format string) *slog.Logger {
	if whole, ok := w.(*Writer); ok {
		w = whole.Half()
	}
	return slog.New(handler(w, slog.LevelInfo, format))
}

func handler(w io.Writer, level slog.Level, format string) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if format != "json" {
		return slog.NewTextHandler(w, opts)
	}
	opts.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String()) // else a bare count of nanoseconds
		}
		return a
	}
	return slog.NewJSONHandler(w, opts)
}
