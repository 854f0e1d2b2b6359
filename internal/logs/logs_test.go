package logs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/rota-project/rota/internal/logs"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	if os.Getenv("ROTA_TEST_BROKEN_PIPE") != "" {
		brokenPipe()
	}
	goleak.VerifyTestMain(m)
}

// gate is a destination that takes nothing until it is opened.
type gate struct {
	open chan struct{}
	mu   sync.Mutex
	b    bytes.Buffer
	err  error
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return 0, g.err
	}
	return g.b.Write(p)
}

// TestNobodyReads: a reader that stands still holds nobody up; what did not fit
// is counted, and told of before the next line.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := logs.NewWriter(g, 100, nil)
		line := strings.Repeat("x", 9) + "\n"
		for range 50 {
			_, _ = io.WriteString(w, line)
			synctest.Wait() // the first is on its way, and stuck
		}
		if w.Flush(time.Second) {
			t.Error("flushed, with nobody reading")
		}
		if got := w.Dropped(); got != 39 { // one is on its way, ten wait
			t.Errorf("%d dropped", got)
		}
		close(g.open)
		if !w.Flush(time.Second) {
			t.Error("not flushed")
		}
		_, _ = io.WriteString(w, "next\n")
		w.Flush(time.Second)
		want := strings.Repeat(line, 11) + "39 log lines dropped: nobody read them in time\nnext\n"
		if got := g.b.String(); got != want {
			t.Errorf("wrote %q", got)
		}
	})
}

// TestHalf: what others write leaves room for the process's own lines.
func TestHalf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := logs.NewWriter(g, 100, nil)
		_, _ = io.WriteString(w, "first\n")
		synctest.Wait()
		for range 50 {
			_, _ = io.WriteString(w.Half(), "flood....\n")
		}
		before := w.Dropped()
		_, _ = io.WriteString(w, "own\n")
		if before != 45 || w.Dropped() != before {
			t.Errorf("%d, then %d dropped", before, w.Dropped())
		}
		close(g.open)
		w.Flush(time.Second)
		if !strings.HasSuffix(g.b.String(), "own\n") {
			t.Errorf("wrote %q", g.b.String())
		}
	})
}

// TestErrors: a destination that fails loses lines, not the process, and is
// tried again.
func TestErrors(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{}), err: errors.New("no space left")}
	close(g.open)
	w := logs.NewWriter(g, 0, nil)
	_, _ = io.WriteString(w, "a\n")
	w.Flush(time.Minute)
	g.mu.Lock()
	g.err = nil
	g.mu.Unlock()
	_, _ = io.WriteString(w, "b\n")
	w.Flush(time.Minute)
	if got := g.b.String(); got != "1 log lines dropped: nobody read them in time\nb\n" {
		t.Errorf("wrote %q", got)
	}
}

// brokenPipe writes to a standard error whose reader is gone.
func brokenPipe() {
	logs.OutlivePipes()
	w := logs.NewWriter(os.Stderr, 0, nil)
	for n := range 3 {
		_, _ = fmt.Fprintln(w, "line", n)
		w.Flush(time.Minute)
	}
	if err := exec.Command("/bin/sh", "-c", "kill -PIPE $$").Run(); err == nil {
		os.Exit(3) // the signal must not be ignored in what is started
	}
	os.Exit(int(w.Dropped()))
}

// TestBrokenPipe: the process lives on, and its children die of the signal as
// everywhere.
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "ROTA_TEST_BROKEN_PIPE=1")
	cmd.Stderr = w
	err = cmd.Run()
	_ = w.Close()
	// The notice of each loss is lost in its turn.
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() < 4 {
		t.Errorf("ended with %v", err)
	}
}

// TestLines: however a text is cut into writes, the lines are the same, whole,
// and none of their characters is cut.
func TestLines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.StringMatching(`[a-zé日 ]{0,12}`)).Draw(t, "lines")
		text := strings.Join(want, "\n")
		if len(want) > 0 {
			text += rapid.SampledFrom([]string{"", "\n"}).Draw(t, "end")
		}
		want = strings.Split(text, "\n")
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		var got []string
		l := logs.NewLines(func(s string) { got = append(got, s) })
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			_, _ = io.WriteString(l, rest[:n])
			rest = rest[n:]
		}
		_ = l.Close()
		if !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

// TestLongLines: memory is bounded, nothing is lost.
func TestLongLines(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("é", 3*logs.MaxLine)
	var got []string
	l := logs.NewLines(func(s string) { got = append(got, s) })
	_, _ = io.WriteString(l, "x"+text+"\r\nend")
	_ = l.Close()
	if len(got) != 8 || got[len(got)-1] != "end" || strings.Join(got[:7], "") != "x"+text {
		t.Errorf("%d pieces", len(got))
	}
	for _, s := range got {
		if len(s) > logs.MaxLine || !utf8.ValidString(s) {
			t.Errorf("piece of %d bytes: %q...", len(s), s[:1])
		}
	}
}

// TestDurations: durations can be read in both formats, within groups too.
func TestDurations(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"json": `"again_in":"1.5s","g":{"lease":"5s"}`, "text": "again_in=1.5s g.lease=5s"} {
		var b bytes.Buffer
		logs.Logger(&b, slog.LevelInfo, format).With("again_in", 1500*time.Millisecond).WithGroup("g").Warn("x", "lease", 5*time.Second)
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s: %s", format, b.String())
		}
	}
}

// TestKeep: the last whole lines are kept, those that nobody read in time included, and
// not what others write.
func TestKeep(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{})}
	w := logs.NewWriter(g, 100, nil)
	_, _ = io.WriteString(w, "before\n")
	if got := w.Last(); len(got) > 0 {
		t.Errorf("%q is kept, and nobody has asked for it", got)
	}
	w.Keep(50)
	for i := range 1000 {
		_, _ = fmt.Fprintf(w, "line %03d\n", i)
		_, _ = io.WriteString(w.Half(), "other\n")
		if got := w.Last(); len(got) > 50 || !bytes.HasSuffix(got, fmt.Appendf(nil, "line %03d\n", i)) {
			t.Fatalf("%q is kept after line %d", got, i)
		}
	}
	if got, want := string(w.Last()), "line 995\nline 996\nline 997\nline 998\nline 999\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	_, _ = io.WriteString(w, strings.Repeat("x", 200)+"\n")
	if got := w.Last(); len(got) > 0 {
		t.Errorf("%q: a line longer than all that is kept", got)
	}
	close(g.open)
	w.Flush(time.Minute)
}
