package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a scheduler.
type process struct {
	cmd        *exec.Cmd
	http, grpc string
	tls        *tls.Config // nil in the clear
	name       string
	drained    chan struct{}
}

// build makes the binary that users have.
func build(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/rota-project/rota").Output()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "rota")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "./cmd/rota")
	cmd.Dir, cmd.Stderr = strings.TrimSpace(string(root)), os.Stderr
	return bin, cmd.Run()
}

var ready = regexp.MustCompile(`msg=ready.* http=(\S+) grpc=(\S+)`)

// start starts a scheduler with tokens.
func start(ctx context.Context, bin, dir string, secure bool) (*process, error) {
	p := &process{name: "in the clear", drained: make(chan struct{})}
	rota := func(args ...string) error {
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("rota %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	args := []string{"scheduler", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--tokens", "rota-tokens", "--data-dir", "data-" + strconv.FormatBool(secure)}
	if !secure {
		if err := rota("token", "create", "--role", "admin", "--file", "rota-tokens"); err != nil {
			return nil, err
		}
	} else {
		p.name = "TLS"
		err := errors.Join(rota("cert", "init"), rota("cert", "issue", "scheduler", "s1", "--host", "127.0.0.1"))
		if err != nil {
			return nil, err
		}
		pem, err := os.ReadFile(filepath.Join(dir, "rota-pki", "ca.crt"))
		if err != nil {
			return nil, err
		}
		p.tls = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
		p.tls.RootCAs.AppendCertsFromPEM(pem)
		args = append(args, "--http", "0.0.0.0:0", "--tls", "--tls-ca", "rota-pki/ca.crt", "--tls-cert", "rota-pki/scheduler-s1.crt", "--tls-key", "rota-pki/scheduler-s1.key")
	}
	p.cmd = exec.CommandContext(ctx, bin, args...)
	p.cmd.Dir = dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(log)
	var said strings.Builder
	for {
		line, err := lines.ReadString('\n')
		said.WriteString(line)
		if found := ready.FindStringSubmatch(line); found != nil {
			_, port, err := net.SplitHostPort(found[1])
			if err != nil {
				return nil, err
			}
			p.http, p.grpc = net.JoinHostPort("127.0.0.1", port), found[2]
			break
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the scheduler does not begin: %s", said.String()), p.cmd.Wait())
		}
	}
	go func() {
		defer close(p.drained)
		_, _ = io.Copy(io.Discard, lines)
	}()
	return p, nil
}

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-p.drained
	return p.cmd.Wait()
}

// cpu is the processor time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// idle is the share of a processor that the process, its etcd included, uses while
// nobody asks anything: the median of a few times.
func (p *process) idle() (float64, error) {
	const while = 600 * time.Millisecond
	var shares []float64
	before, err := p.cpu()
	for range 5 {
		if err != nil {
			return 0, err
		}
		time.Sleep(while)
		var after time.Duration
		after, err = p.cpu()
		shares = append(shares, float64(after-before)/float64(while))
		before = after
	}
	return median(shares), err
}

// memory is what the process has in memory now, and the most since the last call
// of resetPeak.
func (p *process) memory() (now, peak float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "VmRSS" && name != "VmHWM" {
			continue
		}
		kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		if err != nil {
			return 0, 0, err
		}
		if name == "VmRSS" {
			now = kb * 1024
		} else {
			peak = kb * 1024
		}
	}
	return now, peak, nil
}

func (p *process) resetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
}
