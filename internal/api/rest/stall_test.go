package rest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// oneConn is a listener for one connection within the process.
type oneConn struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// serveOne serves h to the connection that it returns, until the test ends.
func serveOne(t *testing.T, h http.HandlerFunc) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	l := &oneConn{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conns <- far
	s := NewServer(h)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = near.Close()
		_ = s.Close()
		<-ended
	})
	return near
}

// TestReaderWhoStops: a watch goes on for as long as somebody reads, and ends
// when nobody has for a while.
func TestReaderWhoStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		began := time.Now()
		conn := serveOne(t, func(w http.ResponseWriter, r *http.Request) {
			rollingDeadline(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for {
					if _, err := w.Write(make([]byte, 64<<10)); err != nil {
						ended <- err
						return
					}
				}
			})).ServeHTTP(w, r)
		})
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for range 20 { // slowly, for longer than a stall
			time.Sleep(stall / 4)
			if _, err := io.ReadFull(conn, make([]byte, 100<<10)); err != nil {
				t.Fatalf("cut off while it reads: %v", err)
			}
		}
		read := time.Now()
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(read); took > stall || time.Since(began) < 5*stall {
			t.Errorf("held for %v after the last read", took)
		}
	})
}

// TestBodyThatStops: what is sent has no end in time, if it does not go on.
func TestBodyThatStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := serveOne(t, func(w http.ResponseWriter, r *http.Request) {
			if readBody(w, r, nil, route{body: 1 << 10, input: (&rotav1.ApplyTasksRequest{}).ProtoReflect().Descriptor()}) {
				_, _ = io.WriteString(w, "all of it")
			}
		})
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(stall / 2)
		if _, err := io.WriteString(conn, "of "); err != nil { // it is given its time anew
			t.Fatal(err)
		}
		sent := time.Now()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if took := time.Since(sent); resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "cannot be read") || took != stall {
			t.Errorf("after %v: %d %s", took, resp.StatusCode, body)
		}
		time.Sleep(stall) // the server closes in two steps
	})
}
