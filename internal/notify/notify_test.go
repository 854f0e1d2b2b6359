package notify_test

import (
	"context"
	"log/slog"
	"net"
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
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
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
