package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/program/flow"
)

// listenRelay serves a relay on a loopback port; cut closes its connections.
func listenRelay(t testing.TB, r *Relay) (addr string, cut func() int) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				_ = r.Serve(ctx, c)
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		wg.Wait()
	})
	return l.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		for c := range conns {
			_ = c.Close()
		}
		return len(conns)
	}
}

func connect(t testing.TB, n *Node, dial func(context.Context) (net.Conn, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { n.Connect(ctx, dial, nil) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func tcp(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) }
}

// readNumbered reads until each of the senders' messages 0..each-1 came, in order.
func readNumbered(t *testing.T, in *Inbox, senders, each int) {
	t.Helper()
	next := make([]uint64, senders)
	batch := make([]Record, 64)
	for left := senders * each; left > 0; {
		n, err := in.Read(t.Context(), batch)
		if err != nil {
			t.Errorf("Read: %v", err)
			return
		}
		for _, r := range batch[:n] {
			i := r.From.(int)
			if got := binary.BigEndian.Uint64(r.Data); got != next[i] || r.Tag != got {
				t.Errorf("sender %d: message %d where %d was due", i, got, next[i])
				return
			}
			next[i]++
		}
		left -= n
	}
}

func sendNumbered(t *testing.T, l *Lane, each int, sent *atomic.Int64) {
	t.Helper()
	for i := range uint64(each) {
		data := append(binary.BigEndian.AppendUint64(nil, i), bytes.Repeat([]byte{'^'}, int(i%513))...)
		if err := l.Send(t.Context(), i, data); err != nil {
			t.Errorf("Send: %v", err)
			return
		}
		if sent != nil {
			sent.Add(1)
		}
	}
}

// TestCuts numbers messages in both directions while every connection is cut
// again and again, and one of two relays dies in the middle.
func TestCuts(t *testing.T) {
	t.Parallel()
	const tasks, each, minCuts = 8, 6000, 20
	addr, cut := listenRelay(t, &Relay{})
	second, cutSecond := listenRelay(t, &Relay{})
	sched, worker := NewNode(NodeConfig{}), NewNode(NodeConfig{})
	connect(t, sched, tcp(addr))
	connect(t, sched, tcp(second)) // the scheduler function is at every relay
	var use atomic.Pointer[string]
	use.Store(&addr)
	connect(t, worker, func(ctx context.Context) (net.Conn, error) { return tcp(*use.Load())(ctx) })

	in := NewInbox()
	s := sched.Bind(flow.Addr{9}, in, nil)
	var sent atomic.Int64
	var wg sync.WaitGroup
	for i := range tasks {
		back := NewInbox()
		task := worker.Bind(flow.Addr{1, byte(i)}, back, nil).Open(flow.Addr{9}, 0, 0)
		l := s.Open(flow.Addr{1, byte(i)}, i, 64<<10)
		wg.Go(func() { sendNumbered(t, task, each, &sent) })
		wg.Go(func() { sendNumbered(t, l, each, &sent) })
		wg.Go(func() { readNumbered(t, back, 1, each) })
	}
	done := make(chan struct{})
	cuts := make(chan int)
	go func() {
		n, last := 0, int64(0)
		for {
			select {
			case <-done:
				cuts <- n
				return
			default:
			}
			now := sent.Load()
			if now-last < 2*tasks*each/50 {
				continue
			}
			last = now
			n += cut() + cutSecond()
			if now > tasks*each {
				use.Store(&second)
			}
		}
	}()
	readNumbered(t, in, tasks, each)
	wg.Wait()
	close(done)
	if n := <-cuts; n < minCuts {
		t.Fatalf("only %d connections were cut", n)
	}
}

// TestSlowReader has tasks that do not read: what is sent to them waits, within
// bounds, and all others are served.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	addr, _ := listenRelay(t, &Relay{})
	sched, worker := NewNode(NodeConfig{}), NewNode(NodeConfig{})
	connect(t, sched, tcp(addr))
	connect(t, worker, tcp(addr))
	s := sched.Bind(flow.Addr{9}, NewInbox(), nil)
	var stuck []*Lane
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 20 {
		worker.Bind(flow.Addr{2, byte(i)}, NewInbox(), nil).Open(flow.Addr{9}, 0, 0)
		l := s.Open(flow.Addr{2, byte(i)}, i, 0)
		stuck = append(stuck, l)
		wg.Go(func() {
			for l.Send(ctx, 0, make([]byte, 1000)) == nil {
			}
		})
	}
	in := NewInbox()
	worker.Bind(flow.Addr{1}, in, nil).Open(flow.Addr{9}, 0, 0)
	l := s.Open(flow.Addr{1}, 0, 0)
	wg.Go(func() { sendNumbered(t, l, 20_000, nil) })
	readNumbered(t, in, 1, 20_000)
	for _, l := range stuck {
		l.mu.Lock()
		if n := l.f.Buffered(); n > 2*flow.MinWindow+2000 {
			t.Errorf("%d bytes wait for a task that does not read", n)
		}
		l.mu.Unlock()
		if l.Progress() != 0 {
			t.Error("progress without a reader")
		}
	}
	cancel()
	wg.Wait()
}

// TestReplies has answers come through while messages before them are not read.
func TestReplies(t *testing.T) {
	t.Parallel()
	addr, _ := listenRelay(t, &Relay{})
	sched, worker := NewNode(NodeConfig{}), NewNode(NodeConfig{})
	connect(t, sched, tcp(addr))
	connect(t, worker, tcp(addr))
	got := make(chan Record, 1000)
	s := sched.Bind(flow.Addr{9}, NewInbox(), func(from any, tag uint64, data []byte) { got <- Record{from, tag, data} })
	s.Open(flow.Addr{1}, "task", 0)
	l := worker.Bind(flow.Addr{1}, NewInbox(), nil).Open(flow.Addr{9}, 0, 0)
	for l.Room() {
		if err := l.Send(t.Context(), 0, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(1000) {
		if err := l.Reply(t.Context(), i, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		if r := <-got; r.Tag != i || r.From != "task" || len(r.Data) != 500 {
			t.Fatalf("answer %d: %v", i, r)
		}
	}
}

// TestLimits tries what must be refused.
func TestLimits(t *testing.T) {
	t.Parallel()
	refusal := errors.New("unknown token")
	addr, _ := listenRelay(t, &Relay{Authorize: func(ctx context.Context, _ net.Conn, credentials []byte) (context.Context, Budget, error) {
		if string(credentials) != "right" {
			return nil, nil, refusal
		}
		return ctx, nil, nil
	}})
	c, err := tcp(addr)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := NewNode(NodeConfig{Credentials: []byte("wrong")}).Serve(t.Context(), c); !errors.Is(err, ErrRefused) {
		t.Errorf("wrong credentials: %v", err)
	}
	n := NewNode(NodeConfig{Credentials: []byte("right")})
	connect(t, n, tcp(addr))
	in := NewInbox()
	e := n.Bind(flow.Addr{1}, in, nil)
	l := e.Open(flow.Addr{2}, 0, 0)
	n.Bind(flow.Addr{2}, in, nil).Open(flow.Addr{1}, 0, 0) // both ends in one node work too
	if err := l.Send(t.Context(), 0, make([]byte, MaxMessage+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a message over the limit: %v", err)
	}
	large := bytes.Repeat([]byte{0, 255, '^', '\n'}, MaxMessage/4)
	if err := l.Send(t.Context(), 3, large); err != nil {
		t.Fatal(err)
	}
	batch := make([]Record, 4)
	if k, err := in.Read(t.Context(), batch); err != nil || k != 1 || !bytes.Equal(batch[0].Data, large) {
		t.Errorf("a message of the limit: %d, %v", k, err)
	}
	e.Close()
	if err := l.Send(t.Context(), 0, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
	in.Close()
	in.Close()
	if _, err := in.Read(t.Context(), batch); !errors.Is(err, ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewInbox().Read(ctx, batch); !errors.Is(err, context.Canceled) {
		t.Errorf("Read after its context: %v", err)
	}
}

// TestSpoof has a node send in the name of an end that lives elsewhere, and
// claim that end: the relay passes nothing on.
func TestSpoof(t *testing.T) {
	t.Parallel()
	addr, _ := listenRelay(t, &Relay{})
	honest := NewNode(NodeConfig{})
	connect(t, honest, tcp(addr))
	in := NewInbox()
	honest.Bind(flow.Addr{1}, in, nil).Open(flow.Addr{2}, 0, 0)
	l := honest.Bind(flow.Addr{2}, NewInbox(), nil).Open(flow.Addr{1}, 0, 0)
	batch := make([]Record, 2)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.Send(t.Context(), 0, []byte("one")))
	if _, err := in.Read(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	c, err := tcp(addr)(t.Context())
	must(err)
	defer c.Close()
	hello := flow.Header{Type: flow.Hello, Offset: version, Len: 16}
	bind := flow.Header{Type: flow.Bind, Src: flow.Addr{2}}
	data := flow.Header{Type: flow.Data, Src: flow.Addr{2}, Dst: flow.Addr{1}, Offset: 5, Len: 3}
	ping := flow.Header{Type: flow.Ping, Offset: 77}
	b := append(hello.Append(nil), make([]byte, 16)...)
	b = append(data.Append(bind.Append(b)), 0, 1, 'x')
	_, err = c.Write(ping.Append(b))
	must(err)
	r := newReader(c, DefaultIdle)
	for _, want := range []flow.Type{flow.Welcome, flow.Refused, flow.Pong} {
		h, _, err := r.next()
		must(err)
		if h.Type != want {
			t.Fatalf("answered with type %d, want %d", h.Type, want)
		}
	}
	must(l.Send(t.Context(), 0, []byte("two")))
	if n, err := in.Read(t.Context(), batch); err != nil || n != 1 || string(batch[0].Data) != "two" {
		t.Errorf("read %v, %v", batch[:n], err)
	}
	bad := flow.Header{Type: flow.Welcome}
	_, err = c.Write(bad.Append(nil))
	must(err)
	if h, _, err := r.next(); err == nil {
		t.Errorf("type %d after what no node may say", h.Type)
	}
}

// TestMoves has an end claimed by a second node while the first still has it:
// the second gets it when the first is gone.
func TestMoves(t *testing.T) {
	t.Parallel()
	addr, _ := listenRelay(t, &Relay{})
	const idle = 200 * time.Millisecond
	first, second, other := NewNode(NodeConfig{Idle: idle}), NewNode(NodeConfig{Idle: idle}), NewNode(NodeConfig{})
	for _, n := range []*Node{first, second, other} {
		connect(t, n, tcp(addr))
	}
	held, in := NewInbox(), NewInbox()
	e := first.Bind(flow.Addr{1}, held, nil)
	e.Open(flow.Addr{2}, 0, 0)
	l := other.Bind(flow.Addr{2}, NewInbox(), nil).Open(flow.Addr{1}, 0, 0)
	batch := make([]Record, 1)
	if err := l.Send(t.Context(), 0, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Read(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	l.Close()
	second.Bind(flow.Addr{1}, in, nil).Open(flow.Addr{3}, 0, 0)
	k := other.Bind(flow.Addr{3}, NewInbox(), nil).Open(flow.Addr{1}, 0, 0)
	e.Close()
	if err := k.Send(t.Context(), 7, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(t.Context(), batch); err != nil || batch[0].Tag != 7 {
		t.Errorf("read %v, %v", batch[0], err)
	}
}

func TestPipe(t *testing.T) {
	t.Parallel()
	in := NewInbox()
	p := NewPipe(in, 0, 0, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range uint64(50_000) {
			if err := p.Send(t.Context(), i, binary.BigEndian.AppendUint64(nil, i)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	readNumbered(t, in, 1, 50_000)
	wg.Wait()
	for p.Room() {
		if err := p.Send(t.Context(), 0, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if p.bytes > 2*flow.MinWindow {
		t.Errorf("%d bytes wait", p.bytes)
	}
	blocked := make(chan error)
	go func() { blocked <- p.Send(t.Context(), 0, nil) }()
	p.Close()
	if err := <-blocked; !errors.Is(err, ErrClosed) {
		t.Errorf("Send while it was closed: %v", err)
	}
}
