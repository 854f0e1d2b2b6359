package pools

import (
	"context"
	"fmt"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/scheduler/internal/events"
)

// tell records what happened to a pool, or to a worker of it.
func (k *Control) tell(kind, pool, worker, text string) {
	k.cfg.Events.Record(events.Event{Kind: kind, Subject: events.Subject{Pool: pool, Worker: worker}, Text: text})
}

// asked records what somebody has asked for.
func (k *Control) asked(ctx context.Context, kind, pool, text string) {
	k.cfg.Events.Record(events.Event{Kind: kind, Subject: events.Subject{Pool: pool}, Text: text, Who: auth.From(ctx).Name})
}

// brief is what a pool is to be, for people.
func brief(p engine.Pool) string { return fmt.Sprintf("engine %s, size %v", p.Engine, p.Size) }
