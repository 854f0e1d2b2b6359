package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// pty is a terminal with a program on it.
type pty struct {
	t       *testing.T
	ours    *os.File // what the program writes comes here
	theirs  *os.File
	out     *output
	proc    *proc
	size    atomic.Int64 // columns, which change to have all of the screen drawn anew
	before  unix.Termios // how the terminal was
	drained chan struct{}
}

func newPty(t *testing.T, env []string, args ...string) *pty {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, ours: ours, theirs: theirs, out: newOutput(), drained: make(chan struct{})}
	p.resize(100, 30)
	p.before = p.modes()
	cmd := exec.Command(rotaBin, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.Env = append([]string{"TERM=xterm-256color", "LANG=C.UTF-8", "HOME=" + os.Getenv("HOME")}, env...)
	p.proc = &proc{cmd: cmd, out: p.out, done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.drained)
		_, _ = io.Copy(p.out, ours) // until the last end of theirs is closed
	}()
	go func() {
		_ = cmd.Wait()
		close(p.proc.done)
	}()
	t.Cleanup(func() {
		p.proc.signal(syscall.SIGKILL)
		<-p.proc.done
		_ = theirs.Close()
		<-p.drained
		_ = ours.Close()
		if t.Failed() {
			out := p.out.String()
			t.Logf("the terminal of %v: %q", args, out[max(0, len(out)-4000):])
		}
	})
	return p
}

func (p *pty) modes() unix.Termios {
	p.t.Helper()
	m, err := unix.IoctlGetTermios(int(p.theirs.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *m
}

func (p *pty) resize(width, height uint16) {
	p.t.Helper()
	if err := unix.IoctlSetWinsize(int(p.ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pty) keys(s string) {
	p.t.Helper()
	if _, err := p.ours.WriteString(s); err != nil {
		p.t.Fatal(err)
	}
}

// shows waits until the screen shows all of the texts, drawn anew again and again by a
// terminal whose size changes.
func (p *pty) shows(texts ...string) {
	p.t.Helper()
	from := len(p.out.String())
	last := time.Time{}
	await(p.t, time.Minute, fmt.Sprintf("the terminal shows %q", texts), func() bool {
		select {
		case <-p.proc.done:
			p.t.Fatalf("it has ended: %q", p.out.String())
		default:
		}
		if time.Since(last) > 200*time.Millisecond {
			last = time.Now()
			p.resize(uint16(100+p.size.Add(1)%2), 30)
		}
		all := p.out.String()[from:]
		for _, s := range texts {
			if !strings.Contains(all, s) {
				return false
			}
		}
		return true
	})
}

// ends waits for the end, in order and with the terminal as it was.
func (p *pty) ends() {
	p.t.Helper()
	if status := p.proc.wait(p.t, time.Minute); status != 0 {
		p.t.Errorf("status %d", status)
	}
	if now := p.modes(); !reflect.DeepEqual(now, p.before) {
		p.t.Errorf("the terminal is left in other modes: %+v, it was %+v", now, p.before)
	}
	await(p.t, time.Minute, "the screen before is back, with its cursor", func() bool {
		all := p.out.String()
		return strings.LastIndex(all, "\x1b[?1049l") > strings.LastIndex(all, "\x1b[?1049h") &&
			strings.LastIndex(all, "\x1b[?25h") > strings.LastIndex(all, "\x1b[?25l")
	})
}

// TestTop: rota top on a real terminal before a real cluster: it draws, asks before it
// drains, follows the size, outlives the scheduler, and leaves the terminal as it was,
// whatever ends it.
func TestTop(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 2, 10*time.Second)
	c.apply("t", 6)
	s := c.scheds[0]
	front := newProxy(t, s.grpc)
	server := "ROTA_SERVER=" + front.addr

	p := newPty(t, []string{server}, "top")
	p.shows("[map]", "live", "w0 ", "w1 ", "no zone  2 workers, 6 instances", "? keys")
	p.keys("2")
	p.shows("[tasks]", "tasks: 6", "t00", "running") // the map has t00, too
	p.keys("w")
	p.shows("why t00", "t00 is on w")
	p.keys("\x1b")
	p.shows("tasks: 6")
	p.keys("3")
	p.shows("[workers]", "workers: 2")
	p.keys("d")
	p.shows("drain w0?", "worker w0 is gone", "drain w0: y does it, n does not")
	state := func() string {
		w, err := rotav1.NewWorkersClient(s.conn).GetWorker(t.Context(), &rotav1.GetWorkerRequest{Name: "w0"})
		if err != nil {
			t.Fatal(err)
		}
		return w.GetState()
	}
	p.keys("x")
	p.keys("n")
	p.shows("workers: 2")
	if now := state(); now != "ready" {
		t.Fatalf("drained without a yes: %s", now)
	}
	p.keys("d")
	p.shows("drain w0: y does it, n does not")
	p.keys("y")
	await(t, time.Minute, "w0 drains", func() bool { return state() == "draining" })
	p.shows("1 draining")

	// Another size: the last line is the last of the new one.
	from := len(p.out.String())
	p.resize(60, 12)
	last := regexp.MustCompile(`\x1b\[12;1H(\x1b\[[0-9;]*m)*(\? keys|w0 is draining)`)
	await(t, time.Minute, "the screen has the new size", func() bool { return last.MatchString(p.out.String()[from:]) })

	// A scheduler that goes, and another that comes.
	s.proc.signal(syscall.SIGKILL)
	<-s.proc.done
	p.shows("no answer since ")
	s.start()
	s.ready()
	front.to(s.grpc)
	p.shows("live", "[workers]")
	p.keys("q")
	p.ends()

	// A signal.
	p = newPty(t, []string{server, "NO_COLOR=1"}, "top", "--view", "tasks")
	p.shows("[tasks]", "t00")
	if all := p.out.String(); strings.Contains(all, "\x1b[32m") || strings.Contains(all, "38;5") {
		t.Error("there are colours")
	}
	p.proc.signal(syscall.SIGTERM)
	p.ends()

	// Nobody answers: said where it can be read, and the terminal is not touched.
	p = newPty(t, []string{"ROTA_SERVER=127.0.0.1:1"}, "top")
	if status := p.proc.wait(t, time.Minute); status != 1 {
		t.Errorf("status %d", status)
	}
	await(t, time.Minute, "it says so", func() bool { return strings.Contains(p.out.String(), "rota: no scheduler answers") })
	if strings.Contains(p.out.String(), "\x1b") {
		t.Errorf("%q", p.out.String())
	}

	// No terminal.
	cmd := exec.Command(rotaBin, "top", "--once", "--view", "tasks")
	cmd.Env = []string{server}
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "t00") || strings.Contains(string(out), "\x1b") {
		t.Errorf("%v: %q", err, out)
	}
	cmd = exec.Command(rotaBin, "top")
	cmd.Env = []string{server}
	said, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 || strings.Count(string(said), "\n") != 1 || !strings.Contains(string(said), "--once") {
		t.Errorf("%v: %q", err, said)
	}
}
