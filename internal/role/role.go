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

	"github.com/rota-project/rota/config"
)

// stopTimeout bounds an orderly end.
const stopTimeout = 10 * time.Second

// logger writes the log as it is configured.
func logger(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // config has checked it
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// listen binds addr. If it is in use and may be any, a free port of the same
// host is taken.
func listen(ctx context.Context, what, addr string, orAny bool) (l net.Listener, moved bool, err error) {
	var lc net.ListenConfig
	l, err = lc.Listen(ctx, "tcp", addr)
	if err != nil && orAny && errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(addr)
		l, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
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
