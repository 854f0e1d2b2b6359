package door

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections come from addresses that a test chooses.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

type from struct {
	net.Conn
	addr net.Addr
}

func (f *from) RemoteAddr() net.Addr { return f.addr }

// visit connects from addr and returns the caller's end.
func (p *pipes) visit(addr string) net.Conn {
	near, far := net.Pipe()
	p.conns <- &from{far, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))}
	return near
}

// open lets a listener accept until the test ends.
func open(t *testing.T, limits Limits) (*Listener, *pipes) {
	t.Helper()
	p := newPipes()
	l := New(p, limits)
	ended := make(chan struct{})
	var accepted []net.Conn
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted = append(accepted, c)
		}
	}()
	t.Cleanup(func() {
		_ = p.Close()
		<-ended
		for _, c := range accepted {
			_ = c.Close()
		}
	})
	return l, p
}

// gone reports whether the other side closed the connection.
func gone(t *testing.T, c net.Conn) bool {
	t.Helper()
	synctest.Wait()
	if err := c.SetReadDeadline(time.Now().Add(time.Microsecond)); errors.Is(err, io.ErrClosedPipe) {
		return true
	}
	_, err := c.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return true
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		limits Limits
		addr   func(i int) string
		do     func(l *Listener, i int) // after connection i began
		n      int
		gone   []int // of the n connections
	}{
		{"there is room", Limits{Strangers: 3}, one, nil, 3, nil},
		{"the oldest go", Limits{Strangers: 3}, one, nil, 5, []int{0, 1}},
		{"known ones stay", Limits{Strangers: 3}, one, func(l *Listener, i int) {
			if i == 0 {
				l.Known(one(0))
			}
		}, 5, []int{1}},
		{"who asks stays", Limits{Strangers: 3}, one, func(l *Listener, _ int) { l.Asked(one(0)) }, 5, []int{1, 2}},
		{"of one address", Limits{Strangers: 100, PerAddress: 2}, one, nil, 5, []int{0, 1, 2}},
		{"of many addresses", Limits{Strangers: 100, PerAddress: 2}, many, nil, 5, nil},
		{"in all", Limits{All: 3}, one, func(l *Listener, i int) {
			if i == 1 {
				l.Known(one(1))
			}
		}, 5, []int{0, 2}},
		{"in all, of known ones", Limits{All: 3}, one, func(l *Listener, i int) { l.Known(one(i)) }, 5, []int{3, 4}},
		{"refused too often", Limits{Refusals: 3}, one, func(l *Listener, _ int) { l.Refused(one(0)) }, 4, []int{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, p := open(t, c.limits)
				var conns []net.Conn
				for i := range c.n {
					conns = append(conns, p.visit(c.addr(i)))
					synctest.Wait()
					if c.do != nil {
						c.do(l, i)
					}
				}
				for i, conn := range conns {
					if want := slices.Contains(c.gone, i); gone(t, conn) != want {
						t.Errorf("connection %d: gone is not %v", i, want)
					}
				}
				if all, _ := l.Open(); all != c.n-len(c.gone) {
					t.Errorf("%d are open", all)
				}
			})
		})
	}
}

func one(i int) string  { return "192.0.2.1:" + strconv.Itoa(1000+i) }
func many(i int) string { return "192.0.2." + strconv.Itoa(i) + ":1000" }

// TestCalls: a connection has few calls at once, and of all the oldest has to go.
func TestCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := open(t, Limits{Calls: 3, CallsPerConn: 2})
		a, b := p.visit(one(0)), p.visit(one(1))
		synctest.Wait()
		enter := func(i int) func() {
			t.Helper()
			leave, ok := l.Enter(one(i))
			if !ok {
				t.Fatal("no call may begin")
			}
			return leave
		}
		leave := enter(0)
		leave()
		leave() // twice is once
		enter(0)
		enter(0)
		if _, ok := l.Enter(one(0)); ok {
			t.Error("a third call on a connection")
		}
		enter(1)
		if gone(t, a) {
			t.Error("gone while there was room")
		}
		last := enter(1)
		if !gone(t, a) || gone(t, b) {
			t.Error("the connection of the oldest call is the one to go")
		}
		last()
		l.Known(one(1))
		for range 10 {
			enter(1)
		}
		if _, ok := l.Enter("203.0.113.1:1"); !ok {
			t.Error("a connection that is not the listener's")
		}
	})
}

// TestPatience: a connection has one time for its first words, whatever it says
// meanwhile and whoever else speaks.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := open(t, Limits{Patience: 10 * time.Second})
		silent, spoke, known := p.visit(one(0)), p.visit(one(1)), p.visit(one(2))
		synctest.Wait()
		time.Sleep(9 * time.Second)
		l.Spoke(one(1))
		l.Known(one(2)) // by its handshake; it has not asked yet
		if gone(t, silent) || gone(t, spoke) || gone(t, known) {
			t.Error("closed before its time")
		}
		time.Sleep(2 * time.Second)
		if !gone(t, silent) || !gone(t, known) {
			t.Error("open after its time")
		}
		time.Sleep(time.Hour)
		if gone(t, spoke) {
			t.Error("closed after it spoke")
		}
	})
}
