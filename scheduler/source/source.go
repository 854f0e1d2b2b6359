// Package source reads lists of tasks from where users keep them: a function, a
// watched file, a polled URL. The leader asks; whatever goes wrong is an error,
// and the last good list stays.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rota-project/rota"
)

// ErrUnchanged is what Read returns when the list is the one it gave last.
var ErrUnchanged = errors.New("source: unchanged")

// Generator is a service's own list of what should run. An error leaves
// everything as it is.
type Generator func(ctx context.Context) ([]rota.Task, error)

// Source is a named list of tasks.
type Source struct {
	// Name tells sources apart; it is kept with their tasks.
	Name string
	// Every is how often it is read. Zero means at each of the scheduler's intervals.
	Every time.Duration
	// Read gives the whole list, or ErrUnchanged.
	Read Generator
	// Reset makes the next Read give the whole list again: after a list that was
	// not taken, and for a new leader. It may be called while Read runs. Nil if
	// Read always gives the whole list.
	Reset func()
}

// Parse turns a file's content into tasks; name tells its format.
type Parse func(name string, r io.Reader) ([]rota.Task, error)

// MaxBytes is the most that a file or an answer may have.
const MaxBytes = 256 << 20

// Func is a source of what f gives.
func Func(name string, f Generator) *Source { return &Source{Name: name, Read: f} }

// bounded fails where a reader goes on past so many bytes: a list that is cut off
// there would be taken for a shorter one. It fails also where there is nothing at
// all, whatever the parser makes of that: a file that is about to be written, a
// server in trouble.
type bounded struct {
	r    io.Reader
	left int64
}

var errNothing = errors.New("source: empty; a list without tasks must say so, as [] does")

var errTooLong = fmt.Errorf("source: more than %d bytes", MaxBytes)

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// One byte more tells the end from what is too long.
		var one [1]byte
		n, err := b.r.Read(one[:])
		if n > 0 {
			return 0, errTooLong
		}
		return 0, err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if errors.Is(err, io.EOF) && b.left == MaxBytes {
		err = errNothing
	}
	return n, err
}
