// Package convert turns the words of package rota into the messages of the
// API and back, in one place for the scheduler's API server, the command line
// and the readers of task files.
//
// It decides nothing and keeps nothing: values in, values out.
package convert

import (
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/placement"
)

// TaskToProto returns t as the API spells it. A payload that is UTF-8 text goes
// into payload, any other into payload_base64. Maps are shared, not copied.
func TaskToProto(t rota.Task) *rotav1.TaskDefinition {
	d := &rotav1.TaskDefinition{
		Id: t.ID, Kind: t.Kind, Group: t.Group, Key: t.Key,
		Weight: t.Weight, Priority: t.Priority,
		Replicas: int64(t.Replicas), Mode: string(t.Mode),
		Resources: t.Resources, Require: t.Rules.Require,
		Gang: t.Rules.Gang, Pinned: t.Rules.Pinned, Preempt: t.Rules.Preempt,
	}
	if utf8.Valid(t.Payload) {
		d.Payload = string(t.Payload)
	} else {
		d.PayloadBase64 = t.Payload
	}
	for _, p := range t.Rules.Prefer {
		d.Prefer = append(d.Prefer, &rotav1.Preference{Label: p.Label, Weight: p.Weight})
	}
	for _, a := range t.Rules.Affinity {
		d.Affinity = append(d.Affinity, &rotav1.Affinity{
			Task: a.Task, Group: a.Group, Anti: a.Anti, Required: a.Required, Weight: a.Weight,
		})
	}
	if s := t.Rules.Spread; s != nil {
		d.Spread = &rotav1.Spread{Label: s.Label, Shares: s.Shares, ByGroup: s.ByGroup}
	}
	return d
}

// TaskFromProto returns d as a task. It validates it; an error is a
// *rota.FieldError. Maps are shared, not copied.
func TaskFromProto(d *rotav1.TaskDefinition) (rota.Task, error) {
	t := rota.Task{
		ID: d.GetId(), Kind: d.GetKind(), Group: d.GetGroup(), Key: d.GetKey(),
		Weight: d.GetWeight(), Priority: d.GetPriority(),
		Mode: rota.Mode(d.GetMode()), Resources: d.GetResources(),
		Rules: rota.Rules{
			Require: d.GetRequire(), Gang: d.GetGang(), Pinned: d.GetPinned(), Preempt: d.GetPreempt(),
		},
	}
	switch {
	case d.GetPayload() != "" && len(d.GetPayloadBase64()) > 0:
		return rota.Task{}, &rota.FieldError{Field: "payload_base64", Value: "both", Want: "only one of payload and payload_base64"}
	case d.GetPayload() != "":
		t.Payload = []byte(d.GetPayload())
	case len(d.GetPayloadBase64()) > 0:
		t.Payload = d.GetPayloadBase64()
	}
	if n := d.GetReplicas(); n < math.MinInt32 || n > math.MaxInt32 {
		return rota.Task{}, &rota.FieldError{Field: "replicas", Value: n, Want: fmt.Sprintf("1 to %d", rota.MaxReplicas)}
	}
	t.Replicas = int(d.GetReplicas())
	for _, p := range d.GetPrefer() {
		t.Rules.Prefer = append(t.Rules.Prefer, rota.Preference{Label: p.GetLabel(), Weight: p.GetWeight()})
	}
	for _, a := range d.GetAffinity() {
		t.Rules.Affinity = append(t.Rules.Affinity, rota.Affinity{
			Task: a.GetTask(), Group: a.GetGroup(), Anti: a.GetAnti(), Required: a.GetRequired(), Weight: a.GetWeight(),
		})
	}
	if s := d.GetSpread(); s != nil {
		t.Rules.Spread = &rota.Spread{Label: s.GetLabel(), Shares: s.GetShares(), ByGroup: s.GetByGroup()}
	}
	if err := t.Validate(); err != nil {
		return rota.Task{}, err
	}
	return t, nil
}

// TasksToProto is TaskToProto for a list.
func TasksToProto(tasks []rota.Task) []*rotav1.TaskDefinition {
	defs := make([]*rotav1.TaskDefinition, len(tasks))
	for i, t := range tasks {
		defs[i] = TaskToProto(t)
	}
	return defs
}

// TasksFromProto is TaskFromProto for a list in which no id may come twice. The
// field of its *rota.FieldError says which task is wrong: "tasks[3].weight".
func TasksFromProto(defs []*rotav1.TaskDefinition) ([]rota.Task, error) {
	tasks := make([]rota.Task, len(defs))
	seen := make(map[string]int, len(defs))
	for i, d := range defs {
		t, err := TaskFromProto(d)
		if err != nil {
			return nil, inTask(i, err)
		}
		if first, twice := seen[t.ID]; twice {
			return nil, inTask(i, &rota.FieldError{Field: "id", Value: t.ID, Want: fmt.Sprintf("an id of its own; tasks[%d] has it too", first)})
		}
		seen[t.ID] = i
		tasks[i] = t
	}
	return tasks, nil
}

func inTask(i int, err error) error {
	if fe, ok := err.(*rota.FieldError); ok { //nolint:errorlint // made by TaskFromProto, never wrapped
		return &rota.FieldError{Field: fmt.Sprintf("tasks[%d].%s", i, fe.Field), Value: fe.Value, Want: fe.Want}
	}
	return err
}

// PlanToProto returns p as the API spells it. already has what waits without p too.
func PlanToProto(p rota.Plan, already map[rota.Instance]bool) *rotav1.Plan {
	out := &rotav1.Plan{
		Moves:   make([]*rotav1.Move, len(p.Moves)),
		Waiting: make([]*rotav1.WaitingInstance, len(p.Waiting)),
		Summary: &rotav1.PlanSummary{
			Moves:  int64(len(p.Moves)),
			Forced: int64(p.Summary.Forced), Chosen: int64(p.Summary.Chosen),
			Placed: int64(p.Summary.Placed), Stopped: int64(p.Summary.Stopped), Waiting: int64(p.Summary.Waiting),
			ImbalanceBefore: p.Summary.ImbalanceBefore, ImbalanceAfter: p.Summary.ImbalanceAfter,
		},
	}
	for i, m := range p.Moves {
		out.Moves[i] = &rotav1.Move{
			Task: m.Instance.Task, Index: int64(m.Instance.Index), From: m.From, To: m.To, Reason: m.Reason, Forced: m.Forced, Code: m.Code.String(),
		}
	}
	for i, w := range p.Waiting {
		out.Waiting[i] = &rotav1.WaitingInstance{
			Task: w.Instance.Task, Index: int64(w.Instance.Index), Reason: w.Reason, Code: w.Code.String(), Already: already[w.Instance],
		}
		if already[w.Instance] {
			out.Summary.WaitingAlready++
		}
	}
	return out
}

// WhyRowToProto returns a row of the table of workers and rules as the API spells it.
func WhyRowToProto(w placement.WorkerWhy) *rotav1.WhyWorker {
	m := whyWorkerToProto(w.Worker, w.Obstacle)
	m.Chosen = w.Chosen
	for _, f := range w.Findings {
		m.Findings = append(m.Findings, &rotav1.WhyFinding{Rule: string(f.Rule), Name: f.Name, Outcome: string(f.Outcome), Value: f.Value, Limit: f.Limit})
	}
	return m
}

// whyWorkerToProto returns what keeps something from a worker as the API spells it.
func whyWorkerToProto(worker string, o placement.Obstacle) *rotav1.WhyWorker {
	if o.Code == "" {
		return &rotav1.WhyWorker{Worker: worker, Fits: true}
	}
	return &rotav1.WhyWorker{
		Worker: worker, Reason: o.String(), Code: string(o.Code), Name: o.Name, Need: o.Need, Left: o.Left, Has: o.Has,
	}
}
