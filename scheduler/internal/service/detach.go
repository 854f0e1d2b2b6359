package service

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// end removes the program and all that is of it; its history stays if it moves, unless
// somebody has stopped it.
func (a *attachment) end(ctx context.Context, moves bool) error {
	var all []string
	v := a.s.cfg.View
	v.Read(func() {
		for t := range a.tasks() {
			all = append(all, t.ID)
		}
	})
	if err := a.write(ctx, nil, all); err != nil {
		return err
	}
	if err := a.released(ctx); err != nil {
		return err
	}
	over := a.detached && !moves
	if over {
		if err := a.forget(ctx); err != nil {
			return err
		}
	}
	if err := a.leave(ctx, over); err != nil {
		return err
	}
	return a.s.cfg.Store.Revoke(ctx, a.lease)
}

// leave frees the program's name, and drops what was kept for the next scheduler
// function of it if there will be none: it is over, somebody has stopped it meanwhile,
// or its task is another's. Both are one write, after which no stop can be accepted.
func (a *attachment) leave(ctx context.Context, over bool) error {
	key := store.ProgramKey(a.name)
	return a.s.again(ctx, func() (bool, error) {
		kv, ok, _, err := a.s.cfg.Store.Get(ctx, key)
		if err != nil || !ok {
			return true, err
		}
		m := &storepb.Program{}
		if err := record.Decode(kv.Value, m); err != nil {
			return true, err
		}
		if m.GetRun() != a.run {
			return true, nil
		}
		if a.detached && !over && (m.GetStop() != "" || a.succeeded()) {
			over = true
			if err := a.forget(ctx); err != nil {
				return false, err
			}
		}
		ops := []store.Op{{Key: key, Delete: true}}
		if over {
			ops = append(ops, store.Op{Key: store.HistoryKey(a.name), Delete: true})
		}
		done, _, err := a.s.fence.Txn(ctx, []store.Cond{{Key: key, By: store.ByMod, Revision: kv.Mod}}, ops)
		return done, err
	})
}

// forget deletes the task that ran the scheduler function of a program, see
// program.Submit, and what was kept for the next one. One that was submitted under the
// name since then stays.
func (a *attachment) forget(ctx context.Context) error {
	err := a.s.deleteTasks(ctx, []string{record.SubmittedID(a.name)}, func(t *record.Task) error {
		if a.replaced(t) {
			return noTask(t.ID)
		}
		return checkSubmitted(t)
	})
	if status.Code(err) == codes.NotFound {
		err = a.s.again(ctx, func() (bool, error) {
			done, _, err := a.s.fence.Txn(ctx, nil, []store.Op{{Key: store.HistoryKey(a.name), Delete: true}})
			return done, err
		})
	}
	return err
}

// succeeded reports whether the task that ran the scheduler function is gone, or is
// another by now.
func (a *attachment) succeeded() (yes bool) {
	v := a.s.cfg.View
	v.Read(func() {
		t, ok := v.Tasks.Get(record.SubmittedID(a.name))
		yes = !ok || a.replaced(t)
	})
	return yes
}

// replaced reports whether a task under the program's name is another than the one that
// its holders were granted. The view stands still.
func (a *attachment) replaced(t *record.Task) bool {
	v, i := a.s.cfg.View, rota.Instance{Task: t.ID}
	holders := v.Holders(i)
	return len(holders) > 0 && !slices.ContainsFunc(holders, func(worker string) bool {
		g, ok := v.Grant(worker, i)
		return ok && g.Spec == record.Spec(t)
	})
}

// released returns when no worker holds any of the program's tasks, which are deleted,
// or when for the time of a lease none of those that do has let go: a function that
// ignores its end may never. The program's name is its own until then.
func (a *attachment) released(ctx context.Context) error {
	v, patience := a.s.cfg.View, a.s.cfg.Lease
	least := math.MaxInt
	var deadline, told time.Time
	for {
		rev := v.Revision()
		held, now := a.holding(), time.Now()
		if held < least {
			least, deadline = held, now.Add(patience)
		}
		if held == 0 || now.After(deadline) {
			return nil
		}
		if now.Sub(told) > patience/4 {
			told = now
			if _, err := a.s.cfg.Store.KeepAlive(ctx, a.lease); err != nil {
				return err
			}
			if err := a.send(&rotav1.ToProgram{Body: &rotav1.ToProgram_Ending{Ending: &rotav1.ProgramEnding{Held: int64(held)}}}); err != nil {
				return err
			}
		}
		wait, cancel := context.WithTimeout(ctx, patience/4)
		err := v.Wait(wait, rev+1)
		cancel()
		if err != nil && ctx.Err() != nil {
			return err
		}
	}
}

// holding counts the grants of tasks that were the program's.
func (a *attachment) holding() (n int) {
	v := a.s.cfg.View
	v.Read(func() {
		for _, grants := range v.Grants {
			for g := range grants.From(a.prefix) {
				if !strings.HasPrefix(g.Instance.Task, a.prefix) {
					break
				}
				if _, others := v.Tasks.Get(g.Instance.Task); !others {
					n++
				}
			}
		}
	})
	return n
}
