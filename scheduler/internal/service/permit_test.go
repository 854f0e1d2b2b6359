package service_test

import (
	"strings"
	"testing"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func tokenOf(r auth.Role, kinds ...string) auth.Identity {
	return auth.Identity{Kind: auth.ByToken, ID: r.String(), Name: r.String(), Role: r, Kinds: kinds}
}

func certOf(worker string) auth.Identity {
	return auth.Identity{Kind: auth.ByCert, ID: worker, Name: worker, Worker: worker}
}

// rejection is what the program was told of its last change: "" if it was made.
func (p *program) rejection() (text string) {
	for {
		select {
		case m := <-p.heard:
			if m.GetRejected() != nil {
				text = m.GetRejected().GetText()
			}
		default:
			return text
		}
	}
}

// TestProgramKeepsWithin: a program declares tasks of its functions, and nothing by
// which it would run or hold up anything else.
func TestProgramKeepsWithin(t *testing.T) {
	t.Parallel()
	const function = rota.ProgramKind + "f"
	for name, c := range map[string]struct {
		task *rotav1.TaskDefinition
		who  auth.Identity
		want string // in the rejection; "" if it is good
	}{
		"good":                     {&rotav1.TaskDefinition{Kind: function, Group: "program/p", Gang: "program/p/1", Pinned: "w", Require: []string{"zone=a"}}, tokenOf(auth.Submitter), ""},
		"no kind":                  {&rotav1.TaskDefinition{}, tokenOf(auth.Submitter), "set.kind"},
		"default kind":             {&rotav1.TaskDefinition{Kind: rota.DefaultKind}, tokenOf(auth.Admin), "set.kind"},
		"a command's kind":         {&rotav1.TaskDefinition{Kind: "feed"}, tokenOf(auth.Admin), "set.kind"},
		"no function":              {&rotav1.TaskDefinition{Kind: rota.ProgramKind}, tokenOf(auth.Submitter), "set.kind"},
		"a scheduler function":     {&rotav1.TaskDefinition{Kind: rota.ProgramSchedulerKind + "f"}, tokenOf(auth.Admin), "set.kind"},
		"another's group":          {&rotav1.TaskDefinition{Kind: function, Group: "feeds"}, tokenOf(auth.Submitter), "set.group"},
		"another program's group":  {&rotav1.TaskDefinition{Kind: function, Group: "program/pp"}, tokenOf(auth.Submitter), "set.group"},
		"another's gang":           {&rotav1.TaskDefinition{Kind: function, Gang: "feeds"}, tokenOf(auth.Submitter), "set.gang"},
		"another program's gang":   {&rotav1.TaskDefinition{Kind: function, Gang: "program/pp/1"}, tokenOf(auth.Submitter), "set.gang"},
		"priority":                 {&rotav1.TaskDefinition{Kind: function, Priority: 1}, tokenOf(auth.Submitter), "set.priority"},
		"preempt":                  {&rotav1.TaskDefinition{Kind: function, Preempt: true}, tokenOf(auth.Submitter), "set.preempt"},
		"affinity":                 {&rotav1.TaskDefinition{Kind: function, Affinity: []*rotav1.Affinity{{Task: "feed", Anti: true, Required: true}}}, tokenOf(auth.Submitter), "set.affinity"},
		"key":                      {&rotav1.TaskDefinition{Kind: function, Key: "k"}, tokenOf(auth.Submitter), "set.key"},
		"replicas":                 {&rotav1.TaskDefinition{Kind: function, Replicas: 2}, tokenOf(auth.Submitter), "set.replicas"},
		"outside its name":         {&rotav1.TaskDefinition{Id: "q/a", Kind: function}, tokenOf(auth.Submitter), "begin with"},
		"limited to others":        {&rotav1.TaskDefinition{Kind: function}, tokenOf(auth.Submitter, "program/g", "feed"), "not valid for kind"},
		"limited to this":          {&rotav1.TaskDefinition{Kind: function}, tokenOf(auth.Submitter, "program/*"), ""},
		"instead of a common task": {&rotav1.TaskDefinition{Id: "p/common", Kind: function}, tokenOf(auth.Submitter), "somebody else"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(b *bench) {
				b.apply("p/common")
				p := b.attachAs(c.who, &rotav1.ProgramHello{Name: "p", Run: "r"})
				if c.task.GetId() == "" {
					c.task.Id = "p/a"
				}
				p.change(&rotav1.ProgramChange{Set: []*rotav1.TaskDefinition{c.task}})
				got := p.rejection()
				if (c.want == "") != (got == "") || !strings.Contains(got, c.want) && !strings.HasPrefix(c.want, "set.") {
					b.Errorf("rejected with %q, want %q", got, c.want)
				}
				d, err := b.svc.GetTask(b.Context(), &rotav1.GetTaskRequest{Id: c.task.GetId()})
				if declared := err == nil && d.GetTask().GetKind() == function; declared != (c.want == "") {
					b.Errorf("declared: %v", declared)
				}
				p.leave(b)
			})
		})
	}
}

// TestWhoAttaches: a submitter attaches programs; a worker the one whose scheduler
// function's task it holds, for as long as it does, and no other.
func TestWhoAttaches(t *testing.T) {
	t.Parallel()
	attached, detached := &rotav1.ProgramHello{Name: "p", Run: "r"}, &rotav1.ProgramHello{Name: "p", Run: "r", Detached: true}
	local := auth.Identity{Kind: auth.Local, Name: "local", Role: auth.Admin}
	for name, c := range map[string]struct {
		who   auth.Identity
		hello *rotav1.ProgramHello
		kind  string // of task program/p; "" if there is none
		held  string // by whom
		want  codes.Code
	}{
		"submitter":                   {tokenOf(auth.Submitter), attached, "", "", codes.OK},
		"viewer":                      {tokenOf(auth.Viewer), attached, "", "", codes.PermissionDenied},
		"without credentials":         {auth.From(t.Context()), attached, "", "", codes.PermissionDenied},
		"without them, detached":      {auth.From(t.Context()), detached, rota.ProgramSchedulerKind + "x", "w", codes.PermissionDenied},
		"worker, as a submitter":      {certOf("w"), attached, "", "", codes.PermissionDenied},
		"worker, attached, holding":   {certOf("w"), attached, rota.ProgramSchedulerKind + "x", "w", codes.PermissionDenied},
		"worker that holds it":        {certOf("w"), detached, rota.ProgramSchedulerKind + "x", "w", codes.OK},
		"worker that another has it":  {certOf("v"), detached, rota.ProgramSchedulerKind + "x", "w", codes.PermissionDenied},
		"worker that nobody has it":   {certOf("w"), detached, rota.ProgramSchedulerKind + "x", "", codes.PermissionDenied},
		"worker without such a task":  {certOf("w"), detached, "", "", codes.NotFound},
		"worker with a common task":   {certOf("w"), detached, "feed", "w", codes.PermissionDenied},
		"submitter, as a worker":      {tokenOf(auth.Submitter), detached, rota.ProgramSchedulerKind + "x", "w", codes.PermissionDenied},
		"admin, as a worker":          {tokenOf(auth.Admin), detached, rota.ProgramSchedulerKind + "x", "w", codes.PermissionDenied},
		"on this machine, as it does": {local, detached, rota.ProgramSchedulerKind + "x", "w", codes.OK},
		"on this machine, too early":  {local, detached, rota.ProgramSchedulerKind + "x", "", codes.PermissionDenied},
		"under the submitted's name":  {tokenOf(auth.Submitter), &rotav1.ProgramHello{Name: "program", Run: "r"}, "", "", codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(b *bench) {
				b.submitted(c.kind, c.held)
				p := b.attachAs(c.who, c.hello)
				if c.want == codes.OK {
					if m := <-p.heard; m.GetWelcome() == nil {
						b.Errorf("it hears %v", m)
					}
					p.leave(b)
					return
				}
				if err := <-p.ended; status.Code(err) != c.want {
					b.Errorf("%v, want %v", err, c.want)
				}
			})
		})
	}
}

// submitted declares task program/p, held by a worker.
func (b *bench) submitted(kind, worker string) {
	if kind == "" {
		return
	}
	b.applyAs(&rotav1.TaskDefinition{Id: "program/p", Kind: kind})
	if worker != "" {
		b.worker(worker, false)
		b.grant(worker, "program/p", 1, false, ownership.Running)
	}
}

func (b *bench) applyAs(d *rotav1.TaskDefinition) {
	if _, err := b.svc.ApplyTasks(b.Context(), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{d}}); err != nil {
		b.Fatal(err)
	}
}

// TestAttachedByHolderOnly: a worker that lost the task goes no further with the
// program, takes nothing of others with it, and nobody takes a program over by
// knowing its run.
func TestAttachedByHolderOnly(t *testing.T) {
	t.Parallel()
	hello := &rotav1.ProgramHello{Name: "p", Run: "r", Detached: true}
	bubble(t, func(b *bench) {
		b.submitted(rota.ProgramSchedulerKind+"x", "w")
		p := b.attachAs(certOf("w"), hello)
		set := &rotav1.ProgramChange{Set: []*rotav1.TaskDefinition{{Id: "p/a", Kind: rota.ProgramKind + "f"}}}
		p.change(set)
		if text := p.rejection(); text != "" {
			b.Fatal(text)
		}
		for name, c := range map[string]struct {
			who   auth.Identity
			hello *rotav1.ProgramHello
			want  codes.Code
		}{
			"another worker":      {certOf("v"), hello, codes.PermissionDenied},
			"a submitter":         {tokenOf(auth.Submitter), &rotav1.ProgramHello{Name: "p", Run: "r"}, codes.AlreadyExists},
			"a submitter, as one": {tokenOf(auth.Submitter), hello, codes.PermissionDenied},
		} {
			if err := <-b.attachAs(c.who, c.hello).ended; status.Code(err) != c.want {
				b.Errorf("%s takes it over: %v", name, err)
			}
		}
		// The task is another's now, as the store says.
		b.put(store.Op{Key: store.SessionKey("w"), Delete: true})
		b.ungrant("w", "program/p")
		b.worker("v", false)
		b.grant("v", "program/p", 2, false, ownership.Running)
		p.change(&rotav1.ProgramChange{Set: []*rotav1.TaskDefinition{{Id: "p/b", Kind: rota.ProgramKind + "f"}}})
		if err := <-p.ended; status.Code(err) != codes.PermissionDenied {
			b.Errorf("it goes on without its task: %v", err)
		}
		if _, err := b.svc.GetTask(b.Context(), &rotav1.GetTaskRequest{Id: "p/b"}); status.Code(err) != codes.NotFound {
			b.Errorf("it declared a task without its own: %v", err)
		}
	})
	bubble(t, func(b *bench) { // the end of one that lost it leaves the task of the other
		b.submitted(rota.ProgramSchedulerKind+"x", "w")
		p := b.attachAs(certOf("w"), hello)
		b.ungrant("w", "program/p")
		p.said <- &rotav1.FromProgram{Body: &rotav1.FromProgram_End{End: &rotav1.ProgramEnd{}}}
		if err := <-p.ended; err != nil {
			b.Error(err)
		}
		if _, err := b.svc.GetTask(b.Context(), &rotav1.GetTaskRequest{Id: "program/p"}); err != nil {
			b.Errorf("the task is gone: %v", err)
		}
	})
}

// TestTasksOfKinds: through the API, too, each declares, changes and deletes tasks
// of the kinds that it may.
func TestTasksOfKinds(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.applyAs(&rotav1.TaskDefinition{Id: "other", Kind: "other"})
		feeds := auth.With(b.Context(), tokenOf(auth.Operator, "feed-*"))
		apply := func(id, kind string) error {
			_, err := b.svc.ApplyTasks(feeds, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: id, Kind: kind}}})
			return err
		}
		if err := apply("a", "feed-a"); err != nil {
			b.Error(err)
		}
		b.wants(apply("b", "other"), codes.PermissionDenied, "not valid for kind", "")
		b.wants(apply("b", ""), codes.PermissionDenied, "not valid for kind", "")
		b.wants(apply("other", "feed-a"), codes.PermissionDenied, "not valid for kind", "") // it would take over another's
		_, err := b.svc.DeleteTasks(feeds, &rotav1.DeleteTasksRequest{Ids: []string{"a", "other"}})
		b.wants(err, codes.PermissionDenied, "not valid for kind", "")
		if _, err := b.svc.DeleteTasks(feeds, &rotav1.DeleteTasksRequest{Ids: []string{"a"}}); err != nil {
			b.Error(err)
		}

		p := b.attachAs(tokenOf(auth.Submitter), &rotav1.ProgramHello{Name: "p", Run: "r"})
		p.change(&rotav1.ProgramChange{Set: []*rotav1.TaskDefinition{{Id: "p/a", Kind: rota.ProgramKind + "f"}}})
		for kinds, want := range map[string]codes.Code{"program/g": codes.PermissionDenied, "program/f": codes.OK} {
			_, err := b.svc.StopProgram(auth.With(b.Context(), tokenOf(auth.Submitter, kinds)), &rotav1.StopProgramRequest{Name: "p"})
			if status.Code(err) != want {
				b.Errorf("limited to %s: %v", kinds, err)
			}
		}
		p.leave(b)
		// Whoever comes back with the run of another's program may remove nothing either.
		thief := b.attachAs(tokenOf(auth.Submitter, "program/g"), &rotav1.ProgramHello{Name: "p", Run: "r"})
		thief.change(&rotav1.ProgramChange{Delete: []string{"p/a"}})
		if text := thief.rejection(); !strings.Contains(text, "not valid for kind") {
			b.Errorf("rejected with %q", text)
		}
		thief.leave(b)
	})
}
