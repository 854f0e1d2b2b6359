package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/mailbox"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/internal/watchdog"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// errDeposed ends a term: the leader's key is no longer ours.
var errDeposed = errors.New("deposed")

// leader is one term of office. Only the goroutine of run touches its fields.
type leader struct {
	s       *Scheduler
	pages   commit.Writer
	lease   store.LeaseID
	epoch   int64
	fence   int64 // the modification revision of the leader's key
	value   []byte
	ledger  ownership.Ledger
	planner *placement.Planner
	inbox   *mailbox.Box[*view.Delta]
	lists   chan sourceList
	room    chan struct{}   // others than tasks took or left some of a worker's capacity
	kicks   []chan struct{} // to ask sources
	held    map[string]*heldList

	suspects suspects
	idle     idle

	workers    map[string]bool // whose standing is to be looked at before the next plan
	graceUntil map[string]time.Time
	ramps      ramps              // slow start
	ended      []*storepb.Program // that are to be kept for a while
	orphans    bool               // tasks of programs that ended may be left
	histories  bool               // so may what was kept of them
	instances  int                // of all tasks
	more       bool               // the last pass may have left something to the next
	planAt     time.Time          // when the next pass is due; zero if nothing changed
	nextPass   time.Time          // by the interval
	told       clusterFacts
	owed       nodeWrites
	dog        *watchdog.Dog // of the loop
	// What was planned since it was last told, and when that was.
	plans, planned int
	toldAt         time.Time
	// What could not be written as a whole is tried again then; zero if there is nothing.
	retryAt time.Time
	retries backoff.Backoff
	apart   bool                     // the next writes are tried worker by worker: together they were refused, and nobody is known to be lost
	moving  map[rota.Instance]string // where what moves is from
	passes  passes
}

// hear keeps what the view says until the leader looks.
func (l *leader) hear(d *view.Delta) {
	if d.Current() { // what happened is nothing to go by
		l.inbox.Put(d)
	}
}

// lead serves one term.
func (s *Scheduler) lead(parent context.Context, lease store.LeaseID, epoch int64) error {
	value, err := s.leaderValue()
	if err != nil {
		return err
	}
	planner, err := placement.New(s.cfg.Placement)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(parent)
	l := &leader{
		s: s, lease: lease, epoch: epoch, fence: epoch, value: value, planner: planner,
		ledger: ownership.Ledger{Limits: s.cfg.Moves}, inbox: mailbox.New[*view.Delta](),
		lists: make(chan sourceList), room: make(chan struct{}, 1), held: map[string]*heldList{}, moving: map[rota.Instance]string{}, workers: map[string]bool{}, graceUntil: map[string]time.Time{},
		retries: backoff.Backoff{First: 10 * time.Millisecond, Most: time.Second},
		ramps:   newRamps(s.cfg.SlowStart, time.Now()), suspects: newSuspects(s.cfg.SuspectAfter, time.Now()),
		idle: idle{m: s.measures, since: map[rota.Instance]idleSince{}}, passes: newPasses(s.cfg.TracerProvider),
	}
	l.pages = l.writer()
	defer l.passes.end()
	if l.ledger.Limits.InAll < 0 {
		l.ledger.Limits.InAll = 0
	}
	l.dog = watchdog.New(max(2*s.cfg.Lease, standstill), func(place string, standing time.Duration) {
		s.late.Store(true)
		s.log.Error("the leader's loop hangs; giving up leadership", "epoch", epoch, "at", place, "for", standing)
		cancel()
		s.resign(lease) // reign would, but lead may never return to it
	})
	defer l.dog.Stop()
	var sources sync.WaitGroup
	sources.Go(func() { s.compact(ctx) })
	for _, src := range s.cfg.Sources {
		kick := make(chan struct{}, 1)
		l.kicks = append(l.kicks, kick)
		sources.Go(func() { l.read(ctx, src, kick) })
	}
	defer func() {
		cancel()
		sources.Wait()
		s.stats.moving.Store(0)
		s.measures.setWaiting(nil)
	}()
	if err := l.gather(ctx); err != nil {
		return err
	}
	defer s.capacity.Notify(func() {
		select {
		case l.room <- struct{}{}:
		default:
		}
	})()
	sub := s.view.Subscribe(l.load, l.hear)
	defer sub.Close()
	return l.run(ctx)
}

// standstill is the least time after which a leader's loop that does not come
// round is taken for hung. A pass over a million tasks takes a second.
const standstill = 10 * time.Second

// run is the leader's loop.
func (l *leader) run(ctx context.Context) error {
	var err error
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.nextPass = time.Now().Add(l.s.cfg.Interval)
	for {
		l.dog.At("learning what changed")
		for _, d := range l.inbox.Take() {
			if err := l.learn(d); err != nil {
				return err
			}
			l.dog.Goes()
		}
		l.dog.At("planning")
		now := time.Now()
		l.weigh(now)
		l.ramps.grow(now, func(name string) {
			l.workers[name] = true
			l.planAt = now
		})
		if !now.Before(l.nextPass) {
			l.nextPass = now.Add(l.s.cfg.Interval)
			l.owed.prune = true
			l.graceEnds(now)
			l.ask()
			l.pass(now)
		} else if l.graceEnds(now) || !l.planAt.IsZero() && !now.Before(l.planAt) {
			l.pass(now)
		}
		if err := l.unhold(ctx, now); err != nil {
			return err
		}
		l.dog.At("writing the ends of programs")
		whole := true
		if l.orphans {
			if whole, err = l.removeOrphans(ctx); err != nil {
				return err
			}
		}
		if l.histories {
			all, err := l.endStopped(ctx)
			if err != nil {
				return err
			}
			whole = whole && all
		}
		if err := l.keepEnded(ctx); err != nil {
			return err
		}
		l.dog.At("removing unreadable grants")
		if all, err := l.forgetLost(ctx); err != nil {
			return err
		} else if !all {
			whole = false
		}
		l.dog.At("writing grants")
		var wrote, all bool
		wrote, all, err = l.execute(ctx)
		if err != nil {
			return err
		}
		if wrote {
			l.passes.wrote()
		}
		whole = whole && all
		if !wrote && l.planAt.IsZero() { // what people are told comes after what is to run
			l.dog.At("keeping house")
			if wrote, all, err = l.housekeep(ctx, now); err != nil {
				return err
			}
			whole = whole && all
		}
		switch {
		case whole:
			l.retryAt = time.Time{}
			l.retries.Reset()
		case !wrote:
			l.retryAt = time.Now().Add(l.retries.Next())
		}
		if wrote {
			continue // there is news of our own
		}
		if l.more && l.ledger.Moving() == 0 {
			l.more = false
			l.soon()
		}
		timer.Reset(time.Until(l.wakeAt()))
		l.dog.Rest()
		select {
		case <-l.inbox.Signal():
		case <-l.room:
			if l.s.capacity.News() {
				l.soon()
			}
		case list := <-l.lists:
			l.dog.At("taking in a list")
			if err := l.reconcile(ctx, list); err != nil {
				return err
			}
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("term ends: %w", ctx.Err())
		}
	}
}

// wakeAt is when the loop has something to do by the clock.
func (l *leader) wakeAt() time.Time {
	at := l.nextPass
	if !l.planAt.IsZero() && l.planAt.Before(at) {
		at = l.planAt
	}
	if !l.retryAt.IsZero() && l.retryAt.Before(at) {
		at = l.retryAt
	}
	for _, t := range l.graceUntil {
		if t.Before(at) {
			at = t
		}
	}
	if t, ok := l.suspects.next(); ok && t.Before(at) {
		at = t
	}
	for _, h := range l.held {
		if t, ok := h.due(); ok && t.Before(at) {
			at = t
		}
	}
	if t, ok := l.ramps.next(); ok && t.Before(at) {
		at = t
	}
	return at
}

// graceEnds notes the lost workers whose instances wait no longer for their
// return, and reports whether there are any.
func (l *leader) graceEnds(now time.Time) (ended bool) {
	v := l.s.view
	for name, until := range l.graceUntil {
		if !now.Before(until) {
			delete(l.graceUntil, name)
			l.workers[name] = true
			ended = true
			v.Read(func() {
				if v.Sessions[name] == nil && v.Nodes[name].GetLast().GetLeaving() {
					l.owed.left(name) // it left in order, and stays away
				}
			})
		}
	}
	return ended
}

// soon asks for a pass after the debounce.
func (l *leader) soon() {
	l.passes.noteEvent()
	if l.planAt.IsZero() {
		l.planAt = time.Now().Add(l.s.cfg.Debounce)
	}
}

// learn takes in what changed in the store, the leader's own writes included.
func (l *leader) learn(d *view.Delta) error {
	v := l.s.view
	if d.Leader {
		var ours bool
		v.Read(func() { ours = v.Leader != nil && v.Leader.Epoch == l.epoch })
		if !ours {
			return errDeposed
		}
	}
	for _, c := range d.Tasks {
		if c.Old != nil {
			l.instances -= replicas(c.Old)
		}
		if c.New == nil {
			l.suspects.docket.Deleted(c.Key)
			l.planner.RemoveTask(c.Key)
		} else {
			l.setTask(c.New)
		}
		l.drop(c.Old, c.New)
		l.tellTask(c)
		l.soon()
	}
	for _, c := range d.Sessions {
		id := int64(0)
		if c.New != nil {
			id = c.New.ID
		} else if c.Old.GetDied() {
			l.died(c.Old)
		}
		l.ledger.Session(c.Name, id)
		// At once: what it gives up does not go back to it. One whose session could not
		// be read counted as leaving, and takes again what is its own when it can be.
		l.ledger.Leaving(c.Name, c.New.GetLeaving())
		l.workers[c.Name] = true
		switch {
		case c.New == nil:
			returns := false
			v.Read(func() { returns = v.Returns(c.Old) })
			if c.Old.GetLeaving() && !returns {
				l.owed.left(c.Name)
			} else {
				l.owed.lost(c.Name, nil, c.Old.Session)
				if grace := time.Duration(c.Old.GetRestartGraceMs()) * time.Millisecond; grace > 0 {
					l.graceUntil[c.Name] = time.Now().Add(grace)
				}
			}
			l.ramps.leave(c.Name)
			l.tellGone(c.Name, c.Old, c.Old.GetLeaving() && !returns)
			l.s.measures.ended.WithLabelValues(howEnded(c.Old)).Inc()
			l.s.log.Info("worker gone", "worker", c.Name, "left", c.Old.GetLeaving())
		case c.Old == nil:
			l.suspects.docket.Returned(l.suspects.clock(time.Now()), c.Name, c.New.GetIncarnation())
			_, back := l.graceUntil[c.Name]
			if !back && len(l.ledger.Awaiting(c.Name)) == 0 { // else it has its tasks still
				l.ramps.join(c.Name, time.Now())
			}
			delete(l.graceUntil, c.Name)
			v.Read(func() { l.rejoin(c.Name) })
			l.owed.over(c.Name)
			l.s.log.Info("worker joined", "worker", c.Name, "incarnation", c.New.GetIncarnation())
		}
		l.soon()
	}
	for _, name := range d.Nodes {
		l.workers[name] = true
		l.soon()
	}
	l.recordGrants(d.Grants)
	for worker, changes := range d.Acks {
		for _, c := range changes {
			if c.New != nil {
				l.ack(worker, c.New)
			}
		}
	}
	if d.Suspects {
		l.released()
	}
	if len(d.Programs) > 0 || d.Unread { // some may be on a page that can be read again
		l.orphans = true
	}
	for _, p := range d.Ended {
		l.s.events.Record(events.Event{Kind: events.ProgramEnded, Subject: events.Subject{Program: p.GetName()}, Text: p.GetStop()})
	}
	v.Read(func() { l.idle.learn(v, d, time.Now()) })
	l.ended = append(l.ended, d.Ended...)
	l.histories = l.histories || len(d.Ended) > 0
	if d.Kick {
		l.ask()
		l.soon()
	}
	return nil
}

// recordGrants takes in what was granted and what was taken back.
func (l *leader) recordGrants(grants map[string][]table.Change[record.Grant]) {
	for worker, changes := range grants {
		for _, c := range changes {
			l.ledger.Record(worker, c.Last().Grant, c.New == nil)
		}
	}
	v := l.s.view
	v.Read(func() {
		for worker, changes := range grants {
			l.tellGrants(worker, changes)
			for _, c := range changes {
				if c.Old != nil || c.New == nil {
					continue
				}
				// One of a page that could not be read for a while is not acknowledged anew.
				if a, ok := v.Ack(worker, c.New.Instance); ok && a.Generation == c.New.Generation {
					l.ack(worker, a)
				}
			}
		}
	})
}

// ask has all sources read now. The pass does not wait for them: what they give
// makes another.
func (l *leader) ask() {
	for _, k := range l.kicks {
		select {
		case k <- struct{}{}:
		default:
		}
	}
}

func (l *leader) ack(worker string, a *record.Ack) {
	l.ledger.Ack(worker, a.Instance, a.Generation, a.State)
	l.passes.acknowledged(worker, a.Instance, a.State)
	if a.State == ownership.Running {
		l.suspects.docket.Runs(l.suspects.clock(time.Now()), a.Instance.Task)
	}
	if a.Load >= 0 {
		l.planner.SetLoad(a.Instance, worker, float64(a.Load))
	}
}

// standing tells the planner whether a worker is there; the view stands still.
func (l *leader) standing(name string) {
	v := l.s.view
	l.ledger.Leaving(name, v.Sessions[name].GetLeaving())
	_, awaited := l.graceUntil[name]
	w, ok := v.Placeable(name, awaited)
	if !ok {
		l.planner.RemoveWorker(name)
		return
	}
	w.Ramp = l.ramps.part(name)
	if err := l.planner.SetWorker(w); err != nil {
		l.s.log.Error("worker cannot be placed on", "worker", name, "error", err)
	}
}

// rejoin gives back to a worker that joins, in the plan, what is still its own in
// the ledger: nobody took it meanwhile. The view stands still.
func (l *leader) rejoin(name string) {
	l.standing(name)
	for _, i := range l.ledger.Awaiting(name) {
		if _, ok := l.planner.Where(i); !ok {
			_ = l.planner.Assign(i, name) // else it is placed like a new one
		}
	}
}

// pass plans and sets the new targets.
func (l *leader) pass(now time.Time) {
	l.planAt = time.Time{}
	v := l.s.view
	v.Read(func() {
		for name := range l.workers {
			l.standing(name)
		}
	})
	if len(l.workers) > 0 {
		l.ask()
	}
	clear(l.workers)
	for name, u := range l.s.capacity.Plan() {
		l.planner.Claim(name, u)
	}
	plan := l.planner.Plan()
	l.planner.Commit(plan)
	if l.ledger.Moving() == 0 {
		clear(l.moving) // what was planned before has come about, or never will
	}
	tasks := make([]*record.Task, min(len(plan.Moves), standingStill))
	for moves := range slices.Chunk(plan.Moves, standingStill) {
		v.Read(func() {
			for n, m := range moves {
				tasks[n], _ = v.Tasks.Get(m.Instance.Task)
			}
		})
		for n, m := range moves {
			if t := tasks[n]; m.To == "" || t == nil {
				l.aim(m.Instance, ownership.Target{Reason: m.Reason})
			} else {
				l.aim(m.Instance, target(t, m.To, m.Reason))
			}
		}
	}
	l.s.capacity.Planned(plan.Waiting)
	// Budgets are per pass, and moves make room: when they are done, the next
	// may go on.
	l.more = len(plan.Moves) > 0 && (l.budgeted() || len(plan.Waiting) > 0)
	l.s.measures.planned(plan, time.Since(now))
	l.passes.planned(plan, now)
	if len(plan.Moves) > 0 {
		l.tellPass(plan, now)
		l.tellPlan(plan, now)
	}
}

// standingStill is for how many moves the view may stand still at a time. A plan may have
// a million, and whoever renews a lease waits for the view.
const standingStill = 4096

// tellEvery is how often plans are told of at INFO, however many there are.
const tellEvery = 10 * time.Second

// tellPlan logs a plan: the first for a while at INFO, with the sum of those since
// the one before, and each one for those who look closer.
func (l *leader) tellPlan(plan rota.Plan, began time.Time) {
	level := slog.LevelDebug
	l.plans, l.planned = l.plans+1, l.planned+len(plan.Moves)
	attrs := []any{
		"moves", len(plan.Moves), "forced", plan.Summary.Forced, "waiting", plan.Summary.Waiting,
		"imbalance", plan.Summary.ImbalanceAfter, "took", time.Since(began),
	}
	if began.Sub(l.toldAt) >= tellEvery {
		level = slog.LevelInfo
		attrs = append(attrs, "plans_since_last", l.plans, "moves_since_last", l.planned)
		l.toldAt, l.plans, l.planned = began, 0, 0
	}
	l.s.log.Log(context.Background(), level, "planned", attrs...)
}

// budgeted reports whether one pass may not do everything.
func (l *leader) budgeted() bool {
	o := l.s.cfg.Placement
	return o.MaxMoves > 0 || o.MaxMovesPerWorker > 0 || o.GroupBudget != placement.Budget{} || o.ZoneBudget != placement.Budget{}
}
