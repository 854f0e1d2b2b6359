package local_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway/internal/local"
)

// Processes of the test's own binary play the others; this variable says whom.
const roleEnv = "ROTA_CALLER_ROLE"

func TestMain(m *testing.M) {
	if r := os.Getenv(roleEnv); r != "" {
		if err := play(r, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// play is what the other processes do. They end when their input does.
func play(role string, args []string) error {
	defer io.Copy(io.Discard, os.Stdin)
	listen := func(network, addr string) (net.Listener, error) {
		return new(net.ListenConfig).Listen(context.Background(), network, addr)
	}
	var keep []any
	defer func() { fmt.Fprint(io.Discard, keep...) }()
	switch role {
	case "somebody": // listens, and waits
		l, err := listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		keep = append(keep, l)
		fmt.Println(l.Addr())
		return nil
	case "visitor": // connects, and waits
		c, err := net.Dial("tcp", args[0])
		if err != nil {
			return err
		}
		keep = append(keep, c)
		fmt.Println("here")
		return nil
	case "gateway": // says what it thinks of its callers, and calls the one at args[0]
		l, err := listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		w, err := net.Dial("tcp", args[0])
		if err != nil {
			return err
		}
		keep = append(keep, w)
		fmt.Println(l.Addr())
		for range 2 {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			fmt.Println(local.Caller(addrOf(c.LocalAddr()), addrOf(c.RemoteAddr())))
			_ = c.Close()
		}
		return nil
	case "another user":
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	case "listens":
		l, err := listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		keep = append(keep, l)
	case "listens on UDP":
		p, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		keep = append(keep, p)
	case "listens on a unix socket":
		l, err := listen("unix", args[1]+"/s")
		if err != nil {
			return err
		}
		keep = append(keep, l)
	case "is connected to others":
		c, err := net.Dial("tcp", args[2])
		if err != nil {
			return err
		}
		keep = append(keep, c)
	case "talks to itself": // and listens no more
		l, err := listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		s, err := l.Accept()
		if err != nil {
			return err
		}
		_ = l.Close()
		keep = append(keep, c, s)
	}
	c, err := net.Dial("tcp", args[0])
	keep = append(keep, c)
	return err
}

func addrOf(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// process is a process that plays a role.
type process struct {
	t   *testing.T
	out *bufio.Scanner
}

func start(t *testing.T, role string, args ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], args...) // it ends with its input
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("%s: %v %s", role, err, errs.String())
		}
	})
	return &process{t, bufio.NewScanner(out)}
}

func (p *process) says() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatal("it has ended", p.out.Err())
	}
	return p.out.Text()
}

func listen(t *testing.T, addr string) *net.TCPListener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second))
	return l.(*net.TCPListener)
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestWhoCalls(t *testing.T) {
	t.Parallel()
	roles := map[string]error{
		"only calls":               nil,
		"talks to itself":          nil,
		"listens":                  local.ErrServes,
		"listens on UDP":           local.ErrServes,
		"listens on a unix socket": local.ErrServes,
		"is connected to others":   local.ErrServes,
	}
	if os.Geteuid() == 0 { // nobody else can be another user
		roles["another user"] = local.ErrUser
	}
	somebody := start(t, "somebody").says()
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"} {
		for role, want := range roles {
			t.Run(role+" "+addr, func(t *testing.T) {
				t.Parallel()
				l := listen(t, addr)
				start(t, role, l.Addr().String(), t.TempDir(), somebody)
				c := accept(t, l)
				if err := local.Caller(addrOf(c.LocalAddr()), addrOf(c.RemoteAddr())); !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			})
		}
	}
}

// Who starts a gateway may have servers that it calls. But as soon as anybody else
// is connected to one of them, it may be speaking for them.
func TestWhoStartsTheGateway(t *testing.T) {
	worker := listen(t, "127.0.0.1:0")
	g := start(t, "gateway", worker.Addr().String())
	addr := g.says()
	accept(t, worker)
	call := func() string {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return g.says()
	}
	if got := call(); got != "<nil>" {
		t.Errorf("its own call: %s", got)
	}
	start(t, "visitor", worker.Addr().String()).says()
	accept(t, worker)
	if got := call(); got != local.ErrServes.Error() {
		t.Errorf("with a visitor: %s", got)
	}
}

func TestElsewhere(t *testing.T) {
	t.Parallel()
	here, there := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("10.0.0.1:1")
	for _, p := range [][2]netip.AddrPort{{here, there}, {there, here}} {
		if err := local.Caller(p[0], p[1]); !errors.Is(err, local.ErrElsewhere) {
			t.Errorf("%v: %v", p, err)
		}
	}
	if err := local.Caller(here, here); !errors.Is(err, local.ErrUnknown) {
		t.Errorf("a connection that is none: %v", err)
	}
}

// This process is no caller of its own: what it proxies may be anybody's.
func TestItself(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0")
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := local.Caller(addrOf(c.RemoteAddr()), addrOf(c.LocalAddr())); !errors.Is(err, local.ErrServes) {
		t.Errorf("%v", err)
	}
}
