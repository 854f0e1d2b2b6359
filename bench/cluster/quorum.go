package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// devLease is the default lease of rota dev.
const devLease = 5 * time.Second

// quorum measures three schedulers that keep the store themselves, as rota dev
// --schedulers 3 starts them: how long until they serve, and how long until plans go on
// when the one that leads is killed.
func quorum(ctx context.Context, _ options) (rows []row, err error) {
	dir, bin, remove, err := productIn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	var slowest, ready time.Duration
	for n := range 3 {
		home := filepath.Join(dir, strconv.Itoa(n))
		if err := os.Mkdir(home, 0o700); err != nil {
			return nil, err
		}
		starts, again, err := leaderKilled(ctx, bin, home)
		if err != nil {
			return nil, err
		}
		ready, slowest = max(ready, starts), max(slowest, again)
	}
	return []row{
		inSeconds("three schedulers from nothing until they serve", ready, 3*time.Second, 0, "rota dev --schedulers 3, with workers and tasks; slowest of 3"),
		inSeconds("leader of three killed: what is declared then runs", slowest, devLease+time.Second, 0, fmt.Sprintf("lease of %v; slowest of 3", devLease)),
	}, nil
}

// leaderKilled starts a cluster, kills the leader and ends the cluster.
func leaderKilled(ctx context.Context, bin, home string) (ready, again time.Duration, err error) {
	env := append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR=", "TMPDIR="+home)
	dev := exec.CommandContext(ctx, bin, "dev", "--schedulers", "3", "--http=127.0.0.1:0", "--grpc=127.0.0.1:0", "--gateway=", "--log-level=error")
	dev.Env = env
	greeting := &told{seen: make(chan struct{})}
	dev.Stdout, dev.Stderr = greeting, os.Stderr
	began := time.Now()
	if err := dev.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- dev.Wait() }()
	defer func() {
		_ = dev.Process.Signal(syscall.SIGINT)
		err = errors.Join(err, <-ended)
	}()
	select {
	case <-greeting.seen:
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	ready = time.Since(began)
	rota := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Env = env
		return cmd.Output()
	}
	// The scheduler that leads has another one's etcd lead, which takes a moment.
	var status struct{ Leader string }
	var members []struct{ Name, State string }
	for apart := false; !apart; {
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
		text, err1 := rota("status", "-o", "json")
		list, err2 := rota("member", "list", "-o", "json")
		if errors.Join(err1, err2) != nil || errors.Join(json.Unmarshal(text, &status), json.Unmarshal(list, &members)) != nil {
			continue
		}
		for _, m := range members {
			apart = apart || m.State == "leader" && m.Name != status.Leader && status.Leader != ""
		}
	}
	pid, err := greeting.process(status.Leader)
	if err != nil {
		return 0, 0, err
	}
	list := filepath.Join(home, "more.yaml")
	if err := os.WriteFile(list, []byte("- id: more\n"), 0o600); err != nil {
		return 0, 0, err
	}
	killed := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return 0, 0, err
	}
	for _, err = rota("task", "apply", "-f", list); err != nil; _, err = rota("task", "apply", "-f", list) {
		if time.Since(killed) > time.Minute {
			return 0, 0, fmt.Errorf("no task can be declared: %w", err)
		}
	}
	for text, _ := rota("task", "get", "more"); !bytes.Contains(text, []byte("running")); text, _ = rota("task", "get", "more") {
		if time.Since(killed) > time.Minute {
			return 0, 0, fmt.Errorf("what was declared does not run: %s", text)
		}
	}
	return ready, time.Since(killed), nil
}

// told keeps the greeting of rota dev, and says when it is whole.
type told struct {
	text bytes.Buffer // not written to any more once it was seen
	seen chan struct{}
	over bool
}

func (t *told) Write(p []byte) (int, error) {
	if t.over {
		return len(p), nil
	}
	t.text.Write(p)
	if bytes.Contains(t.text.Bytes(), []byte("Ctrl-C")) {
		t.over = true
		close(t.seen)
	}
	return len(p), nil
}

// process is that of a scheduler, as rota dev has told.
func (t *told) process(scheduler string) (int, error) {
	m := regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(scheduler) + ` +process (\d+),`).FindSubmatch(t.text.Bytes())
	if m == nil {
		return 0, fmt.Errorf("no process of scheduler %q in %s", scheduler, t.text.Bytes())
	}
	return strconv.Atoi(string(m[1]))
}
