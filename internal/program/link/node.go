package link

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/program/flow"
)

// version of the protocol, in Hello and Welcome.
const version = 1

// ErrRefused is wrapped by the error of a connection that the relay refused.
var ErrRefused = errors.New("link: refused by the relay")

// Node is one process's ends and its connections to relays. The zero value is
// not useful; see NewNode.
type Node struct {
	id          [16]byte
	idle        time.Duration
	credentials []byte

	mu    sync.RWMutex
	ends  map[flow.Addr]*End
	conns map[*conn]struct{}
}

// NodeConfig says how a node connects.
type NodeConfig struct {
	// Idle is how long a connection may be silent before it counts as cut.
	// Zero means DefaultIdle.
	Idle time.Duration
	// Credentials are shown to relays, which may refuse a node by them. At most 16 KiB.
	Credentials []byte
}

// NewNode returns a node without connections.
func NewNode(cfg NodeConfig) *Node {
	n := &Node{
		idle: cfg.Idle, credentials: cfg.Credentials,
		ends: map[flow.Addr]*End{}, conns: map[*conn]struct{}{},
	}
	if n.idle <= 0 {
		n.idle = DefaultIdle
	}
	_, _ = rand.Read(n.id[:]) // never fails
	return n
}

// End is one end of conversations: a task, or a scheduler function.
type End struct {
	node  *Node
	addr  flow.Addr
	inbox *Inbox
	reply ReplyFunc

	mu      sync.RWMutex
	lanes   map[flow.Addr]*Lane
	refused map[*conn]bool // it lives elsewhere, says the relay; asked again
}

// Bind makes an end that lives in this node. Its messages come into inbox and
// its answers to reply, which may be nil if none are expected.
func (n *Node) Bind(addr flow.Addr, inbox *Inbox, reply ReplyFunc) *End {
	if reply == nil {
		reply = func(any, uint64, []byte) {}
	}
	e := &End{node: n, addr: addr, inbox: inbox, reply: reply, lanes: map[flow.Addr]*Lane{}}
	n.mu.Lock()
	n.ends[addr] = e
	conns := slices.Collect(maps.Keys(n.conns))
	n.mu.Unlock()
	h := flow.Header{Type: flow.Bind, Src: addr}
	for _, c := range conns {
		c.control(h.Append(nil))
	}
	return e
}

// Open begins the conversation with peer, or goes on with it after the other
// end did. Records that are read carry key. Window bounds what this end keeps
// unread, see flow.New.
func (e *End) Open(peer flow.Addr, key any, window int) *Lane {
	l := &Lane{end: e, key: key, f: flow.New(e.addr, peer, window)}
	e.mu.Lock()
	e.lanes[peer] = l
	e.mu.Unlock()
	for _, c := range e.node.connections() {
		l.connected(c)
	}
	return l
}

// Close closes the end and its lanes.
func (e *End) Close() {
	n := e.node
	n.mu.Lock()
	if n.ends[e.addr] == e {
		delete(n.ends, e.addr)
	}
	conns := slices.Collect(maps.Keys(n.conns))
	n.mu.Unlock()
	for _, l := range e.all() {
		l.Close()
	}
	h := flow.Header{Type: flow.Unbind, Src: e.addr}
	for _, c := range conns {
		c.control(h.Append(nil))
	}
}

func (e *End) all() []*Lane {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Collect(maps.Values(e.lanes))
}

func (e *End) remove(l *Lane) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lanes[l.f.Peer()] == l {
		delete(e.lanes, l.f.Peer())
	}
}

func (n *Node) connections() []*conn {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Collect(maps.Keys(n.conns))
}

func (n *Node) lane(dst, src flow.Addr) *Lane {
	n.mu.RLock()
	e := n.ends[dst]
	n.mu.RUnlock()
	if e == nil {
		return nil
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.lanes[src]
}

// Connected reports whether the node has a connection to a relay.
func (n *Node) Connected() bool { return len(n.connections()) > 0 }

// Serve runs the node's side of one connection to a relay, until it ends or ctx
// does, and closes c.
func (n *Node) Serve(ctx context.Context, c net.Conn) error {
	_, err := n.serve(ctx, c)
	return err
}

func (n *Node) serve(ctx context.Context, c net.Conn) (greeted bool, err error) {
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	defer func() { _ = c.Close() }()
	r := newReader(c, n.idle)
	hello := flow.Header{Type: flow.Hello, Offset: version, Len: len(n.id) + len(n.credentials)}
	if err := writeAll(c, append(append(hello.Append(nil), n.id[:]...), n.credentials...), n.idle); err != nil {
		return false, fmt.Errorf("greeting the relay: %w", err)
	}
	h, whole, err := r.next()
	switch {
	case err != nil:
		return false, fmt.Errorf("waiting for the relay's greeting: %w", err)
	case h.Type == flow.Refused:
		return false, fmt.Errorf("%w: %s", ErrRefused, whole[flow.HeaderLen:])
	case h.Type != flow.Welcome || h.Offset != version:
		return false, fmt.Errorf("%w: greeted with type %d, version %d", flow.ErrProtocol, h.Type, h.Offset)
	}
	k := newConn(c, n.idle)
	n.up(k)
	written := make(chan error, 1)
	go func() {
		werr := k.write()
		k.close()
		written <- werr
	}()
	stop := n.keepAlive(k)
	err = n.read(k, r)
	stop()
	n.down(k)
	k.close()
	if werr := <-written; isEnd(err) && !isEnd(werr) {
		err = werr
	}
	if ctx.Err() != nil {
		return true, context.Cause(ctx)
	}
	return true, err
}

func (n *Node) up(k *conn) {
	n.mu.Lock()
	n.conns[k] = struct{}{}
	ends := slices.Collect(maps.Values(n.ends))
	var bind []byte
	for _, e := range ends {
		h := flow.Header{Type: flow.Bind, Src: e.addr}
		bind = h.Append(bind)
	}
	k.control(bind) // before any lane can write
	n.mu.Unlock()
	for _, e := range ends {
		for _, l := range e.all() {
			l.connected(k)
		}
	}
}

func (n *Node) down(k *conn) {
	n.mu.Lock()
	delete(n.conns, k)
	ends := slices.Collect(maps.Values(n.ends))
	n.mu.Unlock()
	others := n.connections()
	for _, e := range ends {
		for _, l := range e.all() {
			l.disconnected(k, others)
		}
	}
}

// keepAlive makes the node heard, and gives memory of idle lanes back.
func (n *Node) keepAlive(k *conn) (stop func()) {
	done := make(chan struct{})
	go func() {
		t := time.NewTicker(n.idle / 4)
		defer t.Stop()
		h := flow.Header{Type: flow.Ping}
		for {
			select {
			case <-t.C:
				k.control(h.Append(nil))
				n.bindAgain(k)
				n.trim()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}

// refused notes that the relay knows an end in another node.
func (n *Node) refused(k *conn, addr flow.Addr) {
	n.mu.RLock()
	e := n.ends[addr]
	n.mu.RUnlock()
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refused == nil {
		e.refused = map[*conn]bool{}
	}
	e.refused[k] = true
}

// bindAgain asks for the ends that were refused.
func (n *Node) bindAgain(k *conn) {
	n.mu.RLock()
	ends := slices.Collect(maps.Values(n.ends))
	n.mu.RUnlock()
	for _, e := range ends {
		e.mu.Lock()
		again := e.refused[k]
		delete(e.refused, k)
		e.mu.Unlock()
		if !again {
			continue
		}
		h := flow.Header{Type: flow.Bind, Src: e.addr}
		k.control(h.Append(nil))
		for _, l := range e.all() {
			l.mu.Lock()
			if l.via == k && !l.closed {
				l.f.Connected()
				l.unlockAndWrite()
			} else {
				l.mu.Unlock()
			}
		}
	}
}

func (n *Node) trim() {
	n.mu.RLock()
	ends := slices.Collect(maps.Values(n.ends))
	n.mu.RUnlock()
	for _, e := range ends {
		for _, l := range e.all() {
			l.mu.Lock()
			l.f.Trim()
			l.mu.Unlock()
		}
	}
}

func (n *Node) read(k *conn, r *reader) error {
	for {
		h, whole, err := r.next()
		if err != nil {
			return err
		}
		switch {
		case h.Routed():
			if l := n.lane(h.Dst, h.Src); l != nil {
				l.frame(k, h, whole[flow.HeaderLen:])
			}
		case h.Type == flow.Ping:
			h.Type, h.Len = flow.Pong, 0
			k.control(h.Append(nil))
		case h.Type == flow.Refused && h.Src != flow.Addr{}:
			n.refused(k, h.Src)
		case h.Type == flow.Refused:
			return fmt.Errorf("%w: %s", ErrRefused, whole[flow.HeaderLen:])
		}
	}
}

// Connect keeps the node connected: it dials, serves, and dials again with a
// growing pause, until ctx ends. Each failure is given to report, if there is one.
func (n *Node) Connect(ctx context.Context, dial func(context.Context) (net.Conn, error), report func(error)) {
	pause := backoff.Backoff{First: 10 * time.Millisecond, Most: time.Second}
	for ctx.Err() == nil {
		c, err := dial(ctx)
		if err == nil {
			var greeted bool
			if greeted, err = n.serve(ctx, c); greeted {
				pause.Reset()
			}
		}
		if ctx.Err() != nil {
			return
		}
		if report != nil && err != nil {
			report(err)
		}
		_ = pause.Wait(ctx) // the loop asks ctx
	}
}
