package role

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/cmd/rota/internal/config"
)

// TestWithoutOwn: what rota dev starts is neither configured by its environment nor
// told by it where its service manager listens.
func TestWithoutOwn(t *testing.T) {
	t.Parallel()
	env := []string{"PATH=/bin", "ROTA_LEASE=1s", "NOTIFY_SOCKET=@x", "WATCHDOG_USEC=1", "WATCHDOG_PID=1", "HOME=/"}
	if got := withoutOwn(env); !slices.Equal(got, []string{"PATH=/bin", "HOME=/"}) || len(env) != 6 || env[5] != "HOME=/" {
		t.Errorf("%q of %q", got, env)
	}
}

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
		d := &dev{}
		if c.yes {
			d.moved = []string{"http"}
		}
		if got := d.elsewhere("http", c.from); (got != "") != c.want || c.want && !strings.Contains(got, c.from+" is in use") {
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

// TestIdle: a worker that would have nothing to do ends at once, and says why: no command, or
// none for the kinds that it is to take, as when its pool's template has others.
func TestIdle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		exec  map[string]string
		demo  bool
		kinds []string
		want  string
	}{
		{want: "want a command for some kind (--exec"},
		{kinds: []string{"slow"}, want: "want a command for some kind (--exec"},
		{exec: map[string]string{"web": "sleep 1", "feed": "sleep 1"}, kinds: []string{"slow", "fast"}, want: `kinds: "slow,fast": want a kind that it has a command for, which are feed, web`},
		{demo: true, kinds: []string{"slow"}, want: `kinds: "slow": want a kind that it has a command for, which are task`},
	} {
		w, _ := config.NewWorker()
		w.Exec, w.Demo, w.Kinds, w.Job.Data, w.Schedulers = c.exec, c.demo, c.kinds, t.TempDir(), []string{"127.0.0.1:1"}
		if err := Worker(t.Context(), w, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %s", c.exec, err, c.want)
		}
	}
}

// TestDataDirOfSoMany: a data directory is of as many schedulers as it was made by. Another
// number is refused before anything listens or is written.
func TestDataDirOfSoMany(t *testing.T) {
	t.Parallel()
	of := func(n int) string {
		dir := t.TempDir()
		d := &dev{cfg: &config.Dev{DataDir: dir, Schedulers: n, GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0"}}
		defer d.closePorts()
		err := d.openPorts(t.Context())
		if n == 1 {
			err = errors.Join(err, os.Mkdir(filepath.Join(dir, "member"), 0o700))
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, was := range []int{1, 3, 5} {
		dir := of(was)
		for _, n := range []int{1, 3, 5} {
			c, _ := config.NewDev()
			c.DataDir, c.Schedulers = dir, n
			err := (&dev{cfg: c}).checkDir()
			var field *rota.FieldError
			if ok := errors.As(err, &field) && field.Field == "schedulers" && strings.Contains(err.Error(), fmt.Sprintf("want %d:", was)); ok == (n == was) || err != nil && !ok {
				t.Errorf("%d schedulers in a directory of %d: %v", n, was, err)
			}
		}
	}
	c, _ := config.NewDev()
	c.DataDir = filepath.Join(t.TempDir(), "new")
	if err := (&dev{cfg: c}).checkDir(); err != nil {
		t.Errorf("a new directory: %v", err)
	}
	dir := of(3)
	c.DataDir = dir
	if err := os.WriteFile(filepath.Join(dir, "schedulers.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&dev{cfg: c}).checkDir(); err == nil || !strings.Contains(err.Error(), "schedulers.json") {
		t.Errorf("a file that is cut off: %v", err)
	}
}
