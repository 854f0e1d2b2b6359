package schedulerworker

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestWorkersServerIsBounded: whoever calls a worker's own server, which asks for no
// credentials, gets tiny messages and metadata, few calls at once and few connections;
// and somebody else is answered meanwhile.
func TestWorkersServerIsBounded(t *testing.T) {
	t.Parallel()
	r, _ := newRunner(t)
	l := listen(t)
	addr := l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Attach(ctx, AttachConfig{Runner: r, Listener: l}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	answered := func(what string) {
		t.Helper()
		_, err := oldCall(t.Context(), oldDial(t, addr), "Worker", "QueryJob", map[string]any{"jobID": "none"})
		if status.Code(err) != codes.NotFound {
			t.Errorf("with %s, somebody else: %v", what, err)
		}
	}
	answered("nothing")
	conn := oldDial(t, addr)
	if _, err := oldCall(t.Context(), conn, "Worker", "StartJob", map[string]any{"command": "true", "path": strings.Repeat("x", maxCall)}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message that is too long: %v", err)
	}
	much := metadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("x", maxMetadata))
	if _, err := oldCall(much, conn, "Worker", "QueryJob", map[string]any{"jobID": "none"}); err == nil || status.Code(err) == codes.NotFound {
		t.Errorf("metadata that is too long: %v", err)
	}
	// Calls that have begun and do not go on, more on one connection than it may have, on
	// more connections than there may be.
	closed := make(chan struct{}, 2*strangers.All)
	for range 2 * strangers.All {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			_, _ = c.Write(begun(2 * strangers.CallsPerConn))
			_, _ = io.Copy(io.Discard, c)
			closed <- struct{}{}
		}()
	}
	for range strangers.All {
		<-closed
	}
	answered("many connections")
}

// begun is a connection of HTTP/2 with so many calls whose messages do not end.
func begun(calls int) []byte {
	var all, block bytes.Buffer
	all.WriteString(http2.ClientPreface)
	f, h := http2.NewFramer(&all, nil), hpack.NewEncoder(&block)
	_ = f.WriteSettings()
	for n := range calls {
		block.Reset()
		for _, kv := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", "/jobscheduler.Worker/StartJob"}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"},
		} {
			_ = h.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
		}
		id := uint32(2*n + 1)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
		_ = f.WriteData(id, false, []byte{0, 0, 0, 0x40, 0, 0})
	}
	return all.Bytes()
}
