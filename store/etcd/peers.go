package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/door"
)

const (
	// peerPatience is how long a connection may take to show a scheduler's certificate.
	peerPatience = 10 * time.Second
	// peerWrite bounds a write to another member: one that is gone is noticed by it.
	peerWrite = 5 * time.Second
	// maxPeerHeader is the most bytes of a request's header.
	maxPeerHeader = 64 << 10
)

// What a member says before it knows its cluster.
const (
	startingText = "this member is starting"
	newText      = "this member is new"
)

// peerPort is where the other members reach this one. Nobody without a scheduler's
// certificate gets as far as a request; without TLS everybody does who reaches the
// port. It answers from its start, so that members that start together need not wait
// for each other: with an error until there is a handler.
type peerPort struct {
	door    *door.Listener
	conf    *tls.Config // nil without TLS
	http    *http.Server
	handler atomic.Pointer[http.Handler]
	isNew   atomic.Bool // it has never started, and does not join
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
	running sync.WaitGroup
}

// newPeerPort serves on l, which close closes. src is nil without TLS.
func newPeerPort(l net.Listener, src *pki.Source) (*peerPort, error) {
	p := &peerPort{door: door.New(l, door.Limits{Patience: peerPatience}), conns: make(chan net.Conn), closed: make(chan struct{})}
	if src != nil {
		conf, err := src.SchedulersOnly()
		if err != nil {
			return nil, err
		}
		p.conf = conf
	}
	p.http = &http.Server{
		Handler:           p,
		ReadHeaderTimeout: peerPatience, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: maxPeerHeader,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // whoever connects can cause a line
	}
	p.running.Go(p.accept)
	p.running.Go(func() { _ = p.http.Serve(p) }) // it ends with close
	return p, nil
}

// serve has requests answered by h from now on.
func (p *peerPort) serve(h http.Handler) { p.handler.Store(&h) }

// ServeHTTP answers a member.
func (p *peerPort) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := p.handler.Load()
	if h == nil {
		text := startingText
		if p.isNew.Load() {
			text = newText
		}
		http.Error(w, text, http.StatusServiceUnavailable)
		return
	}
	(*h).ServeHTTP(w, r)
}

// accept lets connections in, each of which takes the time that it takes.
func (p *peerPort) accept() {
	var shaking sync.WaitGroup
	defer shaking.Wait()
	for {
		c, err := p.door.Accept()
		if err != nil {
			select {
			case <-p.closed:
				return
			case <-time.After(100 * time.Millisecond): // no descriptors, for a while
				continue
			}
		}
		shaking.Go(func() {
			in, err := p.shake(c)
			if err != nil {
				_ = c.Close() // a stranger learns no more than the alert
				return
			}
			select {
			case p.conns <- in:
			case <-p.closed:
				_ = in.Close()
			}
		})
	}
}

// shake has a connection show its certificate.
func (p *peerPort) shake(c net.Conn) (net.Conn, error) {
	out := net.Conn(patient{c})
	if p.conf != nil {
		ctx, cancel := context.WithTimeout(context.Background(), peerPatience)
		defer cancel()
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		defer stop()
		t := tls.Server(out, p.conf)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		out = pki.Watch(t, p.conf)
	}
	p.door.Known(c.RemoteAddr().String())
	p.door.Spoke(c.RemoteAddr().String())
	return out, nil
}

// Accept implements net.Listener, of connections that have shown what they have to.
func (p *peerPort) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *peerPort) Close() error {
	var err error
	p.once.Do(func() {
		close(p.closed)
		err = p.door.Close()
	})
	return err
}

// Addr implements net.Listener.
func (p *peerPort) Addr() net.Addr { return p.door.Addr() }

// stop ends it and all connections. A nil port is stopped.
func (p *peerPort) stop() error {
	if p == nil {
		return nil
	}
	err := errors.Join(p.http.Close(), p.Close())
	p.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("peer port: %w", err)
	}
	return nil
}

// patient is a connection whose writes end.
type patient struct{ net.Conn }

func (c patient) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(peerWrite)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
