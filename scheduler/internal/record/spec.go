package record

import "github.com/rota-project/rota"

// Spec is a digest of what a worker is told to run: kind, mode and payload, each
// but the last with a zero byte behind it, by FNV-1a of 64 bits. A change of it
// replaces the grant. It is the same for ever: it is kept in the store.
func Spec(t *Task) uint64 {
	kind, mode := t.Kind, t.Mode
	if kind == "" {
		kind = rota.DefaultKind
	}
	if mode == "" {
		mode = rota.Exclusive
	}
	h := fnvBytes(fnvString(fnvOffset, kind), zero)
	h = fnvBytes(fnvString(h, string(mode)), zero)
	return fnvBytes(h, t.Payload)
}

// Constants of FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/).
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

var zero = []byte{0}

func fnvString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

func fnvBytes(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return h
}
