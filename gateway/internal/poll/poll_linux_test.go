//go:build !386

package poll

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

// pair are the two ends of a TCP connection that p has taken over.
func pair(t testing.TB, p *Poller) (a, b *Conn) {
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
	a, b = taken(t, p, near), taken(t, p, far)
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func taken(t testing.TB, p *Poller, nc net.Conn) *Conn {
	t.Helper()
	c, ok := p.Take(nc).(*Conn)
	if !ok {
		t.Fatal("it was not taken over")
	}
	return c
}

func poller(t testing.TB) *Poller {
	p := new(Poller)
	t.Cleanup(p.Close)
	return p
}

// each runs a test with connections that the runtime waits for, with some that
// loops wait for, and with some that go back and forth.
func each(t *testing.T, test func(t *testing.T, p *Poller)) {
	t.Parallel()
	for name, change := range map[string]func(*Poller){
		"runtime": func(*Poller) {},
		"loop":    func(p *Poller) { p.crowded.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := poller(t)
			change(p)
			test(t, p)
		})
	}
	t.Run("both", func(t *testing.T) {
		t.Parallel()
		p, end := poller(t), make(chan struct{})
		var changing sync.WaitGroup
		changing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-end:
					return
				case <-time.After(200 * time.Microsecond):
					p.crowded.Store(n%2 == 0)
				}
			}
		})
		t.Cleanup(changing.Wait)
		t.Cleanup(func() { close(end) })
		test(t, p)
	})
}

// TestConn: it behaves as net.Conn says.
func TestConn(t *testing.T) {
	each(t, func(t *testing.T, p *Poller) {
		nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
			a, b := pair(t, p)
			return a, b, func() { _, _ = a.Close(), b.Close() }, nil
		})
	})
}

// TestManyAtOnce: no connection is forgotten, whatever others do.
func TestManyAtOnce(t *testing.T) {
	each(t, func(t *testing.T, p *Poller) {
		var all sync.WaitGroup
		for n := range 50 {
			a, b := pair(t, p)
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
	})
}

// TestMoreThanFits: a write waits for who reads slowly, and loses nothing.
func TestMoreThanFits(t *testing.T) {
	each(t, func(t *testing.T, p *Poller) {
		a, b := pair(t, p)
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
	})
}

// TestCloseWakes: who reads or writes hears of the connection's end from here and
// from there.
func TestCloseWakes(t *testing.T) {
	each(t, func(t *testing.T, p *Poller) {
		a, b := pair(t, p)
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
	})
}

// TestDeadlineForgotten: a deadline that was taken back does not end a later wait.
func TestDeadlineForgotten(t *testing.T) {
	each(t, func(t *testing.T, p *Poller) {
		a, b := pair(t, p)
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
	})
}

// TestDeadlineWithNews: what comes in the moment that a deadline is over is there
// for the next read.
func TestDeadlineWithNews(t *testing.T) {
	t.Parallel()
	p := poller(t)
	p.crowded.Store(true)
	a, b := pair(t, p)
	step := a.in.step
	a.in.step = func(fd uintptr) bool {
		done := step(fd)
		if _, err := b.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		for len(a.in.news) == 0 {
			time.Sleep(time.Millisecond)
		}
		if err := a.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
		return done
	}
	if _, err := a.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	a.in.step = step
	if err := a.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Error(n, err)
	}
}

// TestDescriptors: each connection that is closed gives its descriptor back, also
// while it is read from, and its number may be another's at once.
func TestDescriptors(t *testing.T) {
	p := poller(t)
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	p.crowded.Store(true) // the loop has its own
	a, b := pair(t, p)
	_ = a.SetReadDeadline(time.Unix(1, 0))
	_, _ = a.Read(make([]byte, 1))
	_, _ = a.Close(), b.Close()
	before := count()
	for n := range 200 {
		p.crowded.Store(n%3 != 0)
		a, b := pair(t, p)
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

// TestClosedPoller closes what its loops have, and leaves all else to the runtime.
func TestClosedPoller(t *testing.T) {
	t.Parallel()
	p := new(Poller)
	a, b := pair(t, p)
	p.crowded.Store(true)
	read := make(chan error)
	go func() {
		_, err := a.Read(make([]byte, 1))
		read <- err
	}()
	for a.at() == nil {
		time.Sleep(time.Millisecond)
	}
	p.Close()
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) || b.at() != nil {
		t.Error(n, err)
	}
	near, far := net.Pipe()
	_ = far.Close()
	defer near.Close()
	if p.Take(near) != near {
		t.Error("a pipe was taken over")
	}
}

// at is the loop that waits for a connection, if one does.
func (c *Conn) at() *loop {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loop
}

// TestMoves: a connection goes to where it is waited for best when it is read from
// next, with its deadlines.
func TestMoves(t *testing.T) {
	t.Parallel()
	p := poller(t)
	a, b := pair(t, p)
	for n := range 6 {
		p.crowded.Store(n%2 == 0)
		if _, err := b.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := a.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if looped := a.at() != nil; looped != (n%2 == 0) {
			t.Fatalf("a loop waits: %v", looped)
		}
		if err := a.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		p.crowded.Store(n%2 != 0)
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if err := a.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJudge: loops wait when a process hardly ever sleeps, and until it has slept
// often for a while.
func TestJudge(t *testing.T) {
	t.Parallel()
	p := poller(t)
	for n, x := range []struct {
		seconds       int64
		calls, sleeps uint64 // a second
		crowded       bool
	}{
		{9, 0, 0, false},
		{1, 1999, 0, false}, // too few to mean anything
		{1, 2000, 101, false},
		{1, 2000, 100, true},
		{9, 2000, 101, true}, // it does not go back and forth
		{9, 2000, 666, true},
		{4, 2000, 667, true}, // not yet
		{1, 2000, 666, true}, // which is why
		{4, 2000, 667, true},
		{1, 2000, 667, false},
		{1, 200_000, 0, true},
		{4, 1000, 0, true},
		{1, 1000, 0, false},
	} {
		s := uint64(x.seconds)
		if p.judge(x.seconds*int64(time.Second), s*x.calls, s*x.sleeps); p.crowded.Load() != x.crowded {
			t.Errorf("%d: %d calls, %d sleeps: crowded is %v", n, x.calls, x.sleeps, !x.crowded)
		}
	}
}

// TestSample: it judges by what there was since the last sample.
func TestSample(t *testing.T) {
	t.Parallel()
	p := poller(t)
	p.Sample(1e9, 5)
	p.Sample(1e9+1, 1e9) // too soon
	if p.crowded.Load() {
		t.Fatal("it is crowded at once")
	}
	p.Sample(2e9, 1e9)
	if !p.crowded.Load() {
		t.Error("it does not see 1,000,000,000 calls a second")
	}
	p.Sample(8e9, 0)
	if p.crowded.Load() {
		t.Error("it sees calls that there were not")
	}
}
