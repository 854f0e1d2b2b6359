package gateway

import (
	"context"
	"log/slog"
	"time"
)

// log writes the call to the access log, if it is one of those that are.
func (x *exchange) log(status int) {
	share := x.call.logShare
	if share == 0 {
		return
	}
	if share < 1 && x.call.random()>>11 > uint64(share*(1<<53)) {
		return
	}
	x.g.log.LogAttrs(context.Background(), slog.LevelInfo, "call",
		slog.String("method", string(x.req.Method)), slog.String("target", string(x.req.Target)), slog.Int("status", status),
		slog.String("function", x.call.logName), slog.String("worker", x.call.w.name), slog.String("client", x.peer.remote.String()),
		slog.Duration("took", time.Duration(x.g.now()-x.call.begun)), slog.Int("attempts", x.call.attempt+1))
}
