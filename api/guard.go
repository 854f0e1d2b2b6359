package api

import (
	"context"
	"net"
	"net/http"
	"time"
)

// stall is how long one write to, or read from, a client may make no progress.
const stall = 30 * time.Second

// NewServer returns an http.Server for h that no slow or silent client can hold
// up. It does not listen; call Serve with a listener. Its Shutdown ends watches
// at once and waits for calls.
func NewServer(h http.Handler) *http.Server {
	stopping, stop := context.WithCancel(context.Background())
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    MaxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          16,
			MaxReceiveBufferPerConnection: 128 << 10, // of what nobody reads yet
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
		next.ServeHTTP(&stallWriter{w, http.NewResponseController(w)}, r)
	})
}

type stallWriter struct {
	http.ResponseWriter
	ctl *http.ResponseController
}

func (s *stallWriter) Write(p []byte) (int, error) {
	_ = s.ctl.SetWriteDeadline(time.Now().Add(stall))
	return s.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController find Flush and the deadlines.
func (s *stallWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
