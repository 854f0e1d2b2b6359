package link

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/rota-project/rota/internal/program/flow"
)

// cluster is a relay on loopback TCP, one node with the scheduler function's
// end, and one with the tasks'.
type cluster struct {
	relay  *Relay
	addr   string
	sched  *Node
	worker *Node
}

func start(tb testing.TB) *cluster {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	c := &cluster{relay: &Relay{}, addr: l.Addr().String(), sched: NewNode(NodeConfig{}), worker: NewNode(NodeConfig{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 3)
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			k, err := l.Accept()
			if err != nil {
				return
			}
			go c.relay.Serve(ctx, k)
		}
	}()
	dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", c.addr) }
	for _, n := range []*Node{c.sched, c.worker} {
		go func() {
			defer func() { done <- struct{}{} }()
			n.Connect(ctx, dial, nil)
		}()
	}
	tb.Cleanup(func() {
		cancel()
		l.Close()
		for range 3 {
			<-done
		}
	})
	return c
}

func addrOf(i int) flow.Addr { return flow.Addr{1, byte(i >> 8), byte(i)} }

func BenchmarkOneWay(b *testing.B) {
	for _, size := range []int{16, 1024} {
		for _, tasks := range []int{1, 100} {
			b.Run(fmt.Sprintf("bytes=%d/tasks=%d", size, tasks), func(b *testing.B) {
				c := start(b)
				in := NewInbox()
				s := c.sched.Bind(flow.Addr{9}, in, nil)
				for i := range tasks {
					s.Open(addrOf(i), i, min(256<<10, 1<<20/tasks))
				}
				b.ReportAllocs()
				b.SetBytes(int64(size))
				b.ResetTimer()
				for i := range tasks {
					e := c.worker.Bind(addrOf(i), NewInbox(), nil)
					l := e.Open(flow.Addr{9}, 0, 0)
					n := b.N / tasks
					if i == 0 {
						n += b.N % tasks
					}
					go func() {
						data := make([]byte, size)
						for range n {
							if err := l.Send(b.Context(), 0, data); err != nil {
								b.Error(err)
								return
							}
						}
					}()
				}
				batch := make([]Record, 64)
				for got := 0; got < b.N; {
					n, err := in.Read(b.Context(), batch)
					if err != nil {
						b.Fatal(err)
					}
					got += n
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
			})
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	c := start(b)
	in, back := NewInbox(), NewInbox()
	s := c.sched.Bind(flow.Addr{9}, in, nil).Open(addrOf(0), 0, 0)
	t := c.worker.Bind(addrOf(0), back, nil).Open(flow.Addr{9}, 0, 0)
	go func() {
		batch := make([]Record, 64)
		for {
			n, err := in.Read(b.Context(), batch)
			if err != nil {
				return
			}
			for _, r := range batch[:n] {
				_ = s.Send(b.Context(), 0, r.Data)
			}
		}
	}()
	batch := make([]Record, 64)
	data := make([]byte, 16)
	for b.Loop() {
		if err := t.Send(b.Context(), 0, data); err != nil {
			b.Fatal(err)
		}
		if _, err := back.Read(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPipe(b *testing.B) {
	in := NewInbox()
	p := NewPipe(in, 0, flow.MaxWindow, nil)
	b.ReportAllocs()
	go func() {
		data := make([]byte, 16)
		for range b.N {
			_ = p.Send(context.Background(), 0, data)
		}
	}()
	batch := make([]Record, 64)
	for got := 0; got < b.N; {
		n, err := in.Read(b.Context(), batch)
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
}
