package link

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/program/flow"
)

// purse is a budget of so many bytes, which all nodes have together.
type purse struct {
	mu   sync.Mutex
	left int
	low  int
}

var errPurse = errors.New("the purse is empty")

func (p *purse) Try(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left < n {
		return errPurse
	}
	p.left -= n
	p.low = min(p.low, p.left)
	return nil
}

func (p *purse) Give(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left += n
}

// greeted connects and greets as a node of that name.
func greeted(t *testing.T, addr string, name byte) (net.Conn, flow.Type) {
	t.Helper()
	c, err := tcp(addr)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	id := [16]byte{name}
	if _, err := c.Write(append((&flow.Header{Type: flow.Hello, Offset: version, Len: len(id)}).Append(nil), id[:]...)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, flow.HeaderLen)
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Fatal(err)
	}
	h, err := flow.ParseHeader(answer)
	if err != nil {
		t.Fatal(err)
	}
	return c, h.Type
}

// ended waits until the relay has closed the connection; what it says before is read.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Error(err)
	}
	_, err := io.Copy(io.Discard, c)
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		t.Error("the connection goes on")
	}
}

// TestBudgets: what a relay holds for the nodes of one identity is paid for together,
// on however many connections: what waits for those that do not read, ends that they
// bind, and connections.
func TestBudgets(t *testing.T) {
	t.Parallel()
	const room = 2 << 20
	budgeted := func(t *testing.T) (string, *purse) {
		t.Helper()
		p := &purse{left: room, low: room}
		addr, _ := listenRelay(t, &Relay{Idle: time.Minute, Authorize: func(ctx context.Context, _ net.Conn, _ []byte) (context.Context, Budget, error) {
			return ctx, p, nil
		}})
		return addr, p
	}
	t.Run("queues", func(t *testing.T) {
		t.Parallel()
		addr, p := budgeted(t)
		deaf, _ := greeted(t, addr, 1)
		if _, err := deaf.Write((&flow.Header{Type: flow.Bind, Src: flow.Addr{1}}).Append(nil)); err != nil {
			t.Fatal(err)
		}
		loud, _ := greeted(t, addr, 2)
		if _, err := loud.Write((&flow.Header{Type: flow.Bind, Src: flow.Addr{2}}).Append(nil)); err != nil {
			t.Fatal(err)
		}
		frame := append((&flow.Header{Type: flow.Data, Src: flow.Addr{2}, Dst: flow.Addr{1}, Len: flow.MaxPayload}).Append(nil), make([]byte, flow.MaxPayload)...)
		for range 64 << 20 / len(frame) { // kernels hold some, too
			if _, err := loud.Write(frame); err != nil {
				t.Fatalf("who sends is cut off: %v", err)
			}
		}
		ended(t, deaf)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.low < 0 {
			t.Errorf("%d bytes above the budget", -p.low)
		}
	})
	t.Run("ends", func(t *testing.T) {
		t.Parallel()
		addr, _ := budgeted(t)
		c, _ := greeted(t, addr, 1)
		go func() {
			for i := range room { // it is cut off before
				a := flow.Addr{1, byte(i), byte(i >> 8), byte(i >> 16)}
				if _, err := c.Write((&flow.Header{Type: flow.Bind, Src: a}).Append(nil)); err != nil {
					return
				}
			}
		}()
		ended(t, c)
	})
	t.Run("ends that come and go", func(t *testing.T) {
		t.Parallel()
		addr, p := budgeted(t)
		c, _ := greeted(t, addr, 1)
		for range 3 * room / endCost {
			b := (&flow.Header{Type: flow.Bind, Src: flow.Addr{1}}).Append(nil)
			b = (&flow.Header{Type: flow.Bind, Src: flow.Addr{1}}).Append(b) // again is nothing
			b = (&flow.Header{Type: flow.Unbind, Src: flow.Addr{1}}).Append(b)
			b = (&flow.Header{Type: flow.Unbind, Src: flow.Addr{1}}).Append(b)
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Write((&flow.Header{Type: flow.Ping}).Append(nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, flow.HeaderLen)); err != nil {
			t.Errorf("cut off: %v", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.left > room-nodeCost {
			t.Errorf("%d bytes are left of %d", p.left, room)
		}
	})
	t.Run("connections", func(t *testing.T) {
		t.Parallel()
		addr, _ := budgeted(t)
		for n := range room/nodeCost + 1 {
			_, answer := greeted(t, addr, byte(n))
			if n < room/nodeCost-1 && answer != flow.Welcome || n == room/nodeCost && answer != flow.Refused {
				t.Errorf("connection %d is answered %d", n, answer)
			}
		}
	})
}
