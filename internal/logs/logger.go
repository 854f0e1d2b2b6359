package logs

import (
	"bytes"
	"io"
	"log"
	"log/slog"

	"github.com/rota-project/rota/internal/address"
)

// Logger returns a logger of the format (text or json) that leaves out what is
// below level. If w is a Writer, its notices have the same format.
func Logger(w io.Writer, level slog.Level, format string) *slog.Logger {
	if w, ok := w.(*Writer); ok {
		w.SetNotice(func(dropped uint64) []byte {
			var b bytes.Buffer
			slog.New(handler(&b, level, format, discreet)).Error("log lines dropped: nobody read them in time", "lines", dropped)
			return b.Bytes()
		})
	}
	return slog.New(handler(w, level, format, discreet))
}

// Standard has l write what libraries write with package log, as net/http does of connections
// that break: a line each, at level WARN.
func Standard(l *slog.Logger) *slog.Logger {
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(l.Handler(), slog.LevelWarn).Writer())
	return l
}

// Output returns a logger for the lines that other programs write. They are
// written whatever the level of the process's own log is, and may fill half of
// w's queue only.
func Output(w io.Writer, format string) *slog.Logger {
	if whole, ok := w.(*Writer); ok {
		w = whole.Half()
	}
	return slog.New(handler(w, slog.LevelInfo, format, func(a slog.Attr) slog.Attr { return a }))
}

// handler writes lines; show is what becomes of their attributes.
func handler(w io.Writer, level slog.Level, format string, show func(slog.Attr) slog.Attr) slog.Handler {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if format == "json" && a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String()) // else a bare count of nanoseconds
		}
		return show(a)
	}}
	if format != "json" {
		return slog.NewTextHandler(w, opts)
	}
	return slog.NewJSONHandler(w, opts)
}

// discreet shows the addresses in a without their secrets.
func discreet(a slog.Attr) slog.Attr {
	switch a.Value.Kind() { //nolint:exhaustive // the rest has no text
	case slog.KindString:
		if text := address.Text(a.Value.String()); text != a.Value.String() {
			a.Value = slog.StringValue(text)
		}
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			if v != nil {
				a.Value = slog.AnyValue(address.Error(v))
			}
		case []string:
			list := make([]string, len(v))
			for i, s := range v {
				list[i] = address.Show(s)
			}
			a.Value = slog.AnyValue(list)
		}
	}
	return a
}
