package runner

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/process"
)

// tree makes dir/in/script.sh, dir/out/secret, and links from in to out.
func tree(t *testing.T) (in, out string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in, out = filepath.Join(root, "in"), filepath.Join(root, "out")
	for _, d := range []string{in, filepath.Join(in, "sub"), out} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{filepath.Join(in, "script.sh"), filepath.Join(in, "sub", "b.sh"), filepath.Join(out, "secret")} {
		if err := os.WriteFile(f, []byte("echo ran"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range [][2]string{{out, "dirlink"}, {filepath.Join(out, "secret"), "filelink"}, {"script.sh", "goodlink"}} {
		if err := os.Symlink(l[0], filepath.Join(in, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	return in, out
}

func TestDecide(t *testing.T) {
	t.Parallel()
	in, out := tree(t)
	allow := Allow{
		Dirs: []string{in},
		Commands: []Command{
			{Argv: []string{"echo"}},
			{Argv: []string{"bash", "{script:path}"}, Env: []string{"LANG"}, Timeout: time.Minute},
			{Argv: []string{"cat", "{files:path...}"}},
			{Argv: []string{"count", "{n:int(1..10)}", "{any:int}"}},
			{Argv: []string{"deploy", "--to", "{where:one(staging|prod)}", "{version:word}"}, Env: []string{"*"}},
			{Argv: []string{"say", "{text:text}"}},
			{Argv: []string{"raw", "{x:any...}"}},
		},
	}
	p, err := allow.compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(in, "script.sh")
	for _, c := range []struct {
		argv, dir, env string
		want           string // the argv, or "!" and a part of the refusal
	}{
		{argv: "echo", want: "echo"},
		{argv: "echo x", want: "!more than 0 arguments"},
		{argv: "ls", want: "!command ls: no --job of the worker allows it"},
		{argv: "/bin/echo", want: "!no --job"},
		{argv: "bash script.sh", want: "bash " + script},
		{argv: "bash " + script, want: "bash " + script},
		{argv: "bash ./sub/../script.sh", want: "bash " + script},
		{argv: "bash goodlink", want: "bash " + script},
		{argv: "bash b.sh", dir: "sub", want: "bash " + filepath.Join(in, "sub", "b.sh")},
		{argv: "bash b.sh", dir: filepath.Join(in, "sub"), want: "bash " + filepath.Join(in, "sub", "b.sh")},
		{argv: "bash ../script.sh", dir: "sub", want: "bash " + script},
		{argv: "bash", want: "!script is missing"},
		{argv: "bash ", want: "!a path"},
		{argv: "bash -c", want: "!a path"},
		{argv: "bash script.sh x", want: "!more than 1"},
		{argv: "bash filelink", want: "!outside"},
		{argv: "bash dirlink/secret", want: "!outside"},
		{argv: "bash ../out/secret", want: "!outside"},
		{argv: "bash " + filepath.Join(out, "secret"), want: "!outside"},
		{argv: "bash gone.sh", want: "!not there"},
		{argv: "bash /etc/passwd", want: "!outside"},
		{argv: "bash script.sh", env: "LANG", want: "bash " + script},
		{argv: "bash script.sh", env: "LD_PRELOAD", want: "!env LD_PRELOAD"},
		{argv: "bash script.sh", env: "BASH_ENV", want: "!env BASH_ENV"},
		{argv: "echo", dir: out, want: "!dir"},
		{argv: "echo", dir: "dirlink", want: "!dir"},
		{argv: "echo", dir: "/", want: "!dir"},
		{argv: "echo", dir: "..", want: "!dir"},
		{argv: "cat", want: "cat"},
		{argv: "cat script.sh sub/b.sh", want: "cat " + script + " " + filepath.Join(in, "sub", "b.sh")},
		{argv: "cat script.sh filelink", want: "!outside"},
		{argv: "count 10 -5", want: "count 10 -5"},
		{argv: "count 11 1", want: "!from 1 to 10"},
		{argv: "count 0 1", want: "!from 1 to 10"},
		{argv: "count +1 1", want: "!from 1 to 10"},
		{argv: "count 1 99999999999999999999", want: "!whole number"},
		{argv: "count 1 1;ls", want: "!whole number"},
		{argv: "deploy --to prod v1.2", env: "ANY", want: "deploy --to prod v1.2"},
		{argv: "deploy --to mars v1.2", want: "!one of staging, prod"},
		{argv: "deploy --from prod v1", want: `!must be "--to"`},
		{argv: "deploy --to prod --force", want: "!a word"},
		{argv: "deploy --to prod a/b", want: "!a word"},
		{argv: "say $(x);`y`", want: "say $(x);`y`"},
		{argv: "say -x", want: "!begin with -"},
		{argv: "raw -x --y", want: "raw -x --y"},
	} {
		s := job.Spec{Argv: strings.Split(c.argv, " "), Dir: c.dir}
		if c.env != "" {
			s.Env = map[string]string{c.env: "1"}
		}
		d, err := p.decide(s)
		if part, refused := strings.CutPrefix(c.want, "!"); refused {
			if !errors.Is(err, ErrNotAllowed) || !strings.Contains(err.Error(), part) {
				t.Errorf("%q in %q: %q, %v; want refusal with %q", c.argv, c.dir, d.argv, err, part)
			}
			continue
		}
		if err != nil || strings.Join(d.argv, " ") != c.want {
			t.Errorf("%q in %q: %q, %v; want %q", c.argv, c.dir, d.argv, err, c.want)
		}
	}
	if d, err := p.decide(job.Spec{Argv: []string{"bash", "script.sh"}, Timeout: time.Hour}); err != nil || d.timeout != time.Minute {
		t.Errorf("timeout %v, %v", d.timeout, err)
	}
	if d, err := p.decide(job.Spec{Argv: []string{"bash", "script.sh"}, Timeout: time.Second}); err != nil || d.timeout != time.Second {
		t.Errorf("timeout %v, %v", d.timeout, err)
	}
}

func TestDecideAny(t *testing.T) {
	t.Parallel()
	in, out := tree(t)
	nothing, err := Allow{}.compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nothing.decide(job.Spec{Argv: []string{"true"}}); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("by default: %v", err)
	}
	anywhere, err := Allow{Any: true}.compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := anywhere.decide(job.Spec{Argv: []string{"x", "-y"}, Dir: out, Env: map[string]string{"LD_PRELOAD": "x"}}); err != nil || d.dir != out || !slices.Equal(d.argv, []string{"x", "-y"}) {
		t.Errorf("any: %+v, %v", d, err)
	}
	if _, err := anywhere.decide(job.Spec{Argv: []string{"x"}, Dir: "relative"}); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("relative to nothing: %v", err)
	}
	inside, err := Allow{Any: true, Dirs: []string{in}}.compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inside.decide(job.Spec{Argv: []string{"x"}, Dir: out}); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("any command, but elsewhere: %v", err)
	}
}

func TestAllowAtFault(t *testing.T) {
	t.Parallel()
	for field, a := range map[string]Allow{
		"jobs.dirs":                    {Dirs: []string{"/no/such"}},
		"jobs.dirs ":                   {Dirs: []string{"."}},
		"jobs.commands[0].argv":        {Commands: []Command{{}}},
		"jobs.commands[0].argv ":       {Commands: []Command{{Argv: []string{"{x:any}"}}}},
		"jobs.commands[1].argv":        {Commands: []Command{{Argv: []string{"a"}}, {Argv: []string{"a", "{x}"}}}},
		"jobs.commands[0].argv  ":      {Commands: []Command{{Argv: []string{"a", "{x:int(2..1)}"}}}},
		"jobs.commands[0].argv   ":     {Commands: []Command{{Argv: []string{"a", "{x:int(a..b)}"}}}},
		"jobs.commands[0].argv    ":    {Commands: []Command{{Argv: []string{"a", "{x:any...}", "b"}}}},
		"jobs.commands[0].argv     ":   {Commands: []Command{{Argv: []string{"a", "{:any}"}}}},
		"jobs.commands[0].argv      ":  {Commands: []Command{{Argv: []string{"a", "{x:path(/)}"}}}},
		"jobs.commands[0].argv       ": {Commands: []Command{{Argv: []string{"a", "{x:any"}}}},
		"jobs.commands[0].user":        {Commands: []Command{{Argv: []string{"a"}, User: "no such user"}}},
		"jobs.commands[0].timeout":     {Commands: []Command{{Argv: []string{"a"}, Timeout: -1}}},
		"jobs.commands[0].limits.cpus": {Commands: []Command{{Argv: []string{"a"}, Limits: process.Limits{CPUs: 2}}}},
	} {
		_, err := a.compile(nil)
		var fe *rota.FieldError
		if !errors.As(err, &fe) || fe.Field != strings.TrimSpace(field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

// TestPathsAreCheckedNotHeld: what a path leads to is checked before the program starts,
// which opens it by its name: whoever may write to the directory can swap it meanwhile.
func TestPathsAreCheckedNotHeld(t *testing.T) {
	t.Parallel()
	in, out := tree(t)
	p, err := Allow{Dirs: []string{in}, Commands: []Command{{Argv: []string{"cat", "{file:path}"}}}}.compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := p.decide(job.Spec{Argv: []string{"cat", "script.sh"}})
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(in, "script.sh")
	if err := errors.Join(os.Remove(script), os.Symlink(filepath.Join(out, "secret"), script)); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.CommandContext(t.Context(), d.argv[0], d.argv[1:]...).Output(); err != nil || string(text) != "secret" {
		t.Errorf("%q, %v: the file is held", text, err)
	}
	if d, err := p.decide(job.Spec{Argv: []string{"cat", "script.sh"}}); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("after the swap: %q, %v", d.argv, err)
	}
}

// TestDecideStarted wants a job that asks for the directory in which the worker
// was started to get it if jobs may work there, and relative paths to count from
// there; where an option is missing the refusal names it.
func TestDecideStarted(t *testing.T) {
	t.Parallel()
	in, out := tree(t)
	bash := []Command{{Argv: []string{"bash", "{script:path}"}}}
	for name, c := range map[string]struct {
		allow   Allow
		started string
		path    string
		dir     string
		argv    string // or "!" and a part of the refusal
	}{
		"below":         {Allow{Dirs: []string{in}, Commands: bash}, filepath.Join(in, "sub"), "b.sh", filepath.Join(in, "sub"), filepath.Join(in, "sub", "b.sh")},
		"second":        {Allow{Dirs: []string{out, in}, Commands: bash}, in, "script.sh", in, filepath.Join(in, "script.sh")},
		"elsewhere":     {Allow{Dirs: []string{in}, Commands: bash}, out, "script.sh", in, filepath.Join(in, "script.sh")},
		"no dirs":       {Allow{Commands: bash}, in, "script.sh", "", "!--job-dirs"},
		"no dirs, root": {Allow{Commands: bash}, in, filepath.Join(in, "script.sh"), "", "!--job-dirs"},
		"any":           {Allow{Any: true}, in, "script.sh", in, "script.sh"},
		"any, dirs":     {Allow{Any: true, Dirs: []string{in}}, out, "script.sh", in, "script.sh"},
		"unknown":       {Allow{Dirs: []string{in}, Commands: bash}, "", "script.sh", in, filepath.Join(in, "script.sh")},
		"no job":        {Allow{Dirs: []string{in}}, in, "script.sh", "", "!--job "},
	} {
		p, err := c.allow.compile(nil)
		if err != nil {
			t.Fatal(err)
		}
		p.started = c.started
		d, err := p.decide(job.Spec{Argv: []string{"bash", c.path}, Dir: job.WorkerDir})
		if part, refused := strings.CutPrefix(c.argv, "!"); refused {
			if !errors.Is(err, ErrNotAllowed) || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q, %v; want refusal with %q", name, d.argv, err, part)
			}
			continue
		}
		if err != nil || strings.Join(d.argv, " ") != "bash "+c.argv || d.dir != c.dir {
			t.Errorf("%s: %q in %q, %v", name, d.argv, d.dir, err)
		}
	}
}
