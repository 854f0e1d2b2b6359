package supervise_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/memo"
	"github.com/rota-project/rota/internal/worker/supervise"
	"github.com/rota-project/rota/worker"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer bears the output of processes, and says when there is more.
type buffer struct {
	memo.Buffer
	more chan struct{}
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{}, 1000)} }

func (b *buffer) Write(p []byte) (int, error) {
	n, err := b.Buffer.Write(p)
	b.more <- struct{}{}
	return n, err
}

func (b *buffer) until(text string, n int) {
	for strings.Count(b.String(), text) < n {
		<-b.more
	}
}

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }

// TestOnce: without Restart it ends with the process, and the death is reported,
// by the incarnation that the process was told. The process works where the
// supervisor does: files of its options may be named from there.
func TestOnce(t *testing.T) {
	t.Parallel()
	out := newBuffer()
	var told []string
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	err = supervise.Run(t.Context(), supervise.Config{
		Name: "w", Argv: sh("echo $ROTA_INCARNATION $X; pwd; exit 4"), Env: []string{"X=y"}, Stdout: out, Stderr: out,
		Exited: func(_ context.Context, incarnation string) error { told = append(told, incarnation); return nil },
	})
	if err == nil || !strings.Contains(err.Error(), "exit status 4") || len(told) != 1 || out.String() != told[0]+" y\n"+here+"\n" {
		t.Errorf("%v; told %v, it was told %q", err, told, out)
	}
	err = supervise.Run(t.Context(), supervise.Config{Name: "w", Argv: []string{"/does/not/exist"}, Restart: supervise.Always})
	if err == nil || !strings.Contains(err.Error(), "worker w") {
		t.Errorf("what cannot be started: %v", err)
	}
}

// TestLastWords: what a process says of its end is the last that is written, as engines show
// that line: its keeper adds nothing, but for one that is started again.
func TestLastWords(t *testing.T) {
	t.Parallel()
	out := newBuffer()
	err := supervise.Run(t.Context(), supervise.Config{
		Name: "w", Argv: sh("echo it cannot be; exit 4"), Stdout: out, Stderr: out, Logger: slog.New(slog.NewTextHandler(out, nil)),
	})
	if err == nil || !strings.Contains(out.String(), "it cannot be\n") {
		t.Errorf("error %v after\n%s", err, out)
	}
}

// TestRestart: a new incarnation each time, each death reported until it is heard.
func TestRestart(t *testing.T) {
	t.Parallel()
	out := newBuffer()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	calls, heard := 0, map[string]int{}
	ended := make(chan error, 1)
	go func() {
		ended <- supervise.Run(ctx, supervise.Config{
			Name: "w", Argv: sh("echo run"), Stdout: out, Stderr: out, Restart: supervise.Always,
			Exited: func(_ context.Context, incarnation string) error {
				mu.Lock()
				defer mu.Unlock()
				if calls++; calls%2 == 1 {
					return errors.New("nobody listens")
				}
				heard[incarnation]++
				return nil
			},
		})
	}()
	out.until("run", 3)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(heard) < 2 || calls != 2*len(heard) {
		t.Errorf("%d calls, heard %v", calls, heard)
	}
}

// lives says whether a process may still do anything: one that was killed is
// there for a moment more, with PF_EXITING among its flags (proc_pid_stat(5)).
func lives(pid string) bool {
	const flags, exiting = 6, 4
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	bits, err := strconv.ParseUint(strings.Fields(after)[flags], 10, 64)
	return err != nil || bits&exiting == 0
}

// TestEnd: when it is to end it asks the process, waits for all of its group, and
// reports the death only then.
func TestEnd(t *testing.T) {
	t.Parallel()
	out := newBuffer()
	ctx, cancel := context.WithCancel(t.Context())
	reported, alive := 0, true
	ended := make(chan error, 1)
	go func() {
		ended <- supervise.Run(ctx, supervise.Config{
			Name: "w", Argv: sh(`trap "echo bye; exit 0" TERM; (trap "" TERM; while :; do sleep 0.05; done) & echo $! up; while :; do sleep 0.05; done`),
			Stdout: out, Stderr: out, Restart: supervise.Always, Grace: 200 * time.Millisecond,
			Exited: func(ctx context.Context, _ string) error {
				child, _, _ := strings.Cut(out.String(), " ")
				alive = lives(child)
				reported++
				return ctx.Err()
			},
		})
	}()
	out.until("up", 1)
	cancel()
	if err := <-ended; err != nil || reported != 1 || alive || !strings.Contains(out.String(), "bye") {
		t.Errorf("%v; reported %d times, its child lived: %v; %q", err, reported, alive, out)
	}
}

// TestSaid: what a worker says to its keeper of its lease.
func TestSaid(t *testing.T) {
	t.Parallel()
	const past = `\001\000\000\000\000\000\000\000` // one nanosecond after the machine started
	for name, c := range map[string]struct {
		script string
		status int
		told   int
	}{
		"it never had a lease":              {`printf '\377\377\377\377\377\377\377\377' >&3; exit 4`, 4, 0},
		"it had one":                        {`printf '\377\377\377\377\377\377\377\377\376\377\377\377\377\377\377\377' >&3; exit 4`, 4, 1},
		"it says nothing":                   {`exit 4`, 4, 1},
		"it was killed":                     {`printf '\377\377\377\377\377\377\377\377' >&3; kill -9 $$`, 137, 1},
		"it stands still past its lease":    {`printf '` + past + `' >&3; sleep 1000`, worker.ExitFenced, 1},
		"it is stopped past its lease":      {`printf '` + past + `' >&3; kill -STOP $$`, worker.ExitFenced, 1},
		"nothing has to end with its lease": {`printf '` + past + `\000\000\000\000\000\000\000\000' >&3; exit 4`, 4, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := 0
			err := supervise.Run(t.Context(), supervise.Config{
				Name: "w", Argv: sh(c.script), Exited: func(context.Context, string) error { told++; return nil },
			})
			var ended *supervise.EndedError
			if !errors.As(err, &ended) || ended.ExitStatus() != c.status || told != c.told {
				t.Errorf("%v, told %d times", err, told)
			}
		})
	}
}

// TestEnded: what ends by itself is started again, what a signal ends is not.
func TestEnded(t *testing.T) {
	t.Parallel()
	out := newBuffer()
	file := t.TempDir() + "/n"
	err := supervise.Run(t.Context(), supervise.Config{
		Name: "w", Argv: sh("echo run; echo >> " + file + "; test $(wc -l < " + file + ") -lt 3 && exit 7; kill -9 $$"), Stdout: out, Stderr: out, Restart: supervise.Ended,
	})
	if err == nil || !strings.Contains(err.Error(), "killed") || strings.Count(out.String(), "run") != 3 {
		t.Errorf("%v after %q", err, out)
	}
}

// TestBusyAtStart: a first start that fails although nothing is wrong with the
// command is tried again.
func TestBusyAtStart(t *testing.T) {
	t.Parallel()
	script := t.TempDir() + "/script"
	busy, err := os.OpenFile(script, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := busy.WriteString("#!/bin/sh\necho run; exec sleep 1000\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, failed := make(chan error, 1), make(chan string, 100)
	out := newBuffer()
	go func() {
		ended <- supervise.Run(ctx, supervise.Config{
			Name: "w", Argv: []string{script}, Stdout: out, Stderr: out, Restart: supervise.Ended,
			Logger: slog.New(slog.NewTextHandler(said(failed), nil)),
		})
	}()
	for !strings.Contains(<-failed, "not started") {
	}
	_ = busy.Close() // until now it was busy, as the system says
	out.until("run", 1)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// said hands over lines of a log.
type said chan string

func (s said) Write(p []byte) (int, error) {
	s <- string(p)
	return len(p), nil
}
