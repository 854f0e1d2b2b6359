package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// counted is a store that counts transactions, and may be away or hang.
type counted struct {
	store.Store
	txns atomic.Int64
	mu   sync.Mutex
	away error
	hang bool
	lost bool // it does what it is asked, and the answer is lost
}

func (c *counted) set(f func(*counted)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

func (c *counted) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	c.txns.Add(1)
	c.mu.Lock()
	away, hang, lost := c.away, c.hang, c.lost
	c.mu.Unlock()
	switch {
	case hang:
		<-ctx.Done()
		return false, 0, ctx.Err()
	case away != nil:
		return false, 0, away
	}
	ok, rev, err := c.Store.Txn(ctx, conds, ops)
	if lost {
		return false, 0, errors.New("the answer is lost")
	}
	return ok, rev, err
}

// memories is a log, a recorder of it and the store that both are of.
type memories struct {
	*Recorder
	log  *Log
	st   *counted
	made func(name string) *Recorder
}

func start(t *testing.T, limits Limits) *memories {
	t.Helper()
	inner := memory.New()
	m := &memories{st: &counted{Store: inner}}
	v := view.New(m.st, silent())
	m.log = NewLog(limits, silent())
	m.log.Follow(v)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	m.made = func(name string) *Recorder {
		return NewRecorder(Config{Store: m.st, Log: m.log, Scheduler: name, Leads: func() bool { return true }})
	}
	m.Recorder = m.made("s1")
	time.Sleep(time.Second) // on the fake clock: it has begun
	t.Cleanup(func() {
		m.Close()
		cancel()
		<-done
		inner.Close()
	})
	return m
}

func (m *memories) list(f Filter) []Kept {
	out, _ := m.log.List(f, nil, 1<<20)
	return out
}

// keys are the pages in the store, and their events.
func (m *memories) stored(t *testing.T) (pages, events int) {
	t.Helper()
	kvs, _, err := m.st.Range(t.Context(), store.EventsPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range kvs {
		list, err := decode(kv.Value, kv.Create)
		if err != nil {
			t.Error(err)
		}
		pages, events = pages+1, events+len(list)
	}
	return pages, events
}

// TestManyEventsAreOneWrite: what happens together is written together, in the order in
// which it was recorded.
func TestManyEventsAreOneWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := start(t, Limits{})
		for n := range 50 {
			m.Record(Event{Kind: []string{TaskGranted, WorkerDraining}[n%2], Text: fmt.Sprint(n)})
		}
		if n := len(m.list(Filter{})); n != 0 || m.st.txns.Load() != 0 {
			t.Errorf("%d events, %d writes before anything was written", n, m.st.txns.Load())
		}
		time.Sleep(time.Second)
		got := m.list(Filter{})
		if len(got) != 50 || m.st.txns.Load() != 1 {
			t.Fatalf("%d events by %d writes", len(got), m.st.txns.Load())
		}
		for n, e := range got {
			if e.Text != fmt.Sprint(49-n) || e.Scheduler != "s1" {
				t.Errorf("%d: %+v", n, e)
			}
		}
		time.Sleep(time.Hour)
		if m.st.txns.Load() != 1 {
			t.Errorf("%d writes while nothing happens", m.st.txns.Load())
		}
	})
}

// TestFloods: however much happens, what is written in a time is bounded, what is left
// out is told, and a flood of one kind takes no room of another.
func TestFloods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := start(t, Limits{})
		const flood = 300_000
		took := 0
		for n := range flood {
			if m.Wants(TaskGranted) {
				took++
				m.Record(Event{Kind: TaskGranted, Subject: Of(rota.Instance{Task: fmt.Sprint(n)}, "w", 1)})
			}
		}
		m.Record(Event{Kind: TaskFailed, Subject: Subject{Task: "x"}, Text: "it broke"})
		m.Record(Event{Kind: WorkerDraining, Who: "alice"})
		time.Sleep(time.Minute)
		if took < 100 || took > 110 || len(m.list(Filter{Kind: TaskGranted})) != took {
			t.Errorf("%d recorded, %d listed", took, len(m.list(Filter{Kind: TaskGranted})))
		}
		if len(m.list(Filter{Kind: TaskFailed})) != 1 || len(m.list(Filter{Kind: WorkerDraining})) != 1 {
			t.Error("what else happened is not there")
		}
		left := 0
		for _, e := range m.list(Filter{Kind: LeftOut}) {
			left += e.LeftOut
			if !strings.HasSuffix(e.Text, fmt.Sprintf("; left out: %d %s", e.LeftOut, TaskGranted)) {
				t.Errorf("%+v", e)
			}
		}
		if left != flood-took || m.Counts().LeftOut != uint64(left) {
			t.Errorf("%d told to be left out, %d counted, of %d", left, m.Counts().LeftOut, flood-took)
		}
		if m.st.txns.Load() > 5 {
			t.Errorf("%d writes", m.st.txns.Load())
		}
	})
}

// TestRepetitions: what repeats is told of a few times, then together with how often.
func TestRepetitions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := start(t, Limits{})
		const failures = 3600
		for n := range failures { // once a second
			m.Record(Event{Kind: TaskFailed, Subject: Subject{Task: "bad", Worker: fmt.Sprint("w", n%3)}, Text: fmt.Sprint(n)})
			if n%600 == 0 {
				m.Record(Event{Kind: TaskFailed, Subject: Subject{Task: "rare"}})
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		sum := 0
		got := m.list(Filter{Task: "bad"})
		for _, e := range got {
			sum += e.Count
		}
		if sum != failures || len(got) > 20 || len(got) < 8 || got[0].Text != fmt.Sprint(failures-1) {
			t.Errorf("%d events of %d failures: %v", len(got), sum, texts(got))
		}
		if n := len(m.list(Filter{Task: "rare"})); n != 6 {
			t.Errorf("%d events of another", n)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.repeats.by) != 0 {
			t.Errorf("%d are remembered", len(m.repeats.by))
		}
	})
}

// TestRepetitionsInOrder: of what is told of at one time the earliest is first.
func TestRepetitionsInOrder(t *testing.T) {
	t.Parallel()
	var r repeater
	begin := time.Unix(1000, 0)
	for n := range 2 * freeRepeats {
		for task := range 20 {
			now := begin.Add(time.Duration(20*n+task) * time.Millisecond)
			r.hold(Event{Kind: TaskFailed, Subject: Subject{Task: fmt.Sprint(task)}, Time: now}, now)
		}
	}
	got := r.due(begin.Add(time.Hour), false)
	if len(got) != 20 || !slices.IsSortedFunc(got, func(a, b Event) int { return a.Time.Compare(b.Time) }) {
		t.Errorf("%d events: %v", len(got), got)
	}
}

// TestRetentionHoldsByItself: the store has no more than is stated, whoever writes, and
// when nobody does it is removed by age.
func TestRetentionHoldsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := start(t, Limits{Keep: 50, Age: 24 * time.Hour})
		other := m.made("s2")
		defer other.Close()
		for n := range 400 {
			by := []*Recorder{m.Recorder, other}[n%2]
			by.Record(Event{Kind: WorkerDraining, Text: fmt.Sprint(n)})
			by.Record(Event{Kind: JobQueued, Text: fmt.Sprint(n)})
			time.Sleep(2 * time.Second)
		}
		if n := len(m.list(Filter{})); n != 100 {
			t.Errorf("%d events are listed", n)
		}
		if pages, events := m.stored(t); events < 100 || events > 110 || pages > 110 {
			t.Errorf("%d events on %d pages are stored", events, pages)
		}
		time.Sleep(25 * time.Hour)
		if pages, _ := m.stored(t); pages != 0 {
			t.Errorf("%d pages after a day", pages)
		}
	})
}

// TestStoreAway: while the store is away nothing is held up, memory is bounded, and what
// was not lost is written when it is back, once.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*counted){
		"away":        func(c *counted) { c.away = errors.New("away") },
		"full":        func(c *counted) { c.away = store.ErrNoSpace },
		"hangs":       func(c *counted) { c.hang = true },
		"answer lost": func(c *counted) { c.lost = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := start(t, Limits{})
				m.st.set(fault)
				began := time.Now()
				const all = 12_000
				for n := range all {
					m.Record(Event{Kind: WorkerDraining, Text: fmt.Sprint(n)})
					if n%100 == 0 {
						time.Sleep(10 * time.Second) // the budget grows
						began = began.Add(10 * time.Second)
					}
				}
				if d := time.Since(began); d != 0 {
					t.Errorf("recording took %v", d)
				}
				m.mu.Lock()
				if n := len(m.waiting); n > maxWaiting {
					t.Errorf("%d wait", n)
				}
				m.mu.Unlock()
				m.st.set(func(c *counted) { c.away, c.hang, c.lost = nil, false, false })
				time.Sleep(time.Minute)
				got := m.list(Filter{Kind: WorkerDraining})
				seen := map[string]bool{}
				for _, e := range got {
					if seen[e.Text] {
						t.Fatalf("%s is there twice", e.Text)
					}
					seen[e.Text] = true
				}
				left := 0
				for _, e := range m.list(Filter{Kind: LeftOut}) {
					left += e.LeftOut
				}
				if len(got)+left != all || len(got) < maxWaiting/2 {
					t.Errorf("%d are there, %d left out, of %d", len(got), left, all)
				}
			})
		})
	}
}

// TestCloseWrites: what waits, and what is held back, is written at the end; the end
// does not wait for a store that is away.
func TestCloseWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := start(t, Limits{})
		for range 10 {
			m.Record(Event{Kind: TaskFailed, Subject: Subject{Task: "bad"}})
		}
		for n := range 1500 {
			m.Record(Event{Kind: WorkerDraining, Text: strings.Repeat("x", 500), Subject: Subject{Worker: fmt.Sprint(n)}})
		}
		for range 1000 {
			m.Wants(TaskGranted)
			m.Record(Event{Kind: TaskGranted})
		}
		m.Close()
		m.Record(Event{Kind: WorkerDraining})
		synctest.Wait()
		sum := 0
		for _, e := range m.list(Filter{Kind: TaskFailed}) {
			sum += e.Count
		}
		if n := len(m.list(Filter{Kind: WorkerDraining})); sum != 10 || n != 1500 || len(m.list(Filter{Kind: LeftOut})) != 1 {
			t.Errorf("%d failures, %d drains, %v", sum, n, m.list(Filter{Kind: LeftOut}))
		}
		for _, fault := range []func(*counted){func(c *counted) { c.hang = true }, func(c *counted) { c.hang, c.away = false, errors.New("away") }} {
			r := m.made("s3")
			m.st.set(fault)
			for range 1000 {
				r.Record(Event{Kind: WorkerDraining, Text: strings.Repeat("x", 500)})
			}
			time.Sleep(200 * time.Millisecond) // it is at it
			began := time.Now()
			r.Close()
			if d := time.Since(began); d > 2*closeTimeout {
				t.Errorf("the end took %v", d)
			}
		}
	})
}

// TestOff: with nothing to keep nothing is written, and what is there goes.
func TestOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := start(t, Limits{Keep: -1})
		on := NewLog(Limits{}, silent())
		r := NewRecorder(Config{Store: m.st, Log: on, Scheduler: "s2"})
		r.Record(Event{Kind: WorkerDraining})
		r.Close()
		m.Record(Event{Kind: WorkerDraining})
		if m.Wants(WorkerDraining) || len(m.list(Filter{})) != 0 {
			t.Error("something is kept")
		}
		time.Sleep(3 * time.Minute)
		if pages, _ := m.stored(t); pages != 0 || m.st.txns.Load() != 2 {
			t.Errorf("%d pages, %d writes", pages, m.st.txns.Load())
		}
		var none *Recorder
		none.Record(Event{})
		none.Leave(Pass, 3)
		none.Close()
		if none.Wants(Pass) || none.Counts() != (Counts{}) {
			t.Error("nobody records")
		}
	})
}
