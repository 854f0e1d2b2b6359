package ownership_test

import (
	"reflect"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// simLeader drives a Ledger as a scheduler does.
type simLeader struct {
	sim      *sim
	ledger   ownership.Ledger
	epoch    int64
	sequence int64
	seen     int64 // the last revision seen
	read     int64 // the revision of the last reading: changes up to it are known
	dead     bool
	replaced bool
	busy     bool
	woken    bool
	heard    time.Duration // changes are told in order,
	reading  bool          // and those told while it reads are taken
	held     []simChange   // after it
	grants   map[string]map[rota.Instance]bool
}

// elect replaces the leader at whatever it was doing. The one before may not
// know, and goes on.
func (s *sim) elect() {
	if s.leader != nil {
		s.leader.replaced = true
		if s.calm || s.chance(50) {
			s.leader.dead = true
		}
	}
	s.did("leaders")
	s.store.rev++
	s.store.leader, s.store.sequence = s.store.rev, s.store.rev
	l := &simLeader{sim: s, epoch: s.store.rev, busy: true, grants: map[string]map[rota.Instance]bool{}}
	if s.chance(50) {
		l.ledger.Limits = ownership.Limits{InAll: 1 + s.rng.IntN(4), PerWorker: s.rng.IntN(3)}
	}
	s.leader = l
	s.trace("leader  epoch %d limits %+v", l.epoch, l.ledger.Limits)
	for _, i := range s.instances {
		if t, ok := s.desired[i]; ok {
			l.ledger.Target(i, t)
		}
	}
	l.reread()
}

// hear is the watch: in order, late.
func (l *simLeader) hear(c simChange) {
	l.heard = max(l.heard, l.sim.now+l.sim.delay())
	l.sim.after(l.heard-l.sim.now, func() {
		if l.reading {
			l.held = append(l.held, c)
		} else {
			l.take(c)
		}
	})
}

func (l *simLeader) take(c simChange) {
	if l.dead || c.rev <= l.read {
		return
	}
	l.seen = max(l.seen, c.rev)
	switch {
	case c.gone:
		l.ledger.Session(c.worker, 0)
	case c.session != nil:
		l.ledger.Session(c.worker, c.session.created)
		l.ledger.Leaving(c.worker, c.session.leaving)
	default:
		l.ledger.Ack(c.worker, c.ack.Instance, c.ack.Generation, c.ack.State)
	}
	l.wake()
}

// wake has the ledger asked soon.
func (l *simLeader) wake() {
	if l.busy || l.woken {
		return
	}
	l.woken = true
	l.sim.after(time.Millisecond, func() {
		l.woken = false
		l.pass()
	})
}

// pass writes what the ledger says: first what ends, then what begins.
func (l *simLeader) pass() {
	if l.dead || l.busy {
		return
	}
	s := l.sim
	gen := rota.Generation(l.seen + 1)
	e := l.ledger.Ready(gen)
	if s.chance(10) && !reflect.DeepEqual(e, l.ledger.Ready(gen)) {
		s.fail("asked again, the ledger answers %+v, not %+v", l.ledger.Ready(gen), e)
	}
	if e.Empty() {
		return
	}
	l.busy = true
	var ends, begins []simTxn
	for _, r := range e.Release {
		ends = append(ends, simTxn{Effects: ownership.Effects{Release: []ownership.Held{r}}})
	}
	for _, r := range e.Revoke {
		ends = append(ends, simTxn{Effects: ownership.Effects{Revoke: []ownership.Held{r}}})
	}
	for _, g := range e.Grant {
		begins = append(begins, simTxn{Effects: ownership.Effects{Grant: []ownership.Held{g}}})
	}
	l.write(append(l.packed(ends), l.packed(begins)...))
}

// packed makes one transaction of several, as it comes.
func (l *simLeader) packed(txns []simTxn) []simTxn {
	var out []simTxn
	for _, t := range txns {
		if last := len(out) - 1; last >= 0 && l.sim.chance(60) {
			o := &out[last]
			o.Release, o.Revoke, o.Grant = append(o.Release, t.Release...), append(o.Revoke, t.Revoke...), append(o.Grant, t.Grant...)
			continue
		}
		out = append(out, t)
	}
	return out
}

// write does one transaction after the other; one that is not known to have
// been done ends the row.
func (l *simLeader) write(txns []simTxn) {
	s := l.sim
	if l.dead {
		return
	}
	if len(txns) == 0 {
		l.busy = false
		l.pass()
		return
	}
	t := txns[0]
	t.sequence = l.sequence
	s.after(s.delay(), func() {
		fate := 100
		if !s.calm {
			fate = s.rng.IntN(100)
		}
		switch {
		case s.store.down || fate < 5: // not done, but who knows
			l.unknown()
		case fate < 10: // done, but who knows
			s.store.do(t)
			l.unknown()
		case fate < 15: // done later, if nothing else was
			s.after(s.late(), func() {
				if s.store.do(t) {
					s.did("late transactions")
				} else {
					s.did("late transactions refused")
				}
			})
			l.unknown()
		case !s.store.do(t):
			if l.replaced {
				s.did("zombie leaders refused")
			}
			s.after(s.delay(), l.reread)
		default:
			rev := s.store.rev
			s.after(s.delay(), func() {
				if l.dead {
					return
				}
				l.seen, l.sequence = max(l.seen, rev), rev
				l.record(t.Effects)
				l.write(txns[1:])
			})
		}
	})
}

// late is how long after its failure a transaction is done: mostly about as long
// as it takes the leader to read and to write again.
func (s *sim) late() time.Duration {
	if s.chance(70) {
		return s.within(60 * time.Millisecond)
	}
	return s.within(2 * time.Second)
}

func (l *simLeader) unknown() {
	l.sim.did("unknown outcomes")
	l.sim.after(l.sim.delay(), l.reread)
}

func (l *simLeader) record(e ownership.Effects) {
	for _, r := range e.Release {
		l.confirm(r.Worker, r.Grant, true)
	}
	for _, r := range e.Revoke {
		r.Revoked = true
		l.confirm(r.Worker, r.Grant, false)
	}
	for _, g := range e.Grant {
		l.confirm(g.Worker, g.Grant, false)
	}
}

func (l *simLeader) confirm(worker string, g ownership.Grant, removed bool) {
	if l.grants[worker] == nil {
		l.grants[worker] = map[rota.Instance]bool{}
	}
	l.grants[worker][g.Instance] = !removed
	l.ledger.Record(worker, g, removed)
}

// reread takes the store's word for everything.
func (l *simLeader) reread() {
	s := l.sim
	if l.dead {
		return
	}
	if s.store.down {
		s.after(100*time.Millisecond, l.reread)
		return
	}
	r := s.store.read()
	l.reading = true
	s.after(s.delay(), func() {
		if l.dead {
			return
		}
		if r.leader != l.epoch {
			l.dead = true
			return
		}
		l.seen, l.read, l.sequence = max(l.seen, r.rev), r.rev, r.sequence
		for _, w := range s.workers {
			l.ledger.Session(w.name, r.sessions[w.name].created)
			l.ledger.Leaving(w.name, r.sessions[w.name].leaving)
			for _, i := range s.instances {
				g, ok := r.grants[w.name][i]
				if ok {
					l.confirm(w.name, g, false)
				} else if l.grants[w.name][i] {
					l.confirm(w.name, ownership.Grant{Instance: i}, true)
				}
				if a, ok := r.acks[w.name][i]; ok {
					l.ledger.Ack(w.name, i, a.Generation, a.State)
				}
			}
		}
		l.reading, l.busy = false, false
		for _, c := range l.held {
			l.take(c)
		}
		l.held = nil
		l.pass()
	})
}
