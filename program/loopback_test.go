package program

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"
)

// cutter is a place whose connections the test may cut.
type cutter struct {
	place Place
	host  chan *loopbackHost
}

func (c *cutter) open(ctx context.Context, r *run) (host, error) {
	h, err := c.place.open(ctx, r)
	if err == nil {
		c.host <- h.(*loopbackHost)
	}
	return h, err
}

// TestCutConnections runs a program while every connection is cut again and
// again: numbers that go to tasks and come back are whole and in order, and
// nothing ends because of it.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	const tasks, each, cuts = 5, 4000, 15
	place := &cutter{host: make(chan *loopbackHost, 1)}
	fs := &Functions{}
	must(t, fs.RegisterTaskFunc("echo", echo))
	place.place = InProcess(WithFunctions(fs), WithLoopback())
	p := New(t.Name())
	must(t, p.SpawnTask("echo", tasks, Resources{}))
	must(t, p.RegisterSchedFunc(func(in <-chan Msg, out chan<- Msg, events <-chan Event) {
		h := <-place.host
		go func() {
			for i := range each {
				for k := range tasks {
					out <- Msg{Task: fmt.Sprintf("echo-%d", k), Data: binary.BigEndian.AppendUint64(nil, uint64(i))}
				}
			}
		}()
		next := map[string]uint64{}
		for n := range tasks * each {
			m := <-in
			if got := binary.BigEndian.Uint64(m.Data); got != next[m.Task] {
				t.Errorf("%s: message %d where %d was due", m.Task, got, next[m.Task])
				return
			}
			next[m.Task]++
			if n%(tasks*each/cuts) == 0 {
				h.relay.Cut()
			}
		}
		for {
			select {
			case e := <-events:
				if e.Final() || e.Kind == Stalled || e.Kind == Error {
					t.Errorf("%v", e)
				}
			default:
				return
			}
		}
	}))
	must(t, p.Run(t.Context(), place))
}

// TestSoak has tasks that send without end to a scheduler function that reads
// slowly, and a scheduler function that sends without end to tasks of which
// some never read. What is held does not grow with what was tried. It measures
// the heap, so no other test runs beside it.
func TestSoak(t *testing.T) {
	fs := &Functions{}
	must(t, fs.RegisterTaskConn("loud", func(ctx context.Context, c Conn) error {
		for {
			if err := c.Send(ctx, Msg{Data: make([]byte, 1000)}); err != nil {
				return nil //nolint:nilerr // time to exit
			}
		}
	}))
	must(t, fs.RegisterTaskConn("deaf", func(ctx context.Context, c Conn) error {
		<-ctx.Done()
		return nil
	}))
	const tasks, rounds = 20, 30_000
	p := New(t.Name(), Config{Grace: 50 * time.Millisecond})
	must(t, p.SpawnTask("loud", tasks, Resources{}))
	must(t, p.SpawnTask("deaf", tasks, Resources{}))
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	must(t, p.RegisterSchedConn(func(ctx context.Context, c Conn) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for i := range tasks {
			go func() {
				for {
					if err := c.Send(ctx, Msg{Task: fmt.Sprintf("deaf-%d", i), Data: make([]byte, 1000)}); err != nil {
						return
					}
				}
			}()
		}
		var early uint64
		for i := range rounds {
			if _, err := c.Recv(ctx); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if i == rounds/10 {
				early = heap()
			}
		}
		if late := heap(); late > early+16<<20 {
			t.Errorf("the heap grew from %d to %d MiB", early>>20, late>>20)
		}
		return nil
	}))
	must(t, p.Run(t.Context(), InProcess(WithFunctions(fs), WithLoopback())))
}
