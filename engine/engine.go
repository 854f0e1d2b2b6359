package engine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"

	"github.com/rota-project/rota/engine/internal/kubernetes"
	"github.com/rota-project/rota/engine/internal/local"
	"github.com/rota-project/rota/engine/internal/nomad"
	"github.com/rota-project/rota/engine/internal/room"
	"github.com/rota-project/rota/engine/internal/slurm"
)

type (
	// Order is a worker to start.
	Order = room.Order
	// Copy is what an engine reports of a worker that it was told to start. Two copies of
	// one worker mean that the engine started it twice.
	Copy = room.Copy
	// State is where a copy is.
	State = room.State
)

// The states of a copy.
const (
	Waiting = room.Waiting // accepted, and not started
	Running = room.Running
	Ended   = room.Ended
)

// Environment variables that tell a worker how to join: with a token, or with a file that
// contains it.
const (
	TokenEnv     = room.TokenEnv
	TokenFileEnv = room.TokenFileEnv
)

// Errors of an engine. Any other error of Start means that nothing was started.
var (
	// ErrUnsure means that the outcome of a start is unknown; List will tell.
	ErrUnsure = room.ErrUnsure
	// ErrNoRoom means that the engine works but has no room, because of its capacity or a
	// quota: another pool may help.
	ErrNoRoom = room.ErrNoRoom
)

// Engine starts and stops workers. Its methods are safe for concurrent use, and return at
// the latest when their context ends.
type Engine interface {
	// Start starts a worker and returns the engine's handle for it. It returns when the
	// engine has accepted the worker, before it runs.
	Start(ctx context.Context, o Order) (handle string, err error)
	// Stop asks a copy to end in order. It returns when the engine has accepted the
	// request; it is no error if the copy is already gone.
	Stop(ctx context.Context, handle string) error
	// List returns the copies of this cluster's workers that the engine knows, including
	// those that ended recently.
	List(ctx context.Context) ([]Copy, error)
	// Close ends everything that must not outlive this process.
	Close(ctx context.Context) error
}

// Config configures engines.
type Config struct {
	// Self is the path of the program that replaces the word "rota" in commands.
	Self string
	// Dir is a directory of this user, for files that nobody else may read.
	Dir string
	// Output returns the writer for a worker's output. Nil discards the output.
	Output func(worker string) io.WriteCloser
	// Kubernetes locates the API server, for the engine of this name.
	Kubernetes KubernetesConfig
	// NomadTokenFile is a file with the ACL token for Nomad. Empty means the token in
	// NOMAD_TOKEN.
	NomadTokenFile string
	Logger         *slog.Logger
}

// KubernetesConfig locates an API server. The zero value means the configuration of
// kubectl, or the service account of the pod in which this process runs.
type KubernetesConfig struct {
	// Kubeconfig is a file, and Context the name of one of its contexts.
	Kubeconfig, Context string
	// Namespaces are those in which pools may have workers; the first is the default. Empty
	// means the namespace of the context, or of this process's pod.
	Namespaces []string
}

// rooms are how engines are opened.
var rooms = map[string]struct {
	open func(Config) (Engine, error)
	// options are the engine's own, each with what a value has to be ("" if it is so).
	options map[string]func(value string) string
	// needed are options that a pool must say.
	needed []string
	// here says that each scheduler has one of its own.
	here bool
}{
	Local: {
		open: func(c Config) (Engine, error) {
			return local.New(local.Config{Self: c.Self, Dir: c.Dir, Output: c.Output, Logger: c.Logger})
		},
		here: true,
	},
	Kubernetes: {
		open: func(c Config) (Engine, error) {
			return kubernetes.New(kubernetes.Config{
				Kubeconfig: c.Kubernetes.Kubeconfig, Context: c.Kubernetes.Context, Namespaces: c.Kubernetes.Namespaces, Logger: c.Logger,
			})
		},
		options: kubernetes.Options(), needed: kubernetes.Needed(),
	},
	Nomad: {
		open: func(c Config) (Engine, error) {
			return nomad.New(nomad.Config{Self: c.Self, TokenFile: c.NomadTokenFile})
		},
		options: nomad.Options(),
	},
	Slurm: {
		open:    func(c Config) (Engine, error) { return slurm.New(slurm.Config{Self: c.Self}), nil },
		options: slurm.Options(),
	},
}

// Names returns the names of all engines, in order.
func Names() []string { return slices.Sorted(maps.Keys(rooms)) }

// Open opens the engine with this name.
func Open(name string, c Config) (Engine, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	e, err := rooms[name].open(c)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", name, err)
	}
	return e, nil
}

// Here reports whether each scheduler has its own engine of this name, whose workers no
// other scheduler knows.
func Here(name string) bool { return rooms[name].here }

// Options returns the options of an engine by name, each with a check of its value. A check
// returns what it expects, or the empty string if the value is valid.
func Options(name string) map[string]func(string) string { return rooms[name].options }
