// Package suite tries a user's checkout of an old Go library with this module in the
// library's place: it makes a temporary module of the checkout's tests or programs and
// of a shim, which has the old names and is kept here, runs them, and compares what
// came of it with a list of known differences.
//
// The runners in test/compat call it. It must never write into a checkout, and nothing
// of a checkout may be kept.
package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Place is where a runner works. All paths are absolute.
type Place struct {
	Checkout string  // the user's: it is only read
	Repo     string  // the root of this repository
	Dir      string  // a temporary folder
	Known    []Known // what differs, as it is written down
}

// UnusableError is why a checkout, or this machine, cannot be used.
type UnusableError struct{ Why string }

func (u *UnusableError) Error() string { return u.Why }

// Unusable returns an *UnusableError.
func Unusable(format string, args ...any) error {
	return &UnusableError{fmt.Sprintf(format, args...)}
}

// limit bounds all that a runner does.
const limit = 30 * time.Minute

// Main is the main function of a runner, which is started in the root of this
// repository. ROTA_COMPAT_<SYSTEM> names the checkout; known is a list of differences.
// The exit status is 0 if everything is as it is written down, 1 if something is not,
// and 2 if the checkout cannot be used.
func Main(system, known string, try func(context.Context, Place) ([]Result, error)) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := Run(ctx, system, os.Getenv(Variable(system)), known, try, os.Stdout, os.Stderr)
	stop()
	if status != 0 {
		fmt.Fprintf(os.Stderr, "%s: exit status %d: see the lines above, and test/compat/README.md\n", system, status)
	}
	os.Exit(status)
}

// Variable is the name of the variable that names a system's checkout.
func Variable(system string) string {
	return "ROTA_COMPAT_" + strings.ToUpper(strings.ReplaceAll(system, "-", "_"))
}

// Run tries a checkout, writes the table to stdout and errors to stderr, and returns
// the exit status.
func Run(ctx context.Context, system, checkout, known string, try func(context.Context, Place) ([]Result, error), stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	failed, err := run(ctx, system, checkout, known, try, stdout)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", system, err)
	}
	var u *UnusableError
	switch {
	case errors.As(err, &u):
		return 2
	case err != nil || failed:
		return 1
	}
	return 0
}

func run(ctx context.Context, system, checkout, known string, try func(context.Context, Place) ([]Result, error), stdout io.Writer) (failed bool, err error) {
	p := Place{}
	if p.Known, err = ParseKnown(known); err != nil {
		return false, err
	}
	if checkout == "" {
		return false, Unusable("%s: want the folder of a checkout", Variable(system))
	}
	if p.Checkout, err = filepath.Abs(checkout); err != nil {
		return false, err
	}
	if i, err := os.Stat(p.Checkout); err != nil || !i.IsDir() { //nolint:gosec // the user's own
		return false, Unusable("%s: %s: not a folder", Variable(system), checkout)
	}
	if p.Repo, err = root(); err != nil {
		return false, err
	}
	if p.Dir, err = os.MkdirTemp("", "rota-compat-"); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.Dir)) }()
	results, err := try(ctx, p)
	if err != nil {
		return false, err
	}
	return Table(stdout, results, p.Known)
}

// root is the root of this repository, at or above the working directory.
func root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		raw, readErr := os.ReadFile(filepath.Join(dir, "go.mod"))
		if readErr == nil && strings.HasPrefix(string(raw), "module "+rota+"\n") {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("a runner is started in the root of rota's repository")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
