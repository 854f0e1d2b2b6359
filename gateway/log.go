package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// log writes the call to the access log, if it is one of those that are.
func (x *exchange) log() {
	r := &x.rec
	if !r.logged {
		return
	}
	worker := ""
	if r.worker != nil {
		worker = r.worker.name
	}
	attrs := []slog.Attr{
		slog.String("method", clip(string(x.req.Method))), slog.String("host", clip(string(x.req.Host))), slog.String("target", string(x.req.Target)),
		slog.Int("status", r.status()), slog.String("function", r.fn), slog.String("worker", worker), slog.String("client", x.clientAddr().String()), slog.String("request_id", x.requestID()),
		slog.Duration("took", time.Duration(r.ended-r.begun)), slog.Int("attempts", r.n), slog.Int64("bytes_in", r.in), slog.Int64("bytes_out", r.out),
		slog.String("cause", r.end.String()),
	}
	if b := r.end.blame(); b != noBlame {
		attrs = append(attrs, slog.String("blame", b.String()))
	}
	if r.answered != r.status() {
		attrs = append(attrs, slog.Int("sent", r.answered))
	}
	if r.err != nil {
		attrs = append(attrs, slog.String("error", errText(r.err)))
	}
	x.g.log.LogAttrs(context.Background(), slog.LevelInfo, "call", attrs...)
}

// requestID is the one that the call came with, else the one it was given.
func (x *exchange) requestID() string {
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.Kind == wire.RequestID {
			return clip(string(f.Value))
		}
	}
	return string(x.rec.id[:])
}

// failed keeps the call for those who ask how a function's calls fail.
func (g *Gateway) failed(x *exchange) {
	if f := x.call.f; f != nil {
		f.failures.add(x.failure())
	}
}
