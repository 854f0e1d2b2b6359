package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/backoff"
)

const (
	manySessions, manyTasks = 10_000, 100_000
	manyLost                = 500
	// perConnection is how many sessions share a TCP connection: a scheduler takes some 250 of
	// one address whose callers it does not know yet.
	perConnection = 50
	// steadyFor is how long the schedulers are watched while nothing changes.
	steadyFor = 20 * time.Second
)

// many has many sessions on three schedulers, each a process of its own, over gRPC: what a
// scheduler costs while nothing happens, and how long until what 500 workers ran that are
// lost at once runs elsewhere.
func many(ctx context.Context, o options) (rows []row, err error) {
	home, bin, remove, err := productIn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	list := filepath.Join(home, "none.yaml")
	if err := os.WriteFile(list, []byte("[{id: none, require: [none=none]}]\n"), 0o600); err != nil {
		return nil, err
	}
	dev := exec.CommandContext(ctx, bin, "dev", "--schedulers", "3", "--insecure", "--workers", "1", "--tasks", list, "--lease", o.lease.String(),
		"--http=127.0.0.1:0", "--grpc=127.0.0.1:0", "--gateway=", "--log-level=error")
	dev.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR=", "TMPDIR="+home)
	greeting := &told{seen: make(chan struct{})}
	dev.Stdout, dev.Stderr = greeting, os.Stderr
	if err := dev.Start(); err != nil {
		return nil, err
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
		return nil, ctx.Err()
	}
	var pids []int
	var addrs []string
	for _, m := range regexp.MustCompile(`(?m)^  s\d +process (\d+), gRPC ([^,]+),`).FindAllSubmatch(greeting.text.Bytes(), -1) {
		pid, err := strconv.Atoi(string(m[1]))
		if err != nil {
			return nil, err
		}
		pids, addrs = append(pids, pid), append(addrs, string(m[2]))
	}
	if len(pids) != 3 {
		return nil, fmt.Errorf("%d schedulers in %s", len(pids), greeting.text.Bytes())
	}

	// The leader and the leader of its etcd come together first: who asks meanwhile is refused,
	// and workers ask again.
	if err := backoff.Sleep(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	f := newField(manyTasks)
	conns := map[string][]*grpc.ClientConn{}
	defer func() {
		for _, list := range conns {
			for _, c := range list {
				err = errors.Join(err, c.Close())
			}
		}
	}()
	streaming, cut := context.WithCancel(ctx) // of the sessions
	defer cut()
	for n := range manySessions {
		w := f.add(n)
		addr := addrs[n%len(addrs)]
		if list := conns[addr]; n/len(addrs)/perConnection >= len(list) {
			c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, err
			}
			conns[addr] = append(list, c)
		}
		sessions := rotav1.NewSessionsClient(conns[addr][len(conns[addr])-1])
		w.dial = func() (simConn, error) { return sessions.Connect(streaming) }
	}
	go f.renew(streaming, o.lease)
	if err := f.hello(ctx); err != nil {
		return nil, err
	}

	tasks := rotav1.NewTasksClient(conns[addrs[0]][0])
	for from := 0; from < manyTasks; from += declared {
		list := taskRange(from, from+declared)
		for n := range list {
			list[n].Kind = "simulated" // which the cluster's own worker does not take
		}
		if _, err := tasks.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto(list)}); err != nil {
			return nil, err
		}
	}
	if err := f.until(ctx, "all granted", func() bool { return f.granted == manyTasks }); err != nil {
		return nil, err
	}
	if err := backoff.Sleep(ctx, 2*o.lease); err != nil { // acknowledgements are written
		return nil, err
	}
	before, err := cpuOf(pids)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := backoff.Sleep(ctx, steadyFor); err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := cpuOf(pids)
	if err != nil {
		return nil, err
	}
	var shares []string
	most := 0.0
	for n := range pids {
		share := 100 * (after[n] - before[n]).Seconds() / took.Seconds()
		most = max(most, share)
		shares = append(shares, fmt.Sprintf("%.1f", share))
	}
	what := fmt.Sprintf("%d sessions x %d tasks on 3 schedulers (lease %v): ", manySessions, manyTasks, o.lease)
	rows = append(rows, row{what + "steady, of one core", most, 5, "%", 0, "the busiest of " + strings.Join(shares, ", ")})

	victims := map[int32]bool{}
	held := 0
	f.mu.Lock()
	for n := 0; n < manySessions; n += manySessions / manyLost {
		w := f.all[n]
		victims[w.n] = true
		held += w.held
		w.n = -1 // it is deaf, and says nothing
	}
	for i, n := range f.owner {
		if victims[n] {
			f.owner[i] = 0
		}
	}
	f.granted -= held
	f.mu.Unlock()
	began = time.Now()
	if err := f.until(ctx, "the tasks of the lost", func() bool { return f.granted == manyTasks }); err != nil {
		return rows, err
	}
	return append(rows, inSeconds(what+fmt.Sprintf("%d lost at once: all elsewhere", manyLost), time.Since(began), o.lease+2*time.Second, 0,
		fmt.Sprintf("%d tasks", held))), nil
}

// cpuOf is what processes have used, in user and kernel mode.
func cpuOf(pids []int) ([]time.Duration, error) {
	const tick = time.Second / 100 // USER_HZ, of all Linux ports
	out := make([]time.Duration, len(pids))
	for n, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, err
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 13 {
			return nil, fmt.Errorf("/proc/%d/stat: %q", pid, text)
		}
		for _, at := range []int{11, 12} { // utime and stime
			ticks, err := strconv.ParseInt(fields[at], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("/proc/%d/stat: %w", pid, err)
			}
			out[n] += time.Duration(ticks) * tick
		}
	}
	return out, nil
}
