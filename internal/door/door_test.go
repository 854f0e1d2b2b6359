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

// TestBusiest: a probe, which has one call, stays while others have more, whenever
// theirs began; of those that have as many the oldest has to go.
func TestBusiest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := open(t, Limits{Calls: 4, CallsPerConn: 3})
		var all []net.Conn
		for i := range 5 {
			all = append(all, p.visit(one(i)))
		}
		synctest.Wait()
		for n, step := range []struct {
			enter, goes int // goes is negative if nobody does
		}{{0, -1}, {1, -1}, {1, -1}, {1, -1}, {2, 1}, {3, -1}, {4, -1}, {4, 0}} {
			if _, ok := l.Enter(one(step.enter)); !ok {
				t.Fatalf("step %d: no call may begin", n)
			}
			for i, c := range all {
				if got, want := gone(t, c), i == step.goes || i == 1 && n >= 4; got != want {
					t.Errorf("step %d: connection %d is gone: %v", n, i, got)
				}
			}
		}
	})
}

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

// TestCallsOfSomebodyKnown: a call whose caller turns out to be somebody takes no place
// among those of strangers any more, and is not closed to make room for one.
func TestCallsOfSomebodyKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := open(t, Limits{Calls: 2, CallsPerConn: 2})
		var all []net.Conn
		for i := range 4 {
			all = append(all, p.visit(one(i)))
		}
		synctest.Wait()
		for n, step := range []struct {
			enter int
			known bool
			goes  int
		}{{0, true, -1}, {1, false, -1}, {2, false, -1}, {3, false, 1}} {
			if _, ok := l.Enter(one(step.enter)); !ok {
				t.Fatalf("step %d: no call may begin", n)
			}
			if step.known {
				l.Known(one(step.enter))
			}
			for i, c := range all {
				if got, want := gone(t, c), i == step.goes; got != want {
					t.Errorf("step %d: connection %d is gone: %v", n, i, got)
				}
			}
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

// TestFloods: a stranger's connection that goes on bringing bytes is closed, however
// little they ask; one that is known, or brings them with its questions, is not.
func TestFloods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		defer p.Close()
		l := New(p, Limits{Bytes: 1000, BytesEntered: 300, BytesRefused: 500, BytesPerSecond: 10, BytesPerCall: 100})
		visit := func(addr string) (net.Conn, net.Conn) {
			near := make(chan net.Conn)
			go func() { near <- p.visit(addr) }()
			far, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return <-near, far
		}
		// sends reports how many messages of 100 bytes pass.
		sends := func(near, far net.Conn, most int, each func()) (n int) {
			defer near.Close()
			defer far.Close()
			go func() {
				for range most {
					if _, err := near.Write(make([]byte, 100)); err != nil {
						return
					}
				}
			}()
			for ; n < most; n++ {
				if _, err := io.ReadFull(far, make([]byte, 100)); err != nil {
					return n
				}
				each()
			}
			return n
		}
		near, far := visit(one(0))
		if n := sends(near, far, 50, func() {}); n != 10 {
			t.Errorf("a flood: %d messages passed, want 10", n)
		}
		near, far = visit(one(1))
		if n := sends(near, far, 50, func() { time.Sleep(5 * time.Second) }); n != 19 {
			t.Errorf("half as fast again as it may: %d passed, want 19", n)
		}
		near, far = visit(one(2))
		if n := sends(near, far, 50, func() { time.Sleep(10 * time.Second) }); n != 50 {
			t.Errorf("as fast as it may: %d passed", n)
		}
		near, far = visit(one(3))
		if n := sends(near, far, 50, func() { l.Asked(one(3)) }); n != 50 {
			t.Errorf("with questions that are answered: %d passed", n)
		}
		near, far = visit(one(4))
		l.Known(one(4))
		if n := sends(near, far, 50, func() {}); n != 50 {
			t.Errorf("of somebody known: %d passed", n)
		}
		for n, row := range []struct {
			name            string
			decide          func(addr string)
			then, undecided int
		}{
			{"let in as anybody's is", func(addr string) { _, _ = l.Enter(addr) }, 3, 8},
			{"refused", l.Refused, 5, 10},
		} {
			begin := func(i int) (near, far net.Conn, addr string) {
				addr = many(1 + 3*n + i)
				near, far = visit(addr)
				row.decide(addr)
				return near, far, addr
			}
			near, far, _ = begin(0)
			if n := sends(near, far, 50, func() {}); n != row.then {
				t.Errorf("after a call that was %s: %d passed, want %d", row.name, n, row.then)
			}
			near, far, addr := begin(1)
			l.Undecided(addr)
			if n := sends(near, far, 50, func() {}); n != row.undecided {
				t.Errorf("after a call that was %s, and one that is not decided: %d passed, want %d", row.name, n, row.undecided)
			}
			near, far, _ = begin(2)
			if n := sends(near, far, 50, func() { time.Sleep(10 * time.Second) }); n != 50 {
				t.Errorf("after a call that was %s, as fast as it may: %d passed", row.name, n)
			}
		}
	})
}
