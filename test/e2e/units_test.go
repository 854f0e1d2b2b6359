//go:build linux

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/ports"
	"golang.org/x/sys/unix"
)

// unit is a unit of systemd: the last value of each setting.
type unit map[string]string

func readUnit(t *testing.T, path string) unit {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	u := unit{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			u[name] = value
		}
	}
	return u
}

// manager is the socket of a service manager.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T, path string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}); err != nil {
		t.Fatal(err)
	}
	return &manager{t, conn}
}

// next is the next state that is told, and who tells it. Of beats all but the first of
// a run are passed over.
func (m *manager) next() (state string, pid int) {
	m.t.Helper()
	b, oob := make([]byte, 1000), make([]byte, 1000)
	_ = m.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	n, k, _, _, err := m.conn.ReadMsgUnix(b, oob)
	if err != nil {
		m.t.Fatal(err)
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:k])
	if err != nil || len(messages) == 0 {
		m.t.Fatalf("who tells it: %v", err)
	}
	who, err := syscall.ParseUnixCredentials(&messages[0])
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b[:n]), int(who.Pid)
}

// TestUnits: what the units of deploy/systemd start is what they say of it: it tells
// that it is ready, alive, reloading and stopping, and whoever tells it may. Only the
// places of files are others here.
func TestUnits(t *testing.T) {
	t.Parallel()
	s := edgeScheduler(t)
	configs := map[string]string{
		"scheduler": "grpc: 127.0.0.1:0\nhttp: 127.0.0.1:0\ngateway: \"\"\n",
		"worker":    "schedulers: [" + s.grpc + "]\ndemo: true\n",
		"gateway":   "listen:\n- " + ports.Addr(t) + "\n",
	}
	paths, err := filepath.Glob("../../deploy/systemd/*.service")
	if err != nil || len(paths) != len(configs) {
		t.Fatalf("units %q, error %v", paths, err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "rota-"), ".service")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := shortDir(t)
			if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(configs[name]), 0o600); err != nil {
				t.Fatal(err)
			}
			here := strings.NewReplacer("/usr/bin/rota", rotaBin, "/etc/rota", dir, "/var/lib/rota", dir)
			u := readUnit(t, path)
			if u["Type"] != "notify" || u["Restart"] != "always" || u["User"] != "rota" {
				t.Errorf("%v", u)
			}
			limit, err := time.ParseDuration(u["WatchdogSec"])
			if err != nil || limit < 10*time.Second {
				t.Errorf("watchdog %q: %v", u["WatchdogSec"], err)
			}
			m := newManager(t, filepath.Join(dir, "notify"))
			words := strings.Fields(here.Replace(u["ExecStart"]))
			p := start(t, []string{"NOTIFY_SOCKET=" + filepath.Join(dir, "notify"), "WATCHDOG_USEC=1000000"}, words[0], words[1:]...)
			told := func(want string) {
				t.Helper()
				for {
					state, pid := m.next()
					if u["NotifyAccess"] != "all" && pid != p.cmd.Process.Pid {
						t.Errorf("%q is told by process %d, which may not", state, pid)
					}
					if strings.HasPrefix(state, want) {
						return
					}
					if state != "WATCHDOG=1" {
						t.Fatalf("%q, want %q", state, want)
					}
				}
			}
			told("READY=1")
			told("WATCHDOG=1")
			if reload := u["ExecReload"]; reload != "" {
				if reload != "/bin/kill -HUP $MAINPID" {
					t.Fatalf("ExecReload=%s", reload)
				}
				p.signal(syscall.SIGHUP)
				told("RELOADING=1")
				told("READY=1")
			}
			p.signal(syscall.SIGTERM)
			told("STOPPING=1")
			if status := p.wait(t, 2*time.Minute); status != 0 {
				t.Errorf("status %d: %s", status, p.out)
			}
			analyze, err := exec.LookPath("systemd-analyze")
			if err != nil {
				t.Logf("not checked by systemd itself: %v", err)
				return
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			copied := filepath.Join(dir, filepath.Base(path))
			if err := os.WriteFile(copied, []byte(here.Replace(string(text))), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", copied).CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, filepath.Base(path)) {
					t.Errorf("systemd-analyze: %s", line)
				}
			}
			if err != nil {
				t.Logf("systemd-analyze: %v: %s", err, out)
			}
		})
	}
}
