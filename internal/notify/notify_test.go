package notify_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/notify"
)

// TestRun: a manager hears of the end before the process may exit, whether the role
// was asked to end, ended by itself, or was never ready.
func TestRun(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	l := listen(t, socket)
	t.Setenv("NOTIFY_SOCKET", socket)
	heard := func() (all []string) {
		for b := make([]byte, 100); ; {
			_ = l.SetReadDeadline(time.Now().Add(time.Millisecond))
			n, err := l.Read(b)
			if err != nil {
				return all
			}
			all = append(all, string(b[:n]))
		}
	}
	for name, test := range map[string]struct {
		ready func(context.Context) bool
		asked bool
		want  []string
	}{
		"asked to end":    {func(context.Context) bool { return true }, true, []string{"READY=1", "STOPPING=1"}},
		"ends by itself":  {func(context.Context) bool { return true }, false, []string{"READY=1", "STOPPING=1"}},
		"never was ready": {func(ctx context.Context) bool { <-ctx.Done(); return false }, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				stop := notify.Run(ctx, slog.New(slog.DiscardHandler), test.ready, func() bool { return true })
				if test.asked {
					cancel()
				}
				stop()
				if got := heard(); !slices.Equal(got, test.want) {
					t.Fatalf("the manager was told %q, want %q", got, test.want)
				}
				cancel()
			}
		})
	}
}

// TestStuckManager: a manager that does not read holds up neither a reload nor an end.
func TestStuckManager(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	l := listen(t, socket)
	conn, err := net.DialUnix("unixgram", nil, l.LocalAddr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for err == nil { // until it is full
		_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = conn.Write([]byte("x"))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "1000")
	log := slog.New(slog.DiscardHandler)
	stop := notify.Run(t.Context(), log, func(context.Context) bool { return true }, func() bool { return true })
	reloaded := false
	notify.Reloading(log, func() { reloaded = true })
	stop()
	if !reloaded {
		t.Error("not reloaded")
	}
}

// TestLateManager: a manager that is not there when the role is ready hears of it
// later.
func TestLateManager(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "100000")
	r, w := io.Pipe()
	stop := notify.Run(t.Context(), slog.New(slog.NewTextHandler(w, nil)), func(context.Context) bool { return true }, func() bool { return true })
	defer stop()
	if _, err := r.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	l := listen(t, socket)
	for _, want := range []string{"READY=1", "WATCHDOG=1"} {
		b := make([]byte, 100)
		n, err := l.Read(b)
		if got := string(b[:n]); got != want || err != nil {
			t.Fatalf("the manager was told %q, error %v; want %q", got, err, want)
		}
	}
}

func listen(t *testing.T, socket string) *net.UnixConn {
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
