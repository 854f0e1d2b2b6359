package pools

import (
	"strings"
	"time"

	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/scheduler/internal/fleet"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
)

// maxNotes is how many notes of a pool are kept.
const maxNotes = 20

// toStore is a pool as the store keeps it.
func toStore(p engine.Pool) *storepb.Pool {
	t := p.Template
	return &storepb.Pool{
		Version: record.Version, Name: p.Name, Engine: p.Engine, From: int64(p.Size.From), To: int64(p.Size.To),
		Preference: int64(p.Preference), IdleAfterMs: p.IdleAfter.Milliseconds(), StartTimeoutMs: p.StartTimeout.Milliseconds(),
		Options: p.Options,
		Template: &storepb.PoolTemplate{
			Role: t.Role, Zone: t.Zone, Labels: t.Labels, Kinds: t.Kinds, Capacity: t.Capacity,
			MaxTasks: int64(t.MaxTasks), Strength: t.Strength, Command: t.Command,
		},
	}
}

// fromStore is a pool that the store keeps.
func fromStore(m *storepb.Pool) engine.Pool {
	return engine.Pool{
		Name: m.GetName(), Engine: m.GetEngine(), Size: engine.Size{From: int(m.GetFrom()), To: int(m.GetTo())},
		Preference: int(m.GetPreference()), IdleAfter: millis(m.GetIdleAfterMs()), StartTimeout: millis(m.GetStartTimeoutMs()),
		Options: m.GetOptions(), Template: templateOf(m.GetTemplate()),
	}
}

// templateOf is a template that the store keeps.
func templateOf(t *storepb.PoolTemplate) engine.Template {
	return engine.Template{
		Role: t.GetRole(), Zone: t.GetZone(), Labels: t.GetLabels(), Kinds: t.GetKinds(), Capacity: t.GetCapacity(),
		MaxTasks: int(t.GetMaxTasks()), Strength: t.GetStrength(), Command: t.GetCommand(),
	}
}

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// moment is a time as package fleet has it.
func moment(t time.Time) fleet.Time {
	if t.IsZero() {
		return 0
	}
	return time.Duration(t.UnixNano())
}

func memoryOf(m *storepb.PoolState) fleet.Memory {
	return fleet.Memory{
		Size: int(m.GetSize()), Failures: int(m.GetFailures()), Error: m.GetError(), ErrorAt: millis(m.GetErrorUnixMs()),
		RetryAt: millis(m.GetRetryUnixMs()), WaitingSince: millis(m.GetWaitingSinceUnixMs()), SpareSince: millis(m.GetSpareSinceUnixMs()),
	}
}

func stateOf(pool string, m fleet.Memory, notes []string) *storepb.PoolState {
	for n := range notes {
		notes[n] = strings.ToValidUTF8(notes[n], "?")
	}
	return &storepb.PoolState{
		Version: record.Version, Name: pool, Size: int64(m.Size), Failures: int64(m.Failures), Error: strings.ToValidUTF8(m.Error, "?"),
		ErrorUnixMs: m.ErrorAt.Milliseconds(), RetryUnixMs: m.RetryAt.Milliseconds(), WaitingSinceUnixMs: m.WaitingSince.Milliseconds(),
		SpareSinceUnixMs: m.SpareSince.Milliseconds(), Notes: notes[:min(len(notes), maxNotes)],
	}
}
