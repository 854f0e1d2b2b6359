package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// checkSubmitted is nil if the task runs the scheduler function of a submitted
// program, and is nothing else under such an id.
func checkSubmitted(t *record.Task) error {
	if !strings.HasPrefix(t.Kind, rota.ProgramSchedulerKind) {
		return status.Errorf(codes.PermissionDenied, "task %q does not run the scheduler function of a program", t.ID)
	}
	return nil
}

// permit is nil if the caller may run the program's scheduler function: anybody
// of the role that the method takes, attached; the worker that holds the task of
// it, detached, and nobody else.
func (a *attachment) permit(ctx context.Context) error {
	if a.name == record.Submitted {
		return convert.FieldStatus("name", fmt.Sprintf("%q: want another name; this one is for tasks of submitted programs", a.name))
	}
	who := auth.From(ctx)
	switch {
	case !a.detached && who.Worker != "":
		return status.Errorf(codes.PermissionDenied, "worker %s may attach a program only if it holds the task that runs the program's scheduler function", who.Worker)
	case !a.detached && who.Role >= auth.Submitter:
		return nil
	case !a.detached:
		return status.Errorf(codes.PermissionDenied, "%s may not attach a program: this needs the role %s", who.Name, auth.Submitter)
	case who.Worker == "" && who.Kind != auth.Local:
		return status.Errorf(codes.PermissionDenied, "only the worker that runs a submitted program may attach it, not %s", who.Name)
	}
	if err := a.caughtUp(ctx); err != nil {
		return err
	}
	var err error
	a.s.cfg.View.Read(func() {
		t, ok := a.s.cfg.View.Tasks.Get(record.SubmittedID(a.name))
		switch {
		case ok:
			if err = checkSubmitted(t); err == nil && a.s.cfg.View.Programs[a.name] == nil && a.replaced(t) {
				err = noHold(ctx, a.name) // what it holds is of one that was submitted before
			}
		case a.s.cfg.View.Programs[a.name] == nil: // one that ends may outlive its task for a moment
			err = noTask(record.SubmittedID(a.name))
		}
	})
	if err != nil {
		return err
	}
	return a.held(ctx)
}

// held is nil if the program is attached, or if the caller holds the task that
// runs its scheduler function, at this moment by the grants in the store.
func (a *attachment) held(ctx context.Context) error {
	if !a.detached || a.holds(ctx) {
		return nil
	}
	// The worker may have heard of its grant from another scheduler before this
	// one has read it.
	if err := a.caughtUp(ctx); err != nil {
		return err
	}
	if a.holds(ctx) {
		return nil
	}
	return noHold(ctx, a.name)
}

func noHold(ctx context.Context, name string) error {
	return status.Errorf(codes.PermissionDenied, "%s does not hold task %q", auth.From(ctx).Name, record.SubmittedID(name))
}

func (a *attachment) holds(ctx context.Context) (yes bool) {
	who, v := auth.From(ctx), a.s.cfg.View
	v.Read(func() {
		holders := v.Holders(rota.Instance{Task: record.SubmittedID(a.name)})
		yes = who.Worker != "" && slices.Contains(holders, who.Worker) || who.Kind == auth.Local && len(holders) > 0
	})
	return yes
}

// caughtUp returns when the picture has all that was in the store at the call.
func (a *attachment) caughtUp(ctx context.Context) error {
	_, _, rev, err := a.s.cfg.Store.Get(ctx, store.ProgramKey(a.name))
	if err != nil {
		return convert.ReadError(err)
	}
	if err := a.s.seen(ctx, rev); err != nil {
		return convert.ReadError(err)
	}
	return nil
}

// within is nil if a task keeps within its program: it is run by a function that
// a worker registered for programs, and neither moves nor holds up tasks of others.
func (a *attachment) within(t rota.Task) error {
	own := record.Submitted + "/" + a.name
	refuse := func(field, want string) error {
		return convert.FieldStatus("set."+field, fmt.Sprintf("task %q: %s", t.ID, want))
	}
	r := t.Rules
	switch {
	case len(t.Kind) == len(rota.ProgramKind) || !strings.HasPrefix(t.Kind, rota.ProgramKind):
		return refuse("kind", fmt.Sprintf("%q: a program's tasks are of kind %sFUNCTION", t.Kind, rota.ProgramKind))
	case t.Group != "" && t.Group != own:
		return refuse("group", fmt.Sprintf("want %q, or none", own))
	case r.Gang != "" && !strings.HasPrefix(r.Gang, own+"/"):
		return refuse("gang", fmt.Sprintf("want it to begin with %q", own+"/"))
	case t.Priority != 0:
		return refuse("priority", "a program's tasks have none")
	case r.Preempt:
		return refuse("preempt", "a program's tasks displace nothing")
	case len(r.Affinity) > 0:
		return refuse("affinity", "a program's tasks have none")
	case t.Key != "":
		return refuse("key", "a program's tasks have none")
	case t.Replicas > 1:
		return refuse("replicas", "want 1")
	}
	return nil
}
