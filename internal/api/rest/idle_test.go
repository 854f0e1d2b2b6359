package rest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A connection on which nothing is asked any more is closed in time.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		l := &oneConn{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		l.conns <- far
		s := NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer s.Close()
		go func() { _ = s.Serve(l) }()
		r := bufio.NewReader(near)
		for range 3 { // each request begins the time anew
			if _, err := io.WriteString(near, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			time.Sleep(idleTime - time.Second)
		}
		began := time.Now()
		if _, err := r.ReadByte(); err == nil || time.Since(began) > 2*time.Second {
			t.Errorf("closed %v late: %v", time.Since(began), err)
		}
	})
}

// Of a connection over HTTP/2 that ends while streams are open nothing is kept: whoever
// opens one after the other would fill the memory.
func TestNothingIsKeptOfAConnection(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}))
	var mu sync.Mutex
	var kept weak.Pointer[tls.Conn]
	state := s.Config.ConnState
	s.Config.ConnState = func(c net.Conn, st http.ConnState) {
		if conn, ok := c.(*tls.Conn); ok {
			mu.Lock()
			kept = weak.Make(conn)
			mu.Unlock()
		}
		state(c, st)
	}
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	var head bytes.Buffer
	h := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/"}, {":authority", "a"}} {
		_ = h.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // to memory
	}
	f := http2.NewFramer(conn, nil)
	_, err = io.WriteString(conn, http2.ClientPreface)
	if err == nil {
		err = f.WriteSettings()
	}
	if err == nil {
		err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	_ = conn.Close()
	for until := time.Now().Add(idleTime / 2); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		mu.Lock()
		gone := kept.Value() == nil
		mu.Unlock()
		if gone {
			return
		}
		if time.Now().After(until) {
			t.Fatal("it is kept in memory")
		}
	}
}
