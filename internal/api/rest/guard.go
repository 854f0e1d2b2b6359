package rest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// stall is how long one write to, or read from, a client may make no progress.
const stall = 30 * time.Second

// idleTime is how long a connection may stay on which nothing is asked.
const idleTime = 2 * time.Minute

// idle closes connections on which nothing is asked. http.Server's IdleTimeout would do
// so, but over HTTP/2 it keeps one that has ended with open streams in memory until
// that time has passed.
type idle struct {
	after  time.Duration
	mu     sync.Mutex
	timers map[net.Conn]*time.Timer
}

func newIdle(after time.Duration) *idle {
	return &idle{after: after, timers: map[net.Conn]*time.Timer{}}
}

// state is a ConnState of http.Server.
func (i *idle) state(c net.Conn, s http.ConnState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if t := i.timers[c]; t != nil {
		t.Stop()
		delete(i.timers, c)
	}
	if s == http.StateIdle {
		i.timers[c] = time.AfterFunc(i.after, func() { _ = c.Close() })
	}
}

// MaxUnread is the most bytes of bodies that a connection over HTTP/2 may bring before
// anybody reads them.
const MaxUnread = 128 << 10

// NewServer returns an http.Server for h that no slow or silent client can hold
// up. It does not listen; call Serve with a listener. Its Shutdown ends watches
// at once and waits for calls.
func NewServer(h http.Handler) *http.Server {
	stopping, stop := context.WithCancel(context.Background())
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ConnState:         newIdle(idleTime).state,
		MaxHeaderBytes:    MaxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          16,
			MaxReceiveBufferPerConnection: MaxUnread,
			MaxReceiveBufferPerStream:     64 << 10,
		},
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), stoppingKey{}, stopping)
		},
	}
	s.RegisterOnShutdown(stop)
	return s
}

// stoppingKey is where a request's context has the one that ends as the server
// begins to stop.
type stoppingKey struct{}

// untilStopping returns a context that also ends when the server of the request
// begins to stop.
func untilStopping(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stopping, ok := ctx.Value(stoppingKey{}).(context.Context)
	if !ok {
		return ctx, cancel
	}
	forget := context.AfterFunc(stopping, cancel)
	return ctx, func() { forget(); cancel() }
}

// rollingDeadline gives each write its own time, so that a watch may last for
// ever and a reader that has stopped reading may not.
func rollingDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&stallWriter{w, http.NewResponseController(w), r}, r)
	})
}

type stallWriter struct {
	http.ResponseWriter
	ctl *http.ResponseController
	r   *http.Request
}

func (s *stallWriter) Write(p []byte) (int, error) {
	limit(s.r, s.ctl.SetWriteDeadline, time.Now().Add(stall))
	return s.ResponseWriter.Write(p)
}

// limit sets a deadline of a request, unless that has ended: over HTTP/2 a deadline of a
// stream that was closed keeps the whole connection in memory until it has passed. Not
// every writer has deadlines: then the server's own limits hold.
func limit(r *http.Request, set func(time.Time) error, by time.Time) {
	if r.Context().Err() == nil {
		_ = set(by)
	}
	if r.Context().Err() != nil { // it ended meanwhile
		_ = set(time.Time{})
	}
}

// Unwrap lets http.ResponseController find Flush and the deadlines.
func (s *stallWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
