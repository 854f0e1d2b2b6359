package record

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store/table"
)

// Grant is the right of a worker to run an instance, as the store keeps it below
// the worker's name.
type Grant struct {
	Instance   rota.Instance
	Generation rota.Generation
	// Session is the creation revision of the session key that it was given to.
	Session int64
	// Revoked asks the worker to stop.
	Revoked bool
	// Available is the task's mode when it was granted.
	Available bool
	// Reason says for people why the instance is here. At most 1,024 bytes are kept.
	Reason string
}

// Key is the grant's key in its table.
func (g *Grant) Key() string { return InstanceKey(g.Instance) }

// Grants is how pages of grants are written: as GrantPage.
var Grants = table.Codec[Grant]{
	Key:  (*Grant).Key,
	Size: func(g *Grant) int { return len(g.Instance.Task) + min(len(g.Reason), maxText) + 42 },
	Equal: func(a, b *Grant) bool {
		if len(a.Reason) != len(b.Reason) || a.Reason != b.Reason {
			x, y := *a, *b
			x.Reason, y.Reason = text(a.Reason), text(b.Reason)
			return x == y
		}
		return *a == *b
	},
	Encode: encodeGrants,
	Decode: decodeGrants,
}

func encodeGrants(grants []Grant) ([]byte, error) {
	return appendPage(len(grants)*48, len(grants), func(b []byte, i int) ([]byte, error) {
		g := &grants[i]
		if err := checkInstance(g.Instance); err != nil {
			return nil, fmt.Errorf("grant of %q: %w", g.Instance, err)
		}
		b = appendString(b, 1, g.Instance.Task)
		b = appendVarint(b, 2, uint64(g.Instance.Index))
		b = appendVarint(b, 3, uint64(g.Generation))
		b = appendVarint(b, 4, uint64(g.Session))
		b = appendBool(b, 5, g.Revoked)
		b = appendBool(b, 6, g.Available)
		return appendString(b, 7, text(g.Reason)), nil
	})
}

func decodeGrants(value []byte) ([]Grant, error) {
	var grants []Grant
	var reason shared
	err := records(value, func(n int) { grants = make([]Grant, 0, n) }, func(b []byte) error {
		var g Grant
		f := message{rest: b}
		for f.next() {
			switch {
			case f.is(1, protowire.BytesType):
				g.Instance.Task = string(f.bytes)
			case f.is(2, protowire.VarintType):
				g.Instance.Index = int(f.varint)
			case f.is(3, protowire.VarintType):
				g.Generation = rota.Generation(f.varint)
			case f.is(4, protowire.VarintType):
				g.Session = int64(f.varint)
			case f.is(5, protowire.VarintType):
				g.Revoked = f.bool()
			case f.is(6, protowire.VarintType):
				g.Available = f.bool()
			case f.is(7, protowire.BytesType):
				g.Reason = reason.of(f.bytes)
			}
		}
		err := f.err
		if err == nil {
			err = checkInstance(g.Instance)
		}
		if err != nil {
			return fmt.Errorf("%w: grant %d: %w", ErrGarbage, len(grants), err)
		}
		grants = append(grants, g)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return grants, nil
}
