package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/watchdog"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"
	"github.com/rota-project/rota/view"
)

// errDeposed ends a term: the leader's key is no longer ours.
var errDeposed = errors.New("deposed")

// leader is one term of office. Only the goroutine of run touches its fields.
type leader struct {
	s       *Scheduler
	lease   store.LeaseID
	epoch   int64
	fence   int64 // the modification revision of the leader's key
	value   []byte
	ledger  ownership.Ledger
	planner *placement.Planner
	inbox   deltas
	lists   chan sourceList
	kicks   []chan struct{} // to ask sources

	workers    map[string]bool // whose standing is to be looked at before the next plan
	graceUntil map[string]time.Time
	ramps      ramps              // slow start
	ended      []*storepb.Program // that are to be kept for a while
	orphans    bool               // tasks of programs that ended may be left
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
	retry          retry
}

// retry is when to try again what could not be written as a whole: at once, then
// less and less often.
type retry struct {
	wait time.Duration
	at   time.Time // zero if there is nothing
}

const retryFirst, retryMost = 10 * time.Millisecond, time.Second

func (r *retry) again(now time.Time) {
	r.wait = min(max(2*r.wait, retryFirst), retryMost)
	r.at = now.Add(r.wait)
}

// deltas collects what the view says until the leader looks.
type deltas struct {
	mu     sync.Mutex
	list   []*view.Delta
	signal chan struct{}
}

func (q *deltas) put(d *view.Delta) {
	q.mu.Lock()
	q.list = append(q.list, d)
	q.mu.Unlock()
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

func (q *deltas) take() []*view.Delta {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.list
	q.list = nil
	return l
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
		ledger: ownership.Ledger{Limits: s.cfg.Moves}, inbox: deltas{signal: make(chan struct{}, 1)},
		lists: make(chan sourceList), workers: map[string]bool{}, graceUntil: map[string]time.Time{},
		ramps: newRamps(s.cfg.SlowStart, time.Now()),
	}
	if l.ledger.Limits.InAll < 0 {
		l.ledger.Limits.InAll = 0
	}
	l.dog = watchdog.New(max(2*s.cfg.Lease, standstill), func(place string, standing time.Duration) {
		s.late.Store(true)
		s.log.Error("the leader's loop stands still; it gives up", "epoch", epoch, "at", place, "for", standing)
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
	}()
	if err := l.gather(ctx); err != nil {
		return err
	}
	sub := s.view.Subscribe(l.load, l.inbox.put)
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
		for _, d := range l.inbox.take() {
			if err := l.learn(d); err != nil {
				return err
			}
		}
		l.dog.At("planning")
		now := time.Now()
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
		l.dog.At("writing what programs left")
		whole := true
		if l.orphans {
			if whole, err = l.removeOrphans(ctx); err != nil {
				return err
			}
		}
		if err := l.keepEnded(ctx); err != nil {
			return err
		}
		l.dog.At("writing grants")
		var wrote, all bool
		wrote, all, err = l.execute(ctx)
		if err != nil {
			return err
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
			l.retry = retry{}
		case !wrote:
			l.retry.again(time.Now())
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
		case <-l.inbox.signal:
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
	if !l.retry.at.IsZero() && l.retry.at.Before(at) {
		at = l.retry.at
	}
	for _, t := range l.graceUntil {
		if t.Before(at) {
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
			l.planner.RemoveTask(c.Key)
		} else {
			l.setTask(c.New)
		}
		l.drop(c.Old, c.New)
		l.soon()
	}
	for _, c := range d.Sessions {
		id := int64(0)
		if c.New != nil {
			id = c.New.ID
		}
		l.ledger.Session(c.Name, id)
		if c.New != nil && c.New.GetLeaving() {
			l.ledger.Leaving(c.Name) // at once: what it gives up does not go back to it
		}
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
			l.s.log.Info("worker gone", "worker", c.Name, "left", c.Old.GetLeaving())
		case c.Old == nil:
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
	for worker, changes := range d.Grants {
		for _, c := range changes {
			l.ledger.Record(worker, c.Last().Grant, c.New == nil)
		}
	}
	for worker, changes := range d.Acks {
		for _, c := range changes {
			if c.New != nil {
				l.ack(worker, c.New)
			}
		}
	}
	if len(d.Programs) > 0 {
		l.orphans = true
	}
	l.ended = append(l.ended, d.Ended...)
	if d.Kick {
		l.ask()
		l.soon()
	}
	return nil
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
	if a.Load >= 0 {
		l.planner.SetLoad(a.Instance, worker, float64(a.Load))
	}
}

// standing tells the planner whether a worker is there; the view stands still.
func (l *leader) standing(name string) {
	v := l.s.view
	if s := v.Sessions[name]; s != nil && s.GetLeaving() {
		l.ledger.Leaving(name)
	}
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
	plan := l.planner.Plan()
	l.planner.Commit(plan)
	v.Read(func() {
		for _, m := range plan.Moves {
			t, ok := v.Tasks.Get(m.Instance.Task)
			if m.To == "" || !ok {
				l.ledger.Target(m.Instance, ownership.Target{Reason: m.Reason})
				continue
			}
			l.ledger.Target(m.Instance, target(t, m.To, m.Reason))
		}
	})
	// Budgets are per pass, and moves make room: when they are done, the next
	// may go on.
	l.more = len(plan.Moves) > 0 && (l.budgeted() || len(plan.Waiting) > 0)
	l.s.stats.passes.Add(1)
	l.s.stats.moves.Add(uint64(len(plan.Moves)))
	if len(plan.Moves) > 0 {
		l.tellPlan(plan, now)
	}
}

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
