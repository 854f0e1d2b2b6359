// Package record turns what the store keeps into Go values and back: the records
// of the paged tables (Task, Grant, Ack, with a table.Codec each) and the single
// messages of package storepb (Leader, Session, ...).
//
// Every value begins with the version of its layout. One of a newer version is
// refused with rota.ErrNewerVersion and never guessed at; garbage is refused with
// ErrGarbage. The bytes are protocol buffers as store.proto has them; the pages'
// are read and written by hand, because there may be millions of records.
//
// It is called by whoever reads or writes the store, and is pure.
package record

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota"
)

// Version is the newest layout that this package reads, and the one it writes.
const Version = 1

// ErrGarbage says that a value is not what its key promises.
var ErrGarbage = errors.New("not a value of rota")

// Message is a message of package storepb that is a value of its own.
type Message interface {
	proto.Message
	GetVersion() uint32
}

// Encode makes the value of m, with the version in front. m need not have one.
func Encode(m Message) ([]byte, error) {
	if v := m.GetVersion(); v != 0 && v != Version {
		return nil, fmt.Errorf("%s has version %d, want %d", m.ProtoReflect().Descriptor().Name(), v, Version)
	}
	value, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(appendVersion(nil), m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return value, nil
}

// Decode reads the value of a key into m. The error names the key.
func Decode(key string, value []byte, m Message) error {
	err := checkVersion(value)
	if err == nil {
		if perr := proto.Unmarshal(value, m); perr != nil {
			err = fmt.Errorf("%w: %w", ErrGarbage, perr)
		} else {
			err = versionError(m.GetVersion())
		}
	}
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	return nil
}

const fieldVersion = 1

func appendVersion(b []byte) []byte {
	b = protowire.AppendTag(b, fieldVersion, protowire.VarintType)
	return protowire.AppendVarint(b, Version)
}

// checkVersion looks at the version alone, which comes first, so that a layout
// that is new beyond recognition is known as that.
func checkVersion(value []byte) error {
	num, typ, n := protowire.ConsumeTag(value)
	if n < 0 || num != fieldVersion || typ != protowire.VarintType {
		return fmt.Errorf("%w: it does not begin with a version", ErrGarbage)
	}
	v, n := protowire.ConsumeVarint(value[n:])
	if n < 0 {
		return fmt.Errorf("%w: it does not begin with a version", ErrGarbage)
	}
	return versionError(v)
}

func versionError[V uint32 | uint64](v V) error {
	switch {
	case v == 0:
		return fmt.Errorf("%w: version 0", ErrGarbage)
	case v > Version:
		return fmt.Errorf("%w: version %d, this one reads up to %d", rota.ErrNewerVersion, v, Version)
	}
	return nil
}
