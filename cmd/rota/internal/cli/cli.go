// Package cli is the command line of rota: nouns, then verbs. What was asked
// for goes to standard output, everything else to standard error; the exit
// status is 0 for done, 1 for failed, 2 for wrong usage.
//
// cmd/rota calls Run with the real process, tests with a made one. Commands
// talk to a cluster through the gRPC API only; the three roles (scheduler,
// worker, dev) each have a file of their own. It must never decide anything
// about tasks and workers itself.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/gatewaycli"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/logs"
)

// Exit statuses.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
	// ExitStale says that the answer is from a scheduler that does not hear of its
	// store: it may not be true any more.
	ExitStale = 3
)

// Env is what the commands have of the world.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Lookup         func(string) (string, bool) // environment variables
	// Terminal says that Stdout is one: then states have colours.
	Terminal bool
	// Discreet says that nobody else reads Stdout: it is a terminal, a pipe, or a
	// file that only this user may read.
	Discreet bool
	// Real says that this is a process of its own, whose command line can be run
	// once more as a child.
	Real bool
	// Dial replaces the connection to a server; for tests.
	Dial func(ctx context.Context, addr string) (*grpc.ClientConn, error)
}

// Process returns the world of this process.
func Process() Env {
	fi, err := os.Stdout.Stat()
	return Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Lookup: os.LookupEnv, Real: true,
		Terminal: err == nil && fi.Mode()&os.ModeCharDevice != 0,
		Discreet: err == nil && (!fi.Mode().IsRegular() || fi.Mode().Perm()&0o077 == 0),
	}
}

// Run runs the command line args (without the program's name) and returns the
// exit status. Errors are on standard error, one line each.
func Run(ctx context.Context, args []string, env Env) int {
	a := newApp(env)
	root := a.root()
	root.SetArgs(gatewaycli.OldArgs(args))
	err := root.ExecuteContext(ctx)
	a.close()
	if a.looking != nil {
		a.looking.close()
	}
	defer a.flush()
	if a.stale > 0 {
		_, _ = fmt.Fprintf(a.env.Stderr, "rota: the scheduler has heard nothing from its store for %v: this answer may be out of date\n",
			a.stale.Round(time.Second))
	}
	switch {
	case err == nil && a.stale > 0:
		return ExitStale
	case err == nil:
		return ExitDone
	case a.running && ctx.Err() != nil && (errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled):
		return ExitDone // the user has ended a watch
	}
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		return exit.status // the job has said why itself
	}
	_, _ = fmt.Fprintln(a.env.Stderr, "rota: "+oneLine(err))
	if by := (interface{ ExitStatus() int })(nil); errors.As(err, &by) {
		return by.ExitStatus()
	}
	if !a.running || errors.As(err, new(*usageError)) || errors.As(err, new(*config.Error)) {
		return ExitUsage
	}
	return ExitFailed
}

// app is one run.
type app struct {
	env    Env
	output string // table, json or jsonl
	client clientFlags
	// running is true once arguments and flags were found right.
	running bool
	conn    *grpc.ClientConn
	looking *looking // nil unless a cluster is looked at by its etcd
	server  string   // the address that conn is to, or the last one was
	// stale is the age of an answer that was too old; zero if there was none.
	stale time.Duration
}

func newApp(env Env) *app {
	if env.Lookup == nil {
		env.Lookup = func(string) (string, bool) { return "", false }
	}
	return &app{env: env}
}

// serve prepares the process for a command that runs a part of a cluster: no
// reader of its output can hold it up or end it.
func (a *app) serve(cmd *cobra.Command) {
	logs.OutlivePipes()
	a.env.Stdout, a.env.Stderr = logs.NewWriter(a.env.Stdout, 0, nil), logs.NewWriter(a.env.Stderr, 0, nil)
	cmd.Root().SetOut(a.env.Stdout)
	cmd.Root().SetErr(a.env.Stderr)
	log.SetOutput(a.env.Stderr) // what libraries write there
}

// flush waits for a reader of the last words, but not for long.
func (a *app) flush() {
	logs.Flush(a.env.Stdout)
	logs.Flush(a.env.Stderr)
}

func (a *app) close() {
	if a.conn != nil {
		_ = a.conn.Close() // nothing is left to be lost
	}
}

// usageError is a wrong use that only the command itself could see.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// wrongField is err, as a wrong use if it is of a value that was asked for here.
func wrongField(err error) error {
	if errors.As(err, new(*rota.FieldError)) {
		return &usageError{err.Error()}
	}
	return err
}

func isNotFound(err error) bool    { return status.Code(err) == codes.NotFound }
func isUnavailable(err error) bool { return status.Code(err) == codes.Unavailable }

// oneLine is an error as people want to read it: without the words of gRPC and
// without line feeds.
func oneLine(err error) string {
	text := err.Error()
	if st, ok := status.FromError(err); ok {
		text = st.Message()
		if text == "" {
			text = st.Code().String()
		}
	}
	return terminal.Printable(address.Text(strings.Join(strings.Fields(text), " ")))
}

// group is a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%s needs a command: %s", cmd.CommandPath(), strings.Join(names(cmd), ", "))
			}
			return fmt.Errorf("unknown command %q; %s has %s", args[0], cmd.CommandPath(), strings.Join(names(cmd), ", "))
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args never lets it
	}
	c.AddCommand(children...)
	return c
}

func names(cmd *cobra.Command) []string {
	var list []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, c.Name())
		}
	}
	return list
}
