// Package door bounds the connections of those who have not shown who they are.
//
// A server puts a Listener around its own and tells it what it finds out: Known
// for a connection whose caller has proved who it is, Asked for one that was
// answered without, Refused for each call that was refused, Enter around a call
// that anybody may make. Whoever is not known is a stranger. With a Patience it is
// told Spoke, too, when a first request has come whole. When there are too
// many strangers, the one that has asked nothing for longest is closed, so that
// there is room for one more: a health probe, or somebody about to prove who they
// are. One that goes on sending, but asks nothing, is closed.
//
// The scheduler's gRPC and HTTP ports use it. It counts what a connection says and
// reads none of it, and knows nothing of protocols and credentials.
package door

import (
	"cmp"
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a Listener. Zero fields mean the defaults.
type Limits struct {
	// All is the most connections there may be.
	All int
	// Strangers is the most of them that strangers may have, PerAddress the most
	// that strangers of one address may have.
	Strangers, PerAddress int
	// Refusals is how many refused calls close a stranger's connection.
	Refusals int
	// Calls is how many calls strangers may have under way, CallsPerConn how many
	// of them on one connection.
	Calls, CallsPerConn int
	// Bytes is how much a stranger's connection may bring at once, BytesPerSecond how
	// much of that it may bring again each second, BytesPerCall with each call that is
	// answered. A server has to read some of what follows a first header before it
	// knows whose that is: Bytes must be more than its windows.
	Bytes, BytesPerSecond, BytesPerCall int
	// BytesEntered and BytesRefused are how much it may bring at once when a call of it was
	// let in as anybody's is, or refused: nothing is to be read ahead any more but what is
	// on its way until the other side hears of that. Zero means Bytes.
	BytesEntered, BytesRefused int
	// Patience is how long a connection may take, handshake included, until Spoke.
	// Zero is no limit.
	Patience time.Duration
	// Segment is the most bytes of a segment that clients are asked to send. How much
	// a client's kernel queues grows with it, up to 4 MiB on loopback, where segments
	// are of 64 KiB; and when a connection is closed on what the client still sends,
	// the kernel frees that queue in the time of this process, as both are on one
	// machine. Zero leaves it to the system.
	Segment int
}

// SmallSegment is a Segment as networks have it anyway.
const SmallSegment = 1460

// Defaults of Limits.
const (
	DefaultAll          = 20_000
	DefaultStrangers    = 512
	DefaultPerAddress   = 256
	DefaultRefusals     = 30
	DefaultCalls        = 24
	DefaultCallsPerConn = 4

	DefaultBytes          = 1280 << 10
	DefaultBytesPerSecond = 16 << 10
	DefaultBytesPerCall   = 4 << 10
)

// Listener accepts within limits. Make it with New.
type Listener struct {
	net.Listener
	limits Limits

	mu        sync.Mutex
	conns     map[string]*conn   // by the address of the other side
	strangers *list.List         // of *conn; who asked last is at the back
	from      map[netip.Addr]int // strangers by address
	calls     *list.List         // of *conn: calls of strangers, the oldest first
}

// New returns a Listener around l.
func New(l net.Listener, limits Limits) *Listener {
	if limits.Segment > 0 {
		_ = segments(l, limits.Segment) // it saves time, and nothing depends on it
	}
	return &Listener{
		Listener: l,
		limits: Limits{
			All:          cmp.Or(limits.All, DefaultAll),
			Strangers:    cmp.Or(limits.Strangers, DefaultStrangers),
			PerAddress:   cmp.Or(limits.PerAddress, DefaultPerAddress),
			Refusals:     cmp.Or(limits.Refusals, DefaultRefusals),
			Calls:        cmp.Or(limits.Calls, DefaultCalls),
			CallsPerConn: cmp.Or(limits.CallsPerConn, DefaultCallsPerConn),
			Patience:     limits.Patience,

			Bytes:          cmp.Or(limits.Bytes, DefaultBytes),
			BytesPerSecond: cmp.Or(limits.BytesPerSecond, DefaultBytesPerSecond),
			BytesPerCall:   cmp.Or(limits.BytesPerCall, DefaultBytesPerCall),
			BytesEntered:   cmp.Or(limits.BytesEntered, limits.Bytes, DefaultBytes),
			BytesRefused:   cmp.Or(limits.BytesRefused, limits.Bytes, DefaultBytes),
		},
		conns: map[string]*conn{}, strangers: list.New(), from: map[netip.Addr]int{}, calls: list.New(),
	}
}

// conn is an open connection. Its fields, but for those it was made with, are
// guarded by the listener's lock.
type conn struct {
	net.Conn
	l    *Listener
	key  string
	host netip.Addr

	known atomic.Bool // stranger is nil, for who does not hold the lock

	stranger *list.Element // nil once it is known
	credit   int           // bytes that it may bring
	most     int           // that credit may be
	heard    time.Time     // when it brought something
	first    *time.Timer   // closes it, until it has spoken; nil without a patience
	refused  int
	calls    int
	closed   bool
}

// Accept returns the next connection that there is room for. Others are closed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, l: l, key: raw.RemoteAddr().String()}
		if at, err := netip.ParseAddrPort(c.key); err == nil {
			c.host = at.Addr().Unmap()
		}
		out, ok := l.admit(c)
		if out != nil {
			_ = out.Close() // a stranger that had its time
		}
		if ok {
			return c, nil
		}
		_ = raw.Close()
	}
}

// admit takes c up, or reports that there is no room. It returns who has to go.
func (l *Listener) admit(c *conn) (out *conn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.from[c.host] >= l.limits.PerAddress:
		out = l.longest(func(s *conn) bool { return s.host == c.host })
		ok = out != nil
	case l.strangers.Len() >= l.limits.Strangers, len(l.conns) >= l.limits.All:
		out = l.longest(func(*conn) bool { return true })
		ok = out != nil
	default:
		ok = true
	}
	if out != nil {
		l.drop(out)
	}
	if ok {
		l.conns[c.key] = c
		c.stranger = l.strangers.PushBack(c)
		l.from[c.host]++
		c.credit, c.most, c.heard = l.limits.Bytes, l.limits.Bytes, time.Now()
		if l.limits.Patience > 0 {
			c.first = time.AfterFunc(l.limits.Patience, func() { _ = c.Close() })
		}
	}
	return out, ok
}

// longest is the stranger that asked nothing for longest, of those that fit; nil
// if there is none. With 256 places and a thousand new ones a second each has a
// quarter of a second, and a handshake and a question take milliseconds. A time
// that nobody could be closed before would leave a probe outside while others come.
func (l *Listener) longest(fits func(*conn) bool) *conn {
	for e := l.strangers.Front(); e != nil; e = e.Next() {
		if c, _ := e.Value.(*conn); fits(c) {
			return c
		}
	}
	return nil
}

// drop forgets a connection.
func (l *Listener) drop(c *conn) {
	if c.closed {
		return
	}
	c.closed = true
	delete(l.conns, c.key)
	l.introduce(c)
	if c.first != nil {
		c.first.Stop()
	}
}

// introduce takes a connection out of the strangers.
func (l *Listener) introduce(c *conn) {
	if c.stranger == nil {
		return
	}
	l.strangers.Remove(c.stranger)
	c.stranger = nil
	c.known.Store(true)
	if l.from[c.host]--; l.from[c.host] == 0 {
		delete(l.from, c.host)
	}
}

// errFlood is what a server reads from a stranger that goes on sending.
var errFlood = errors.New("too much from somebody who asks nothing and is not known")

// Read ends the connection of a stranger that brings too much.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.known.Load() && !c.l.pays(c, n) {
		_ = c.Close()
		return 0, errFlood
	}
	return n, err
}

// pays reports whether a stranger may bring n more bytes.
func (l *Listener) pays(c *conn, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.stranger == nil {
		return true
	}
	now := time.Now()
	again := now.Sub(c.heard).Seconds() * float64(l.limits.BytesPerSecond)
	c.credit = int(min(float64(c.most), float64(c.credit)+again)) - n
	c.heard = now
	return c.credit >= 0
}

// Close closes the connection and makes room.
func (c *conn) Close() error {
	c.l.mu.Lock()
	c.l.drop(c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// NetConn is the connection within, for those who look for a TCP connection.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Spoke says that the connection at this address has brought a first request. How
// long the next ones may take is the server's to bound.
func (l *Listener) Spoke(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conns[addr]; c != nil && c.first != nil {
		c.first.Stop()
	}
}

// Known says that the caller at this address has proved who it is. Its calls are none
// of a stranger any more.
func (l *Listener) Known(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[addr]
	if c == nil {
		return
	}
	l.introduce(c)
	for e := l.calls.Front(); e != nil && c.calls > 0; {
		next := e.Next()
		if e.Value == c {
			l.calls.Remove(e)
		}
		e = next
	}
}

// Asked says that a stranger at this address asked for what anybody may have.
func (l *Listener) Asked(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conns[addr]; c != nil && c.stranger != nil {
		l.strangers.MoveToBack(c.stranger)
		c.limit(l.limits.BytesEntered)
		c.credit = min(c.most, c.credit+l.limits.BytesPerCall)
	}
}

// limit has the connection bring no more at once from now on. The lock is held.
func (c *conn) limit(most int) {
	c.most = min(c.most, most)
	c.credit = min(c.credit, c.most)
}

// Undecided says that a stranger at this address has begun a call of which it is not known
// yet whose it is: its connection may bring as much for it as for one that is refused.
func (l *Listener) Undecided(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conns[addr]; c != nil && c.stranger != nil {
		c.credit = min(l.limits.Bytes, c.credit+l.limits.BytesRefused)
		c.most = max(c.most, c.credit)
	}
}

// Refused says that a stranger at this address was refused. After too many times
// its connection is closed.
func (l *Listener) Refused(addr string) {
	l.mu.Lock()
	c := l.conns[addr]
	if c == nil || c.stranger == nil {
		l.mu.Unlock()
		return
	}
	c.refused++
	c.limit(l.limits.BytesRefused)
	out := c.refused >= l.limits.Refusals
	l.mu.Unlock()
	if out {
		go c.Close() //nolint:errcheck // whoever says this may hold what closing waits for
	}
}

// closeBusiest closes the stranger's connection with the most calls under way. It
// stays among the calls until they have ended; l.mu is held.
func (l *Listener) closeBusiest() {
	var out *conn
	var first *list.Element
	for e := l.calls.Front(); e != nil; e = e.Next() {
		if c, _ := e.Value.(*conn); out == nil || c.calls > out.calls {
			out, first = c, e
		}
	}
	l.drop(out)
	l.calls.Remove(first)
	go out.Close() //nolint:errcheck // as above
}

// Enter begins a call that anybody may make, by a stranger at this address. It
// reports false if there are too many on its connection. If there are too many in
// all, the connection that has most of them is closed, and of several the one with the
// oldest call: a probe has one call, which is soon answered. Leave ends the call.
func (l *Listener) Enter(addr string) (leave func(), ok bool) {
	l.Asked(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[addr]
	if c == nil || c.stranger == nil {
		return func() {}, true
	}
	if c.calls >= l.limits.CallsPerConn {
		return nil, false
	}
	if l.calls.Len() >= l.limits.Calls {
		l.closeBusiest()
	}
	c.calls++
	e := l.calls.PushBack(c)
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.calls--
		l.calls.Remove(e)
	}), true
}

// Open is how many connections there are, and how many of them are strangers'.
func (l *Listener) Open() (all, strangers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns), l.strangers.Len()
}
