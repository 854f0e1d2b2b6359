//go:build unix

package server_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/door"
	"github.com/rota-project/rota/scheduler/server"
)

// counted counts the connections that its server has not closed.
type counted struct {
	net.Listener
	open, most atomic.Int64
}

type countedConn struct {
	net.Conn
	close func()
}

func (l *counted) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if n := l.open.Add(1); n > l.most.Load() {
		l.most.Store(n) // only Accept does
	}
	return &countedConn{conn, sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

func (c *countedConn) Close() error {
	c.close()
	return c.Conn.Close()
}

// TestSilentConnections has ten thousand connections that say nothing, or begin
// to say something and do not go on. Others are answered meanwhile, and each
// silent one is closed when the patience with it is over.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	n := 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const others = 2000                                              // files of the tests beside this one
	if most := (int(min(limit.Max, 1<<20)) - others) / 2; most < n { // both ends are in this process
		t.Logf("%d connections instead of %d: the hard limit of open files is %d", most, n, limit.Max)
		n = most
	}
	if n < 100 {
		t.Fatalf("%d connections mean nothing: raise the limit of open files", n)
	}
	grpcL, httpL := &counted{Listener: listen(t)}, &counted{Listener: listen(t)}
	c := newClosed(t, server.Config{GRPC: grpcL, HTTP: httpL, Patience: 3 * time.Second})
	ca := c.source(t, pki.Request{})

	// A TLS record that announces 256 bytes of a handshake, and some of them.
	half := []byte{22, 3, 1, 1, 0, 1, 0, 0, 252}
	conns := make([]net.Conn, n)
	for i := range conns {
		at := []net.Listener{grpcL, httpL}[i%2].Addr()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), at.Network(), at.String())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer func() { _ = conn.Close() }()
		conns[i] = conn
		if said := half[:[]int{0, 0, 1, len(half)}[i/2%4]]; len(said) > 0 {
			if _, err := conn.Write(said); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	}
	if code, text := c.ask(t, ca.Client(""), http.MethodGet, "/v1/status", "", "Authorization", "Bearer "+c.secrets[auth.Viewer].Reveal()); code != 200 {
		t.Errorf("HTTP beside them: %d %s", code, text)
	}
	token := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Viewer].Reveal())
	if _, err := rotav1.NewJobsClient(c.dial(t, ca.Credentials(""))).ListJobs(token, &rotav1.ListJobsRequest{}); err != nil {
		t.Errorf("gRPC beside them: %v", err)
	}
	// Those that said nothing for longest were closed to make room for the others.
	if most := grpcL.most.Load() + httpL.most.Load(); most < int64(min(n, 2*door.DefaultPerAddress))/4 || most > 2*door.DefaultPerAddress+100 {
		t.Errorf("%d of %d were open at once", most, n)
	}
	for i, conn := range conns {
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d is still open", i)
		}
	}
	// The console's and the API's own may be kept alive; no silent one is.
	for open := int64(n); open > 10; open = grpcL.open.Load() + httpL.open.Load() {
		select {
		case <-t.Context().Done():
			t.Fatalf("%d connections are not let go", open)
		case <-time.After(time.Millisecond):
		}
	}
}
