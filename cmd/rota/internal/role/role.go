// Package role runs the roles of the rota binary: a scheduler, a worker, or a
// whole cluster on one machine. The commands of these names call it with their
// configuration. It joins the packages that do the work; what they decide is
// theirs.
package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/internal/listener"
	"github.com/rota-project/rota/internal/logs"
)

// stopTimeout bounds an orderly end.
const stopTimeout = 10 * time.Second

// logger writes the log as it is configured, and what libraries log too.
func logger(c config.Log, w io.Writer) *slog.Logger {
	return logs.Standard(logs.Logger(w, level(c), c.Format))
}

func level(c config.Log) slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(c.Level)) // config has checked it
	return l
}

// listen binds addr. If it is in use and may be any, a free port of the same
// host is taken.
func listen(ctx context.Context, what, addr string, orAny bool) (l net.Listener, moved bool, err error) {
	l, err = listener.TCP(ctx, addr)
	if err != nil && orAny && errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(addr)
		l, err = listener.TCP(ctx, net.JoinHostPort(host, "0"))
		moved = true
	}
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", what, err)
	}
	return l, moved, nil
}

// stopping is a context for an orderly end.
func stopping(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
}

// wholeLines passes on the log of a child process, so that its lines do not mix
// with those of others.
func wholeLines(to io.Writer) io.Writer {
	return logs.NewLines(func(line string) { _, _ = io.WriteString(to, line+"\n") })
}
