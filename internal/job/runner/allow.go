package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/internal/process/words"
	"github.com/rota-project/rota/internal/text"
)

// ErrNotAllowed is the answer to a job that the worker's configuration does not list.
var ErrNotAllowed = errors.New("not allowed on this worker")

// notAllowedError says what was not allowed and why. It is an ErrNotAllowed.
type notAllowedError struct{ What, Why string }

func (e *notAllowedError) Error() string {
	return fmt.Sprintf("%s: %s: %v", e.What, e.Why, ErrNotAllowed)
}

// Is makes it an ErrNotAllowed.
func (e *notAllowedError) Is(target error) bool { return target == ErrNotAllowed }

// Allow is what a worker runs. The zero value allows nothing.
type Allow struct {
	// Any allows every command with every environment. Whoever may submit a job
	// then runs code as the worker's user.
	Any bool `json:"any" toml:"any" yaml:"any"`
	// Commands are tried in order; the first that matches says how the job runs.
	Commands []Command `json:"commands" toml:"commands" yaml:"commands"`
	// Dirs are the directories in and below which jobs may work and name files.
	// Empty means only a directory of the job's own, or, with Any, all.
	Dirs []string `json:"dirs" toml:"dirs" yaml:"dirs"`
	// Rules are for what Any allows.
	Rules Rules `json:"rules" toml:"rules" yaml:"rules"`
}

// Rules say how a command runs that no template describes.
type Rules struct {
	User    string         `json:"user"    toml:"user"    yaml:"user"`
	Timeout time.Duration  `json:"timeout" toml:"timeout" yaml:"timeout"`
	Limits  process.Limits `json:"limits"  toml:"limits"  yaml:"limits"`
}

// Command is an argv template: words with typed parameters, as package
// process/words has them. The last word may stand for none or more arguments. The
// first word is literal.
type Command struct {
	// Argv is the template; in a configuration file a list of words.
	Argv []string `json:"argv" toml:"argv" yaml:"argv"`
	// Env lists the variables that a job may set; "*" allows all.
	Env []string `json:"env" toml:"env" yaml:"env"`
	// User runs it: a name or a number of this machine. Empty means the worker's own.
	User string `json:"user" toml:"user" yaml:"user"`
	// Timeout bounds each run, whatever the job asks for. Zero means no bound.
	Timeout time.Duration `json:"timeout" toml:"timeout" yaml:"timeout"`
	// Limits bound each run.
	Limits process.Limits `json:"limits" toml:"limits" yaml:"limits"`
}

// policy is an Allow that was checked.
type policy struct {
	any      *command // how it runs what no template describes; nil if it does not
	commands []command
	dirs     []string // real paths
	started  string   // where the worker was started, a real path
}

type command struct {
	Command
	words []words.Word
	user  *process.User
}

// compile checks a and resolves its directories and users.
func (a Allow) compile(cgroup *process.Cgroup) (*policy, error) {
	p := &policy{}
	if wd, err := os.Getwd(); err == nil {
		p.started, _ = filepath.EvalSymlinks(wd) // without it, as if jobs may not work there
	}
	var wrong string
	if p.dirs, wrong = words.RealDirs(a.Dirs); wrong != "" {
		return nil, &rota.FieldError{Field: "jobs.dirs", Value: wrong, Want: "an absolute path of a directory that exists"}
	}
	for i, c := range a.Commands {
		field := fmt.Sprintf("jobs.commands[%d]", i)
		cc := command{Command: c}
		if len(c.Argv) == 0 || c.Argv[0] == "" || !words.IsLiteral(c.Argv[0]) {
			return nil, &rota.FieldError{Field: field + ".argv", Value: strings.Join(c.Argv, " "), Want: "a list of words, the first of them literal"}
		}
		for j, s := range c.Argv {
			w, err := words.Parse(s)
			if err != nil || w.Many && j != len(c.Argv)-1 {
				return nil, &rota.FieldError{Field: field + ".argv", Value: s, Want: words.Syntax + "; ... only at the end"}
			}
			cc.words = append(cc.words, w)
		}
		if err := cc.check(field, cgroup); err != nil {
			return nil, err
		}
		p.commands = append(p.commands, cc)
	}
	if a.Any {
		p.any = &command{Command: Command{Argv: []string{"any"}, User: a.Rules.User, Timeout: a.Rules.Timeout, Limits: a.Rules.Limits}}
		if err := p.any.check("jobs.rules", cgroup); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// check looks at how the command is to run, and finds its user.
func (c *command) check(field string, cgroup *process.Cgroup) error {
	if c.User != "" {
		u, err := process.LookupUser(c.User)
		if err != nil {
			return &rota.FieldError{Field: field + ".user", Value: c.User, Want: "a user of this machine"}
		}
		c.user = u
	}
	if c.Timeout < 0 {
		return &rota.FieldError{Field: field + ".timeout", Value: c.Timeout.String(), Want: "zero or more"}
	}
	if err := c.Limits.Possible(cgroup, c.user); err != nil {
		var fe *rota.FieldError
		if errors.As(err, &fe) {
			return &rota.FieldError{Field: field + "." + fe.Field, Value: fe.Value, Want: fe.Want}
		}
		return err
	}
	return nil
}

// decision is how an allowed job runs.
type decision struct {
	argv    []string
	dir     string // empty: one of its own
	user    *process.User
	limits  process.Limits
	timeout time.Duration
}

// decide says how the job runs, or why it does not: a *notAllowedError.
func (p *policy) decide(s job.Spec) (decision, error) {
	dir, err := p.dir(s.Dir)
	if err != nil {
		return decision{}, err
	}
	var nearest error
	for _, c := range p.commands {
		argv, err := c.match(s.Argv, dir, p.dirs)
		if err != nil {
			if c.Argv[0] == s.Argv[0] {
				nearest = err
			}
			continue
		}
		for k := range s.Env {
			if !slices.Contains(c.Env, k) && !slices.Contains(c.Env, "*") {
				return decision{}, &notAllowedError{"env " + text.Clip(k, text.Short), "not allowed for this command"}
			}
		}
		return c.decision(argv, dir, s), nil
	}
	if p.any != nil {
		return p.any.decision(s.Argv, dir, s), nil
	}
	if nearest != nil {
		return decision{}, nearest
	}
	return decision{}, &notAllowedError{"command " + text.Clip(s.Argv[0], text.Short), "no --job of the worker allows it"}
}

func (c *command) decision(argv []string, dir string, s job.Spec) decision {
	d := decision{argv: argv, dir: dir, user: c.user, limits: c.Limits, timeout: s.Timeout}
	if c.Timeout > 0 && (d.timeout == 0 || d.timeout > c.Timeout) {
		d.timeout = c.Timeout
	}
	return d
}

func (p *policy) dir(dir string) (string, error) {
	if dir == job.WorkerDir {
		if p.any != nil && len(p.dirs) == 0 {
			return p.started, nil
		}
		if below, err := words.Below("dir", p.started, p.dirs); err == nil {
			return below, nil
		}
		dir = ""
	}
	if dir == "" {
		if len(p.dirs) > 0 {
			return p.dirs[0], nil
		}
		return "", nil
	}
	if !filepath.IsAbs(dir) {
		if len(p.dirs) == 0 {
			return "", &notAllowedError{"dir " + text.Clip(dir, text.Short), "a relative path needs a directory of --job-dirs"}
		}
		dir = filepath.Join(p.dirs[0], dir)
	}
	if p.any != nil && len(p.dirs) == 0 {
		return filepath.Clean(dir), nil
	}
	resolved, err := words.Below("dir", dir, p.dirs)
	return resolved, notAllowed(err)
}

// notAllowed is a refusal of package words as this package's error.
func notAllowed(err error) error {
	var r *words.RefusalError
	if errors.As(err, &r) {
		return &notAllowedError{r.What, r.Why}
	}
	return err
}

// match returns the argv to run, or a *notAllowedError.
func (c *command) match(argv []string, dir string, dirs []string) ([]string, error) {
	out := make([]string, 0, len(argv))
	for i, w := range c.words {
		if w.Many {
			for _, a := range argv[min(i, len(argv)):] {
				v, err := w.Accept(a, dir, dirs)
				if err != nil {
					return nil, notAllowed(err)
				}
				out = append(out, v)
			}
			return out, nil
		}
		if i >= len(argv) {
			return nil, &notAllowedError{"command " + text.Clip(argv[0], text.Short), "argument " + w.String() + " is missing"}
		}
		v, err := w.Accept(argv[i], dir, dirs)
		if err != nil {
			return nil, notAllowed(err)
		}
		out = append(out, v)
	}
	if len(argv) > len(c.words) {
		return nil, &notAllowedError{"command " + text.Clip(argv[0], text.Short), fmt.Sprintf("more than %d arguments", len(c.words)-1)}
	}
	return out, nil
}
