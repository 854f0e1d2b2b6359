package record

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/internal/storepb"
)

// Task is a declared task, the defaults of empty fields spelled out, and who
// declared it: "" for the API, else the name of a source. It is read-only. There
// may be a million of them, so what is the same in many is behind one pointer that
// they share, and what few tasks have behind another; Task puts it together again.
type Task struct {
	ID     string
	Weight float64
	*what
}

// what is all but the name and the weight of a task. It never changes.
type what struct {
	Kind, Group, Key string
	Priority         float64
	Payload          []byte
	Replicas         int
	Mode             rota.Mode
	Source           string
	rare             *rare
}

// rare is what few tasks have.
type rare struct {
	resources map[string]float64
	rules     rota.Rules
}

// NewTask is the record of a task.
func NewTask(t rota.Task, source string) Task { return like(nil, t, source) }

// like is the record of a task, which shares with another, of which it may be nil, what
// both have.
func like(other *what, t rota.Task, source string) Task {
	t = t.Normalize()
	w := what{
		Kind: t.Kind, Group: t.Group, Key: t.Key, Priority: t.Priority,
		Payload: t.Payload, Replicas: t.Replicas, Mode: t.Mode, Source: source,
	}
	if u := &t.Rules; len(t.Resources)+len(u.Require)+len(u.Prefer)+len(u.Affinity)+len(u.Gang)+len(u.Pinned) > 0 ||
		u.Spread != nil || u.Preempt {
		w.rare = &rare{t.Resources, t.Rules}
	}
	if other == nil || w.rare != nil || !w.same(other) {
		fresh := w
		other = &fresh
	}
	return Task{t.ID, t.Weight, other}
}

// same reports whether w, of which nothing is rare, says the same as v.
func (w *what) same(v *what) bool {
	return w.Kind == v.Kind && w.Group == v.Group && w.Key == v.Key && w.Priority == v.Priority && bytes.Equal(w.Payload, v.Payload) &&
		w.Replicas == v.Replicas && w.Mode == v.Mode && w.Source == v.Source && v.rare == nil
}

// Task is the task that was declared.
func (t *Task) Task() rota.Task {
	out := rota.Task{
		ID: t.ID, Kind: t.Kind, Group: t.Group, Key: t.Key, Weight: t.Weight, Priority: t.Priority,
		Payload: t.Payload, Replicas: t.Replicas, Mode: t.Mode,
	}
	if t.rare != nil {
		out.Resources, out.Rules = t.rare.resources, t.rare.rules
	}
	return out
}

// Resources are what one instance takes of a worker's capacity; nil for nothing.
func (t *Task) Resources() map[string]float64 {
	if t.rare == nil {
		return nil
	}
	return t.rare.resources
}

func (t *Task) equal(u *Task) bool {
	if t.what == u.what {
		return t.ID == u.ID && t.Weight == u.Weight
	}
	return t.Source == u.Source && t.Task().Equal(u.Task())
}

func sizeOfTask(t *Task) int {
	n := 64 + len(t.ID) + len(t.Kind) + len(t.Group) + len(t.Key) + len(t.Payload) + len(t.Source)
	if t.rare != nil {
		n += proto.Size(t.wire())
	}
	return n
}

func encodeTasks(tasks []Task, gone []string) ([]byte, error) {
	hint := 8
	for i := range tasks {
		hint += sizeOfTask(&tasks[i])
	}
	return appendPage(hint, len(tasks), gone, func(b []byte, i int) ([]byte, error) {
		t := &tasks[i]
		if err := t.Task().Validate(); err != nil {
			return nil, fmt.Errorf("task %q: %w", t.ID, err)
		}
		if t.rare != nil {
			out, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, t.wire())
			if err != nil {
				return nil, fmt.Errorf("task %q: %w", t.ID, err)
			}
			return out, nil
		}
		b = appendString(b, 1, t.ID)
		b = appendString(b, 2, t.Kind)
		b = appendString(b, 3, t.Group)
		b = appendString(b, 4, t.Key)
		b = appendFixed(b, 5, bits(t.Weight))
		b = appendFixed(b, 6, bits(t.Priority))
		b = appendBytes(b, 7, t.Payload)
		b = appendVarint(b, 8, uint64(t.Replicas))
		b = appendBool(b, 9, t.Mode == rota.Available)
		return appendString(b, 12, t.Source), nil
	})
}

func decodeTasks(value []byte) ([]Task, []string, error) {
	var tasks []Task
	var kind, group, key, source shared
	var last *what
	gone, err := records(value, func(n int) { tasks = make([]Task, 0, n) }, func(b []byte) error {
		t := rota.Task{Mode: rota.Exclusive}
		from, isRare := "", false
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
				isRare = true
			case f.is(12, protowire.BytesType):
				from = source.of(f.bytes)
			}
		}
		err := f.err
		if err == nil && isRare {
			var m storepb.Task
			if err = proto.Unmarshal(b, &m); err == nil {
				fromWire(&t, &m)
			}
		}
		if err == nil {
			err = t.Validate()
		}
		if err != nil {
			return fmt.Errorf("%w: task %d: %w", ErrMalformed, len(tasks), err)
		}
		r := like(last, t, from)
		last = r.what
		tasks = append(tasks, r)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return tasks, gone, nil
}

// wire spells a task out, with what is rare.
func (t *Task) wire() *storepb.Task {
	m := &storepb.Task{
		Id: t.ID, Kind: t.Kind, Group: t.Group, Key: t.Key, Weight: t.Weight, Priority: t.Priority,
		Payload: t.Payload, Replicas: int64(t.Replicas), Available: t.Mode == rota.Available, Source: t.Source,
	}
	if t.rare == nil {
		return m
	}
	m.Resources = t.rare.resources
	r := &t.rare.rules
	m.Rules = &storepb.Rules{Require: r.Require, Gang: r.Gang, Pinned: r.Pinned, Preempt: r.Preempt}
	for _, p := range r.Prefer {
		m.Rules.Prefer = append(m.Rules.Prefer, &storepb.Preference{Label: p.Label, Weight: p.Weight})
	}
	for _, a := range r.Affinity {
		m.Rules.Affinity = append(m.Rules.Affinity, &storepb.Affinity{
			Task: a.Task, Group: a.Group, Anti: a.Anti, Required: a.Required, Weight: a.Weight,
		})
	}
	if s := r.Spread; s != nil {
		m.Rules.Spread = &storepb.Spread{Label: s.Label, Shares: s.Shares, ByGroup: s.ByGroup}
	}
	return m
}

// fromWire fills in what is rare.
func fromWire(t *rota.Task, m *storepb.Task) {
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
