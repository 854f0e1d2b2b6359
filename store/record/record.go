// Package record turns the words of rota into the records that the store keeps
// in pages, and back. It knows layouts and their versions, and nothing of what
// they are for.
package record

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unique"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/storepb"
	"github.com/rota-project/rota/store/table"

	"google.golang.org/protobuf/proto"
)

// Version is the layout that this code writes and the newest that it reads.
const Version = 1

// ErrMalformed says that a value is not what its key promises.
var ErrMalformed = errors.New("malformed value")

// Sizes of pages, in bytes: small enough that a change rewrites little, large
// enough that a million records are some thousand keys.
const (
	taskPage  = 32 << 10
	grantPage = 8 << 10
	ackPage   = 16 << 10
)

// Task is a declared task and who declared it: "" for the API, else the name of
// a source.
type Task struct {
	rota.Task
	Source string
}

// Grant is a grant of one worker.
type Grant struct {
	ownership.Grant
}

// Ack is what one worker said of a grant.
type Ack struct {
	ownership.Ack
	Since int64 // Unix time in ms at which State began
	// Load is the measured load, or negative for none.
	Load float32
}

// InstanceKey orders instances and is unique to each: no id has a zero byte.
func InstanceKey(i rota.Instance) string {
	if i.Index == 0 {
		return i.Task
	}
	return fmt.Sprintf("%s\x00%08d", i.Task, i.Index)
}

// NewTasks returns an empty table of tasks.
func NewTasks() *table.Table[Task] {
	return table.New(store.TasksPrefix, taskPage, table.Codec[Task]{
		Key:    func(t *Task) string { return t.ID },
		Size:   sizeOfTask,
		Encode: encodeTasks,
		Decode: decodeTasks,
		Equal:  func(a, b *Task) bool { return a.Source == b.Source && a.Task.Equal(b.Task) },
	})
}

// NewGrants returns an empty table of a worker's grants.
func NewGrants(worker string) *table.Table[Grant] {
	return table.New(store.WorkerGrants(worker), grantPage, table.Codec[Grant]{
		Key:    func(g *Grant) string { return InstanceKey(g.Instance) },
		Size:   func(g *Grant) int { return len(g.Instance.Task) + len(g.Reason) + 34 },
		Encode: encodeGrants,
		Decode: decodeGrants,
		Equal:  func(a, b *Grant) bool { return *a == *b },
	})
}

// NewAcks returns an empty table of a worker's acknowledgements.
func NewAcks(worker string) *table.Table[Ack] {
	return table.New(store.WorkerAcks(worker), ackPage, table.Codec[Ack]{
		Key:    func(a *Ack) string { return InstanceKey(a.Instance) },
		Size:   func(a *Ack) int { return len(a.Instance.Task) + len(a.Error) + 48 },
		Encode: encodeAcks,
		Decode: decodeAcks,
		Equal:  func(a, b *Ack) bool { return *a == *b },
	})
}

// Versioned is a message that begins with the version of its layout.
type Versioned interface {
	proto.Message
	GetVersion() uint32
}

// Decode reads a value into m and refuses one of a newer version.
func Decode(value []byte, m Versioned) error {
	if err := proto.Unmarshal(value, m); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, m.ProtoReflect().Descriptor().Name(), err)
	}
	switch v := m.GetVersion(); {
	case v == 0:
		return fmt.Errorf("%w: %s without a version", ErrMalformed, m.ProtoReflect().Descriptor().Name())
	case v > Version:
		return fmt.Errorf("%w: %s of version %d, this is %d",
			rota.ErrNewerVersion, m.ProtoReflect().Descriptor().Name(), v, Version)
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

func encodeGrants(records []Grant) ([]byte, error) {
	page := &storepb.GrantPage{Version: Version, Grants: make([]*storepb.Grant, len(records))}
	for n, g := range records {
		page.Grants[n] = &storepb.Grant{
			Task: g.Instance.Task, Index: int64(g.Instance.Index), Generation: uint64(g.Generation),
			Session: g.Session, Revoked: g.Revoked, Spec: g.Spec, Reason: g.Reason,
		}
	}
	return Encode(page)
}

func decodeGrants(value []byte) ([]Grant, error) {
	var page storepb.GrantPage
	if err := Decode(value, &page); err != nil {
		return nil, err
	}
	out := make([]Grant, len(page.GetGrants()))
	for n, g := range page.GetGrants() {
		i, err := instance(g.GetTask(), g.GetIndex())
		if err != nil {
			return nil, err
		}
		out[n] = Grant{ownership.Grant{
			Instance: i, Generation: rota.Generation(g.GetGeneration()), Session: g.GetSession(),
			Revoked: g.GetRevoked(), Spec: g.GetSpec(), Reason: shared(g.GetReason()),
		}}
	}
	return out, nil
}

func encodeAcks(records []Ack) ([]byte, error) {
	page := &storepb.AckPage{Version: Version, Acks: make([]*storepb.Ack, len(records))}
	for n, a := range records {
		page.Acks[n] = &storepb.Ack{
			Task: a.Instance.Task, Index: int64(a.Instance.Index), Generation: uint64(a.Generation),
			State: string(a.State), Error: strings.ToValidUTF8(a.Error, "�"), Restarts: a.Restarts, SinceUnixMs: a.Since,
		}
		if a.Load >= 0 {
			page.Acks[n].Load = proto.Float64(float64(a.Load))
		}
	}
	return Encode(page)
}

func decodeAcks(value []byte) ([]Ack, error) {
	var page storepb.AckPage
	if err := Decode(value, &page); err != nil {
		return nil, err
	}
	out := make([]Ack, len(page.GetAcks()))
	for n, a := range page.GetAcks() {
		i, err := instance(a.GetTask(), a.GetIndex())
		if err != nil {
			return nil, err
		}
		load := float32(-1)
		if a.Load != nil {
			load = float32(a.GetLoad())
		}
		out[n] = Ack{
			Ack: ownership.Ack{
				Instance: i, Generation: rota.Generation(a.GetGeneration()), State: ownership.State(shared(a.GetState())),
				Error: a.GetError(), Restarts: a.GetRestarts(),
			},
			Since: a.GetSinceUnixMs(), Load: load,
		}
	}
	return out, nil
}

func instance(task string, index int64) (rota.Instance, error) {
	if task == "" || index < 0 || index >= rota.MaxReplicas {
		return rota.Instance{}, fmt.Errorf("%w: instance %s of task %q", ErrMalformed, strconv.FormatInt(index, 10), task)
	}
	return rota.Instance{Task: task, Index: int(index)}, nil
}

// shared keeps one copy of strings that many records have.
func shared(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}
