package role

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/rota-project/rota/config"
)

// TestListen: where a default address is in use another port of that host is
// taken; where the user asked for it, it is an error that names what and where.
func TestListen(t *testing.T) {
	t.Parallel()
	first, moved, err := listen(t.Context(), "--http", "127.0.0.1:0", false)
	if err != nil || moved {
		t.Fatal(moved, err)
	}
	defer func() { _ = first.Close() }()
	taken := first.Addr().String()
	second, moved, err := listen(t.Context(), "--http", taken, true)
	if err != nil || !moved {
		t.Fatal(moved, err)
	}
	defer func() { _ = second.Close() }()
	if host, _, _ := net.SplitHostPort(second.Addr().String()); host != "127.0.0.1" || second.Addr().String() == taken {
		t.Errorf("it listens at %s", second.Addr())
	}
	if _, _, err := listen(t.Context(), "--http", taken, false); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "--http") || !strings.Contains(err.Error(), taken) {
		t.Errorf("an address that was asked for: %v", err)
	}
}

// TestMoved: that a port is in use is said of one that somebody could expect.
func TestMoved(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		yes  bool
		from string
		want bool
	}{{true, "127.0.0.1:3000", true}, {false, "127.0.0.1:3000", false}, {true, "127.0.0.1:0", false}} {
		if got := moved(c.yes, c.from); (got != "") != c.want || c.want && !strings.Contains(got, c.from+" is in use") {
			t.Errorf("%v %s: %q", c.yes, c.from, got)
		}
	}
}

// TestWorkerPortInUse: a worker whose address for an old scheduler is in use ends
// at once, and says which.
func TestWorkerPortInUse(t *testing.T) {
	t.Parallel()
	l, _, err := listen(t.Context(), "taken", "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, _ := config.NewWorker()
	c.Jobs.Addr, c.Job.Data, c.Schedulers = l.Addr().String(), t.TempDir(), []string{"127.0.0.1:1"}
	if err := Worker(t.Context(), c, io.Discard); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "grpc_server") {
		t.Errorf("the error is %v", err)
	}
}
