package gateway

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

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
	cause    end
}

func newSampler() *logs.Sampler[kindOfFailure] {
	return logs.NewSampler[kindOfFailure](failureEvery, failureBurst)
}

// log writes the call's line, if it has one: the access log asks for it, or the call
// has failed and there are not too many such lines.
func (x *exchange) log(failed bool) {
	r := &x.rec
	left := 0
	if !r.logged {
		if !failed {
			return
		}
		var ok bool
		if left, ok = x.g.sampler.Take(kindOfFailure{r.fn, r.end}, time.Now()); !ok {
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
	worker := ""
	if r.worker != nil {
		worker = r.worker.name
	}
	target := string(x.req.Target)
	if !r.logged { // nobody has asked for this line, and a query may have secrets
		path, _, cut := strings.Cut(target, "?")
		if target = clip(path); cut {
			target += "?..."
		}
	}
	attrs := []slog.Attr{
		slog.String("method", clip(string(x.req.Method))), slog.String("host", clip(string(x.req.Host))), slog.String("target", target),
		slog.Int("status", r.status()), slog.String("function", r.fn), slog.String("worker", worker), slog.String("client", x.clientAddr().String()), slog.String("request_id", x.requestID()),
		slog.Duration("took", time.Duration(r.ended-r.begun)), slog.Int("attempts", r.all), slog.Int64("bytes_in", r.in), slog.Int64("bytes_out", r.out),
		slog.String("cause", r.end.String()),
	}
	if r.key != "" {
		attrs = append(attrs, slog.String("key", r.key))
	}
	if b := r.end.blame(); b != noBlame {
		attrs = append(attrs, slog.String("blame", b.String()))
	}
	if r.answered != r.status() {
		attrs = append(attrs, slog.Int("sent", r.answered))
	}
	if trace := x.traceID(); trace != "" {
		attrs = append(attrs, slog.String("trace", trace))
	}
	if r.err != nil {
		attrs = append(attrs, slog.String("error", errText(r.err)))
	}
	if failed {
		for i := range r.tries[:r.n] {
			attrs = append(attrs, r.attempt(i).attr(r.all-r.n+i+1))
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
			"function", one.Kind.function, "cause", one.Kind.cause.String(), "blame", one.Kind.cause.blame().String(), "left_out", one.Lines)
	}
	if more > 0 {
		g.log.Warn("calls of further functions have failed without a line of their own", "left_out", more)
	}
}

// requestID is the one that the call came with, else the one it was given.
func (x *exchange) requestID() string {
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.Kind == wire.RequestID && len(f.Value) > 0 {
			return shown(string(f.Value))
		}
	}
	x.rec.identify(&x.call)
	return string(x.rec.id[:])
}
