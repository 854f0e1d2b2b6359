package record

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// Ack is what one worker said of a grant. Of its error, 4 KiB are kept.
type Ack struct {
	ownership.Ack
	Since int64 // Unix time in ms at which State began
	// Load is the measured load, or negative for none.
	Load float32
}

func sizeOfAck(a *Ack) int {
	return len(a.Instance.Task) + len(a.State) + min(len(a.Error), maxText) + 60
}

func equalAcks(a, b *Ack) bool {
	if a.Error != b.Error {
		x, y := *a, *b
		x.Error, y.Error = kept(a.Error), kept(b.Error)
		return x == y
	}
	return *a == *b
}

func encodeAcks(acks []Ack, gone []string) ([]byte, error) {
	return appendPage(len(acks)*64, len(acks), gone, func(b []byte, i int) ([]byte, error) {
		a := &acks[i]
		if err := checkInstance(a.Instance); err != nil {
			return nil, fmt.Errorf("acknowledgement of %q: %w", a.Instance, err)
		}
		b = appendString(b, 1, a.Instance.Task)
		b = appendVarint(b, 2, uint64(a.Instance.Index))
		b = appendVarint(b, 3, uint64(a.Generation))
		b = appendString(b, 4, kept(string(a.State)))
		b = appendString(b, 5, kept(a.Error))
		b = appendVarint(b, 6, uint64(a.Restarts))
		b = appendVarint(b, 7, uint64(a.Since))
		if a.Load >= 0 {
			// Present even if it is zero.
			b = protowire.AppendTag(b, 8, protowire.Fixed64Type)
			b = protowire.AppendFixed64(b, math.Float64bits(float64(a.Load)))
		}
		if a.Exit.Known { // present even if it is zero
			b = protowire.AppendTag(b, 9, protowire.VarintType)
			b = protowire.AppendVarint(b, uint64(a.Exit.Status))
		}
		return b, nil
	})
}

// states are the words that need no string of their own.
var states = map[string]ownership.State{
	string(ownership.Starting): ownership.Starting, string(ownership.Running): ownership.Running,
	string(ownership.Backoff): ownership.Backoff, string(ownership.Stopping): ownership.Stopping,
	string(ownership.Stuck): ownership.Stuck, string(ownership.Stopped): ownership.Stopped,
}

func state(b []byte) ownership.State {
	if s, ok := states[string(b)]; ok {
		return s
	}
	return ownership.State(kept(string(b)))
}

func decodeAcks(value []byte) ([]Ack, []string, error) {
	var acks []Ack
	var errText shared
	gone, err := records(value, func(n int) { acks = make([]Ack, 0, n) }, func(b []byte) error {
		a := Ack{Load: -1}
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
			case f.is(8, protowire.Fixed64Type):
				a.Load = -1
				if v := float32(f.float()); v >= 0 {
					a.Load = v
				}
			case f.is(9, protowire.VarintType):
				a.Exit = ownership.ExitOf(int64(f.varint))
			}
		}
		err := f.err
		if err == nil {
			err = checkInstance(a.Instance)
		}
		if err != nil {
			return fmt.Errorf("%w: acknowledgement %d: %w", ErrMalformed, len(acks), err)
		}
		acks = append(acks, a)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return acks, gone, nil
}
