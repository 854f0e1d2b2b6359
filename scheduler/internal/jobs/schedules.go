package jobs

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/schedule"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// Each time of a schedule that has come is written once: the job that is declared for it
// and the note in the schedule's state that it has come are one transaction, which compares
// the state, the schedule and the leader. So another leader, a write of unknown outcome or a
// clock that is set back declares no second job for it.

// What becomes of a time that has come.
const (
	resultFired   = "fired"
	resultSkipped = "skipped"
	resultMissed  = "missed"
)

// planned is a schedule of the picture. Control.mu guards it.
type planned struct {
	record *storepb.JobSchedule
	mod    int64
	def    schedule.Schedule
	times  *schedule.Times // nil if they cannot be read here
	err    error           // why they cannot

	state    *storepb.JobScheduleState
	stateMod int64 // 0 while there is none

	look time.Time // nothing comes before; zero: not known
}

// since is the time after which the next comes.
func (p *planned) since() time.Time {
	return fromMicros(max(p.record.GetSinceUnixUs(), p.state.GetLastUnixUs()))
}

// next is when the schedule is due; zero if that is never.
func (p *planned) next() time.Time {
	if p.times == nil || p.def.Paused {
		return time.Time{}
	}
	return p.times.Next(p.since())
}

func scheduleToStore(s schedule.Schedule) *storepb.JobSchedule {
	return &storepb.JobSchedule{
		Version: record.Version, Name: s.Name, Cron: s.Cron, TimeZone: s.TimeZone, Overlap: s.Overlap, CatchUpNs: int64(s.CatchUp), Paused: s.Paused,
		Job: specToStore(job.Job{}, s.Job),
	}
}

func scheduleFromStore(m *storepb.JobSchedule) schedule.Schedule {
	return schedule.Schedule{
		Name: m.GetName(), Cron: m.GetCron(), TimeZone: m.GetTimeZone(), Overlap: m.GetOverlap(), CatchUp: time.Duration(m.GetCatchUpNs()), Paused: m.GetPaused(),
		Job: specFromStore(m.GetJob()),
	}
}

// takeSchedule takes in a schedule as the store has it. c.mu is held, as below.
func (c *Control) takeSchedule(name string, e store.Event) error {
	old := c.p.schedules[name]
	switch {
	case old != nil && old.mod >= e.Mod:
		return nil
	case e.Deleted:
		delete(c.p.schedules, name)
		return nil
	}
	next := &planned{record: &storepb.JobSchedule{}, mod: e.Mod, state: &storepb.JobScheduleState{}}
	if err := record.Decode(e.Value, next.record); err != nil {
		return err
	}
	if old != nil {
		next.state, next.stateMod = old.state, old.stateMod
	}
	next.def = scheduleFromStore(next.record)
	// It was valid where it was declared, and may not be here: it is shown, and fires nothing.
	if next.times, next.err = schedule.Parse(next.def.Cron, next.def.TimeZone); next.err == nil {
		if next.err = next.def.Job.Validate(); next.err != nil {
			next.times = nil
		}
	}
	c.p.schedules[name] = next
	return nil
}

func (c *Control) takeScheduleState(name string, e store.Event) error {
	p := c.p.schedules[name]
	if p == nil || p.stateMod >= e.Mod {
		return nil
	}
	state, mod := &storepb.JobScheduleState{}, int64(0)
	if !e.Deleted {
		if err := record.Decode(e.Value, state); err != nil {
			return err
		}
		mod = e.Mod
	}
	p.state, p.stateMod, p.look = state, mod, time.Time{}
	return nil
}

// firing is a time of a schedule that has come, and what becomes of it.
type firing struct {
	name          string
	mod, stateMod int64
	next          *storepb.JobScheduleState
	due           time.Time
	job           string // that is declared for it
	result        string
	missed        int // besides, or it itself
}

// into adds the note that the time has come to the write of the job.
func (f *firing) into(u *table.Unit) error {
	value, err := record.Encode(f.next)
	if err != nil {
		return err
	}
	state := store.JobScheduleStateKey(f.name)
	u.Conds = append(u.Conds, store.Cond{Key: store.JobScheduleKey(f.name), By: store.ByMod, Revision: f.mod},
		store.Cond{Key: state, By: store.ByMod, Revision: f.stateMod})
	u.Ops = append(u.Ops, store.Op{Key: state, Value: value})
	return nil
}

// fired takes what was written into the picture.
func (c *Control) fired(f *firing, rev int64) {
	if p := c.p.schedules[f.name]; p != nil && p.stateMod < rev {
		p.state, p.stateMod, p.look = f.next, rev, time.Time{}
	}
}

// tell counts it and tells of it, once it is in the store.
func (f *firing) tell(c *Control) {
	say := func(kind, job, what string) {
		c.cfg.Events.Record(events.Event{Kind: kind, Subject: events.Subject{Job: job}, Text: f.name + ": " + what})
	}
	due := "due " + f.due.Format(time.RFC3339)
	if f.missed > 0 {
		c.measures.due.WithLabelValues(resultMissed).Add(float64(f.missed))
		say(events.JobScheduleMissed, "", text.Count(f.missed, "time", "times")+" missed, the last before or "+due)
	}
	switch f.result {
	case resultFired:
		c.measures.due.WithLabelValues(resultFired).Inc()
		say(events.JobScheduleFired, f.job, due)
	case resultSkipped:
		c.measures.due.WithLabelValues(resultSkipped).Inc()
		say(events.JobScheduleSkipped, f.job, due+": an earlier job has not ended")
	}
}

// never is when nothing comes.
var never = time.Unix(1<<40, 0)

// againPause is how long after a time has come, and it is not known what became of it, it
// is looked at again: the queue was full, or the store did not answer.
const againPause = time.Second

// fire declares the jobs of schedules that are due. It says when to look again, and whether
// some is left.
func (b *batch) fire() (next time.Time, more bool) {
	for name, p := range b.c.p.schedules {
		if p.look.IsZero() {
			if p.look = p.next(); p.look.IsZero() {
				p.look = never
			}
		}
		if !b.now.Before(p.look) {
			if b.full() {
				return next, true
			}
			b.due(name, p)
			p.look = b.now.Add(againPause)
		}
		if next.IsZero() || p.look.Before(next) {
			next = p.look
		}
	}
	return next, false
}

// due decides what becomes of the times of a schedule that have come.
func (b *batch) due(name string, p *planned) {
	c := b.c
	come := p.times.Look(p.since(), b.now, p.def.CatchUp)
	id := schedule.ID(name, come.Due)
	if come.Due.IsZero() || b.changed[id] != nil {
		return
	}
	f := &firing{name: name, mod: p.mod, stateMod: p.stateMod, due: come.Due, missed: come.Missed, next: proto.CloneOf(p.state)}
	f.next.Version, f.next.Name, f.next.LastUnixUs, f.next.Missed = record.Version, name, micros(come.Due), f.next.GetMissed()+int64(come.Missed)
	live, waiting := b.unfinished(name)
	var declared *entry
	var spec []byte
	switch {
	case come.Late:
		f.result = resultMissed
	case b.entry(id) != nil: // somebody has declared it under this very id
		f.result, f.job = resultFired, id
	case p.def.Overlap == schedule.Skip && len(live) > 0, p.def.Overlap == schedule.Allow && waiting >= schedule.MaxWaiting:
		f.result, f.job = resultSkipped, live[len(live)-1]
	case c.p.queued+len(b.order) >= c.cfg.MaxQueued:
		return
	default:
		j := job.New(id, b.now)
		j.Schedule = name
		var err error
		if spec, err = encodeSpec(j, p.def.Job); err != nil {
			c.cfg.Logger.Error("job of a schedule cannot be written", "schedule", name, "error", err)
			return
		}
		f.result, f.job = resultFired, id
		declared = &entry{spec: p.def.Job, class: classOf(p.def.Job), job: j}
	}
	switch f.result {
	case resultFired:
		f.next.Fired, f.next.Job = f.next.GetFired()+1, id
	case resultSkipped:
		f.next.Skipped++
	}
	if declared != nil && p.def.Overlap == schedule.Replace {
		for _, old := range live {
			e := b.entry(old)
			if j, err := e.job.Stop(b.now); err == nil && !same(e.job, j) {
				b.put(old, &entry{spec: e.spec, specMod: e.specMod, class: e.class, job: j, stateMod: e.stateMod}, nil)
			}
		}
	}
	e := b.entry(id)
	if declared != nil {
		e = declared
	}
	b.put(id, e, nil)
	b.changed[id].spec, b.changed[id].fires = spec, f
	b.changed[id].conds = append(b.changed[id].conds, store.Cond{Key: store.LeaderKey, By: store.ByCreate, Revision: c.p.epoch})
	b.ops++
	b.bytes += len(spec)
}

// unfinished are the jobs of a schedule that have not ended, and how many of them wait for
// a worker.
func (b *batch) unfinished(name string) (live []string, waiting int) {
	for _, id := range b.c.p.of[name] {
		if e := b.entry(id); e != nil && !e.job.State.Done() {
			live = append(live, id)
			if e.job.State == job.Queued {
				waiting++
			}
		}
	}
	return live, waiting
}

// lastJob is the last job of a schedule that is known, and its state if it is kept.
func (c *Control) lastJob(name string, p *planned) (id, state string) {
	if ids := c.p.of[name]; len(ids) > 0 {
		id = ids[len(ids)-1]
	}
	if id = cmp.Or(id, p.state.GetJob()); id < p.state.GetJob() {
		id = p.state.GetJob()
	}
	if e := c.p.entries[id]; e != nil && e.specMod != 0 {
		state = string(e.job.State)
	}
	return id, state
}

// scheduleNames are those of all schedules, in order.
func (c *Control) scheduleNames() (out []string) {
	for name := range c.p.schedules {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// briefly is what a schedule is to be, for people.
func briefly(s schedule.Schedule) string {
	return fmt.Sprintf("%s: %s %s, %s", s.Name, s.Cron, s.TimeZone, text.Clip(s.Job.Argv[0], text.Short)) // arguments may hold secrets
}
