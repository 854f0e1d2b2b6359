package runner

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/job"
	"github.com/rota-project/rota/process"
)

// ErrNotAllowed is the answer to a job that the worker's configuration does not list.
var ErrNotAllowed = errors.New("not allowed on this worker")

// NotAllowedError says what was not allowed and why. It is an ErrNotAllowed.
type NotAllowedError struct{ What, Why string }

func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("%s: %s: %v", e.What, e.Why, ErrNotAllowed)
}

// Is makes it an ErrNotAllowed.
func (e *NotAllowedError) Is(target error) bool { return target == ErrNotAllowed }

// Allow is what a worker runs. The zero value allows nothing.
type Allow struct {
	// Any allows every command with every environment. Whoever may submit a job
	// then runs code as the worker's user.
	Any bool `json:"any" yaml:"any" toml:"any"`
	// Commands are tried in order; the first that matches says how the job runs.
	Commands []Command `json:"commands" yaml:"commands" toml:"commands"`
	// Dirs are the directories in and below which jobs may work and name files.
	// Empty means only a directory of the job's own, or, with Any, all.
	Dirs []string `json:"dirs" yaml:"dirs" toml:"dirs"`
	// Rules are for what Any allows.
	Rules Rules `json:"rules" yaml:"rules" toml:"rules"`
}

// Rules say how a command runs that no template describes.
type Rules struct {
	User    string         `json:"user" yaml:"user" toml:"user"`
	Timeout time.Duration  `json:"timeout" yaml:"timeout" toml:"timeout"`
	Limits  process.Limits `json:"limits" yaml:"limits" toml:"limits"`
}

// Command is an argv template. Each word is either literal or one parameter:
//
//	{name:int}       a whole number; {name:int(1..10)} in that range
//	{name:word}      letters, digits and ._-+@%:, not beginning with -
//	{name:path}      an existing file or directory below Dirs, links resolved
//	{name:one(a|b)}  one of these
//	{name:text}      anything that does not begin with -
//	{name:any}       anything
//
// The last word may end in "...": {files:path...} stands for none or more. The
// first word is literal.
type Command struct {
	// Argv is the template; in a configuration file a list of words.
	Argv []string `json:"argv" yaml:"argv" toml:"argv"`
	// Env lists the variables that a job may set; "*" allows all.
	Env []string `json:"env" yaml:"env" toml:"env"`
	// User runs it: a name or a number of this machine. Empty means the worker's own.
	User string `json:"user" yaml:"user" toml:"user"`
	// Timeout bounds each run, whatever the job asks for. Zero means no bound.
	Timeout time.Duration `json:"timeout" yaml:"timeout" toml:"timeout"`
	// Limits bound each run.
	Limits process.Limits `json:"limits" yaml:"limits" toml:"limits"`
}

// policy is an Allow that was checked.
type policy struct {
	any      *command // how it runs what no template describes; nil if it does not
	commands []command
	dirs     []string // real paths
}

type command struct {
	Command
	words []word
	user  *process.User
}

type word struct {
	name, kind string
	literal    string // if kind is empty
	low, high  int64
	choices    []string
	many       bool
}

// compile checks a and resolves its directories and users.
func (a Allow) compile(cgroup *process.Cgroup) (*policy, error) {
	p := &policy{}
	for _, d := range a.Dirs {
		real, err := filepath.EvalSymlinks(d)
		if err != nil || !filepath.IsAbs(d) {
			return nil, &rota.FieldError{Field: "jobs.dirs", Value: d, Want: "an absolute path of a directory that exists"}
		}
		p.dirs = append(p.dirs, real)
	}
	for i, c := range a.Commands {
		field := fmt.Sprintf("jobs.commands[%d]", i)
		cc := command{Command: c}
		if len(c.Argv) == 0 || c.Argv[0] == "" || strings.HasPrefix(c.Argv[0], "{") {
			return nil, &rota.FieldError{Field: field + ".argv", Value: strings.Join(c.Argv, " "), Want: "a list of words, the first of them literal"}
		}
		for j, s := range c.Argv {
			w, err := parseWord(s)
			if err != nil || w.many && j != len(c.Argv)-1 {
				return nil, &rota.FieldError{Field: field + ".argv", Value: s, Want: "a literal or {name:TYPE}, TYPE one of int, int(LOW..HIGH), word, path, one(A|B), text, any; ... only at the end"}
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
	probe := process.Spec{Argv: c.Argv[:1], Limits: c.Limits, User: c.user, Cgroup: cgroup}
	if err := probe.Validate(); err != nil {
		var fe *rota.FieldError
		if errors.As(err, &fe) {
			return &rota.FieldError{Field: field + "." + fe.Field, Value: fe.Value, Want: fe.Want}
		}
		return err
	}
	return nil
}

func parseWord(s string) (word, error) {
	if !strings.HasPrefix(s, "{") {
		return word{literal: s}, nil
	}
	bad := errors.New("no such parameter")
	inner, ok := strings.CutSuffix(s[1:], "}")
	if !ok {
		return word{}, bad
	}
	inner, many := strings.CutSuffix(inner, "...")
	name, kind, ok := strings.Cut(inner, ":")
	if !ok || name == "" {
		return word{}, bad
	}
	kind, arg, hasArg := strings.Cut(kind, "(")
	if hasArg {
		if arg, ok = strings.CutSuffix(arg, ")"); !ok {
			return word{}, bad
		}
	}
	w := word{name: name, kind: kind, many: many, low: -1 << 63, high: 1<<63 - 1}
	switch {
	case kind == "int" && hasArg:
		low, high, ok := strings.Cut(arg, "..")
		var err1, err2 error
		w.low, err1 = strconv.ParseInt(low, 10, 64)
		w.high, err2 = strconv.ParseInt(high, 10, 64)
		if !ok || err1 != nil || err2 != nil || w.low > w.high {
			return word{}, bad
		}
	case kind == "one" && hasArg && arg != "":
		w.choices = strings.Split(arg, "|")
	case !hasArg && slices.Contains([]string{"int", "word", "path", "text", "any"}, kind):
	default:
		return word{}, bad
	}
	return w, nil
}

// decision is how an allowed job runs.
type decision struct {
	argv    []string
	dir     string // empty: one of its own
	user    *process.User
	limits  process.Limits
	timeout time.Duration
}

// decide says how the job runs, or why it does not: a *NotAllowedError.
func (p *policy) decide(s job.Spec) (decision, error) {
	dir, err := p.dir(s.Dir)
	if err != nil {
		return decision{}, err
	}
	var nearest error
	for _, c := range p.commands {
		argv, err := c.match(s.Argv, dir, p.dirs)
		if err != nil {
			if c.words[0].literal == s.Argv[0] {
				nearest = err
			}
			continue
		}
		for k := range s.Env {
			if !slices.Contains(c.Env, k) && !slices.Contains(c.Env, "*") {
				return decision{}, &NotAllowedError{"env " + clip(k), "not listed for this command"}
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
	return decision{}, &NotAllowedError{"command " + clip(s.Argv[0]), "not listed"}
}

func (c *command) decision(argv []string, dir string, s job.Spec) decision {
	d := decision{argv: argv, dir: dir, user: c.user, limits: c.Limits, timeout: s.Timeout}
	if c.Timeout > 0 && (d.timeout == 0 || d.timeout > c.Timeout) {
		d.timeout = c.Timeout
	}
	return d
}

func (p *policy) dir(dir string) (string, error) {
	if dir == "" {
		if len(p.dirs) > 0 {
			return p.dirs[0], nil
		}
		return "", nil
	}
	if !filepath.IsAbs(dir) {
		if len(p.dirs) == 0 {
			return "", &NotAllowedError{"dir " + clip(dir), "not an absolute path"}
		}
		dir = filepath.Join(p.dirs[0], dir)
	}
	if p.any != nil && len(p.dirs) == 0 {
		return filepath.Clean(dir), nil
	}
	return below("dir", dir, p.dirs)
}

// below resolves path and holds it to dirs. A path that is not there and one
// that is elsewhere get the same answer, so that nothing is told of the disk.
func below(what, path string, dirs []string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		for _, d := range dirs {
			if rel, err := filepath.Rel(d, real); err == nil && filepath.IsLocal(rel) {
				return real, nil
			}
		}
	}
	return "", &NotAllowedError{what + " " + clip(path), "not there, or outside of the allowed directories"}
}

// match returns the argv to run, or a *NotAllowedError.
func (c command) match(argv []string, dir string, dirs []string) ([]string, error) {
	out := make([]string, 0, len(argv))
	for i, w := range c.words {
		if w.many {
			for _, a := range argv[min(i, len(argv)):] {
				v, err := w.accept(a, dir, dirs)
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
			return out, nil
		}
		if i >= len(argv) {
			return nil, &NotAllowedError{"command " + clip(argv[0]), "argument " + w.String() + " is missing"}
		}
		v, err := w.accept(argv[i], dir, dirs)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	if len(argv) > len(c.words) {
		return nil, &NotAllowedError{"command " + clip(argv[0]), fmt.Sprintf("more than %d arguments", len(c.words)-1)}
	}
	return out, nil
}

func (w word) String() string {
	if w.kind == "" {
		return strconv.Quote(w.literal)
	}
	return w.name
}

// accept returns the argument as it is handed over.
func (w word) accept(arg, dir string, dirs []string) (string, error) {
	refuse := func(want string) (string, error) {
		return "", &NotAllowedError{"argument " + strconv.Quote(clip(arg)), w.String() + " must be " + want}
	}
	option := strings.HasPrefix(arg, "-")
	switch w.kind {
	case "":
		if arg != w.literal {
			return "", &NotAllowedError{"argument " + strconv.Quote(clip(arg)), "must be " + w.String()}
		}
	case "int":
		n, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || n < w.low || n > w.high || strings.HasPrefix(arg, "+") {
			if w.low == -1<<63 {
				return refuse("a whole number")
			}
			return refuse(fmt.Sprintf("a whole number from %d to %d", w.low, w.high))
		}
	case "one":
		if !slices.Contains(w.choices, arg) {
			return refuse("one of " + strings.Join(w.choices, ", "))
		}
	case "word":
		if arg == "" || option || strings.ContainsFunc(arg, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-+@%:,", r)
		}) {
			return refuse("a word")
		}
	case "text":
		if option {
			return refuse("text that does not begin with -")
		}
	case "path":
		if arg == "" || option {
			return refuse("a path")
		}
		path := arg
		if !filepath.IsAbs(path) {
			if dir == "" {
				return refuse("an absolute path")
			}
			path = filepath.Join(dir, path)
		}
		return below("path", path, dirs)
	}
	return arg, nil
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
