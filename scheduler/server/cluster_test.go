package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
)

// much is a hello of about so many bytes, few of which are to be decoded.
func much(worker string, bytes int) *rotav1.FromWorker {
	return &rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{
		Info: &rotav1.WorkerInfo{Name: worker, Incarnation: "i", Version: strings.Repeat("x", bytes)},
	}}}
}

// say opens a session, says m on it, and returns what came of it.
func say(t *testing.T, conn *grpc.ClientConn, m *rotav1.FromWorker) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := rotav1.NewSessionsClient(conn).Connect(ctx)
	if err != nil {
		return err
	}
	if err := s.Send(m); err != nil && err != io.EOF { //nolint:errorlint // as it is documented
		return err
	}
	_, err = s.Recv()
	return err
}

// TestCertificatesPayForMessages: what comes on streams that were opened with a
// certificate is paid for as it comes, however many streams and connections begin
// messages, from a budget of each certificate and one of all; others go on, and when
// the streams are over nothing is left to be paid.
func TestCertificatesPayForMessages(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	handler := slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil)
	c := newClosed(t, server.Config{
		Limits:    auth.Limits{Bytes: 24 << 20, ClusterBytes: 40 << 20},
		Scheduler: scheduler.Config{Logger: slog.New(handler)},
	})
	sources := map[string]*pki.Source{}
	for _, name := range []string{"w1", "w2", "w3"} {
		sources[name] = c.source(t, pki.Request{Role: pki.Worker, Name: name})
	}
	conn := func(name string) *grpc.ClientConn { return c.dial(t, sources[name].Credentials("")) }
	// A message that fits is taken, with or without others before it that were begun and left.
	for range 5 {
		abandoned := c.begin(t, sources["w1"], 3, 7<<20)
		if err := abandoned.ended(500 * time.Millisecond); err != nil {
			t.Fatalf("three messages that fit: %v", err)
		}
		abandoned.reset(t)
		if err := say(t, conn("w1"), much("w1", 10<<20)); err != nil {
			t.Fatalf("a large hello: %v", err)
		}
		_ = abandoned.Close()
	}
	if err := say(t, conn("w1"), much("w1", 30<<20)); status.Code(err) != codes.Unavailable {
		t.Errorf("more than a certificate may have under way: %v", err)
	}
	// Together they may have so much, and no more.
	first, second := c.begin(t, sources["w1"], 3, 7<<20), c.begin(t, sources["w2"], 2, 7<<20)
	for _, b := range []*begun{first, second} {
		if err := b.ended(500 * time.Millisecond); err != nil {
			t.Fatalf("what fits: %v", err)
		}
	}
	third := c.begin(t, sources["w3"], 1, 7<<20)
	if third.ended(time.Minute) == nil {
		t.Error("more than all may have under way, and nobody is cut off")
	}
	mu.Lock()
	text := log.String()
	mu.Unlock()
	if !strings.Contains(text, "name=w3") || !strings.Contains(text, "all certificates") {
		t.Errorf("the log: %s", text)
	}
	if err := say(t, conn("w3"), much("w3", 1<<10)); err != nil {
		t.Errorf("a worker that has little to say: %v", err)
	}
	_, _ = first.Close(), second.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := say(t, conn("w3"), much("w3", 10<<20)); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("when the others are gone: %v", err)
		}
	}
}

// begun is a connection with messages of which only the beginning was sent.
type begun struct {
	net.Conn
	framer  *http2.Framer
	streams int
	over    chan error
}

// begin begins messages of so many bytes on streams of their own.
func (c *closed) begin(t *testing.T, src *pki.Source, streams, size int) *begun {
	t.Helper()
	conf := src.Client("", "h2")
	raw, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", c.grpc)
	if err != nil {
		t.Fatal(err)
	}
	b := &begun{Conn: raw, framer: http2.NewFramer(raw, raw), streams: streams, over: make(chan error, 1)}
	t.Cleanup(func() { _ = raw.Close() })
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, kv := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", "/rota.v1.JobWork/PushOutput"}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(raw, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	err = b.framer.WriteSettings()
	for i := range streams {
		id := uint32(2*i + 1)
		if err == nil {
			// The first block stays in the table of the other side; it is said as it is again.
			err = b.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndHeaders: true})
		}
		if err == nil {
			err = b.framer.WriteData(id, false, []byte{0, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size), 0})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if _, err := b.framer.ReadFrame(); err != nil {
				b.over <- err
				return
			}
		}
	}()
	return b
}

// ended is why the server has ended the connection; nil if it has not within so long.
func (b *begun) ended(within time.Duration) error {
	select {
	case err := <-b.over:
		return err
	case <-time.After(within):
		return nil
	}
}

// reset leaves all streams.
func (b *begun) reset(t *testing.T) {
	t.Helper()
	for i := range b.streams {
		if err := b.framer.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
	}
}
