package record

import (
	"fmt"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store/storepb"

	"google.golang.org/protobuf/proto"
)

func sizeOfTask(t *Task) int {
	n := 64 + len(t.ID) + len(t.Kind) + len(t.Group) + len(t.Key) + len(t.Payload) + len(t.Source)
	if len(t.Resources) > 0 || !isZero(t.Rules) {
		n += proto.Size(wireOfTask(t))
	}
	return n
}

func isZero(r rota.Rules) bool {
	return len(r.Require)+len(r.Prefer)+len(r.Affinity)+len(r.Gang)+len(r.Pinned) == 0 && r.Spread == nil && !r.Preempt
}

func encodeTasks(records []Task) ([]byte, error) {
	page := &storepb.TaskPage{Version: Version, Tasks: make([]*storepb.Task, len(records))}
	for n := range records {
		page.Tasks[n] = wireOfTask(&records[n])
	}
	return Encode(page)
}

func decodeTasks(value []byte) ([]Task, error) {
	var page storepb.TaskPage
	if err := Decode(value, &page); err != nil {
		return nil, err
	}
	out := make([]Task, len(page.GetTasks()))
	for n, t := range page.GetTasks() {
		out[n] = taskOf(t)
		if err := out[n].Validate(); err != nil {
			return nil, fmt.Errorf("%w: task: %w", ErrMalformed, err)
		}
	}
	return out, nil
}

func wireOfTask(t *Task) *storepb.Task {
	out := &storepb.Task{
		Id: t.ID, Kind: t.Kind, Group: t.Group, Key: t.Key, Weight: t.Weight, Priority: t.Priority, Payload: t.Payload,
		Replicas: int64(t.Replicas), Available: t.Mode == rota.Available, Resources: t.Resources, Source: t.Source,
	}
	if isZero(t.Rules) {
		return out
	}
	r := &storepb.Rules{Require: t.Rules.Require, Gang: t.Rules.Gang, Pinned: t.Rules.Pinned, Preempt: t.Rules.Preempt}
	for _, p := range t.Rules.Prefer {
		r.Prefer = append(r.Prefer, &storepb.Preference{Label: p.Label, Weight: p.Weight})
	}
	for _, a := range t.Rules.Affinity {
		r.Affinity = append(r.Affinity, &storepb.Affinity{
			Task: a.Task, Group: a.Group, Anti: a.Anti, Required: a.Required, Weight: a.Weight,
		})
	}
	if s := t.Rules.Spread; s != nil {
		r.Spread = &storepb.Spread{Label: s.Label, Shares: s.Shares, ByGroup: s.ByGroup}
	}
	out.Rules = r
	return out
}

func taskOf(t *storepb.Task) Task {
	out := Task{Source: shared(t.GetSource()), Task: rota.Task{
		ID: t.GetId(), Kind: shared(t.GetKind()), Group: shared(t.GetGroup()), Key: t.GetKey(), Weight: t.GetWeight(),
		Priority: t.GetPriority(), Payload: t.GetPayload(), Replicas: int(t.GetReplicas()), Mode: rota.Exclusive,
		Resources: t.GetResources(),
	}}
	if t.GetAvailable() {
		out.Mode = rota.Available
	}
	r := t.GetRules()
	if r == nil {
		return out
	}
	out.Rules = rota.Rules{Require: r.GetRequire(), Gang: r.GetGang(), Pinned: r.GetPinned(), Preempt: r.GetPreempt()}
	for _, p := range r.GetPrefer() {
		out.Rules.Prefer = append(out.Rules.Prefer, rota.Preference{Label: p.GetLabel(), Weight: p.GetWeight()})
	}
	for _, a := range r.GetAffinity() {
		out.Rules.Affinity = append(out.Rules.Affinity, rota.Affinity{
			Task: a.GetTask(), Group: a.GetGroup(), Anti: a.GetAnti(), Required: a.GetRequired(), Weight: a.GetWeight(),
		})
	}
	if s := r.GetSpread(); s != nil {
		out.Rules.Spread = &rota.Spread{Label: s.GetLabel(), Shares: s.GetShares(), ByGroup: s.GetByGroup()}
	}
	return out
}
