package convert

import (
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/engine"
)

// PoolFromProto returns d as a pool, with its defaults filled in. It validates it; an error
// is a *rota.FieldError. Maps are shared, not copied.
func PoolFromProto(d *rotav1.PoolDefinition) (engine.Pool, error) {
	for _, n := range []struct {
		field string
		value int64
	}{
		{"size.from", d.GetSize().GetFrom()},
		{"size.to", d.GetSize().GetTo()},
		{"preference", d.GetPreference()},
		{"template.max_tasks", d.GetTemplate().GetMaxTasks()},
	} {
		if n.value != int64(int32(n.value)) {
			return engine.Pool{}, &rota.FieldError{Field: n.field, Value: n.value, Want: "a number of at most nine digits"}
		}
	}
	for _, n := range []struct {
		field string
		value int64
	}{{"idle_after_ms", d.GetIdleAfterMs()}, {"start_timeout_ms", d.GetStartTimeoutMs()}} {
		if n.value < 0 || n.value > engine.MaxDuration.Milliseconds() {
			return engine.Pool{}, &rota.FieldError{Field: n.field, Value: n.value, Want: "milliseconds, at most a week"}
		}
	}
	t := d.GetTemplate()
	p := engine.Pool{
		Name: d.GetName(), Engine: d.GetEngine(), Size: engine.Size{From: int(d.GetSize().GetFrom()), To: int(d.GetSize().GetTo())},
		Preference: int(d.GetPreference()), IdleAfter: millis(d.GetIdleAfterMs()), StartTimeout: millis(d.GetStartTimeoutMs()),
		Options: d.GetOptions(),
		Template: engine.Template{
			Role: t.GetRole(), Zone: t.GetZone(), Labels: t.GetLabels(), Kinds: t.GetKinds(), Capacity: t.GetCapacity(),
			MaxTasks: int(t.GetMaxTasks()), Strength: t.GetStrength(), Command: t.GetCommand(),
		},
	}
	if err := p.Validate(); err != nil {
		return p, err
	}
	if d.GetSize() == nil {
		return p, engine.NoSize()
	}
	return p.Normalize(), nil
}

// PoolToProto returns p as the API spells it. Maps are shared, not copied.
func PoolToProto(p engine.Pool) *rotav1.PoolDefinition {
	t := p.Template
	return &rotav1.PoolDefinition{
		Name: p.Name, Engine: p.Engine, Size: &rotav1.PoolSize{From: int64(p.Size.From), To: int64(p.Size.To)},
		Preference: int64(p.Preference), IdleAfterMs: p.IdleAfter.Milliseconds(), StartTimeoutMs: p.StartTimeout.Milliseconds(),
		Options: p.Options,
		Template: &rotav1.PoolTemplate{
			Role: t.Role, Zone: t.Zone, Labels: t.Labels, Kinds: t.Kinds, Capacity: t.Capacity,
			MaxTasks: int64(t.MaxTasks), Strength: t.Strength, Command: t.Command,
		},
	}
}

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
