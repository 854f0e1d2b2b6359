package suite

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Process is a program of the checkout that runs, with the end of what it has said.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error

	mu   sync.Mutex
	said []byte
}

// mostKept is how many of the last bytes that a process said are kept.
const mostKept = 64 << 10

// Start starts a program in a folder, with variables beside those of this process. It
// is killed when ctx ends, if it has not been before.
func Start(ctx context.Context, dir string, env []string, program string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.CommandContext(ctx, program, args...), ended: make(chan struct{})} //nolint:gosec // built before
	p.cmd.Dir, p.cmd.Env, p.cmd.WaitDelay = dir, append(os.Environ(), env...), 5*time.Second
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// Write takes what the process says.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, b...)
	p.said = p.said[max(0, len(p.said)-mostKept):]
	return len(b), nil
}

// Said is the end of what it has said.
func (p *Process) Said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.said)
}

// Wait waits at most d for its end; the error says how it ended.
func (p *Process) Wait(ctx context.Context, d time.Duration) (ended bool, err error) {
	select {
	case <-p.ended:
		return true, p.err
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.ended:
		return true, p.err
	case <-timer.C:
	case <-ctx.Done():
	}
	return false, nil
}

// Kill kills it, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}
