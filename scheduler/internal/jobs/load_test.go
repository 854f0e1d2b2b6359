package jobs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/output"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/scheduler/internal/jobs"
)

// TestFlood has a job write as fast as it can, with one follower who reads and
// one who does not. Jobs beside it on the same worker run as ever, the worker
// keeps its session, and what nobody reads is in nobody's memory.
func TestFlood(t *testing.T) {
	t.Parallel()
	n := newNode(t, "s", newStore(t), jobs.Config{})
	newHost(t, "w", runner.Config{Output: output.Options{MaxBytes: 8 << 20, MaxRate: -1}}, nil, n)
	flood := n.run(t, command("sh", "-c", `exec cat /dev/zero`))
	n.state(t, flood, "running")
	lazy, err := n.jobs.ReadOutput(t.Context(), &rotav1.ReadOutputRequest{Id: flood, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lazy.Recv(); err != nil { // and no more
		t.Fatal(err)
	}
	const much = 128 << 20
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	busy, err := n.jobs.ReadOutput(ctx, &rotav1.ReadOutputRequest{Id: flood, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		once := sync.OnceFunc(func() { close(reached) })
		defer once()
		for {
			m, err := busy.Recv()
			if err != nil {
				select {
				case <-reached: // it was stopped then
				default:
					t.Errorf("the follower who reads: %v", err)
				}
				return
			}
			if m.GetOffset() > much {
				once()
			}
		}
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 20 {
		id := n.run(t, command("echo", fmt.Sprint(i)))
		if out, err := n.output(t, &rotav1.ReadOutputRequest{Id: id, Follow: true}); err != nil || out != fmt.Sprintf("stdout:%d\n", i) {
			t.Errorf("job beside the flood: %q, %v", out, err)
		}
	}
	<-reached
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("%d MiB of memory for a flood of %d MiB", grown>>20, much>>20)
	}
	if _, err := n.jobs.StopJob(t.Context(), &rotav1.StopJobRequest{Id: flood}); err != nil {
		t.Fatal(err)
	}
	if j := n.state(t, flood, "stopped"); j.GetAttempts() != 1 || j.GetWorker() != "w" {
		t.Errorf("the flood had to begin again: %v", j)
	}
}

// TestBinaryOutput follows what is no text at all, to the last byte, live and
// afterwards, with what another stream says in between.
func TestBinaryOutput(t *testing.T) {
	t.Parallel()
	n := newNode(t, "s", newStore(t), jobs.Config{})
	newHost(t, "w", runner.Config{}, nil, n)
	copied := filepath.Join(t.TempDir(), "copied")
	id := n.run(t, command("sh", "-c", `for i in 1 2 3 4 5 6 7 8; do head -c 300001 /dev/urandom | tee -a `+copied+`; echo $i >&2; done`))
	for _, when := range []string{"live", "afterwards"} {
		s, err := n.jobs.ReadOutput(t.Context(), &rotav1.ReadOutputRequest{Id: id, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		for at := int64(0); ; {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.GetOffset() != at || m.GetMissed() != 0 {
				t.Fatalf("%s: %d bytes at %d, want %d", when, len(m.GetData()), m.GetOffset(), at)
			}
			at += int64(len(m.GetData()))
			if m.GetStream() == "stderr" {
				stderr.Write(m.GetData())
			} else {
				stdout.Write(m.GetData())
			}
		}
		want, err := os.ReadFile(copied)
		if err != nil {
			t.Fatal(err)
		}
		if len(want) != 8*300001 || sha256.Sum256(stdout.Bytes()) != sha256.Sum256(want) {
			t.Errorf("%s: %d bytes of %d, or others", when, stdout.Len(), len(want))
		}
		if stderr.String() != "1\n2\n3\n4\n5\n6\n7\n8\n" {
			t.Errorf("%s: stderr is %q", when, stderr.String())
		}
	}
}

// TestManyQueued asks beside ten thousand jobs that wait for a worker: what is
// asked costs what it costs beside a hundred, and others find a worker at once.
func TestManyQueued(t *testing.T) { //nolint:paralleltest // it counts what the whole process allocates
	n := newNode(t, "s", newStore(t), jobs.Config{})
	newHost(t, "full", runner.Config{MaxRunning: 1}, nil, n)
	newHost(t, "free", runner.Config{}, nil, n)
	for _, name := range []string{"full", "free"} {
		n.joined(t, name)
	}
	busy := n.run(t, &rotav1.JobDefinition{Argv: []string{"sleep", "1000"}, Worker: "full"})
	n.state(t, busy, "running")
	first, last := "", ""
	queue := func(count int) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 32 {
			wg.Go(func() {
				for range count / 32 {
					j, err := n.control.Declare(t.Context(), "", job.Spec{Argv: []string{"true"}, Worker: "full"})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if last = max(last, j.ID); first == "" || j.ID < first {
						first = j.ID
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	allocated := func(f func() error) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 20 {
			if err := f(); err != nil {
				t.Error(err)
			}
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / 20
	}
	calls := map[string]func() error{
		"get": func() error {
			_, err := n.control.GetJob(t.Context(), &rotav1.GetJobRequest{Id: last})
			return err
		},
		"list": func() error {
			l, err := n.jobs.ListJobs(t.Context(), &rotav1.ListJobsRequest{PageSize: 20})
			if err == nil && len(l.GetJobs()) != 20 {
				err = fmt.Errorf("%d jobs", len(l.GetJobs()))
			}
			return err
		},
		"run": func() error {
			j, err := n.control.RunJob(t.Context(), &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"true"}, Worker: "free"}})
			if err == nil {
				n.state(t, j.GetId(), "succeeded")
			}
			return err
		},
	}
	queue(128)
	few := map[string]uint64{}
	for name, f := range calls {
		few[name] = allocated(f)
	}
	queue(10_000)
	for name, f := range calls {
		if many := allocated(f); many > 2*few[name]+16<<10 {
			t.Errorf("%s: %d bytes with 10,000 queued, %d with 128", name, many, few[name])
		}
	}
	// When there is room the oldest is the first to run.
	if _, err := n.jobs.StopJob(t.Context(), &rotav1.StopJobRequest{Id: busy}); err != nil {
		t.Fatal(err)
	}
	n.state(t, first, "succeeded")
	if l, err := n.jobs.ListJobs(t.Context(), &rotav1.ListJobsRequest{State: "queued"}); err != nil || l.GetNextPageToken() == "" {
		t.Errorf("hardly any are queued: %v", err)
	}
}

// joined waits until a worker takes jobs: one has run there.
func (n *node) joined(t *testing.T, name string) {
	t.Helper()
	for t.Context().Err() == nil {
		j, err := n.control.Declare(t.Context(), "", job.Spec{Argv: []string{"true"}, Worker: name})
		if err == nil {
			n.state(t, j.ID, "succeeded")
			return
		}
		if !errors.Is(err, rota.ErrNotFound) {
			t.Fatal(err)
		}
		runtime.Gosched() // it has not come yet
	}
}
