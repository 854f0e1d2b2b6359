package jobs

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/job/schedule"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

const (
	// maxApplied is how many schedules are declared at once.
	maxApplied = 100
	// scheduleTries is how often a write is tried against others of the same schedule.
	scheduleTries = 20
)

var errScheduleBusy = status.Error(codes.Aborted, "too much contention on the same schedule; try again")

func noSchedule(name string) error {
	return status.Errorf(codes.NotFound, "job schedule %q: not found", text.Clip(name, text.Short))
}

// scheduleOf is what is asked for, defaults spelled out.
func scheduleOf(d *rotav1.JobScheduleDefinition) (schedule.Schedule, error) {
	s := schedule.Schedule{
		Name: d.GetName(), Cron: d.GetCron(), TimeZone: d.GetTimeZone(), Overlap: d.GetOverlap(), CatchUp: ms(d.GetCatchUpMs()), Paused: d.GetPaused(),
	}
	var err error
	if s.Job, err = specOf(d.GetJob()); err != nil {
		return s, schedule.Within("job", err)
	}
	if err := s.Validate(time.Now()); err != nil {
		return s, err
	}
	if _, err := conditionsOf(s.Job); err != nil {
		return s, schedule.Within("job", err)
	}
	return s.Normalize(), nil
}

// ApplyJobSchedules declares schedules and changes those that are there.
func (c *Control) ApplyJobSchedules(ctx context.Context, r *rotav1.ApplyJobSchedulesRequest) (*rotav1.ApplyJobSchedulesResponse, error) {
	if n := len(r.GetSchedules()); n == 0 || n > maxApplied {
		return nil, convert.FieldStatus("schedules", fmt.Sprintf("schedules: want 1 to %d schedules", maxApplied))
	}
	set, seen := make([]schedule.Schedule, len(r.GetSchedules())), map[string]bool{}
	for n, d := range r.GetSchedules() {
		s, err := scheduleOf(d)
		if err == nil && seen[s.Name] {
			err = fmt.Errorf("name: %q: want a unique name", s.Name)
		}
		if err != nil {
			return nil, convert.FieldStatus(fmt.Sprintf("schedules[%d]", n), fmt.Sprintf("schedule %q: %v", text.Clip(d.GetName(), text.Short), err))
		}
		set[n], seen[s.Name] = s, true
	}
	if err := c.catchUp(ctx); err != nil {
		return nil, err
	}
	for range scheduleTries {
		w := writing{out: &rotav1.ApplyJobSchedulesResponse{}}
		for n, s := range set {
			if err := c.stage(ctx, &w, s, r.GetSchedules()[n].Paused == nil); err != nil {
				return nil, err
			}
		}
		if len(w.ops) == 0 || r.GetDryRun() {
			return w.out, nil
		}
		if ok, err := c.write(ctx, w); err != nil || ok {
			return w.out, err
		}
	}
	return nil, errScheduleBusy
}

// catchUp is that of the picture, see view.View, with the answer if it fails. Nothing
// that this scheduler was asked for before can still land then.
func (c *Control) catchUp(ctx context.Context) error {
	if err := c.fence.Settle(ctx); err != nil {
		return convert.ReadError(err)
	}
	return convert.ReadError(c.cfg.View.CatchUp(ctx))
}

// writing is what a call writes of schedules, and what is told of it then.
type writing struct {
	conds []store.Cond
	ops   []store.Op
	news  []events.Event
	out   *rotav1.ApplyJobSchedulesResponse
}

// put adds a schedule.
func (w *writing) put(m *storepb.JobSchedule, mod int64, kind string) error {
	value, err := record.Encode(m)
	if err != nil {
		return err
	}
	key := store.JobScheduleKey(m.GetName())
	w.conds = append(w.conds, store.Cond{Key: key, By: store.ByMod, Revision: mod})
	w.ops = append(w.ops, store.Op{Key: key, Value: value})
	w.news = append(w.news, events.Event{Kind: kind, Text: briefly(scheduleFromStore(m))})
	return nil
}

// stage adds a schedule to what is written. With leave it is paused as it is now.
func (c *Control) stage(ctx context.Context, w *writing, s schedule.Schedule, leave bool) error {
	have, mod, all := c.scheduleRecord(s.Name)
	if leave {
		s.Paused = have.GetPaused()
	}
	next := scheduleToStore(s)
	next.SinceUnixUs, next.Who = have.GetSinceUnixUs(), have.GetWho()
	switch {
	case have == nil:
		if w.out.Created++; all+int(w.out.GetCreated()) > schedule.Max {
			return status.Errorf(codes.ResourceExhausted, "at most %d job schedules", schedule.Max)
		}
	case proto.Equal(have, next):
		w.out.Unchanged++
		return nil
	default:
		w.out.Changed++
	}
	// What nobody may run need not be tried for ever.
	if err := c.refuse(s.Job); err != nil {
		return status.Error(status.Code(apiError(err)), fmt.Sprintf("schedule %q: job: %v", s.Name, err))
	}
	kind := events.JobScheduleChanged
	switch {
	case have == nil:
		kind = events.JobScheduleDeclared
		next.SinceUnixUs = micros(time.Now())
	case have.GetCron() != next.GetCron(), have.GetTimeZone() != next.GetTimeZone(), have.GetPaused() && !next.GetPaused():
		next.SinceUnixUs = micros(time.Now()) // what was due by then is over
	}
	next.Who = auth.From(ctx).Name
	return w.put(next, mod, kind)
}

// scheduleRecord is a schedule as the picture has it, nil if there is none, and how many
// there are.
func (c *Control) scheduleRecord(name string) (m *storepb.JobSchedule, mod int64, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.p.schedules[name]; p != nil {
		m, mod = p.record, p.mod
	}
	return m, mod, len(c.p.schedules)
}

// write writes, and tells of it when the picture has it. It reports whether nobody else was
// faster.
func (c *Control) write(ctx context.Context, w writing) (bool, error) {
	one, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	ok, rev, err := c.fence.Txn(one, w.conds, w.ops)
	if err != nil {
		return false, convert.StoreError(err)
	}
	seen, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := c.cfg.View.Wait(seen, rev); err != nil && !ok {
		return false, convert.ReadError(err)
	} else if err != nil {
		return true, convert.UnseenError(err)
	}
	for _, e := range w.news {
		if ok {
			e.Who = auth.From(ctx).Name
			c.cfg.Events.Record(e)
		}
	}
	return ok, nil
}

// ListJobSchedules lists the schedules in order of name.
func (c *Control) ListJobSchedules(context.Context, *rotav1.ListJobSchedulesRequest) (*rotav1.ListJobSchedulesResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &rotav1.ListJobSchedulesResponse{}
	for _, name := range c.scheduleNames() {
		m := c.scheduleShown(name)
		m.Definition.Job.Env, m.Definition.Job.StdinBase64 = nil, nil // they may be large
		out.Schedules = append(out.Schedules, m)
	}
	return out, nil
}

// GetJobSchedule answers one schedule.
func (c *Control) GetJobSchedule(ctx context.Context, r *rotav1.GetJobScheduleRequest) (*rotav1.JobSchedule, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.scheduleShown(r.GetName())
	if m == nil {
		return nil, noSchedule(r.GetName())
	}
	if auth.From(ctx).Role < auth.Submitter {
		hide(m.GetDefinition().GetJob())
	}
	return m, nil
}

// PauseJobSchedule has a schedule run nothing.
func (c *Control) PauseJobSchedule(ctx context.Context, r *rotav1.PauseJobScheduleRequest) (*rotav1.JobSchedule, error) {
	return c.pause(ctx, r.GetName(), true, events.JobSchedulePaused)
}

// ResumeJobSchedule ends a pause.
func (c *Control) ResumeJobSchedule(ctx context.Context, r *rotav1.ResumeJobScheduleRequest) (*rotav1.JobSchedule, error) {
	return c.pause(ctx, r.GetName(), false, events.JobScheduleResumed)
}

func (c *Control) pause(ctx context.Context, name string, paused bool, kind string) (*rotav1.JobSchedule, error) {
	if err := c.catchUp(ctx); err != nil {
		return nil, err
	}
	for range scheduleTries {
		have, mod, _ := c.scheduleRecord(name)
		if have == nil {
			return nil, noSchedule(name)
		}
		if have.GetPaused() == paused {
			return c.GetJobSchedule(ctx, &rotav1.GetJobScheduleRequest{Name: name})
		}
		next := proto.CloneOf(have)
		if next.Paused = paused; !paused {
			next.SinceUnixUs = micros(time.Now())
		}
		var w writing
		if err := w.put(next, mod, kind); err != nil {
			return nil, err
		}
		if ok, err := c.write(ctx, w); err != nil {
			return nil, err
		} else if ok {
			return c.GetJobSchedule(ctx, &rotav1.GetJobScheduleRequest{Name: name})
		}
	}
	return nil, errScheduleBusy
}

// RunJobSchedule runs the job of a schedule now.
func (c *Control) RunJobSchedule(ctx context.Context, r *rotav1.RunJobScheduleRequest) (*rotav1.Job, error) {
	if err := c.catchUp(ctx); err != nil {
		return nil, err
	}
	have, _, _ := c.scheduleRecord(r.GetName())
	if have == nil {
		return nil, noSchedule(r.GetName())
	}
	s := scheduleFromStore(have)
	j, err := c.declare(ctx, r.GetId(), s.Job, s.Name)
	if err != nil {
		return nil, apiError(err)
	}
	e, err := c.get(j.ID)
	if err != nil {
		return nil, apiError(err)
	}
	c.tellAsked(ctx, events.JobQueued, j.ID, text.Clip(e.spec.Argv[0], text.Short)+", of schedule "+s.Name)
	return c.jobOf(e), nil
}

// DeleteJobSchedule forgets a schedule. Its jobs stay.
func (c *Control) DeleteJobSchedule(ctx context.Context, r *rotav1.DeleteJobScheduleRequest) (*rotav1.DeleteJobScheduleResponse, error) {
	if err := c.catchUp(ctx); err != nil {
		return nil, err
	}
	for range scheduleTries {
		have, mod, _ := c.scheduleRecord(r.GetName())
		if have == nil {
			return nil, noSchedule(r.GetName())
		}
		key := store.JobScheduleKey(have.GetName())
		ok, err := c.write(ctx, writing{
			conds: []store.Cond{{Key: key, By: store.ByMod, Revision: mod}},
			ops:   []store.Op{{Key: key, Delete: true}, {Key: store.JobScheduleStateKey(have.GetName()), Delete: true}},
			news:  []events.Event{{Kind: events.JobScheduleDeleted, Text: have.GetName()}},
		})
		if err != nil {
			return nil, err
		}
		if ok {
			return &rotav1.DeleteJobScheduleResponse{}, nil
		}
	}
	return nil, errScheduleBusy
}

// scheduleShown is a schedule as the API shows it, nil if there is none. c.mu is held.
func (c *Control) scheduleShown(name string) *rotav1.JobSchedule {
	p := c.p.schedules[name]
	if p == nil {
		return nil
	}
	out := &rotav1.JobSchedule{
		Definition: &rotav1.JobScheduleDefinition{
			Name: p.def.Name, Cron: p.def.Cron, TimeZone: p.def.TimeZone, Overlap: p.def.Overlap, CatchUpMs: p.def.CatchUp.Milliseconds(),
			Paused: &p.def.Paused, Job: definitionOf(p.def.Job),
		},
		Next: stamp(p.next()), LastDue: stamp(fromMicros(p.state.GetLastUnixUs())), DeclaredBy: p.record.GetWho(),
		Fired: p.state.GetFired(), Skipped: p.state.GetSkipped(), Missed: p.state.GetMissed(),
	}
	out.LastJob, out.LastJobState = c.lastJob(name, p)
	if p.err != nil {
		out.Error = p.err.Error()
	}
	return out
}
