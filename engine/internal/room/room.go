// Package room has the words that an engine and its callers share. Package engine gives
// them out; the rooms beside this one are the engines.
package room

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// Order is a worker to start.
type Order struct {
	// Cluster tells clusters of one engine apart; Pool and Worker are names.
	Cluster, Pool, Worker string
	// Argv is the program and its arguments. The program "rota" is the engine's own.
	Argv []string
	// Env are variables that are no secret.
	Env map[string]string
	// Token lets the worker join once. It goes to the worker by a file that only its
	// user may read, or by the environment, and never by an argument.
	Token string
	// Options are the pool's for the engine.
	Options map[string]string
}

// Variables by which a worker is told how to join.
const (
	TokenEnv     = "ROTA_JOIN_TOKEN"      //nolint:gosec // a name
	TokenFileEnv = "ROTA_JOIN_TOKEN_FILE" //nolint:gosec // a name
)

// Environ is the order's environment in order of name, "NAME=value".
func (o Order) Environ() []string {
	out := make([]string, 0, len(o.Env))
	for _, name := range slices.Sorted(maps.Keys(o.Env)) {
		out = append(out, name+"="+o.Env[name])
	}
	return out
}

// State is where a copy is.
type State string

// The states of a copy.
const (
	Waiting State = "waiting"
	Running State = "running"
	Ended   State = "ended"
)

// Copy is what an engine knows of a worker that it was told to start.
type Copy struct {
	Cluster, Pool, Worker string
	// Handle is what the engine calls it.
	Handle string
	State  State
	// Detail says why it waits or how it ended, for people.
	Detail string
	// Began is when it began to run, Ends when the engine will end it. Zero: unknown,
	// or never.
	Began, Ends time.Time
}

// Errors of an engine.
var (
	ErrUnsure = errors.New("the outcome of the start is not known")
	ErrNoRoom = errors.New("the engine has no room")
)
