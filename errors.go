package rota

import (
	"errors"
	"fmt"
)

// FieldError says which field of a value is invalid and what was expected.
type FieldError struct {
	Field string // the field's name as in task files and JSON, "weight"
	Value any    // what was found
	Want  string // what was expected
}

func (e *FieldError) Error() string {
	if s, ok := e.Value.(string); ok {
		return fmt.Sprintf("%s: %q: want %s", e.Field, s, e.Want)
	}
	return fmt.Sprintf("%s: %v: want %s", e.Field, e.Value, e.Want)
}

// Errors that a caller can tell apart with errors.Is.
var (
	// ErrTooManyWorkers refuses a worker that would exceed the cluster's maximum number of
	// workers.
	ErrTooManyWorkers = errors.New("worker number exceeds maximum")
	// ErrNameAlive refuses a worker whose name another living incarnation has.
	ErrNameAlive = errors.New("a worker of this name is alive")
	// ErrNotFound says that the named object does not exist.
	ErrNotFound = errors.New("not found")
	// ErrNewerVersion says that the store holds a value that a newer version wrote.
	ErrNewerVersion = errors.New("written by a newer version of rota")
)
