package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// sizes of the bodies, in bytes.
var sizes = []int{0, 1 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20}

// atOnce is how many requests are under way at once.
const atOnce = 200

// emptyTasks is a body of so many bytes that would be much memory.
func emptyTasks(n int, one string) []byte {
	b := make([]byte, 0, n+len(one))
	for len(b) < n {
		b = append(b, one...)
	}
	return b[:n]
}

// refused measures requests without credentials.
func refused(ctx context.Context, s *process, o options, tell func(row)) error {
	for i, size := range sizes {
		if !o.times && i%2 > 0 {
			continue // memory does not depend on it
		}
		n := max(1, o.requests/atOnce) * atOnce
		for _, kind := range []struct {
			name string
			do   func(context.Context, *process, int) (func() error, func(), error)
		}{{"HTTP", overHTTP}, {"gRPC", overGRPC}} {
			what := fmt.Sprintf("refused, %s, %s, %d KiB: ", s.name, kind.name, size>>10)
			if !o.run.MatchString(what) {
				continue
			}
			mem, cpu, err := flood(ctx, s, n, size, o.times, kind.do)
			if err != nil {
				return fmt.Errorf("%s, %d bytes: %w", kind.name, size, err)
			}
			tell(row{what: what + "peak memory", value: mem, bar: barMemory, unit: "B"})
			if !o.times {
				continue
			}
			bar := float64(barCPU)
			if s.tls != nil {
				bar = 0 // most of it is the handshakes, of which a connection has one
			}
			tell(row{what: what + "processor", value: cpu, bar: bar, unit: "µs"})
		}
	}
	return nil
}

// flood has n requests refused, in rounds, and returns the memory that each cost at
// the most. Only if timed the processor time is what they cost, in the middle one of
// the rounds.
func flood(ctx context.Context, s *process, n, size int, timed bool, prepare func(context.Context, *process, int) (func() error, func(), error)) (memory, cpu float64, err error) {
	ask, end, err := prepare(ctx, s, size)
	if err != nil {
		return 0, 0, err
	}
	defer end()
	if err := ask(); err != nil { // what is needed once
		return 0, 0, err
	}
	before, _, err := s.memory()
	if err != nil {
		return 0, 0, err
	}
	if err := s.resetPeak(); err != nil {
		return 0, 0, err
	}
	idle := 0.0
	if timed {
		if idle, err = s.idle(); err != nil {
			return 0, 0, err
		}
	}
	var spent []float64 // by each request of a round
	for range n / atOnce {
		began := time.Now()
		used, err := s.cpu()
		if err != nil {
			return 0, 0, err
		}
		var group sync.WaitGroup
		failed := make([]error, atOnce)
		for i := range atOnce {
			group.Go(func() { failed[i] = ask() })
		}
		group.Wait()
		if err := errors.Join(failed...); err != nil {
			return 0, 0, err
		}
		// A connection that is closed on a body goes on for half a second, so that
		// the answer is read: those are under way, too.
		time.Sleep(600 * time.Millisecond)
		after, err := s.cpu()
		if err != nil {
			return 0, 0, err
		}
		spent = append(spent, (float64(after-used)-idle*float64(time.Since(began)))/float64(time.Microsecond)/atOnce)
	}
	_, peak, err := s.memory()
	return max(0, peak-before) / atOnce, max(0, median(spent)), err
}

// median of some values: what else the process or its machine does now and then,
// as collecting garbage of its own, is in few of them.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func dial(ctx context.Context, s *process, addr string, proto ...string) (net.Conn, error) {
	if s.tls == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
	conf := s.tls.Clone()
	conf.NextProtos = proto
	return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", addr)
}

// overHTTP posts tasks as JSON, and goes on sending whatever is answered. One that
// sends nothing keeps its connection.
func overHTTP(ctx context.Context, s *process, size int) (ask func() error, end func(), err error) {
	body := emptyTasks(size, `{"tasks":[{},{},{},{},{},{}`)
	header := fmt.Sprintf("POST /v1/tasks:apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", size)
	idle := make(chan net.Conn, atOnce)
	ask = func() (err error) {
		var c net.Conn
		select {
		case c = <-idle:
		default:
			if c, err = dial(ctx, s, s.http, "http/1.1"); err != nil {
				return err
			}
		}
		keep := false
		defer func() {
			if !keep {
				_ = c.Close()
			}
		}()
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = io.WriteString(c, header)
			_, _ = c.Write(body) // it is refused before it ends
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if size > 0 {
			_ = c.Close()
		}
		<-sent
		if resp.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		if size == 0 && !resp.Close {
			keep = true
			idle <- c
		}
		return nil
	}
	return ask, func() {
		close(idle)
		for c := range idle {
			_ = c.Close()
		}
	}, nil
}

// raw sends bytes as they are.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("a %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (raw) Unmarshal(mem.BufferSlice, any) error { return nil }

var _ encoding.CodecV2 = raw{}

// overGRPC applies tasks.
func overGRPC(_ context.Context, s *process, size int) (ask func() error, end func(), err error) {
	creds := insecure.NewCredentials()
	if s.tls != nil {
		creds = credentials.NewTLS(s.tls)
	}
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		return nil, nil, err
	}
	body := emptyTasks(size, "\x0a\x00")
	ask = func() error {
		for { // a connection is closed when too many calls on it were refused
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			err := conn.Invoke(ctx, "/rota.v1.Tasks/ApplyTasks", body, nil)
			cancel()
			if errors.Is(err, io.EOF) {
				continue
			}
			switch status.Code(err) {
			case codes.Unauthenticated:
				return nil
			case codes.Unavailable:
			default:
				return fmt.Errorf("not refused: %w", err)
			}
		}
	}
	return ask, func() { _ = conn.Close() }, nil
}
