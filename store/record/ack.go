package record

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store/table"
)

// Ack is what a worker said of one of its grants.
type Ack struct {
	Instance   rota.Instance
	Generation rota.Generation
	// State is one of the words of package ownership: "running", "stopped", ...
	State string
	// Error is the last error of the task function. At most 1,024 bytes are kept.
	Error string
	// Since is when the state began, in milliseconds of Unix time, by the worker's clock.
	Since    int64
	Restarts uint32
}

// Key is the acknowledgement's key in its table.
func (a *Ack) Key() string { return InstanceKey(a.Instance) }

// Acks is how pages of acknowledgements are written: as AckPage.
var Acks = table.Codec[Ack]{
	Key:  (*Ack).Key,
	Size: func(a *Ack) int { return len(a.Instance.Task) + len(a.State) + min(len(a.Error), maxText) + 46 },
	Equal: func(a, b *Ack) bool {
		if a.Error != b.Error {
			x, y := *a, *b
			x.Error, y.Error = text(a.Error), text(b.Error)
			return x == y
		}
		return *a == *b
	},
	Encode: encodeAcks,
	Decode: decodeAcks,
}

func encodeAcks(acks []Ack) ([]byte, error) {
	return appendPage(len(acks)*48, len(acks), func(b []byte, i int) ([]byte, error) {
		a := &acks[i]
		if err := checkInstance(a.Instance); err != nil {
			return nil, fmt.Errorf("acknowledgement of %q: %w", a.Instance, err)
		}
		b = appendString(b, 1, a.Instance.Task)
		b = appendVarint(b, 2, uint64(a.Instance.Index))
		b = appendVarint(b, 3, uint64(a.Generation))
		b = appendString(b, 4, a.State)
		b = appendString(b, 5, text(a.Error))
		b = appendVarint(b, 6, uint64(a.Restarts))
		return appendVarint(b, 7, uint64(a.Since)), nil
	})
}

// states are the words that need no string of their own.
var states = map[string]string{
	"starting": "starting", "running": "running", "backoff": "backoff",
	"stopping": "stopping", "stuck": "stuck", "stopped": "stopped",
}

func state(b []byte) string {
	if s, ok := states[string(b)]; ok {
		return s
	}
	return string(b)
}

func decodeAcks(value []byte) ([]Ack, error) {
	var acks []Ack
	var errText shared
	err := records(value, func(n int) { acks = make([]Ack, 0, n) }, func(b []byte) error {
		var a Ack
		f := message{rest: b}
		for f.next() {
			switch {
			case f.is(1, protowire.BytesType):
				a.Instance.Task = string(f.bytes)
			case f.is(2, protowire.VarintType):
				a.Instance.Index = int(f.varint)
			case f.is(3, protowire.VarintType):
				a.Generation = rota.Generation(f.varint)
			case f.is(4, protowire.BytesType):
				a.State = state(f.bytes)
			case f.is(5, protowire.BytesType):
				a.Error = errText.of(f.bytes)
			case f.is(6, protowire.VarintType):
				a.Restarts = uint32(f.varint)
			case f.is(7, protowire.VarintType):
				a.Since = int64(f.varint)
			}
		}
		err := f.err
		if err == nil {
			err = checkInstance(a.Instance)
		}
		if err != nil {
			return fmt.Errorf("%w: acknowledgement %d: %w", ErrGarbage, len(acks), err)
		}
		acks = append(acks, a)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return acks, nil
}
