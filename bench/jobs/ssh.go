package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// errNoSSH says that there is no sshd on this machine to stand beside.
var errNoSSH = errors.New("no sshd here (Debian: openssh-server)")

// sshd is a server of this machine's own openssh on loopback, with throw-away
// keys: what a loop over ssh runs jobs with.
type sshd struct {
	dir, port, user string
	cmd             *exec.Cmd
}

func startSSH() (s *sshd, err error) {
	binary := ""
	for _, path := range []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if _, err := os.Stat(path); err == nil {
			binary = path
		}
	}
	if _, err := exec.LookPath("ssh"); err != nil || binary == "" {
		return nil, errNoSSH
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rota-bench-ssh-")
	if err != nil {
		return nil, err
	}
	s = &sshd{dir: dir, user: me.Username}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	for _, key := range []string{"host", "client"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		return nil, err
	}
	if me.Uid == "0" { // where it shuts its unprivileged half in
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	conf := strings.Join([]string{
		"ListenAddress 127.0.0.1:" + s.port, "HostKey " + dir + "/host", "AuthorizedKeysFile " + dir + "/client.pub", "PidFile none",
		"StrictModes no", "UsePAM no", "PasswordAuthentication no", "PermitRootLogin prohibit-password", "MaxStartups 100",
	}, "\n")
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf+"\n"), 0o600); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(binary, "-D", "-e", "-f", filepath.Join(dir, "conf"))
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return nil, err
	}
	last := error(nil)
	for range 100 {
		if last = s.run("true"); last == nil {
			return s, nil
		}
		time.Sleep(50 * time.Millisecond) // it has just been started
	}
	return nil, fmt.Errorf("sshd does not answer: %w", last)
}

func (s *sshd) command(argv ...string) *exec.Cmd {
	return exec.Command("ssh", append([]string{
		"-F", "none", "-p", s.port, "-i", s.dir + "/client", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", s.user + "@127.0.0.1",
	}, argv...)...)
}

func (s *sshd) run(argv ...string) error { return s.command(argv...).Run() }

func (s *sshd) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	_ = os.RemoveAll(s.dir)
}

// rate runs n commands, clients at once.
func (s *sshd) rate(n, clients int) (float64, error) {
	return together(n, clients, func() error { return s.run("true") })
}

// together does f n times, clients at once, and says how often a second.
func together(n, clients int, f func() error) (float64, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range n / clients {
				if ctx.Err() != nil {
					return
				}
				if err := f(); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	cancel(nil)
	return float64(n) / time.Since(began).Seconds(), err
}

// first measures from the start of ssh to the first byte of output.
func (s *sshd) first(samples int) ([]time.Duration, error) {
	var out []time.Duration
	for range samples {
		began := time.Now()
		cmd := s.command("echo", "x")
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		if _, err := pipe.Read(make([]byte, 1)); err != nil {
			return nil, fmt.Errorf("output over ssh: %w", err)
		}
		out = append(out, time.Since(began))
		if err := cmd.Wait(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
