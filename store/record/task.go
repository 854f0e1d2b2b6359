package record

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store/storepb"
	"github.com/rota-project/rota/store/table"
)

// Task is a declared task.
type Task struct {
	Task rota.Task
	// Source says who declared it: empty for the API, else the name of a source.
	Source string
}

// Key is the task's key in its table, its id.
func (t *Task) Key() string { return t.Task.ID }

// Tasks is how pages of tasks are written: as TaskPage, with the defaults of
// empty fields spelled out.
var Tasks = table.Codec[Task]{
	Key:    (*Task).Key,
	Size:   taskSize,
	Equal:  func(a, b *Task) bool { return a.Source == b.Source && a.Task.Equal(b.Task) },
	Encode: encodeTasks,
	Decode: decodeTasks,
}

func taskSize(r *Task) int {
	t := &r.Task
	n := 48 + len(t.ID) + len(t.Kind) + len(t.Group) + len(t.Key) + len(t.Payload) + len(r.Source)
	for name := range t.Resources {
		n += len(name) + 16
	}
	for _, s := range t.Rules.Require {
		n += len(s) + 4
	}
	for _, p := range t.Rules.Prefer {
		n += len(p.Label) + 16
	}
	for _, a := range t.Rules.Affinity {
		n += len(a.Task) + len(a.Group) + 24
	}
	if s := t.Rules.Spread; s != nil {
		n += len(s.Label) + 16
		for value := range s.Shares {
			n += len(value) + 16
		}
	}
	return n + len(t.Rules.Gang) + len(t.Rules.Pinned) + 8
}

// plain reports whether the task has none of what is rare.
func plain(t *rota.Task) bool {
	r := &t.Rules
	return len(t.Resources) == 0 && len(r.Require) == 0 && len(r.Prefer) == 0 && len(r.Affinity) == 0 &&
		r.Spread == nil && r.Gang == "" && r.Pinned == "" && !r.Preempt
}

// checkTask returns an error for what would make the task differ from itself
// when it is read back. All else is for Task.Validate where tasks come in.
func checkTask(t *rota.Task) error {
	if err := checkID(t.ID); err != nil {
		return err
	}
	if math.IsNaN(t.Weight) || math.IsInf(t.Weight, 0) {
		return &rota.FieldError{Field: "weight", Value: t.Weight, Want: "a finite number"}
	}
	if math.IsNaN(t.Priority) || math.IsInf(t.Priority, 0) {
		return &rota.FieldError{Field: "priority", Value: t.Priority, Want: "a finite number"}
	}
	if t.Replicas < 0 || t.Replicas > rota.MaxReplicas {
		return &rota.FieldError{Field: "replicas", Value: t.Replicas, Want: fmt.Sprintf("1 to %d", rota.MaxReplicas)}
	}
	if plain(t) {
		return nil
	}
	return t.Validate()
}

func encodeTasks(tasks []Task) ([]byte, error) {
	hint := 8
	for i := range tasks {
		hint += taskSize(&tasks[i])
	}
	return appendPage(hint, len(tasks), func(b []byte, i int) ([]byte, error) {
		t := tasks[i].Task.Normalize()
		if err := checkTask(&t); err != nil {
			return nil, fmt.Errorf("task %q: %w", t.ID, err)
		}
		if !plain(&t) {
			out, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, toProto(&t, tasks[i].Source))
			if err != nil {
				return nil, fmt.Errorf("task %q: %w", t.ID, err)
			}
			return out, nil
		}
		b = appendString(b, 1, t.ID)
		b = appendString(b, 2, t.Kind)
		b = appendString(b, 3, t.Group)
		b = appendString(b, 4, t.Key)
		b = appendDouble(b, 5, t.Weight)
		b = appendDouble(b, 6, t.Priority)
		b = appendBytes(b, 7, t.Payload)
		b = appendVarint(b, 8, uint64(t.Replicas))
		b = appendBool(b, 9, t.Mode == rota.Available)
		return appendString(b, 12, tasks[i].Source), nil
	})
}

func decodeTasks(value []byte) ([]Task, error) {
	var tasks []Task
	var kind, group, key, source shared
	err := records(value, func(n int) { tasks = make([]Task, 0, n) }, func(b []byte) error {
		r := Task{Task: rota.Task{Mode: rota.Exclusive}}
		t := &r.Task
		rare := false
		f := message{rest: b}
		for f.next() {
			switch {
			case f.is(1, protowire.BytesType):
				t.ID = string(f.bytes)
			case f.is(2, protowire.BytesType):
				t.Kind = kind.of(f.bytes)
			case f.is(3, protowire.BytesType):
				t.Group = group.of(f.bytes)
			case f.is(4, protowire.BytesType):
				t.Key = key.of(f.bytes)
			case f.is(5, protowire.Fixed64Type):
				t.Weight = f.float()
			case f.is(6, protowire.Fixed64Type):
				t.Priority = f.float()
			case f.is(7, protowire.BytesType):
				if t.Payload = nil; len(f.bytes) > 0 {
					t.Payload = append([]byte(nil), f.bytes...)
				}
			case f.is(8, protowire.VarintType):
				t.Replicas = int(f.varint)
			case f.is(9, protowire.VarintType):
				if t.Mode = rota.Exclusive; f.bool() {
					t.Mode = rota.Available
				}
			case f.is(10, protowire.BytesType), f.is(11, protowire.BytesType):
				rare = true
			case f.is(12, protowire.BytesType):
				r.Source = source.of(f.bytes)
			}
		}
		err := f.err
		if err == nil && rare {
			var m storepb.Task
			if err = proto.Unmarshal(b, &m); err == nil {
				fromProto(t, &m)
			}
		}
		if err == nil {
			err = checkTask(t)
		}
		if err != nil {
			return fmt.Errorf("%w: task %d: %w", ErrGarbage, len(tasks), err)
		}
		tasks = append(tasks, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tasks, nil
}

// toProto spells a task out, with what is rare.
func toProto(t *rota.Task, source string) *storepb.Task {
	m := &storepb.Task{
		Id: t.ID, Kind: t.Kind, Group: t.Group, Key: t.Key, Weight: t.Weight, Priority: t.Priority,
		Payload: t.Payload, Replicas: int64(t.Replicas), Available: t.Mode == rota.Available,
		Resources: t.Resources, Source: source,
		Rules: &storepb.Rules{Require: t.Rules.Require, Gang: t.Rules.Gang, Pinned: t.Rules.Pinned, Preempt: t.Rules.Preempt},
	}
	for _, p := range t.Rules.Prefer {
		m.Rules.Prefer = append(m.Rules.Prefer, &storepb.Preference{Label: p.Label, Weight: p.Weight})
	}
	for _, a := range t.Rules.Affinity {
		m.Rules.Affinity = append(m.Rules.Affinity, &storepb.Affinity{
			Task: a.Task, Group: a.Group, Anti: a.Anti, Required: a.Required, Weight: a.Weight,
		})
	}
	if s := t.Rules.Spread; s != nil {
		m.Rules.Spread = &storepb.Spread{Label: s.Label, Shares: s.Shares, ByGroup: s.ByGroup}
	}
	return m
}

// fromProto fills in what is rare.
func fromProto(t *rota.Task, m *storepb.Task) {
	t.Resources = m.GetResources()
	r := m.GetRules()
	t.Rules = rota.Rules{Require: r.GetRequire(), Gang: r.GetGang(), Pinned: r.GetPinned(), Preempt: r.GetPreempt()}
	for _, p := range r.GetPrefer() {
		t.Rules.Prefer = append(t.Rules.Prefer, rota.Preference{Label: p.GetLabel(), Weight: p.GetWeight()})
	}
	for _, a := range r.GetAffinity() {
		t.Rules.Affinity = append(t.Rules.Affinity, rota.Affinity{
			Task: a.GetTask(), Group: a.GetGroup(), Anti: a.GetAnti(), Required: a.GetRequired(), Weight: a.GetWeight(),
		})
	}
	if s := r.GetSpread(); s != nil {
		t.Rules.Spread = &rota.Spread{Label: s.GetLabel(), Shares: s.GetShares(), ByGroup: s.GetByGroup()}
	}
}
