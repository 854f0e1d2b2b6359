package gateway

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"
)

// log writes the call to the access log, if it is one of those that are.
func (c *conn) log(status int) {
	share := c.call.logShare
	if share == 0 {
		return
	}
	if share < 1 && c.call.random()>>11 > uint64(share*(1<<53)) {
		return
	}
	c.g.log.LogAttrs(context.Background(), slog.LevelInfo, "call",
		slog.String("method", string(c.req.Method)), slog.String("target", string(c.req.Target)), slog.Int("status", status),
		slog.String("function", c.call.logName), slog.String("worker", c.call.w.name), slog.String("client", c.remote.String()),
		slog.Duration("took", time.Duration(c.g.now()-c.call.begun)), slog.Int("attempts", c.call.attempt+1))
}

func isTooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}
