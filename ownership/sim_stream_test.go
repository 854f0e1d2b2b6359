package ownership_test

import (
	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// simStream is a control stream: what is sent on it arrives in order and once,
// and when it breaks the end of what was sent is lost.
type simStream struct {
	sim      *sim
	worker   *simWorker
	up, down simPipe
	session  *simSession // the session that the scheduler knows it to be of
}

type simPipe struct {
	sim     *sim
	queue   []func()
	moving  bool
	blocked bool
	broken  bool
	left    int // how many still arrive after the break
}

func (p *simPipe) send(message func()) {
	if p.broken {
		return
	}
	p.queue = append(p.queue, message)
	p.move()
}

func (p *simPipe) move() {
	if p.moving || p.blocked || len(p.queue) == 0 {
		return
	}
	p.moving = true
	p.sim.after(p.sim.delay(), func() {
		p.moving = false
		if p.blocked || len(p.queue) == 0 {
			return
		}
		message := p.queue[0]
		p.queue = p.queue[1:]
		if p.broken {
			if p.left--; p.left < 0 {
				p.queue = nil
				return
			}
		}
		message()
		p.move()
	})
}

func (p *simPipe) block(blocked bool) {
	p.blocked = blocked
	p.move()
}

func (p *simPipe) cut(left int) {
	p.broken, p.left = true, left
}

// hello opens or takes up a session.
func (st *simStream) hello(session int64, incarnation int, seq uint64, held []ownership.Ack) {
	s, name := st.sim, st.worker.name
	if s.store.down {
		st.refuse("unavailable")
		return
	}
	x := s.store.sessions[name]
	switch {
	case x != nil && x.incarnation != incarnation:
		st.refuse("name alive")
		return
	case session != 0 && (x == nil || x.created != session) && s.chance(50):
		st.refuse("session lost")
		return
	case x != nil && x.hello > seq:
		st.refuse("superseded") // it comes late: a later stream has the session
		return
	case x == nil:
		x = s.store.open(name, incarnation)
	default:
		s.store.renew(name, x)
	}
	st.session, x.stream, x.hello = x, st, seq
	s.trace("store   %s has session %d", name, x.created)
	s.store.acknowledge(name, held)
	created := x.created
	st.down.send(func() { st.worker.welcome(st, created, seq) })
	// The full list, as fresh as a linearizable reading is.
	var full simGrants
	for _, i := range s.instances {
		g, ok := s.store.grants[name][i]
		switch {
		case !ok || g.Session != created && modeOf(g.Spec) != rota.Available:
		case g.Revoked:
			full.take = append(full.take, g)
		default:
			full.give = append(full.give, g)
		}
	}
	full.full = true
	st.down.send(func() { st.worker.grants(st, full) })
}

func (st *simStream) refuse(why string) {
	st.down.send(func() { st.worker.refused(st, why) })
}

// alive reports whether the stream's session still is one.
func (st *simStream) alive() bool {
	return st.session != nil && st.sim.store.sessions[st.worker.name] == st.session
}

func (st *simStream) renew(seq uint64) {
	switch {
	case st.sim.store.down:
		return // no answer
	case !st.alive():
		st.refuse("session lost")
	default:
		st.sim.store.renew(st.worker.name, st.session)
		st.down.send(func() { st.worker.renewed(st, seq) })
	}
}

// acks are taken from the session's latest stream only: those of one before
// may come late.
func (st *simStream) acks(acks []ownership.Ack) {
	switch {
	case st.sim.store.down:
		st.refuse("unavailable") // the next hello says it again
	case st.alive() && st.session.stream == st:
		st.sim.store.acknowledge(st.worker.name, acks)
	}
}

func (st *simStream) leave() {
	if st.alive() {
		st.sim.store.leave(st.worker.name, st.session)
	}
}

func (st *simStream) farewell() {
	if st.alive() && st.session.stream == st {
		st.sim.did("left in order")
		st.sim.store.end(st.worker.name, st.session, "has left")
	}
}

// simGrants is one message of grants.
type simGrants struct {
	full bool
	give []ownership.Grant
	take []ownership.Grant
}

// push tells the worker of one change.
func (st *simStream) push(g ownership.Grant, removed bool) {
	m := simGrants{give: []ownership.Grant{g}}
	if removed || g.Revoked {
		m = simGrants{take: []ownership.Grant{g}}
	}
	st.down.send(func() { st.worker.grants(st, m) })
}
