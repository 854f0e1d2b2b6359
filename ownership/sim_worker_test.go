package ownership_test

import (
	"math"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// simWorker drives a Holder as a worker process does, and is that process.
type simWorker struct {
	sim         *sim
	name        string
	incarnation int
	alive       bool

	rate     float64       // of its clock
	zero     time.Duration // its clock's reading when it booted
	born     time.Duration
	holder   *ownership.Holder
	orders   map[rota.Instance]ownership.Grant
	calls    map[rota.Instance]*simCall
	alarm    int // the latest
	session  int64
	stream   *simStream
	welcomed bool
	seq      uint64
	heard    time.Duration
	leaving  bool

	stubborn           bool // its functions do not stop when they are told to
	blockUp, blockDown bool
}

// simCall is a call of a task function that has not returned.
type simCall struct {
	gen      rota.Generation
	strict   bool // begun as exclusive
	stopping bool
	stuck    bool // does not return by itself
}

// boot starts the process.
func (w *simWorker) boot() {
	if w.alive {
		return
	}
	s := w.sim
	w.incarnation++
	w.alive, w.leaving, w.session, w.stream, w.seq = true, false, 0, nil, 0
	w.rate = []float64{1 / 1.1, 1, 1.1, 1/1.1 + s.rng.Float64()*(1.1-1/1.1)}[s.rng.IntN(4)]
	w.zero, w.born = s.within(time.Hour), s.now
	trust := ownership.DefaultTrust(simTTL)
	trust.StuckAfter = simTTL / 2
	trust.BackoffMax = 2 * time.Second
	w.holder = ownership.NewHolder(trust)
	w.orders, w.calls = map[rota.Instance]ownership.Grant{}, map[rota.Instance]*simCall{}
	s.trace("%s      boots as %d, its clock runs at %.3f", w.name, w.incarnation, w.rate)
	w.connect()
}

// clock is its monotonic clock.
func (w *simWorker) clock() ownership.Time {
	return w.zero + time.Duration(float64(w.sim.now-w.born)*w.rate)
}

// later calls do if this process still lives then.
func (w *simWorker) later(d time.Duration, do func()) {
	me := w.incarnation
	w.sim.after(d, func() {
		if w.alive && w.incarnation == me {
			do()
		}
	})
}

// kill ends the process and all that runs in it.
func (w *simWorker) kill(why string, seen bool) {
	if !w.alive {
		return
	}
	s := w.sim
	s.trace("%s      %s", w.name, why)
	w.alive, w.calls = false, nil
	if w.stream != nil {
		w.stream.up.cut(s.rng.IntN(3))
		w.stream.down.cut(0)
	}
	if seen {
		x := s.store.sessions[w.name]
		s.after(s.delay(), func() {
			if x != nil && x.incarnation == w.incarnation && !w.alive {
				s.store.end(w.name, x, "is reported dead")
			}
		})
	}
	s.after(s.within(4*time.Second), w.boot)
}

func (w *simWorker) leave() {
	if !w.alive || w.leaving {
		return
	}
	w.sim.trace("%s      leaves", w.name)
	w.leaving = true
	if w.stream != nil && w.welcomed {
		w.stream.up.send(w.stream.leave)
	}
	w.act(w.holder.Leave(w.clock()))
}

func (w *simWorker) connect() {
	s := w.sim
	st := &simStream{sim: s, worker: w}
	st.up = simPipe{sim: s, blocked: w.blockUp}
	st.down = simPipe{sim: s, blocked: w.blockDown}
	w.stream, w.welcomed, w.heard = st, false, s.now
	w.seq++
	w.holder.Disconnected()
	w.holder.Sent(w.seq, w.clock())
	session, me, seq, held := w.session, w.incarnation, w.seq, w.holder.Held(w.clock())
	st.up.send(func() { st.hello(session, me, seq, held) })
	w.arm()
	w.beat(st)
}

// beat renews, and gives the stream up if nothing is heard for long.
func (w *simWorker) beat(st *simStream) {
	w.later(simTTL/5, func() {
		switch {
		case w.stream != st:
		case w.sim.now-w.heard > simTTL/2:
			w.cut()
		default:
			if w.welcomed {
				w.seq++
				seq := w.seq
				w.holder.Sent(seq, w.clock())
				st.up.send(func() { st.renew(seq) })
			}
			w.beat(st)
		}
	})
}

// cut breaks the stream.
func (w *simWorker) cut() {
	if !w.alive || w.stream == nil {
		return
	}
	s := w.sim
	if w.welcomed {
		s.did("streams broken")
	}
	s.trace("%s      stream breaks", w.name)
	w.stream.up.cut(s.rng.IntN(4))
	w.stream.down.cut(0)
	w.stream = nil
	w.holder.Disconnected()
	w.later(s.delay(), func() {
		if w.stream == nil {
			w.connect()
		}
	})
}

// silent holds back what is on the stream for a while.
func (w *simWorker) silent(d time.Duration) {
	if st := w.stream; st != nil {
		st.down.block(true)
		w.sim.after(d, func() { st.down.block(w.blockDown) })
	}
}

func (w *simWorker) block(up, down bool) {
	w.blockUp, w.blockDown = up, down
	if w.stream != nil {
		w.stream.up.block(up)
		w.stream.down.block(down)
	}
}

// mine reports whether a message on st is for this process.
func (w *simWorker) mine(st *simStream) bool {
	if !w.alive || w.stream != st {
		return false
	}
	w.heard = w.sim.now
	return true
}

func (w *simWorker) welcome(st *simStream, session int64, seq uint64) {
	if !w.mine(st) {
		return
	}
	if w.session != 0 && w.session != session {
		w.lost()
	}
	w.session, w.welcomed = session, true
	w.act(w.holder.Renewed(seq, simTTL, w.clock()))
	if w.leaving {
		st.up.send(st.leave)
	}
}

func (w *simWorker) lost() {
	w.session = 0
	w.act(w.holder.SessionLost(w.clock()))
}

func (w *simWorker) refused(st *simStream, why string) {
	if !w.mine(st) {
		return
	}
	w.sim.trace("%s      refused: %s", w.name, why)
	if why == "session lost" {
		w.lost()
	}
	if w.alive && w.stream == st {
		w.cut()
	}
}

func (w *simWorker) renewed(st *simStream, seq uint64) {
	if w.mine(st) {
		w.act(w.holder.Renewed(seq, simTTL, w.clock()))
	}
}

func (w *simWorker) grants(st *simStream, m simGrants) {
	if !w.mine(st) {
		return
	}
	keep := map[rota.Instance]bool{}
	for _, g := range m.take {
		keep[g.Instance] = true
		w.act(w.holder.Take(g.Instance, g.Generation, w.clock()))
	}
	var orders []ownership.Order
	for _, g := range m.give {
		keep[g.Instance] = true
		w.orders[g.Instance] = g
		orders = append(orders, ownership.Order{
			Instance: g.Instance, Generation: g.Generation, Mode: modeOf(g.Spec), Priority: float64(g.Spec % 2),
		})
	}
	if m.full {
		w.act(w.holder.Only(keep, w.clock()))
	}
	w.act(w.holder.Give(orders, w.clock()))
}

// act carries out what the holder says, tells what there is to tell and waits
// for the next moment.
func (w *simWorker) act(actions []ownership.Action) {
	s := w.sim
	for _, a := range actions {
		if !w.alive {
			return
		}
		c := w.calls[a.Instance]
		switch a.Do {
		case ownership.Start:
			if c != nil {
				s.fail("%v is started on %s while it runs there", a.Instance, w.name)
			}
			w.call(a)
		case ownership.Stop:
			if c == nil || c.stopping {
				s.fail("%v is stopped on %s but does not run", a.Instance, w.name)
				return
			}
			w.stop(a.Instance, c)
		case ownership.Adopt:
			s.did("adopted")
			if c == nil || c.stopping || c.strict || a.Generation <= c.gen {
				s.fail("%v on %s cannot adopt generation %d", a.Instance, w.name, a.Generation)
				return
			}
			c.gen = a.Generation
		case ownership.Die:
			s.did("deaths by fence")
			w.kill("dies: "+a.Instance.String()+" has not stopped", s.chance(30))
		}
	}
	w.flush()
	w.arm()
}

// flush sends acknowledgements, and the farewell when nothing is held.
func (w *simWorker) flush() {
	st := w.stream
	if !w.alive || st == nil || !w.welcomed {
		return
	}
	if acks := w.holder.Acks(); len(acks) > 0 {
		st.up.send(func() { st.acks(acks) })
	}
	if w.leaving && w.holder.Empty() {
		w.leaving = false
		st.up.send(st.farewell)
		w.later(w.sim.delay(), func() { w.kill("has left", false) })
	}
}

// arm sets the alarm for when the holder wants to be asked next, and for
// nothing else.
func (w *simWorker) arm() {
	if !w.alive {
		return
	}
	w.alarm++
	at, ok := w.holder.Next(w.clock())
	if !ok {
		return
	}
	id := w.alarm
	w.later(time.Duration(math.Ceil(float64(at-w.clock())/w.rate))+1, func() {
		if w.alarm == id {
			w.act(w.holder.Tick(w.clock()))
		}
	})
}

// call starts the task function.
func (w *simWorker) call(a ownership.Action) {
	s, i := w.sim, a.Instance
	c := &simCall{gen: a.Generation, strict: modeOf(w.orders[i].Spec) == rota.Exclusive, stuck: w.stubborn && s.chance(50)}
	s.did("starts")
	s.trace("%s      starts %v generation %d", w.name, i, a.Generation)
	w.calls[i] = c
	s.began(w, i, c)
	w.later(s.within(5*time.Millisecond), func() {
		if w.calls[i] == c {
			w.holder.Called(i, w.clock())
			w.act(nil)
		}
	})
	if !s.calm && s.chance(10) {
		w.later(s.within(2*simTTL), func() {
			if !s.calm && w.calls[i] == c && !c.stopping {
				s.did("restarts")
				w.ended(i, "failed")
			}
		})
	}
}

// stop ends the context of a call.
func (w *simWorker) stop(i rota.Instance, c *simCall) {
	s := w.sim
	s.trace("%s      stops %v generation %d", w.name, i, c.gen)
	c.stopping = true
	if at := w.holder.Trusted(); c.strict && (at == 0 || w.clock() >= at-simTTL/10) {
		s.did("fences")
	}
	took := s.within(50 * time.Millisecond)
	switch {
	case c.stuck && !s.calm:
		return
	case !s.calm && s.chance(20):
		took = s.within(2 * simTTL)
	}
	w.later(took, func() {
		if w.calls[i] == c {
			w.ended(i, "")
		}
	})
}

// release lets go of what would not stop.
func (w *simWorker) release() {
	for _, i := range w.sim.instances {
		if c := w.calls[i]; c != nil {
			c.stuck = false
			if c.stopping {
				w.later(time.Second, func() {
					if w.calls[i] == c {
						w.ended(i, "")
					}
				})
			}
		}
	}
}

func (w *simWorker) ended(i rota.Instance, err string) {
	w.sim.trace("%s      %v has returned %q", w.name, i, err)
	delete(w.calls, i)
	w.act(w.holder.Returned(i, err, ownership.Exit{}, w.clock()))
}
