//go:build linux

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// members is an etcd of three, each in a process and a network namespace of its
// own. They meet at a bridge in the namespace of the test, which is its own, too:
// see inNamespace.
type members struct {
	t   *testing.T
	dir string
	all []*member
}

type member struct {
	of   *members
	n    int // from 1 on
	proc *proc
	tell io.WriteCloser // what the process is told, line by line
}

const membersNet = "10.9.0."

func (m *member) ip() string       { return fmt.Sprint(membersNet, m.n) }
func (m *member) endpoint() string { return "http://" + m.ip() + ":2379" }

// inNamespace runs a test once more in a process with a network of its own, and
// reports whether this is that process. Nothing of the network is left after it.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv("E2E_NAMESPACE") == t.Name() {
		ip(t, "link", "set", "lo", "up")
		return true
	}
	program(t, "ip")
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "E2E_NAMESPACE="+t.Name(), "E2E_BINARIES="+filepath.Dir(rotaBin))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{Size: 1, HostID: os.Getuid()}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{Size: 1, HostID: os.Getgid()}}
	}
	out := &output{changed: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Start()
	if errors.Is(err, syscall.EPERM) && os.Getuid() != 0 {
		lacking(t, "network namespaces for this user")
	}
	if err == nil {
		err = cmd.Wait()
	}
	if t.Log(out.String()); err != nil {
		t.Fatalf("in a namespace of its own: %v", err)
	}
	return false
}

// ip is the command of iproute2.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// newMembers starts an etcd of three.
func newMembers(t *testing.T) *members {
	t.Helper()
	ms := &members{t: t, dir: t.TempDir()}
	ip(t, "link", "add", "bridge", "type", "bridge")
	ip(t, "addr", "add", membersNet+"254/24", "dev", "bridge")
	ip(t, "link", "set", "bridge", "up")
	for n := range 3 {
		m := &member{of: ms, n: n + 1}
		ms.all = append(ms.all, m)
		m.start()
	}
	ms.await()
	return ms
}

// start starts the member, or starts it again on the data that it had.
func (m *member) start() {
	t := m.of.t
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Stdin = read // its end is the end of the member, whatever becomes of the test
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	m.proc = startCmd(t, []string{fmt.Sprintf("E2E_MEMBER=%d", m.n), "E2E_MEMBER_DIR=" + m.of.dir}, cmd)
	_ = read.Close()
	m.tell = write
	t.Cleanup(func() { _ = write.Close() })
	here, there := fmt.Sprint("to", m.n), fmt.Sprint("from", m.n)
	ip(t, "link", "add", here, "type", "veth", "peer", "name", there)
	ip(t, "link", "set", there, "netns", fmt.Sprint(cmd.Process.Pid))
	ip(t, "link", "set", here, "master", "bridge")
	ip(t, "link", "set", here, "up")
	m.say("start")
}

func (m *member) say(line string) {
	if _, err := fmt.Fprintln(m.tell, line); err != nil {
		m.of.t.Fatal(err)
	}
}

// state asks a member who leads and whether it has all of that.
func (m *member) state() (leads bool, err error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{m.endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		return false, err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := client.Status(ctx, m.endpoint())
	if err != nil {
		return false, err
	}
	if _, err := client.Get(ctx, "any"); err != nil { // it takes part
		return false, err
	}
	return r.Leader == r.Header.GetMemberId(), nil
}

// await waits until all members take part.
func (ms *members) await() {
	ms.t.Helper()
	await(ms.t, 60*time.Second, "all members of etcd take part", func() bool {
		for _, m := range ms.all {
			if _, err := m.state(); err != nil {
				return false
			}
		}
		return true
	})
}

// pick answers the member that leads, or one that does not.
func (ms *members) pick(leads bool) *member {
	ms.t.Helper()
	for _, m := range ms.all {
		if l, err := m.state(); err == nil && l == leads {
			return m
		}
	}
	ms.t.Fatalf("no member has leads = %v", leads)
	return nil
}

// fault is what becomes of one member.
type fault struct {
	name          string
	inflict, mend func(*member)
}

var memberFaults = []fault{
	{"killed", func(m *member) {
		m.proc.signal(syscall.SIGKILL)
		m.proc.wait(m.of.t, 10*time.Second)
	}, func(m *member) { m.start() }},
	{"stopped", func(m *member) { m.proc.signal(syscall.SIGSTOP) }, func(m *member) { m.proc.signal(syscall.SIGCONT) }},
	{"isolated", func(m *member) { m.link("down") }, func(m *member) { m.link("up") }},
	{"cut from its peers", func(m *member) { m.say("cut") }, func(m *member) { m.say("join") }},
	{"slow", func(m *member) { m.slow("300ms") }, func(m *member) { m.slow("0s") }},
}

// link has the member's way to the bridge go down or up.
func (m *member) link(state string) {
	ip(m.of.t, "link", "set", fmt.Sprint("to", m.n), state)
}

// slow holds up all that comes from the member.
func (m *member) slow(by string) {
	for _, o := range m.of.all {
		o.say("delay " + m.ip() + " " + by)
	}
}

// runMember is the process of a member: an etcd behind relays, through which
// everything goes that comes from outside.
func runMember(number, dir string) int {
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return 0
	}
	self, initial := membersNet+number, []string{}
	var peers []string
	for n := range 3 {
		at := fmt.Sprint(membersNet, n+1)
		initial = append(initial, fmt.Sprintf("m%d=http://%s:2380", n+1, at))
		if at != self {
			peers = append(peers, at)
		}
	}
	for _, args := range []string{"link set lo up", "link set from" + number + " up", "addr add " + self + "/24 dev from" + number} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			fmt.Printf("ip %s: %v\n%s", args, err, out)
			return 1
		}
	}
	at := func(host, port string) []url.URL { return []url.URL{{Scheme: "http", Host: host + ":" + port}} }
	c := embed.NewConfig()
	c.Name, c.Dir, c.LogLevel, c.UnsafeNoFsync = "m"+number, filepath.Join(dir, number), "error", true
	c.ListenClientUrls, c.AdvertiseClientUrls = at("127.0.0.1", "12379"), at(self, "2379")
	c.ListenPeerUrls, c.AdvertisePeerUrls = at("127.0.0.1", "12380"), at(self, "2380")
	c.InitialCluster, c.EnableGRPCGateway = strings.Join(initial, ","), false
	w := &wire{delays: map[string]time.Duration{}, self: self}
	for _, port := range []string{"2379", "2380"} {
		if err := w.serve(self+":"+port, "127.0.0.1:1"+port); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	if _, err := embed.StartEtcd(c); err != nil {
		fmt.Println(err)
		return 1
	}
	for in.Scan() {
		words := strings.Fields(in.Text())
		switch words[0] {
		case "delay":
			d, _ := time.ParseDuration(words[2])
			w.delay(words[1], d)
		case "cut", "join":
			for _, p := range peers {
				do := map[string]string{"cut": "add", "join": "del"}[words[0]]
				if out, err := exec.Command("ip", "route", do, "blackhole", p+"/32").CombinedOutput(); err != nil {
					fmt.Printf("%s %s: %v\n%s", do, p, err, out)
				}
			}
		}
	}
	return 0 // the test has ended
}

// wire relays connections, and holds up what comes from a host that is slow.
type wire struct {
	self   string
	mu     sync.Mutex
	delays map[string]time.Duration
}

func (w *wire) delay(host string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delays[host] = d
}

func (w *wire) delayOf(sender string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.delays[sender]
}

func (w *wire) serve(at, to string) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			remote, _, _ := net.SplitHostPort(in.RemoteAddr().String())
			go w.relay(in, out, w.self)
			go w.relay(out, in, remote)
		}
	}()
	return nil
}

// relay passes on what comes, each piece as late as the wire is long at the time.
func (w *wire) relay(to, from net.Conn, sender string) {
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 1000)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 64<<10)
			n, err := from.Read(b)
			if n > 0 {
				pieces <- piece{time.Now().Add(w.delayOf(sender)), b[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
	for range pieces { // so that the reader ends
	}
}
