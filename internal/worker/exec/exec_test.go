package exec_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/test/memo"
	"github.com/rota-project/rota/internal/worker/exec"
	"github.com/rota-project/rota/worker"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, command := range []string{
		"", "  ", "'a", "''", "a {{.Nothing}}", "a {{.ID", "a {{.ID.X}}", "a {{.}}{{.Nope}}",
		// The task would choose the program.
		"{{.ID}} hi", "/opt/{{.ID}} hi", "{ID:word} hi", "x{ID:word} hi", "'{{printf \"%s\" .Key}}'",
		// The task would choose the option.
		"a -{{.ID}}", "a --{{.Group}}", "a -x{{.Key}}", "a '-{{printf \"%s\" .ID}}'", "a -{ID:word}", "a --{ID:text}", "a -{{.Index}}{{.ID}}", "a '-{{slice .ID 1}}'",
		"a {Nope:word}", "a {ID:nope}", "a {ID:word...}", "a {ID", "a {:word}", "a {ID:int(9..1)}",
	} {
		_, err := exec.New(exec.Config{Kind: "k", Command: command})
		var fe *rota.FieldError
		if !errors.As(err, &fe) || fe.Field != "exec.k" {
			t.Errorf("%q: %v", command, err)
		}
	}
}

// TestWords: what tasks may put into the words of a command, and what they may
// not. Whatever is refused is refused for that task, with the reason.
func TestWords(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	for _, name := range []string{filepath.Join(dir, "in"), filepath.Join(dir, "-in"), filepath.Join(outside, "out")} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	hostile := []string{"-rf", "--help", "-", "--", "..", ".", "../x", "/etc/passwd", "etc/passwd", "a/../../b", "a b", "$(id)", "a;id", "a\nb", "`id`", "a|b", "é"}
	for _, word := range []string{
		"{{.ID}}", "--symbol={{.ID}}", "/data/{{.ID}}.csv", "{{.Index}}{{.ID}}", `{{printf "%s%s" .ID .Group}}`, "{{with .ID}}{{.}}{{end}}",
		"{ID:word}", "--symbol={ID:word}", "{ID:one(BTC|ETH)}",
	} {
		fn, err := exec.Argv(exec.Config{Kind: "k", Command: fmt.Sprintf("run '%s'", word)})
		if err != nil {
			t.Fatalf("%s: %v", word, err)
		}
		if argv, err := fn(exec.Fields{ID: "BTC", Index: 1}); err != nil || !strings.Contains(argv[1], "BTC") {
			t.Errorf("%s: BTC gives %q, %v", word, argv, err)
		}
		for _, id := range hostile {
			argv, err := fn(exec.Fields{ID: id})
			if err == nil || !strings.Contains(err.Error(), "must be") || len(err.Error()) > 400 {
				t.Errorf("%s: %q gives %q, %v", word, id, argv, err)
			}
		}
	}
	for _, c := range []struct {
		word   string
		f      exec.Fields
		want   string // empty: refused
		refuse string
	}{
		{word: "{{.ID}}{{.Key}}", f: exec.Fields{ID: ".", Key: "."}, refuse: "must be"},
		{word: "{{.Group}}/data", f: exec.Fields{}, refuse: "must not begin with /"},
		{word: "{{.Group}}-rf", f: exec.Fields{}, refuse: "must not begin with -"},
		{word: "{{.Group}}-rf", f: exec.Fields{Group: "a"}, want: "a-rf"},
		{word: `{{slice .ID 1}}`, f: exec.Fields{ID: "a-rf"}, refuse: "must not begin with -"},
		{word: `/data/{{slice .ID 1}}/x`, f: exec.Fields{ID: "a.."}, refuse: "climb"},
		{word: `--in={{slice .ID 1}}`, f: exec.Fields{ID: "a.."}, refuse: "climb"},
		{word: `../{{.ID}}`, f: exec.Fields{ID: "a"}, want: "../a"},
		{word: "{{.Priority}}", f: exec.Fields{Priority: -5}, refuse: "must not begin with -"},
		{word: "--priority={{.Priority}}", f: exec.Fields{Priority: -5}, want: "--priority=-5"},
		{word: "{Priority:any}", f: exec.Fields{Priority: -5}, want: "-5"},
		{word: "-n{{.Index}}", f: exec.Fields{Index: 3}, want: "-n3"},
		{word: "-n{Index:int(0..9)}", f: exec.Fields{Index: 3}, want: "-n3"},
		{word: "-n{Index:int(0..9)}", f: exec.Fields{Index: 30}, refuse: "from 0 to 9"},
		{word: "{Generation:int}", f: exec.Fields{Generation: 7}, want: "7"},
		{word: "{ID:text}", f: exec.Fields{ID: "BTC/USD; rm"}, want: "BTC/USD; rm"},
		{word: "{ID:text}", f: exec.Fields{ID: "-rf"}, refuse: "begin with -"},
		{word: "--id={ID:any}", f: exec.Fields{ID: "-rf"}, want: "--id=-rf"},
		{word: "{ID:any}", f: exec.Fields{ID: "-rf"}, want: "-rf"},
		{word: "{ID:path}", f: exec.Fields{ID: "in"}, want: filepath.Join(dir, "in")},
		{word: "--in={ID:path}", f: exec.Fields{ID: "in"}, want: "--in=" + filepath.Join(dir, "in")},
		{word: "{ID:path}", f: exec.Fields{ID: "-in"}, refuse: "path"},
		{word: "{ID:path}", f: exec.Fields{ID: "link/out"}, refuse: "outside"},
		{word: "{ID:path}", f: exec.Fields{ID: filepath.Join(outside, "out")}, refuse: "outside"},
		{word: "{ID:path}", f: exec.Fields{ID: "../" + filepath.Base(outside) + "/out"}, refuse: "outside"},
		{word: `${x:-1}`, want: "${x:-1}"},
	} {
		fn, err := exec.Argv(exec.Config{Kind: "k", Command: fmt.Sprintf("run '%s'", c.word), Dirs: []string{dir}})
		if err != nil {
			t.Fatalf("%s: %v", c.word, err)
		}
		argv, err := fn(c.f)
		switch {
		case c.refuse != "":
			if err == nil || !strings.Contains(err.Error(), c.refuse) {
				t.Errorf("%s of %+v gives %q, %v; want an error with %q", c.word, c.f, argv, err, c.refuse)
			}
		case err != nil || argv[1] != c.want:
			t.Errorf("%s of %+v gives %q, %v; want %q", c.word, c.f, argv, err, c.want)
		}
	}
}

// FuzzWords: no task's text becomes an option, another directory or another word.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"-rf", "a/../b", "..", "BTC"} {
		f.Add(s, s)
	}
	fn, err := exec.Argv(exec.Config{Kind: "k", Command: "run {{.ID}} /data/{{.ID}}{{.Key}} {{.Key}}{{.ID}} --x={{.Key}}"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, key string) {
		argv, err := fn(exec.Fields{ID: id, Key: key})
		if err != nil {
			return
		}
		if len(argv) != 5 || argv[0] != "run" || strings.HasPrefix(argv[1], "-") || strings.HasPrefix(argv[3], "-") ||
			!strings.HasPrefix(filepath.Clean(argv[2])+"/", "/data/") || strings.ContainsAny(strings.Join(argv[1:], ""), " \x00\n;$`'\"") {
			t.Errorf("%q, %q: %q", id, key, argv)
		}
	})
}

// TestRefusedTask: the reason is what the task's state says.
func TestRefusedTask(t *testing.T) {
	t.Parallel()
	a := run(t, exec.Config{Command: `/bin/echo {{.ID}}`}, &rotav1.TaskSpec{Id: "--help"}, func(p *player) { p.until(failed) })
	for _, want := range []string{"exec.k", `"--help"`, "must not begin with -", "{ID:text}"} {
		if !strings.Contains(a.GetError(), want) {
			t.Errorf("error %q lacks %q", a.GetError(), want)
		}
	}
}

// TestTraceOfAProcess: the first process under a grant finds the span that began it, one that
// is started anew does not, and what is configured comes before.
func TestTraceOfAProcess(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for configured, want := range map[string]string{"": parent, "TRACEPARENT=mine": "mine"} {
		out := &buffer{}
		c := exec.Config{Command: `/bin/sh -c 'echo up $ROTA_KEY within $TRACEPARENT.; exec sleep 1000'`, Output: out.of}
		again := "."
		if configured != "" {
			c.Env, again = []string{configured}, "mine."
		}
		s := &rotav1.TaskSpec{Id: "a", Key: "one"}
		runWithin(t, c, &rotav1.TaskSpec{Id: "a", Key: "one"}, parent, func(p *player) {
			out.await(t, "up one within "+want+".")
			s.Key = "two"
			p.declare(s)
			out.await(t, "up two within "+again)
		})
	}
}

// buffer bears what several processes write.
type buffer struct {
	memo.Buffer
}

func (b *buffer) Close() error { return nil }

// of is an exec.Config.Output that puts everything into one buffer.
func (b *buffer) of(exec.Fields, string) io.WriteCloser { return b }

// run has a worker run task by a command until f returns, and answers what the
// worker said of it last.
func run(t *testing.T, c exec.Config, task *rotav1.TaskSpec, f func(*player)) *rotav1.Ack {
	t.Helper()
	return runWithin(t, c, task, "", f)
}

// runWithin is run under a grant of a pass with this span.
func runWithin(t *testing.T, c exec.Config, task *rotav1.TaskSpec, parent string, f func(*player)) *rotav1.Ack {
	t.Helper()
	c.Kind, task.Kind, task.Mode = "k", "k", "exclusive"
	fn, err := exec.New(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{task: task, parent: parent, news: make(chan struct{}, 1000)}
	w, err := worker.New(worker.Config{Name: "w", Connect: p.connect})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("k", fn); err != nil {
		t.Fatal(err)
	}
	w.Start()
	f(p)
	if err := w.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	return p.last()
}

// player is a scheduler that grants one task and answers renewals.
type player struct {
	task   *rotav1.TaskSpec
	parent string
	news   chan struct{}
	mu     sync.Mutex
	ack    *rotav1.Ack
	down   chan *rotav1.ToWorker
	ctx    context.Context
}

func (p *player) connect(ctx context.Context, _ []string) (worker.Stream, error) {
	p.ctx, p.down = ctx, make(chan *rotav1.ToWorker, 100)
	return p, nil
}

func (p *player) last() *rotav1.Ack {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ack
}

// until waits for an acknowledgement.
func (p *player) until(what func(*rotav1.Ack) bool) {
	for a := p.last(); a == nil || !what(a); a = p.last() {
		<-p.news
	}
}

func (p *player) Recv() (*rotav1.ToWorker, error) {
	select {
	case m := <-p.down:
		return m, nil
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

func (p *player) Send(m *rotav1.FromWorker) error {
	switch b := m.GetBody().(type) {
	case *rotav1.FromWorker_Hello:
		p.down <- &rotav1.ToWorker{Body: &rotav1.ToWorker_Welcome{Welcome: &rotav1.Welcome{Session: 1, TtlMs: 60_000, Seq: b.Hello.GetSeq()}}}
		p.down <- &rotav1.ToWorker{Body: &rotav1.ToWorker_Grants{Grants: &rotav1.Grants{
			Full: true, Grant: []*rotav1.GrantItem{{Task: p.task, Traceparent: p.parent, Index: 2, Generation: 7}},
		}}}
	case *rotav1.FromWorker_Acks:
		p.mu.Lock()
		for _, a := range b.Acks.GetAcks() {
			p.ack = a
		}
		p.mu.Unlock()
		p.news <- struct{}{}
	case *rotav1.FromWorker_Leave:
		if b.Leave.GetDone() {
			p.down <- &rotav1.ToWorker{Body: &rotav1.ToWorker_Goodbye{Goodbye: &rotav1.Goodbye{Left: true}}}
		}
	}
	return nil
}

func failed(a *rotav1.Ack) bool { return a.GetError() != "" }

// TestWhatItIsGiven: arguments, environment, standard input, a file.
func TestWhatItIsGiven(t *testing.T) {
	t.Parallel()
	out := &buffer{}
	script := `echo "args $1 $2"; env | sort; cat; echo; cat "$3"; echo " $3"; exit 3`
	a := run(t, exec.Config{
		Command: fmt.Sprintf(`/bin/sh -c '%s' sh {ID:text}-2 "{Group:text} 2" {{.PayloadFile}}`, script),
		Env:     []string{"EXTRA=1"}, Output: out.of,
	}, &rotav1.TaskSpec{Id: "a;b", Group: "$(g)", Key: "y", Weight: 2, Payload: []byte("pay\nload")}, func(p *player) { p.until(failed) })
	got := out.String()
	for _, want := range []string{
		"args a;b-2 $(g) 2\n", "EXTRA=1\n", "ROTA_TASK=a;b\n", "ROTA_INDEX=2\n", "ROTA_KIND=k\n", "ROTA_GROUP=$(g)\n", "ROTA_KEY=y\n",
		"ROTA_GENERATION=7\n", "pay\nload\npay\nload",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("output lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "HOME=") {
		t.Errorf("the environment is inherited:\n%s", got)
	}
	if !strings.Contains(a.GetError(), "exit status 3") {
		t.Errorf("it says %v", a)
	}
	_, file, _ := strings.Cut(got, "pay\nload\npay\nload ")
	file, _, _ = strings.Cut(file, "\n")
	if _, err := os.Stat(file); !filepath.IsAbs(file) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the payload's file %q: %v", file, err)
	}
}

// TestError: the error's text ends with the last lines that it wrote to stderr. A process
// that ended by itself has its exit status beside it.
func TestError(t *testing.T) {
	t.Parallel()
	a := run(t, exec.Config{Command: `/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do printf "%0100d\n" $i >&2; done; echo the end >&2; kill -9 $$'`},
		&rotav1.TaskSpec{Id: "a"}, func(p *player) { p.until(failed) })
	if e := a.GetError(); !strings.Contains(e, "signal: killed") || !strings.HasSuffix(e, "the end") || len(e) > 2<<10 || strings.Contains(e, "0001\n") || a.ExitCode != nil {
		t.Errorf("error %q, exit status %d", e, a.GetExitCode())
	}
	a = run(t, exec.Config{Command: `/bin/sh -c 'echo all that it says; exit 1'`}, &rotav1.TaskSpec{Id: "a"}, func(p *player) { p.until(failed) })
	if e := a.GetError(); !strings.HasSuffix(e, ": all that it says") || a.ExitCode == nil || a.GetExitCode() != 1 {
		t.Errorf("error %q, exit status %d", e, a.GetExitCode())
	}
	a = run(t, exec.Config{Command: "/bin/true"}, &rotav1.TaskSpec{Id: "a"}, func(p *player) { p.until(failed) })
	if a.ExitCode == nil || a.GetExitCode() != 0 {
		t.Errorf("error %q, exit status %v", a.GetError(), a.ExitCode)
	}
	a = run(t, exec.Config{Command: "/does/not/exist"}, &rotav1.TaskSpec{Id: "a"}, func(p *player) { p.until(failed) })
	if !strings.Contains(a.GetError(), "start /does/not/exist") || a.ExitCode != nil {
		t.Errorf("error %q", a.GetError())
	}
	a = run(t, exec.Config{Command: `/bin/sh -c 'printf "\377\376" >&2; exit 1'`}, &rotav1.TaskSpec{Id: "a"}, func(p *player) { p.until(failed) })
	if !strings.Contains(a.GetError(), "\uFFFD") {
		t.Errorf("error %q", a.GetError())
	}
}

// TestStops: SIGTERM, then SIGKILL after the grace, and the children too.
func TestStops(t *testing.T) {
	t.Parallel()
	out := &buffer{}
	a := run(t, exec.Config{Command: `/bin/sh -c 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.05; done'`, Output: out.of},
		&rotav1.TaskSpec{Id: "a"}, func(p *player) {
			for !strings.Contains(out.String(), "up") {
				<-time.After(time.Millisecond)
			}
		})
	if a.GetState() != "stopped" || a.GetError() != "" || !strings.Contains(out.String(), "bye") {
		t.Errorf("%v, %q", a, out)
	}
	out = &buffer{}
	a = run(t, exec.Config{
		Command: `/bin/sh -c 'trap "" TERM; (trap "" TERM; while :; do sleep 0.05; done) & echo $! up; while :; do sleep 0.05; done'`,
		Output:  out.of, Grace: 100 * time.Millisecond,
	}, &rotav1.TaskSpec{Id: "a"}, func(p *player) {
		for !strings.Contains(out.String(), "up") {
			<-time.After(time.Millisecond)
		}
	})
	child, _, _ := strings.Cut(out.String(), " ")
	if state, err := os.ReadFile("/proc/" + child + "/stat"); a.GetState() != "stopped" || err == nil && !strings.Contains(string(state), ") Z") {
		t.Errorf("%v; its child %s: %s", a, child, state)
	}
}
