package view

import (
	"slices"
	"strings"

	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/store"
)

// Kind is what a picture is told of a kind of work beside tasks: where its keys are. What
// is in its records the kind itself has a picture of.
type Kind struct {
	// Records are the prefixes of its records' keys.
	Records []string
	// TakerKey is the key by which a worker says that it takes work of this kind, and Taker
	// an empty value of such a key. The key goes with the lease of the worker's session.
	TakerKey func(worker string) string
	Taker    func() Taker
}

// Taker is what a worker says that takes work of a kind.
type Taker interface {
	record.Versioned
	// GetIncarnation is that of the process which says so.
	GetIncarnation() string
}

// Attach has the picture pass on the records of a kind, and keep its takers. Call it
// before Run.
func (v *View) Attach(k *Kind) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kinds, v.Takers[k] = append(v.kinds, k), map[string]Taker{}
}

// kindOf is the kind that a key is a record of, nil if there is none.
func (v *View) kindOf(key string) *Kind {
	for _, k := range v.kinds {
		if slices.ContainsFunc(k.Records, func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
			return k
		}
	}
	return nil
}

// TakerIn answers the worker in a key that says of one that it takes work of a kind. Call
// it inside Read.
func (v *View) TakerIn(key string) (k *Kind, worker string) {
	for _, k := range v.kinds {
		if name, ok := store.NameIn(k.TakerKey(""), key); ok {
			return k, name
		}
	}
	return nil, ""
}

// TakerKeys are the keys by which a worker may say that it takes work of some kind. Call
// it inside Read.
func (v *View) TakerKeys(worker string) []string {
	keys := make([]string, len(v.kinds))
	for n, k := range v.kinds {
		keys[n] = k.TakerKey(worker)
	}
	return keys
}

// GoesWithLease reports whether a key says that somebody lives, and goes with the lease
// of whoever that is: of a scheduler, a worker, a worker that takes work of a kind, or a
// program. Call it inside Read.
func (v *View) GoesWithLease(key string) bool {
	for _, prefix := range []string{store.SchedulersPrefix, store.SessionsPrefix, store.ProgramsPrefix} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	k, _ := v.TakerIn(key)
	return k != nil
}
