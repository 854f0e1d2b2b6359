package record

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// Grant is a grant of one worker. Of its reason, 4 KiB are kept.
type Grant struct {
	ownership.Grant
	// Trace is the trace context of the pass that gave it, as tracing.Binary has it; empty if
	// the pass was not recorded, or had too many moves for this one to be followed.
	Trace string
}

func sizeOfGrant(g *Grant) int {
	return len(g.Instance.Task) + min(len(g.Reason), maxText) + len(g.To) + len(g.Trace) + 53
}

func equalGrants(a, b *Grant) bool {
	if a.Reason != b.Reason {
		x, y := *a, *b
		x.Reason, y.Reason = kept(a.Reason), kept(b.Reason)
		return x == y
	}
	return *a == *b
}

func encodeGrants(grants []Grant, gone []string) ([]byte, error) {
	return appendPage(len(grants)*64, len(grants), gone, func(b []byte, i int) ([]byte, error) {
		g := &grants[i]
		if err := checkInstance(g.Instance); err != nil {
			return nil, fmt.Errorf("grant of %q: %w", g.Instance, err)
		}
		b = appendString(b, 1, g.Instance.Task)
		b = appendVarint(b, 2, uint64(g.Instance.Index))
		b = appendVarint(b, 3, uint64(g.Generation))
		b = appendVarint(b, 4, uint64(g.Session))
		b = appendBool(b, 5, g.Revoked)
		b = appendFixed(b, 6, g.Spec)
		b = appendString(b, 7, kept(g.Reason))
		b = appendString(b, 8, g.To)
		return appendString(b, 9, g.Trace), nil
	})
}

func decodeGrants(value []byte) ([]Grant, []string, error) {
	var grants []Grant
	var reason, to, trace shared
	gone, err := records(value, func(n int) { grants = make([]Grant, 0, n) }, func(b []byte) error {
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
			case f.is(6, protowire.Fixed64Type):
				g.Spec = f.varint
			case f.is(7, protowire.BytesType):
				g.Reason = reason.of(f.bytes)
			case f.is(8, protowire.BytesType):
				g.To = to.of(f.bytes)
			case f.is(9, protowire.BytesType):
				g.Trace = trace.of(f.bytes)
			}
		}
		err := f.err
		if err == nil {
			err = checkInstance(g.Instance)
		}
		if err != nil {
			return fmt.Errorf("%w: grant %d: %w", ErrMalformed, len(grants), err)
		}
		grants = append(grants, g)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return grants, gone, nil
}
