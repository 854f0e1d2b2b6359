package record

import (
	"hash/fnv"

	"github.com/rota-project/rota"
)

// Spec is a digest of what a worker is told to run: a change of it replaces the
// grant. It is the same for ever: it is kept in the store.
func Spec(t *rota.Task) uint64 {
	n := t.Normalize()
	h := fnv.New64a()
	for _, s := range []string{n.Kind, string(n.Mode)} {
		_, _ = h.Write([]byte(s))
		_, _ = h.Write([]byte{0})
	}
	_, _ = h.Write(n.Payload)
	return h.Sum64()
}
