package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/output"
)

const id = "0190a6e0-0000-7000-8000-000000000001"

// host is a runner and what it says.
type host struct {
	*Runner
	events chan Status
}

func newHost(t *testing.T, cfg Config) *host {
	t.Helper()
	h := &host{events: make(chan Status, 1000)}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Allow.Commands == nil {
		cfg.Allow.Any = true
	}
	cfg.Notify = func(s Status) { h.events <- s }
	var err error
	if h.Runner, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		h.Close(gone)
	})
	return h
}

func sh(script string) job.Spec { return job.Spec{Argv: []string{"sh", "-c", script}} }

// next is the next event; it must be of the state.
func (h *host) next(t *testing.T, want job.State) Status {
	t.Helper()
	select {
	case s := <-h.events:
		if s.State != want {
			t.Fatalf("got %+v, want %s", s, want)
		}
		return s
	case <-t.Context().Done():
		t.Fatalf("waited in vain for %s", want)
	}
	return Status{}
}

func (h *host) output(t *testing.T, g rota.Generation) string {
	t.Helper()
	log, err := h.Output(id, g)
	if err != nil {
		t.Fatal(err)
	}
	r, err := log.Reader(0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var out strings.Builder
	for {
		c, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%v:%s", c.Stream, c.Data)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{Env: map[string]string{"BASE": "b"}})
	s := sh(`cat; echo "$BASE $OWN $ROTA_JOB_ID $ROTA_JOB_GENERATION $TRACEPARENT"; pwd; echo no >&2; exit 3`)
	s.Env, s.Stdin = map[string]string{"OWN": "o"}, []byte("in\n")
	if err := h.Start(Job{ID: id, Generation: 7, Spec: s, Trace: "trace"}); err != nil {
		t.Fatal(err)
	}
	if st := h.next(t, job.Running); st.ID != id || st.Generation != 7 || st.Result.Started.IsZero() {
		t.Errorf("began: %+v", st)
	}
	st := h.next(t, job.Failed)
	if st.Result.ExitCode != 3 || st.Result.Signal != "" || st.Result.Error != "" || st.Result.Ended.Before(st.Result.Started) {
		t.Errorf("ended: %+v", st)
	}
	work := filepath.Join(h.cfg.Dir, workDir)
	// The order between the two is that in which they were read.
	got := h.output(t, 7)
	if !strings.Contains(got, "stderr:no\n") {
		t.Errorf("output %q", got)
	}
	stdout := strings.ReplaceAll(strings.Replace(got, "stderr:no\n", "", 1), "stdout:", "")
	if want := fmt.Sprintf("in\nb o %s 7 trace\n%s\n", id, work); stdout != want {
		t.Errorf("stdout %q, want %q", stdout, want)
	}
	if err := h.Stop(id, 7, 0); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stop of an ended one: %v", err)
	}
	if err := h.Start(Job{ID: id, Generation: 7, Spec: s}); err != nil || len(h.events) != 0 {
		t.Errorf("the same attempt again: %v", err)
	}
	if err := h.Remove(id); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Output(id, 7); !errors.Is(err, rota.ErrNotFound) {
		t.Errorf("output of a removed one: %v", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{MaxRunning: 1, Allow: Allow{Commands: []Command{{Argv: []string{"sleep", "{n:int}"}}, {Argv: []string{"no-such-program"}}}}})
	var fe *rota.FieldError
	for name, c := range map[string]struct {
		job Job
		is  func(error) bool
	}{
		"not listed":  {Job{ID: id, Spec: sh("x")}, func(err error) bool { return errors.Is(err, ErrNotAllowed) }},
		"no id":       {Job{Spec: sh("x")}, func(err error) bool { return errors.As(err, &fe) && fe.Field == "id" }},
		"a path":      {Job{ID: "../x", Spec: sh("x")}, func(err error) bool { return errors.As(err, &fe) && fe.Field == "id" }},
		"no argv":     {Job{ID: id}, func(err error) bool { return errors.As(err, &fe) && fe.Field == "argv" }},
		"no program":  {Job{ID: id, Spec: job.Spec{Argv: []string{"no-such-program"}}}, func(err error) bool { return errors.As(err, &fe) && fe.Field == "argv" }},
		"NUL in env":  {Job{ID: id, Spec: job.Spec{Argv: []string{"sleep", "1"}, Env: map[string]string{"A": "\x00"}}}, func(err error) bool { return errors.As(err, &fe) && fe.Field == "env" }},
		"env at all":  {Job{ID: id, Spec: job.Spec{Argv: []string{"sleep", "1"}, Env: map[string]string{"A": "1"}}}, func(err error) bool { return errors.Is(err, ErrNotAllowed) }},
		"not a shell": {Job{ID: id, Spec: job.Spec{Argv: []string{"sleep", "1;ls"}}}, func(err error) bool { return errors.Is(err, ErrNotAllowed) }},
	} {
		if err := h.Start(c.job); err == nil || !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	entries, err := os.ReadDir(h.cfg.Dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != workDir {
		t.Errorf("left %v, %v", entries, err)
	}
	if err := h.Start(Job{ID: id, Generation: 1, Spec: job.Spec{Argv: []string{"sleep", "1000"}}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(Job{ID: id, Generation: 2, Spec: job.Spec{Argv: []string{"sleep", "1000"}}}); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	if err := h.Stop(id, 2, 0); !errors.Is(err, rota.ErrNotFound) {
		t.Errorf("stop of none: %v", err)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	stubborn := `trap '' TERM; echo up; while :; do sleep 0.01; done`
	for _, c := range []struct {
		name   string
		spec   func(*job.Spec)
		act    func(h *host) error
		state  job.State
		signal string
		why    string
	}{
		{"timeout", func(s *job.Spec) { s.Timeout = 20 * time.Millisecond }, nil, job.TimedOut, "terminated", ""},
		{"stop", nil, func(h *host) error { return h.Stop(id, 1, 0) }, job.Stopped, "terminated", ""},
		{"stop of a stubborn one", func(s *job.Spec) { *s = sh(stubborn) }, func(h *host) error { return h.Stop(id, 1, 10*time.Millisecond) }, job.Stopped, "killed", ""},
		{"death", func(*job.Spec) {}, func(h *host) error { h.Die(); return nil }, job.Lost, "killed", "it had to end at once"},
		{"fence", func(s *job.Spec) { s.Rerun = true }, func(h *host) error { h.Fence(); return nil }, job.Lost, "killed", "it could not trust its lease"},
		{"close", nil, func(h *host) error { h.Close(context.Background()); return nil }, job.Stopped, "terminated", ""},
		{"a signal of its own", func(s *job.Spec) { *s = sh("kill -9 $$") }, nil, job.Failed, "killed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, Config{})
			s := sh("sleep 1000")
			if c.spec != nil {
				c.spec(&s)
			}
			if err := h.Start(Job{ID: id, Generation: 1, Spec: s}); err != nil {
				t.Fatal(err)
			}
			h.next(t, job.Running)
			if strings.HasPrefix(s.Argv[len(s.Argv)-1], "trap") { // not before it is stubborn
				log, err := h.Output(id, 1)
				if err != nil {
					t.Fatal(err)
				}
				r, err := log.Reader(0, true)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.Next(t.Context()); err != nil {
					t.Fatal(err)
				}
				_ = r.Close()
			}
			if c.act != nil {
				if err := c.act(h); err != nil {
					t.Fatal(err)
				}
			}
			if st := h.next(t, c.state); st.Result.Signal != c.signal || st.Result.ExitCode != -1 || st.Result.Error != c.why {
				t.Errorf("got %+v", st.Result)
			}
		})
	}
}

// TestLastOutput: what failed says what it wrote last, of standard error if it wrote there;
// what went well or was stopped does not.
func TestLastOutput(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		state  job.State
		last   string
	}{
		"standard error": {"echo out; echo boom >&2; exit 3", job.Failed, "boom"},
		"output alone":   {"echo one; echo two; exit 3", job.Failed, "one\ntwo"},
		"much":           {"seq 10000; echo the end; exit 1", job.Failed, "the end"},
		"nothing":        {"exit 3", job.Failed, ""},
		"it went well":   {"echo fine >&2", job.Succeeded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, Config{})
			if err := h.Start(Job{ID: id, Generation: 1, Spec: sh(c.script)}); err != nil {
				t.Fatal(err)
			}
			h.next(t, job.Running)
			if st := h.next(t, c.state); len(st.Last) > 512 || !strings.HasSuffix(st.Last, c.last) || c.last == "" && st.Last != "" || strings.Contains(st.Last, "out") {
				t.Errorf("%q", st.Last)
			}
		})
	}
}

func TestFenceLeavesOthers(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{})
	if err := h.Start(Job{ID: id, Generation: 1, Spec: sh("sleep 1000")}); err != nil {
		t.Fatal(err)
	}
	h.next(t, job.Running)
	h.Fence()
	if h.Running() != 1 {
		t.Error("a job that asked for nothing was killed")
	}
	h.Close(context.Background())
	if err := h.Start(Job{ID: id, Generation: 2, Spec: sh("true")}); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// TestRestart has a second runner on the directory of the first.
// TestDieForGood: who hears of the end of a job may give it back at once, to this
// very worker. It must not begin once more beside its next attempt.
func TestDieForGood(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{})
	for g := range rota.Generation(3) {
		if err := h.Start(Job{ID: id, Generation: 1 + g, Spec: sh("exec sleep 1000")}); err != nil {
			t.Fatal(err)
		}
		h.next(t, job.Running)
	}
	refused := make(chan error, 3)
	go func() {
		for range 3 {
			s := <-h.events
			refused <- h.Start(Job{ID: s.ID, Generation: s.Generation + 10, Spec: sh("exec sleep 1000")})
		}
	}()
	h.Die()
	for range 3 {
		if err := <-refused; !errors.Is(err, ErrClosed) {
			t.Errorf("a job that was given back: %v, want %v", err, ErrClosed)
		}
	}
	if n := h.Running(); n != 0 {
		t.Errorf("%d run", n)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHost(t, Config{Dir: dir})
	for g := range rota.Generation(3) {
		if err := h.Start(Job{ID: id, Generation: g + 1, Spec: sh(fmt.Sprintf("echo run %d; exit %d", g+1, g))}); err != nil {
			t.Fatal(err)
		}
		h.next(t, job.Running)
		<-h.events
	}
	h.Told(id, 1)
	if n := len(h.Untold()); n != 2 {
		t.Errorf("%d untold", n)
	}
	h.Close(t.Context())
	// The third was running, as far as the disk tells, and its output is torn.
	third := h.path(key{id, 3})
	if err := os.Remove(filepath.Join(third, resultFile)); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(third, "*.out"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	f, err := os.OpenFile(segments[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("torn"); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()

	again := newHost(t, Config{Dir: dir})
	untold := again.Untold()
	if len(untold) != 1 || untold[0].Generation != 2 || untold[0].State != job.Failed || untold[0].Result.ExitCode != 1 {
		t.Errorf("untold: %+v", untold)
	}
	for g := range rota.Generation(3) {
		if got, want := again.output(t, g+1), fmt.Sprintf("stdout:run %d\n", g+1); got != want {
			t.Errorf("output of %d: %q", g+1, got)
		}
	}
	if st, ok := again.Status(id, 3); !ok || st.State != job.Lost {
		t.Errorf("the one that was running: %+v, %v", st, ok)
	}
	if st, ok := again.Status(id, 1); !ok || st.State != job.Succeeded {
		t.Errorf("the one that was told of: %+v, %v", st, ok)
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHost(t, Config{Dir: dir, MaxEnded: 10})
	for g := range rota.Generation(25) {
		if err := h.Start(Job{ID: id, Generation: g + 1, Spec: sh("echo")}); err != nil {
			t.Fatal(err)
		}
		h.next(t, job.Running)
		h.next(t, job.Succeeded)
		if n := len(h.Untold()); n > 10 {
			t.Fatalf("%d kept", n)
		}
	}
	if _, ok := h.Status(id, 25); !ok {
		t.Error("the newest is gone")
	}
	h.Close(t.Context())
	entries, err := os.ReadDir(filepath.Join(dir, id))
	if err != nil || len(entries) > 10 || len(entries) < 9 {
		t.Errorf("%d left on disk, %v", len(entries), err)
	}
	// Those whose time is over are gone when the worker starts again.
	h = newHost(t, Config{Dir: dir})
	s := sh("true")
	s.Keep = time.Nanosecond
	if err := h.Start(Job{ID: id, Generation: 99, Spec: s}); err != nil {
		t.Fatal(err)
	}
	h.next(t, job.Running)
	h.next(t, job.Succeeded)
	h.Close(t.Context())
	h = newHost(t, Config{Dir: dir})
	if _, ok := h.Status(id, 99); ok {
		t.Error("kept past its time")
	}
	h.Close(t.Context())
	if _, err := os.Stat(h.path(key{id, 99})); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("on disk: %v", err)
	}
}

// TestTotalOutput has jobs whose outputs together are too much: the newest are
// kept, with the end of each job, and another runner goes on with the same bound.
func TestTotalOutput(t *testing.T) {
	t.Parallel()
	const size, most = 400_000, 1 << 20
	dir := t.TempDir()
	run := func(h *host, g rota.Generation) {
		t.Helper()
		s := sh(fmt.Sprintf("head -c %d /dev/zero", size))
		if err := h.Start(Job{ID: id, Generation: g, Spec: s}); err != nil {
			t.Fatal(err)
		}
		h.next(t, job.Running)
		h.next(t, job.Succeeded)
	}
	check := func(h *host, newest rota.Generation) {
		t.Helper()
		for g := range newest {
			g++
			if st, ok := h.Status(id, g); !ok || st.State != job.Succeeded {
				t.Errorf("attempt %d: %+v, %v", g, st, ok)
			}
			log, err := h.Output(id, g)
			if err != nil {
				t.Fatal(err)
			}
			r, err := log.Reader(0, false)
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.Next(t.Context())
			_ = r.Close()
			if want := g+1 < newest; err != nil || (c.Missed == size) != want {
				t.Errorf("attempt %d of %d: missed %d, %v", g, newest, c.Missed, err)
			}
		}
	}
	h := newHost(t, Config{Dir: dir, MaxOutput: 64 << 20})
	for g := range rota.Generation(5) {
		run(h, g+1)
	}
	h.Close(t.Context())
	h = newHost(t, Config{Dir: dir, MaxOutput: most})
	check(h, 5)
	for g := range rota.Generation(5) {
		run(h, 6+g)
		check(h, 6+g)
	}
	if n := len(h.Untold()); n != 10 {
		t.Errorf("%d ends are to be told, not 10", n)
	}
	var bytes int64
	files, err := filepath.Glob(filepath.Join(dir, id, "*", "*.out"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err == nil {
			bytes += fi.Size()
		}
	}
	if bytes < 2*size || bytes > most {
		t.Errorf("%d bytes in %d files", bytes, len(files))
	}
	var fe *rota.FieldError
	if _, err := New(Config{Dir: t.TempDir(), MaxOutput: -1}); !errors.As(err, &fe) || fe.Field != "max_total" {
		t.Errorf("a bound of -1: %v", err)
	}
}

// TestBackPressure has a job that writes without end: it neither grows beyond
// its bound nor holds anything up.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{Output: output.Options{MaxBytes: output.MinMaxBytes}})
	if err := h.Start(Job{ID: id, Generation: 1, Spec: job.Spec{Argv: []string{"yes", strings.Repeat("y", 1000)}}}); err != nil {
		t.Fatal(err)
	}
	h.next(t, job.Running)
	log, err := h.Output(id, 1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := log.Reader(20*output.MinMaxBytes, true) // waits until so much was written
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := r.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	if log.Disk() > output.MinMaxBytes {
		t.Errorf("takes %d bytes", log.Disk())
	}
	if err := h.Stop(id, 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	h.next(t, job.Stopped)
}
