package gateway

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/wire"
	"github.com/rota-project/rota/internal/logs"
)

// How many failed calls of one function and one cause have a line that the access log
// did not ask for. The others are counted.
const (
	failureBurst = 10
	failureEvery = 10 * time.Second
	// restLines bounds how many lines tell of those that had none, each time.
	restLines = 20
)

// kindOfFailure is what failed calls have in common that are told together.
type kindOfFailure struct {
	function string
	cause    outcome.End
}

func newSampler() *logs.Sampler[kindOfFailure] {
	return logs.NewSampler[kindOfFailure](failureEvery, failureBurst)
}

// log writes the call's line, if it has one: the access log asks for it, or the call
// has failed and there are not too many such lines.
func (x *exchange) log(failed bool) {
	r := &x.rec
	left := 0
	if !r.Logged {
		if !failed {
			return
		}
		var ok bool
		if left, ok = x.g.sampler.Take(kindOfFailure{r.Function, r.End}, time.Now()); !ok {
			return
		}
	}
	level := slog.LevelInfo
	if failed {
		level = slog.LevelWarn
	}
	x.g.log.LogAttrs(context.Background(), level, "call", x.line(failed, left)...)
}

// line is what the log says of the call.
func (x *exchange) line(failed bool, left int) []slog.Attr {
	r := &x.rec
	target := string(x.req.Target)
	if !r.Logged { // nobody has asked for this line, and a query may have secrets
		path, _, cut := strings.Cut(target, "?")
		if target = outcome.Clip(path); cut {
			target += "?..."
		}
	}
	attrs := []slog.Attr{
		slog.String("method", outcome.Clip(string(x.req.Method))), slog.String("host", outcome.Clip(string(x.req.Host))), slog.String("target", target),
		slog.Int("status", r.Status()), slog.String("function", r.Function), slog.String("worker", r.Worker), slog.String("client", x.clientAddr().String()), slog.String("request_id", x.requestID()),
		slog.Duration("took", time.Duration(r.Ended-r.Begun)), slog.Int("attempts", r.All), slog.Int64("bytes_in", r.In), slog.Int64("bytes_out", r.Out),
		slog.String("cause", r.End.String()),
	}
	if r.Key != "" {
		attrs = append(attrs, slog.String("key", r.Key))
	}
	if b := r.End.Blame(); b != outcome.NoBlame {
		attrs = append(attrs, slog.String("blame", b.String()))
	}
	if r.Answered != r.Status() {
		attrs = append(attrs, slog.Int("sent", r.Answered))
	}
	if trace := x.traceID(); trace != "" {
		attrs = append(attrs, slog.String("trace", trace))
	}
	if r.Err != nil {
		attrs = append(attrs, slog.String("error", outcome.Line(r.Err)))
	}
	if failed {
		tried := r.Tried()
		for i := range tried {
			attrs = append(attrs, attempted(r, &tried[i]).attr(r.All-len(tried)+i+1))
		}
	}
	if left > 0 {
		attrs = append(attrs, slog.Int("left_out", left))
	}
	return attrs
}

// attr is what a line of the log says of an attempt.
func (a Attempt) attr(n int) slog.Attr {
	attrs := []any{
		slog.String("worker", a.Worker), slog.Duration("after", duration(a.AfterMS)), slog.Duration("took", duration(a.TookMS)),
		slog.Int64("sent", a.Sent), slog.Int64("read", a.Read), slog.String("cause", a.Cause), slog.String("verdict", a.Verdict),
	}
	if a.Reused {
		attrs = append(attrs, slog.Bool("reused", true))
	}
	if a.Status != 0 {
		attrs = append(attrs, slog.Int("status", a.Status))
	}
	if a.Error != "" {
		attrs = append(attrs, slog.String("error", a.Error))
	}
	return slog.Group("attempt_"+strconv.Itoa(n), attrs...)
}

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// tellRest says how many failed calls had no line, where no other will say so.
func (g *Gateway) tellRest(now time.Time) {
	more := 0
	for i, one := range g.sampler.Rest(now) {
		if i >= restLines {
			more += one.Lines
			continue
		}
		g.log.Warn("calls have failed without a line of their own",
			"function", one.Kind.function, "cause", one.Kind.cause.String(), "blame", one.Kind.cause.Blame().String(), "left_out", one.Lines)
	}
	if more > 0 {
		g.log.Warn("calls of further functions have failed without a line of their own", "left_out", more)
	}
}

// requestID is the one that the call came with, else the one it was given.
func (x *exchange) requestID() string {
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.Kind == wire.RequestID && len(f.Value) > 0 {
			return outcome.Shown(string(f.Value))
		}
	}
	x.rec.Identify(&x.call.rnd)
	return string(x.rec.ID[:])
}
