package sessions

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// ackWriter writes down what workers acknowledge: all that has come in while
// the last write was under way goes into the next.
type ackWriter struct {
	store store.Store
	view  *view.View
	log   *slog.Logger

	mu      sync.Mutex
	pending map[string]*pendingAcks // by worker
	signal  chan struct{}

	cancel context.CancelFunc
	done   chan struct{}
}

// pendingAcks is what one worker has to say on its latest connection. Whoever
// takes a session over writes its key; a write of acknowledgements compares that
// key, so that what was said on an earlier connection, perhaps to another
// scheduler, never replaces what was said later.
type pendingAcks struct {
	from    *session
	acks    map[rota.Instance]ownership.Ack
	loads   map[rota.Instance]float64
	garbage []string // acknowledgements of grants that are gone
	// unsure says that a write may still land: until it cannot, nobody can say
	// that the store has what is to be written.
	unsure bool
}

// garbageBatch is how many acknowledgements may outlive their grants before
// they are worth a write of their own.
const garbageBatch = 64

// retryPause is the pause after a write that was not confirmed.
const retryPause = 50 * time.Millisecond

func newAckWriter(s store.Store, v *view.View, log *slog.Logger) *ackWriter {
	ctx, cancel := context.WithCancel(context.Background())
	w := &ackWriter{
		store: s, view: v, log: log, pending: map[string]*pendingAcks{},
		signal: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
	}
	go w.run(ctx)
	return w
}

func (w *ackWriter) close() {
	w.cancel()
	<-w.done
}

// of is the account of a connection; w.mu is held. It is nil for one that
// another has followed.
func (w *ackWriter) of(c *session) *pendingAcks {
	p := w.pending[c.name]
	if p != nil && p.from.opened > c.opened {
		return nil
	}
	if p == nil || p.from.opened < c.opened {
		p = &pendingAcks{from: c, acks: map[rota.Instance]ownership.Ack{}, loads: map[rota.Instance]float64{}}
		w.pending[c.name] = p
	}
	return p
}

func (w *ackWriter) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// add takes acknowledgements; later ones of an instance replace earlier ones.
func (w *ackWriter) add(c *session, acks []*rotav1.Ack) {
	if len(acks) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.of(c)
	if p == nil {
		return
	}
	for _, m := range acks {
		a := ackOf(m)
		if !known(a.State) {
			continue // of a newer version, or a lie
		}
		// Stopped is final: nothing said later of the same generation undoes it.
		if old, ok := p.acks[a.Instance]; ok && old.Generation == a.Generation && old.State == ownership.Stopped {
			continue
		}
		p.acks[a.Instance] = a
	}
	w.wake()
}

// known reports whether a state is one that a worker can be in.
func known(s ownership.State) bool {
	switch s {
	case ownership.Starting, ownership.Running, ownership.Backoff, ownership.Stopping, ownership.Stuck, ownership.Stopped:
		return true
	}
	return false
}

// load takes measured load.
func (w *ackWriter) load(c *session, items []*rotav1.Load_Item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.of(c)
	if p == nil {
		return
	}
	for _, m := range items {
		if v := m.GetLoad(); v >= 0 && !math.IsInf(v, 0) {
			p.loads[rota.Instance{Task: m.GetTask(), Index: int(m.GetIndex())}] = v
		}
	}
	w.wake()
}

// released notes grants that are gone; it runs while the view stands still.
func (w *ackWriter) released(c *session, changes []table.Change[record.Grant]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.of(c)
	if p == nil {
		return
	}
	for _, g := range changes {
		if g.New == nil {
			p.garbage = append(p.garbage, g.Key)
		}
	}
	if len(p.garbage) >= garbageBatch {
		w.wake()
	}
}

func (w *ackWriter) run(ctx context.Context) {
	defer close(w.done)
	for {
		select {
		case <-w.signal:
		case <-ctx.Done():
			return
		}
		w.mu.Lock()
		work := w.pending
		w.pending = map[string]*pendingAcks{}
		w.mu.Unlock()
		if failed := w.write(ctx, work); len(failed) > 0 {
			w.again(failed)
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
				return
			}
		}
	}
}

// again puts back what could not be written, behind what has come since.
func (w *ackWriter) again(failed map[string]*pendingAcks) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range failed {
		p := w.of(f.from)
		if p == nil {
			continue
		}
		for i, a := range f.acks {
			if newer, ok := p.acks[i]; !ok || newer.Generation == a.Generation && a.State == ownership.Stopped {
				p.acks[i] = a
			}
		}
		for i, v := range f.loads {
			if _, ok := p.loads[i]; !ok {
				p.loads[i] = v
			}
		}
		p.garbage = append(p.garbage, f.garbage...)
		p.unsure = p.unsure || f.unsure
	}
	w.wake()
}

// write writes what it can and returns what is to be tried again.
func (w *ackWriter) write(ctx context.Context, work map[string]*pendingAcks) map[string]*pendingAcks {
	failed := map[string]*pendingAcks{}
	var units []table.Unit
	var owners []string // of units
	for worker, p := range work {
		if p.unsure {
			switch err := p.from.settle(ctx, false); {
			case errors.Is(err, errOvertaken):
				p.from.end() // the worker says it all again at its next connection
				continue
			case err != nil:
				w.log.Debug("acknowledgements not settled", "worker", worker, "error", err)
				failed[worker] = p
				continue
			}
			p.unsure = false
		}
		staged, err := w.stage(worker, p)
		if err != nil {
			w.log.Debug("acknowledgements cannot be written", "worker", worker, "error", err) // what cannot be read is told of
			failed[worker] = p
			continue
		}
		held := store.Cond{Key: store.SessionKey(worker), By: store.ByMod, Revision: p.from.written()}
		for _, u := range staged {
			u = u.Bind(p.from.lease)
			u.Conds = append(u.Conds, held)
			units = append(units, u)
			owners = append(owners, worker)
			if u.Partial {
				failed[worker] = p
			}
		}
	}
	pages := commit.Writer{Txn: w.store.Txn, Timeout: storeTimeout, Done: w.view.Applied}
	for r := range pages.Write(ctx, units) {
		if r.OK || r.Several() { // or a session has ended, or a page is not as the view has it
			continue
		}
		w.log.Debug("acknowledgements not written", "error", r.Err)
		for _, worker := range owners[r.From:r.To] {
			failed[worker] = work[worker]
			work[worker].unsure = work[worker].unsure || r.Err != nil
		}
	}
	return failed
}

// stage plans the writes of one worker. What speaks of grants that the worker
// does not have is left out: it is of the past, or a lie.
func (w *ackWriter) stage(worker string, p *pendingAcks) (units []table.Unit, err error) {
	now := time.Now().UnixMilli()
	w.view.Read(func() {
		v := w.view
		if s := v.Sessions[worker]; s == nil || s.ID != p.from.id || s.Mod > p.from.written() {
			return // over, or said again on another connection
		}
		t := v.Acks[worker]
		if t == nil {
			t = record.NewAcks(worker)
		}
		set := make([]record.Ack, 0, len(p.acks))
		for i, a := range p.acks {
			g, ok := v.Grant(worker, i)
			if !ok || g.Generation != a.Generation {
				continue
			}
			r := record.Ack{Ack: a, Since: now, Load: -1}
			if old, ok := v.Ack(worker, i); ok {
				if old.Generation == a.Generation && old.State == ownership.Stopped {
					continue // final: this was said before it, on another stream
				}
				r.Load = old.Load
				if old.State == a.State && old.Generation == a.Generation {
					r.Since = old.Since
				}
			}
			if l, ok := p.loads[i]; ok {
				r.Load = float32(l)
			}
			set = append(set, r)
		}
		for i, l := range p.loads {
			if _, ok := p.acks[i]; ok {
				continue
			}
			old, ok := v.Ack(worker, i)
			if ok && math.Abs(float64(old.Load)-l) > 0.05*l {
				r := *old
				r.Load = float32(l)
				set = append(set, r)
			}
		}
		var del []string
		for _, key := range p.garbage {
			if g := v.Grants[worker]; g != nil {
				if _, ok := g.Get(key); ok {
					continue
				}
			}
			del = append(del, key)
		}
		units, err = t.Stage(set, del)
	})
	return units, err
}
