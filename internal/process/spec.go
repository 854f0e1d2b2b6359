package process

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// DefaultPath is the PATH of a process whose environment has none.
const DefaultPath = "/usr/local/bin:/usr/bin:/bin"

// defaultGrace is how long a process may take to end after SIGTERM.
const defaultGrace = 10 * time.Second

// Limits on what is handed to the kernel: its own are 2 MiB for all strings and
// 128 KiB for one.
const (
	maxArgs      = 4096
	maxArgBytes  = 128 << 10
	maxArgvBytes = 1 << 20
)

// Spec says what to run and how. Only Argv must be set.
type Spec struct {
	// Argv is the program and its arguments, handed over as they are: no shell
	// sees them. A program without a slash is looked for in the PATH of Env.
	Argv []string
	// Env is the whole environment, "KEY=value". Nothing is inherited; PATH is
	// DefaultPath if it is not set here.
	Env []string
	// Dir is the working directory. Empty means "/".
	Dir string
	// Stdin is what the process reads. Nil means an empty file. An *os.File is
	// handed over as it is; any other reader is copied, and if a Read blocks
	// past the end of the process, so does one goroutine.
	Stdin io.Reader
	// Stdout and Stderr take the output. Nil discards it. A Write that blocks
	// holds up the process and nothing else; one that fails closes the pipe.
	// If both are the same comparable value, one goroutine at a time writes.
	Stdout, Stderr io.Writer
	// Limits bound what the process may use.
	Limits Limits
	// User is who runs it. Nil means the user of the caller.
	User *User
	// Grace is how long the process may take to end when ctx does. Zero means
	// defaultGrace.
	Grace time.Duration
	// NewPrivileges lets the process gain privileges by programs with set-user-ID,
	// set-group-ID or capabilities, such as sudo. Otherwise it runs with
	// no_new_privs, where the system has that. A Host may always.
	NewPrivileges bool
	// Files are handed over as descriptors 3 and on. No other descriptor of the
	// caller is.
	Files []*os.File
	// Host says that the process ends by itself, and in order, when this one
	// dies: it is woken if it is stopped, but not killed.
	Host bool
	// Cgroup, if not nil, gets a child group in which the process runs.
	Cgroup *Cgroup
}

// User is an identity of the machine.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Validate returns a *rota.FieldError for the first field that is not as its
// documentation says. It does not look at the machine.
func (s *Spec) Validate() error {
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return &rota.FieldError{Field: "argv", Value: "", Want: "a program and its arguments; it is missing"}
	}
	if len(s.Argv) > maxArgs {
		return &rota.FieldError{Field: "argv", Value: len(s.Argv), Want: fmt.Sprintf("at most %d arguments", maxArgs)}
	}
	total := 0
	for _, list := range []struct {
		field  string
		values []string
	}{{"argv", s.Argv}, {"env", s.Env}, {"dir", []string{s.Dir}}} {
		for _, v := range list.values {
			if strings.IndexByte(v, 0) >= 0 {
				return &rota.FieldError{Field: list.field, Value: text.Clip(v, text.Short), Want: "no NUL byte"}
			}
			if len(v) > maxArgBytes {
				return &rota.FieldError{Field: list.field, Value: text.Clip(v, text.Short), Want: fmt.Sprintf("at most %d bytes", maxArgBytes)}
			}
			total += len(v) + 1
		}
	}
	if total > maxArgvBytes {
		return &rota.FieldError{Field: "argv", Value: fmt.Sprintf("%d bytes with its environment", total), Want: fmt.Sprintf("at most %d bytes", maxArgvBytes)}
	}
	for _, e := range s.Env {
		if i := strings.IndexByte(e, '='); i <= 0 {
			return &rota.FieldError{Field: "env", Value: text.Clip(e, text.Short), Want: "KEY=value"}
		}
	}
	if s.Dir != "" && !filepath.IsAbs(s.Dir) {
		return &rota.FieldError{Field: "dir", Value: text.Clip(s.Dir, text.Short), Want: "an absolute path"}
	}
	if s.Grace < 0 {
		return &rota.FieldError{Field: "grace", Value: s.Grace.String(), Want: "zero or more"}
	}
	return s.Limits.validate(s.Cgroup, s.User)
}

// environ returns the environment to hand over.
func (s *Spec) environ() []string {
	env := slices.Clone(s.Env)
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		env = append(env, "PATH="+DefaultPath)
	}
	return env
}

// program resolves Argv[0] as the process's own PATH and directory would.
func (s *Spec) program(env []string) (string, error) {
	name := s.Argv[0]
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(s.dir(), name)
		}
		return name, executable(name)
	}
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // a relative entry means whatever the caller's directory is
		}
		if p := filepath.Join(dir, name); executable(p) == nil {
			return p, nil
		}
	}
	return "", &rota.FieldError{Field: "argv", Value: text.Clip(name, text.Short), Want: "a program in PATH " + text.Clip(path, text.Short)}
}

func (s *Spec) dir() string {
	if s.Dir == "" {
		return "/"
	}
	return s.Dir
}

func executable(path string) error {
	fi, err := os.Stat(path) //nolint:gosec // what to run is the caller's to say
	if err != nil {
		return fmt.Errorf("process: program: %w", err)
	}
	if fi.IsDir() || fi.Mode()&0o111 == 0 {
		return &rota.FieldError{Field: "argv", Value: text.Clip(path, text.Short), Want: "an executable file"}
	}
	return nil
}
