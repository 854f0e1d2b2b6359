package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/internal/program/flow"
)

// Limits of a relay.
const (
	// maxQueue is the most bytes that wait in a relay for one node. A node that
	// lets more come together than the windows of its lanes allow is cut off;
	// its lanes go on when it is back.
	maxQueue = 256 << 20
	// maxEnds is the most ends that one connection may bind.
	maxEnds = 100_000
	// maxCredentials is the most bytes of credentials that a greeting may carry.
	maxCredentials = 16 << 10
)

// Budget pays for the memory that a relay holds for a node: what waits to be written
// to it, its ends and its buffers. A node that is over its budget is cut off. Nil pays
// for everything.
type Budget interface {
	// Try takes n bytes, or says why not.
	Try(n int) error
	// Give gives n of them back.
	Give(n int)
}

type unlimited struct{}

func (unlimited) Try(int) error { return nil }
func (unlimited) Give(int)      {}

// What a relay holds for a node, with the first chunk that waits, and for each of its
// ends, in bytes.
const (
	nodeCost = readSize + writeSize
	endCost  = 256
)

// Relay passes frames on between the nodes that connect to it. It keeps nothing
// but who lives where: when it dies, nodes go to another.
type Relay struct {
	// Authorize, if set, decides by its credentials whether a node may connect, and
	// what the relay may keep for it. The connection ends when the context does that
	// it returns, a child of ctx, which ends with the connection, and with it the
	// budget. The error's text is told to the node. It must be set before Serve.
	Authorize func(ctx context.Context, c net.Conn, credentials []byte) (context.Context, Budget, error)
	// Idle is how long a connection may be silent before it counts as cut.
	// Zero means DefaultIdle. It must be set before Serve.
	Idle time.Duration
	// Patience is how long a greeting may take as a whole, on connections that do
	// not come from Credentials, which have theirs from there. Zero means
	// defaultPatience. It must be set before Serve.
	Patience time.Duration

	frames, bytes atomic.Uint64 // of messages that were passed on

	mu     sync.RWMutex
	ends   map[flow.Addr]*relayed
	conns  map[*relayed]struct{}
	closed bool
}

// relayed is a node as its relay sees it.
type relayed struct {
	c    net.Conn
	id   [16]byte
	ends map[flow.Addr]struct{} // only its reader touches it
	idle time.Duration
	pays Budget

	mu     sync.Mutex
	cond   sync.Cond
	out    []*chunk // what waits to be written
	size   int      // its bytes
	chunks int      // those, and the ones that are being written; all but one are paid for by the piece
	over   bool     // too much came together
	ended  bool
}

// chunk is a piece of what waits to be written. Chunks are of one size and go
// round in a pool, so that a long queue is never copied to make room.
type chunk struct {
	b []byte
}

var chunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, 0, writeSize)} }}

func newChunk() *chunk {
	k, ok := chunks.Get().(*chunk)
	if !ok { // the pool has nothing else
		k = &chunk{}
	}
	return k
}

// push takes frames for the node.
func (n *relayed) push(frames []byte) {
	n.mu.Lock()
	switch {
	case n.ended:
	case n.size+len(frames) > maxQueue:
		n.over, n.ended = true, true
	default:
		n.size += len(frames)
		for len(frames) > 0 {
			if len(n.out) == 0 || len(n.out[len(n.out)-1].b) == writeSize {
				if n.chunks > 0 && n.pays.Try(writeSize) != nil {
					n.over, n.ended = true, true
					break
				}
				n.out = append(n.out, newChunk())
				n.chunks++
			}
			last := n.out[len(n.out)-1]
			k := min(len(frames), writeSize-len(last.b))
			last.b = append(last.b, frames[:k]...)
			frames = frames[k:]
		}
	}
	n.mu.Unlock()
	n.cond.Signal()
}

func (n *relayed) end() {
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
	n.cond.Signal()
	_ = n.c.Close() // what it was for has already failed or ended
}

var errTooMuch = errors.New("link: the node does not keep up")

func (n *relayed) write() error {
	var out []*chunk
	for {
		n.mu.Lock()
		for len(n.out) == 0 && !n.ended {
			n.cond.Wait()
		}
		if n.ended {
			over := n.over
			n.mu.Unlock()
			if over {
				return errTooMuch
			}
			return net.ErrClosed
		}
		out, n.out = n.out, out[:0]
		n.mu.Unlock()
		for i, k := range out {
			if err := writeAll(n.c, k.b, n.idle); err != nil {
				return err
			}
			n.mu.Lock()
			n.size -= len(k.b)
			n.chunks--
			paid := n.chunks > 0
			n.mu.Unlock()
			k.b = k.b[:0]
			chunks.Put(k)
			if paid {
				n.pays.Give(writeSize)
			}
			out[i] = nil
		}
	}
}

// Serve runs one node's connection until it ends or ctx does, and closes c.
func (r *Relay) Serve(ctx context.Context, c net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	defer func() { _ = c.Close() }()
	idle := r.Idle
	if idle <= 0 {
		idle = DefaultIdle
	}
	n := &relayed{c: c, idle: idle, ends: map[flow.Addr]struct{}{}, pays: unlimited{}}
	n.cond.L = &n.mu
	held, err := r.greet(ctx, n)
	if err != nil {
		return err
	}
	defer context.AfterFunc(held, func() { _ = c.Close() })()
	in := newReader(c, idle)
	written := make(chan error, 1)
	go func() {
		err := n.write()
		n.end()
		written <- err
	}()
	err = r.read(n, in)
	r.forget(n)
	n.end()
	if werr := <-written; isEnd(err) && !isEnd(werr) {
		err = werr
	}
	if held.Err() != nil {
		return context.Cause(held)
	}
	return err
}

// greet takes a node's greeting, all of it in the time that there is, and in no
// more memory than it has bytes: nobody has shown yet who they are.
// The node may stay as long as the context that it returns.
func (r *Relay) greet(ctx context.Context, n *relayed) (context.Context, error) {
	late := time.AfterFunc(cmp.Or(max(0, r.Patience), defaultPatience), func() { _ = n.c.Close() })
	defer late.Stop()
	if b, ok := n.c.(*begun); ok {
		defer b.late.Stop()
	}
	h, payload, err := readHello(n.c)
	if err != nil {
		return nil, fmt.Errorf("waiting for a node's greeting: %w", err)
	}
	refuse := func(err error) (context.Context, error) {
		text := err.Error()
		h := flow.Header{Type: flow.Refused, Len: len(text)}
		_ = writeAll(n.c, append(h.Append(nil), text...), n.idle) // the node may be gone already
		return nil, err
	}
	switch {
	case len(payload) < len(n.id):
		return nil, fmt.Errorf("%w: a greeting of %d bytes", flow.ErrProtocol, len(payload))
	case h.Offset != version:
		return refuse(fmt.Errorf("%w: version %d of the protocol, this relay speaks %d", flow.ErrProtocol, h.Offset, version))
	}
	copy(n.id[:], payload)
	if r.Authorize != nil {
		var pays Budget
		if ctx, pays, err = r.Authorize(ctx, n.c, payload[len(n.id):]); err != nil {
			return refuse(err)
		}
		if pays != nil {
			n.pays = pays
		}
		if err := n.pays.Try(nodeCost); err != nil {
			return refuse(err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, net.ErrClosed
	}
	if r.conns == nil {
		r.conns, r.ends = map[*relayed]struct{}{}, map[flow.Addr]*relayed{}
	}
	r.conns[n] = struct{}{}
	welcome := flow.Header{Type: flow.Welcome, Offset: version}
	n.push(welcome.Append(nil))
	return ctx, nil
}

// readHello reads a Hello and nothing behind it.
func readHello(c net.Conn) (h flow.Header, payload []byte, err error) {
	header := make([]byte, flow.HeaderLen)
	if _, err := io.ReadFull(c, header); err != nil {
		return h, nil, err
	}
	h, err = flow.ParseHeader(header)
	switch {
	case err != nil:
		return h, nil, err
	case h.Type != flow.Hello:
		return h, nil, fmt.Errorf("%w: greeted with type %d", flow.ErrProtocol, h.Type)
	case h.Len > maxCredentials+len(relayed{}.id):
		return h, nil, fmt.Errorf("%w: a greeting of %d bytes, at most %d of credentials are allowed", flow.ErrProtocol, h.Len, maxCredentials)
	}
	payload = make([]byte, h.Len)
	_, err = io.ReadFull(c, payload)
	return h, payload, err
}

func (r *Relay) read(n *relayed, in *reader) error {
	for {
		h, whole, err := in.run()
		if err != nil {
			return err
		}
		switch h.Type {
		case flow.Bind:
			if err := r.bind(n, h.Src); err != nil {
				return err
			}
		case flow.Unbind:
			r.unbind(n, h.Src)
		case flow.Ping:
			h.Type, h.Len = flow.Pong, 0
			n.push(h.Append(nil))
		case flow.Pong:
		case flow.Data, flow.Ack, flow.Sync:
			if _, ok := n.ends[h.Src]; !ok {
				continue // it was refused, and does not know yet
			}
			r.mu.RLock()
			to := r.ends[h.Dst]
			r.mu.RUnlock()
			if to != nil { // else it says how far it got when it comes back
				to.push(whole)
				r.frames.Add(in.frames)
				r.bytes.Add(in.bytes)
			}
		default:
			return fmt.Errorf("%w: frame type %d from a node", flow.ErrProtocol, h.Type)
		}
	}
}

// bind notes that the end lives at n. The same node's older connection gives it
// up: it is dead, though nobody may have noticed yet.
func (r *Relay) bind(n *relayed, addr flow.Addr) error {
	if len(n.ends) >= maxEnds {
		return fmt.Errorf("%w: more than %d ends", flow.ErrProtocol, maxEnds)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.ends[addr]; old != nil && old.id != n.id {
		const text = "the end lives in another node"
		h := flow.Header{Type: flow.Refused, Src: addr, Len: len(text)}
		n.push(append(h.Append(nil), text...)) // it asks again, until the other one is gone
		return nil
	}
	if _, ok := n.ends[addr]; !ok {
		if err := n.pays.Try(endCost); err != nil {
			return fmt.Errorf("%w: %w", errTooMuch, err)
		}
	}
	r.ends[addr] = n
	n.ends[addr] = struct{}{}
	return nil
}

func (r *Relay) unbind(n *relayed, addr flow.Addr) {
	if _, ok := n.ends[addr]; ok {
		delete(n.ends, addr)
		n.pays.Give(endCost)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends[addr] == n {
		delete(r.ends, addr)
	}
}

func (r *Relay) forget(n *relayed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, n)
	for addr := range n.ends {
		if r.ends[addr] == n {
			delete(r.ends, addr)
		}
	}
}

// RelayStats are what a relay has done since it began, and its connections now.
type RelayStats struct {
	Links         int
	Frames, Bytes uint64 // of messages that were passed on
}

// Stats answers what the relay has done.
func (r *Relay) Stats() RelayStats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return RelayStats{Links: len(r.conns), Frames: r.frames.Load(), Bytes: r.bytes.Load()}
}

// Close cuts all connections and takes no more.
func (r *Relay) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for n := range r.conns {
		n.end()
	}
}

// Cut closes all connections that there are; nodes may come back.
func (r *Relay) Cut() {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for n := range r.conns {
		n.end()
	}
}
