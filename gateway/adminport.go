package gateway

import (
	"errors"
	"net"
	"net/http"
	"time"
)

// ServeAdmin serves the admin side on a listener until the gateway closes: a unix
// socket, which only those can reach who may use it, or a port, where admin paths
// need Config.AdminToken.
func (g *Gateway) ServeAdmin(ln net.Listener) error {
	h := g.AdminHandler()
	if ln.Addr().Network() != "unix" {
		h = g.portHandler()
	}
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		ReadTimeout: time.Minute, WriteTimeout: time.Minute,
	}
	stop := make(chan struct{})
	g.wg.Go(func() {
		select {
		case <-g.ctx.Done():
		case <-stop:
		}
		_ = srv.Close()
	})
	defer close(stop)
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return ErrClosed
}

// portHandler answers the gateway's own paths on a port of their own.
func (g *Gateway) portHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.state.Load().cfg.guard.Handler(g.self, nil).ServeHTTP(w, r)
	})
}
