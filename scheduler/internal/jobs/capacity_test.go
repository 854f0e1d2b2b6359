package jobs

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// still is a control without a loop, whose leader has the epoch 7, and a worker w of two
// cpus and two slots.
func still(t *testing.T) (*Control, *view.Session) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	v := view.New(memory.New(), log)
	c := &Control{cfg: Config{Node: kind.Node{View: v, Logger: log, Capacity: capacity.New(v)}, MaxQueued: 10}, dirty: map[string]struct{}{}, unsure: map[string]struct{}{}}
	t.Cleanup(c.cfg.Capacity.Close)
	c.p = newPicture(c.cfg.Capacity)
	c.measures = newMeasures(c, nil)
	c.streams = kind.NewStreams[rotav1.FromJobWorker, rotav1.ToJobWorker](c.cfg.Node, keys)
	s := &view.Session{ID: 3, Mod: 4, Session: &storepb.Session{Name: "w", Incarnation: "i1", Capacity: map[string]float64{"cpus": 2}}}
	c.p.sessions["w"] = s
	c.p.workers["w"] = &storepb.JobWorker{Name: "w", Incarnation: "i1", Any: true, Slots: 2}
	c.p.leading, c.p.epoch = true, 7
	return c, s
}

func (c *Control) queue(t *testing.T, name string, cpus float64) (id string) {
	t.Helper()
	id = uuid.Of(name)
	spec := job.Spec{Argv: []string{"x"}, Resources: map[string]float64{"cpus": cpus}}
	c.set(id, &entry{spec: spec, specMod: 5, class: classOf(spec), job: job.New(id, time.Unix(1, 0))})
	return id
}

func (c *Control) batch() *batch {
	return &batch{c: c, now: time.Unix(10, 0), changed: map[string]*change{}, jobs: map[string]int{}}
}

// TestPlaceIsPromised: a place takes capacity before it is written, is good only while
// this leader leads, and is given back only when it is known not to be in the store.
func TestPlaceIsPromised(t *testing.T) {
	t.Parallel()
	c, _ := still(t)
	one, two := c.queue(t, "one", 1.5), c.queue(t, "two", 1)
	b := c.batch()
	if b.place(); len(b.order) != 0 {
		t.Fatal("placed before the leader has counted")
	}
	c.cfg.Capacity.Lead()
	c.cfg.Capacity.Open(7)
	b = c.batch()
	b.place()
	if len(b.order) != 1 {
		t.Fatalf("%d placed", len(b.order))
	}
	id, other := one, two
	if b.order[0] != one {
		id, other = two, one
	}
	if want := (store.Cond{Key: store.LeaderKey, By: store.ByCreate, Revision: 7}); !slices.Contains(b.changed[id].conds, want) {
		t.Errorf("it would be placed by a leader that is none any more: %v", b.changed[id].conds)
	}
	if o, lacks := c.p.account.Lacks(other, "w", map[string]float64{"cpus": 2}, c.p.entries[other].spec.Resources, 7); !lacks || o.Code != placement.LacksResource {
		t.Errorf("its place is free: %+v", o)
	}
	x := c.explain(c.p.entries[other], 10)
	if len(x.rows) != 1 || x.rows[0].Obstacle.Code != placement.LacksResource || x.rows[0].Obstacle.Name != "cpus" || x.rows[0].Obstacle.Has != 2 || x.why == "" {
		t.Errorf("%+v", x)
	}
	// Nobody knows whether it was written: it is placed there again all the same.
	b = c.batch()
	if b.place(); len(b.order) != 1 || b.order[0] != id {
		t.Fatalf("placed then: %v", b.order)
	}
	b.applied([]string{id}, 20)
	if got := c.cfg.Capacity.Beside("w").Of("cpus"); got != c.p.entries[id].spec.Resources["cpus"] {
		t.Errorf("%v cpus are taken", got)
	}
}

// TestLostMayRun: a job that was given up for lost counts from when its worker's same
// process is back until that has said what it runs.
func TestLostMayRun(t *testing.T) {
	t.Parallel()
	c, s := still(t)
	id := c.queue(t, "one", 1)
	j, err := c.p.entries[id].job.Place("w", "i1", s.ID, 9, time.Unix(2, 0))
	if err != nil {
		t.Fatal(err)
	}
	step := func(j job.Job) {
		e := *c.p.entries[id]
		e.job, e.stateMod = j, e.stateMod+1
		c.set(id, &e)
	}
	taken := func(want float64, when string) {
		t.Helper()
		if got := c.cfg.Capacity.Beside("w").Of("cpus"); got != want {
			t.Errorf("%s: %v cpus are taken, want %v", when, got, want)
		}
	}
	step(j)
	taken(1, "placed")
	announced := c.p.workers["w"]
	delete(c.p.sessions, "w")
	delete(c.p.workers, "w")
	lost, err := j.Lose(9, job.Spec{}, "gone", time.Unix(3, 0))
	if err != nil {
		t.Fatal(err)
	}
	step(lost)
	taken(0, "lost")
	c.p.sessions["w"] = &view.Session{ID: 30, Session: &storepb.Session{Name: "w", Incarnation: "i2"}}
	c.p.countLost("w")
	taken(0, "another process")
	c.p.sessions["w"] = &view.Session{ID: 31, Session: &storepb.Session{Name: "w", Incarnation: "i1"}}
	c.p.countLost("w")
	taken(1, "the same process")
	found, err := lost.Begin(31, 9, time.Unix(2, 0), time.Unix(4, 0))
	if err != nil {
		t.Fatal(err)
	}
	c.p.workers["w"] = announced
	c.p.countLost("w")
	taken(0, "it has said that it runs no more")
	step(found)
	taken(1, "found again")
	c.set(id, nil)
	taken(0, "deleted")
}

// TestRefusedPlace: a place of unknown outcome takes capacity while the picture may be older
// than it, though a later one was refused: it may be why.
func TestRefusedPlace(t *testing.T) {
	t.Parallel()
	c, _ := still(t)
	c.cfg.Capacity.Lead()
	c.cfg.Capacity.Open(7)
	c.cfg.Store = faulty.New(memory.New(), nil)
	c.queue(t, "one", 1.5)
	taken := func(want float64, when string) {
		t.Helper()
		if got := c.cfg.Capacity.Beside("w").Of("cpus"); got != want {
			t.Errorf("%s: %v cpus are taken, want %v", when, got, want)
		}
	}
	for _, x := range []struct {
		when  string
		state faulty.State
		cause error
		want  float64
	}{
		{"unknown", faulty.Up, errors.New("lost"), 1.5},
		{"unknown, and nothing can be read", faulty.Down, errors.New("lost"), 1.5},
		{"refused, and nothing can be read", faulty.Down, nil, 1.5},
		{"refused", faulty.Up, nil, 0},
	} {
		c.cfg.Store.(*faulty.Store).Set(x.state)
		b := c.batch()
		if b.place(); len(b.order) != 1 {
			t.Fatalf("%s: %d placed", x.when, len(b.order))
		}
		b.lookAgain(t.Context(), b.order, x.cause)
		taken(x.want, x.when)
	}
}

// TestDeclaredAndPlacedInAnOutage: what a job was promised that is declared and given places, and of
// which nobody knows whether it is written, is taken until that is known, and no longer.
func TestDeclaredAndPlacedInAnOutage(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	type try struct {
		worker string // the only one that has a session
		down   bool   // the store cannot be asked either
		ends   func(b *batch)
	}
	again := func(cause error) func(*batch) {
		return func(b *batch) { b.lookAgain(b.c.ctx, b.order, cause) }
	}
	for name, tries := range map[string][]try{
		"unknown":      {{"w", true, again(lost)}},
		"refused":      {{"w", true, again(nil)}},
		"not tried":    {{"w", true, func(b *batch) { b.away = lost; b.giveUp(b.order) }}},
		"no space":     {{"w", false, again(store.ErrNoSpace)}},
		"on two":       {{"w", true, again(lost)}, {"v", true, again(lost)}},
		"then refused": {{"w", true, again(lost)}, {"v", false, func(b *batch) { b.changed[b.order[0]].asked[0].tries = maxTries; again(nil)(b) }}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s := still(t)
			c.ctx = t.Context()
			c.cfg.Capacity.Lead()
			c.cfg.Capacity.Open(7)
			st := faulty.New(memory.New(), nil)
			c.cfg.Store, c.fence = st, &commit.Fence{Store: st, Key: "fence"}
			taken := func() (cpus float64) {
				return c.cfg.Capacity.Beside("w").Of("cpus") + c.cfg.Capacity.Beside("v").Of("cpus")
			}
			for _, try := range tries {
				c.p.sessions = map[string]*view.Session{try.worker: {ID: 3, Mod: 4, Session: &storepb.Session{Name: try.worker, Incarnation: "i1", Capacity: s.GetCapacity()}}}
				c.p.workers = map[string]*storepb.JobWorker{try.worker: {Name: try.worker, Incarnation: "i1", Any: true, Slots: 2}}
				st.Set(faulty.Up)
				if try.down {
					st.Set(faulty.Down)
				}
				b := c.batch()
				u := &update{id: uuid.Of("one"), declare: &job.Spec{Argv: []string{"x"}, Resources: map[string]float64{"cpus": 1.5}}, done: make(chan error, 1)}
				if err := b.apply(u); err != nil {
					t.Fatal(err)
				}
				if b.place(); b.changed[u.id].place != try.worker {
					t.Fatal("it has no place")
				}
				try.ends(b)
				if err := <-u.done; err == nil {
					t.Error("it is told to be declared")
				}
			}
			if taken() < 1.5 {
				t.Errorf("while nobody knows, %v cpus are taken", taken())
			}
			st.Set(faulty.Down)
			c.unsureAt = time.Time{}
			if c.findOut(t.Context()); taken() < 1.5 {
				t.Errorf("while the store cannot be asked, %v cpus are taken", taken())
			}
			st.Set(faulty.Up)
			c.unsureAt = time.Time{}
			if c.findOut(t.Context()); taken() != 0 || len(c.unsure) != 0 {
				t.Errorf("then %v cpus are taken, for %v", taken(), c.unsure)
			}
		})
	}
}

// TestRetriedAndPlacedInAnOutage: the same of a job that has ended and is to run again.
func TestRetriedAndPlacedInAnOutage(t *testing.T) {
	t.Parallel()
	c, _ := still(t)
	c.ctx = t.Context()
	c.cfg.Capacity.Lead()
	c.cfg.Capacity.Open(7)
	st := faulty.New(memory.New(), nil)
	c.cfg.Store, c.fence = st, &commit.Fence{Store: st, Key: "fence"}
	id := c.queue(t, "one", 1.5)
	ended := *c.p.entries[id]
	ended.job.State = job.Failed
	c.set(id, &ended)
	taken := func() float64 { return c.cfg.Capacity.Beside("w").Of("cpus") }
	st.Set(faulty.Down)
	b := c.batch()
	u := &update{id: id, change: func(j job.Job, _ job.Spec) (job.Job, error) { return j.Retry(b.now) }, done: make(chan error, 1)}
	if err := b.apply(u); err != nil {
		t.Fatal(err)
	}
	if b.place(); b.changed[id].place != "w" {
		t.Fatal("it has no place")
	}
	if b.commit(c.ctx); taken() != 1.5 {
		t.Errorf("while nobody knows, %v cpus are taken", taken())
	}
	if err := <-u.done; err == nil {
		t.Error("it is told to be done")
	}
	st.Set(faulty.Up)
	c.unsureAt = time.Time{}
	if c.findOut(t.Context()); taken() != 0 || len(c.unsure) != 0 {
		t.Errorf("then %v cpus are taken, for %v", taken(), c.unsure)
	}
}
