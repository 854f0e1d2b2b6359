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
	// Copy is what an engine knows of a worker that it was told to start. Two of one
	// worker mean that the engine started it twice.
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

// Variables by which a worker is told how to join: with a token, or with a file of it.
const (
	TokenEnv     = room.TokenEnv
	TokenFileEnv = room.TokenFileEnv
)

// Errors of an engine. Any other that Start returns means that nothing was started.
var (
	// ErrUnsure says that the outcome of a start is not known: List tells.
	ErrUnsure = room.ErrUnsure
	// ErrNoRoom says that the engine is there and has no room, by its capacity or a
	// quota: another pool may help.
	ErrNoRoom = room.ErrNoRoom
)

// Engine starts and stops workers. Its methods may be called from several goroutines
// and take as long as their context lasts at most.
type Engine interface {
	// Start starts a worker and answers what the engine calls it. It returns when the
	// engine has accepted it, which is before it runs.
	Start(ctx context.Context, o Order) (handle string, err error)
	// Stop asks a copy to end in order. It returns when the engine has taken that
	// note; one that is gone already is no error.
	Stop(ctx context.Context, handle string) error
	// List lists the copies of this cluster's workers that the engine knows, those that
	// ended a moment ago among them.
	List(ctx context.Context) ([]Copy, error)
	// Close ends what lives no longer than this process.
	Close(ctx context.Context) error
}

// Config is what engines need.
type Config struct {
	// Self is the program that the word "rota" stands for.
	Self string
	// Dir is a directory of this user's, for files that nobody else may read.
	Dir string
	// Output takes what a worker writes. Nil discards it.
	Output func(worker string) io.WriteCloser
	// Kubernetes says where the API server is that the engine of this name asks.
	Kubernetes KubernetesConfig
	// NomadTokenFile is a file with the token for Nomad. Empty: that of NOMAD_TOKEN.
	NomadTokenFile string
	Logger         *slog.Logger
}

// KubernetesConfig says where an API server is. The zero value is what kubectl goes by
// too, or the account of the pod that this process runs in.
type KubernetesConfig struct {
	// Kubeconfig is a file, and Context one of its contexts.
	Kubeconfig, Context string
	// Namespaces are those in which pools may have workers, the first by default. None:
	// that of the context, or of this process's pod.
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

// Names are the engines that there are, in order.
func Names() []string { return slices.Sorted(maps.Keys(rooms)) }

// Open opens the engine of a name.
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

// Here reports whether each scheduler has an engine of this name of its own, with
// workers that no other scheduler knows.
func Here(name string) bool { return rooms[name].here }

// Options are the options of an engine by name, and what each has to be: a check
// answers what it wants, or nothing.
func Options(name string) map[string]func(string) string { return rooms[name].options }
