// Package record turns the words of rota into the records that the store keeps
// in pages, and back. It knows layouts and their versions, and nothing of what
// they are for.
//
// The bytes are protocol buffers as store.proto has them. Those of pages are
// read and written by hand, because there may be millions of records; those of
// single keys by package proto. All of it is pure.
package record

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/store"

	"google.golang.org/protobuf/proto"
)

// Version is the layout of single keys that this code writes and the newest that it
// reads; PageVersion is that of pages and patches. Those of version 1 had no sum.
const (
	Version     = 1
	PageVersion = 2
)

// ErrMalformed says that a value is not what its key promises.
var ErrMalformed = errors.New("malformed value")

// Sizes of pages, in bytes: small enough that a change rewrites little, large
// enough that a million records are some thousand keys.
const (
	taskPage  = 32 << 10
	grantPage = 8 << 10
	ackPage   = 16 << 10
)

// NewTasks returns an empty table of tasks.
func NewTasks() *table.Table[Task] {
	return table.New(store.TasksPrefix, taskPage, table.Codec[Task]{
		Key:    func(t *Task) string { return t.ID },
		Size:   sizeOfTask,
		Encode: encodeTasks,
		Decode: decodeTasks,
		Equal:  (*Task).equal,
		Stays:  true, // the API's writes have no guard
	})
}

// NewGrants returns an empty table of a worker's grants.
func NewGrants(worker string) *table.Table[Grant] {
	return table.New(store.WorkerGrants(worker), grantPage, table.Codec[Grant]{
		Key:    func(g *Grant) string { return InstanceKey(g.Instance) },
		Size:   sizeOfGrant,
		Encode: encodeGrants,
		Decode: decodeGrants,
		Equal:  equalGrants,
	})
}

// NewAcks returns an empty table of a worker's acknowledgements.
func NewAcks(worker string) *table.Table[Ack] {
	return table.New(store.WorkerAcks(worker), ackPage, table.Codec[Ack]{
		Key:    func(a *Ack) string { return InstanceKey(a.Instance) },
		Size:   sizeOfAck,
		Encode: encodeAcks,
		Decode: decodeAcks,
		Equal:  equalAcks,
	})
}

// Versioned is a message that begins with the version of its layout.
type Versioned interface {
	proto.Message
	GetVersion() uint32
}

// Decode reads a value into m and refuses one of a newer version.
func Decode(value []byte, m Versioned) error {
	err := checkVersion(value, Version)
	if err == nil {
		if err = proto.Unmarshal(value, m); err != nil {
			err = fmt.Errorf("%w: %w", ErrMalformed, err)
		} else {
			err = versionError(uint64(m.GetVersion()), Version)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// DecodeLeased reads into m what a key has that goes with somebody's lease. A key that is
// not bound to the lease that its value names was written by somebody else.
func DecodeLeased(kv store.KV, m interface {
	Versioned
	GetLease() int64
},
) error {
	if err := Decode(kv.Value, m); err != nil {
		return err
	}
	if kv.Lease == 0 || kv.Lease != store.LeaseID(m.GetLease()) {
		return fmt.Errorf("%s: %w: it is not bound to the lease that it names", m.ProtoReflect().Descriptor().Name(), ErrMalformed)
	}
	return nil
}

// Encode writes a message. Those of this package always can be written.
func Encode(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b, nil
}

// InstanceKey orders instances and is unique to each: the task's id, and for all
// but the first instance a zero byte, which no id has, and the index in eight digits.
func InstanceKey(i rota.Instance) string {
	if i.Index == 0 {
		return i.Task
	}
	const digits = 8
	b := make([]byte, len(i.Task)+1+digits)
	copy(b, i.Task)
	for n, d := i.Index, len(b)-1; d > len(i.Task); d-- {
		b[d] = byte('0' + n%10)
		n /= 10
	}
	return string(b)
}

// checkInstance returns an error if the instance has no key of its own.
func checkInstance(i rota.Instance) error {
	switch {
	case i.Task == "":
		return &rota.FieldError{Field: "task", Value: i.Task, Want: "a name; it is missing"}
	case strings.IndexByte(i.Task, 0) >= 0:
		return &rota.FieldError{Field: "task", Value: i.Task, Want: "no zero byte"}
	case i.Index < 0 || i.Index >= rota.MaxReplicas:
		return &rota.FieldError{Field: "index", Value: i.Index, Want: fmt.Sprintf("0 to %d", rota.MaxReplicas-1)}
	}
	return nil
}
