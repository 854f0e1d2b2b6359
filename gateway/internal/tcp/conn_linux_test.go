//go:build !386

package tcp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair are the two ends of a TCP connection, both taken over.
func pair(t testing.TB) (a, b *Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = taken(t, near), taken(t, far)
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func taken(t testing.TB, nc net.Conn) *Conn {
	t.Helper()
	c, ok := Take(nc).(*Conn)
	if !ok {
		t.Fatal("it was not taken over")
	}
	return c
}

// TestConn: it behaves as net.Conn says.
func TestConn(t *testing.T) {
	t.Parallel()
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := pair(t)
		return a, b, func() { _, _ = a.Close(), b.Close() }, nil
	})
}

// TestManyAtOnce: no connection is forgotten, whatever others do.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for n := range 50 {
		a, b := pair(t)
		all.Go(func() {
			_, _ = io.Copy(b, b)
			_ = b.CloseWrite()
		})
		all.Go(func() {
			in := make([]byte, 100)
			for k := range 300 {
				out := fmt.Appendf(nil, "%d-%d", n, k)
				if _, err := a.Write(out); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(a, in[:len(out)]); err != nil || !bytes.Equal(in[:len(out)], out) {
					t.Errorf("%q came back as %q: %v", out, in[:len(out)], err)
					return
				}
			}
			if err := a.CloseWrite(); err != nil {
				t.Error(err)
			}
			if n, err := a.Read(in); n != 0 || !errors.Is(err, io.EOF) {
				t.Error(n, err)
			}
		})
	}
	all.Wait()
}

// TestMoreThanFits: a write waits for who reads slowly, and loses nothing.
func TestMoreThanFits(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB, more than the buffers hold
	go func() {
		if n, err := a.Write(want); n != len(want) || err != nil {
			t.Error(n, err)
		}
		_ = a.CloseWrite()
	}()
	time.Sleep(20 * time.Millisecond) // so that the buffers are full; if not, less is tested
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes came: %v", len(got), len(want), err)
	}
}

// TestCloseWakes: who reads or writes hears of the connection's end from here and
// from there.
func TestCloseWakes(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	read, wrote := make(chan error), make(chan error)
	go func() {
		_, err := a.Read(make([]byte, 1))
		read <- err
	}()
	go func() {
		_, err := a.Write(make([]byte, 16<<20))
		wrote <- err
	}()
	time.Sleep(10 * time.Millisecond)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := <-wrote; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := a.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, b); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// TestDeadlineForgotten: a deadline that was taken back does not end a later wait.
func TestDeadlineForgotten(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for range 3 {
		if err := a.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if err := a.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := a.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(5 * time.Millisecond)
			_, _ = b.Write([]byte("x"))
		}()
		if n, err := a.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
}

// TestDescriptors: each connection that is closed gives its descriptor back, also
// while it is read from, and its number may be another's at once.
func TestDescriptors(t *testing.T) {
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := count()
	for range 200 {
		a, b := pair(t)
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = a.Read(make([]byte, 1)) })
		reading.Go(func() { _, _ = io.Copy(b, b) })
		_ = a.Close()
		reading.Wait()
		_ = b.Close()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors are open, %d before", after, before)
	}
}

// lender counts what is lent.
type lender struct {
	buf  []byte
	lent int
}

func (l *lender) Lend() []byte {
	l.lent++
	return l.buf
}
func (l *lender) TakeBack() { l.lent-- }

// TestIdle: a buffer stays lent if something has come, and not at the end.
func TestIdle(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	if _, err := b.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	l := lender{buf: make([]byte, 9)}
	if n, err := a.Idle(&l); string(l.buf[:n]) != "hello" || err != nil || l.lent != 1 {
		t.Errorf("%q, %v, %d lent", l.buf[:n], err, l.lent)
	}
	_ = b.Close()
	if n, err := a.Idle(&l); n != 0 || !errors.Is(err, io.EOF) || l.lent != 1 {
		t.Errorf("%d, %v, %d lent", n, err, l.lent)
	}
	_ = a.SetReadDeadline(time.Unix(1, 0))
	if n, err := a.Idle(&l); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || l.lent != 1 {
		t.Errorf("%d, %v, %d lent", n, err, l.lent)
	}
}

// TestLooks: what is known of a connection without waiting.
func TestLooks(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	if !a.Silent() || a.Gone() {
		t.Error("a new connection is not silent, or gone")
	}
	if _, err := b.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	until(func() bool { return !a.Silent() })
	if a.Gone() {
		t.Error("it is gone with something to read")
	}
	until(func() bool { n, ok := b.Acked(); return !ok || n >= 5 })
	_ = b.CloseWrite()
	until(a.Gone) // whatever is unread
	_ = a.Close()
	if _, ok := a.Acked(); ok || a.Silent() || !a.Gone() {
		t.Error("a closed connection is silent, or not gone")
	}
	near, far := net.Pipe()
	_ = far.Close()
	defer near.Close()
	if Take(near) != near {
		t.Error("a pipe was taken over")
	}
}

// until waits for what the system will say. It hangs if it never does.
func until(cond func() bool) {
	for !cond() {
		time.Sleep(time.Millisecond)
	}
}
