package ownership_test

import (
	"maps"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// simStore has revisions, transactions guarded by the leader's key, and leases.
type simStore struct {
	sim  *sim
	rev  int64
	down bool

	leader   int64 // the revision at which the leader was elected
	sequence int64 // the revision at which the leader's key was written last
	sessions map[string]*simSession
	grants   map[string]map[rota.Instance]ownership.Grant
	acks     map[string]map[rota.Instance]ownership.Ack
}

type simSession struct {
	created     int64
	incarnation int
	expires     time.Duration
	leaving     bool
	stream      *simStream // the latest,
	hello       uint64     // which said this hello
}

// simChange is what a watch tells the leader.
type simChange struct {
	rev     int64
	worker  string
	session *simSession // if the session has changed; nil with gone
	gone    bool
	ack     *ownership.Ack
}

func (st *simStore) open(worker string, incarnation int) *simSession {
	st.rev++
	x := &simSession{created: st.rev, incarnation: incarnation}
	st.sessions[worker] = x
	st.renew(worker, x)
	st.tell(simChange{rev: st.rev, worker: worker, session: x})
	return x
}

// renew counts the lease from now, and ends it then or a little later.
func (st *simStore) renew(worker string, x *simSession) {
	x.expires = st.sim.now + simTTL
	late := time.Duration(0)
	if st.sim.chance(30) {
		late = st.sim.within(500 * time.Millisecond)
	}
	var end func()
	end = func() {
		switch {
		case st.sessions[worker] != x || st.sim.now < x.expires:
		case st.down:
			st.sim.after(100*time.Millisecond, end) // no quorum, no end of leases
		default:
			st.sim.did("sessions lost")
			st.end(worker, x, "its lease ends")
		}
	}
	st.sim.after(simTTL+late, end)
}

func (st *simStore) end(worker string, x *simSession, why string) {
	if x == nil || st.sessions[worker] != x {
		return
	}
	st.rev++
	delete(st.sessions, worker)
	st.sim.trace("store   %s: %s, session %d is over", worker, why, x.created)
	st.tell(simChange{rev: st.rev, worker: worker, gone: true})
}

func (st *simStore) leave(worker string, x *simSession) {
	st.rev++
	x.leaving = true
	st.tell(simChange{rev: st.rev, worker: worker, session: x})
}

func (st *simStore) acknowledge(worker string, acks []ownership.Ack) {
	if len(acks) == 0 {
		return
	}
	st.rev++
	if st.acks[worker] == nil {
		st.acks[worker] = map[rota.Instance]ownership.Ack{}
	}
	for _, a := range acks {
		old := st.acks[worker][a.Instance]
		if a.Generation < old.Generation || a.Generation == old.Generation && old.State == ownership.Stopped {
			continue
		}
		st.acks[worker][a.Instance] = a
		st.sim.trace("store   %s acknowledges %v %s generation %d", worker, a.Instance, a.State, a.Generation)
		if a.State == ownership.Stuck {
			st.sim.did("stuck")
		}
		st.tell(simChange{rev: st.rev, worker: worker, ack: &a})
	}
}

func (st *simStore) tell(c simChange) {
	if l := st.sim.leader; l != nil && !l.dead {
		l.hear(c)
	}
}

// simTxn is a transaction of the leader: releases and revokes, or grants.
type simTxn struct {
	sequence int64 // it is only done if the leader's key was written then
	ownership.Effects
}

// do is a transaction: all or nothing.
func (st *simStore) do(t simTxn) bool {
	if t.sequence != st.sequence {
		return false
	}
	for _, g := range t.Grant {
		if x := st.sessions[g.Worker]; x == nil || x.created != g.Session {
			return false
		}
	}
	st.rev++
	st.sequence = st.rev
	for _, r := range t.Release {
		st.write(r, false, true)
	}
	for _, r := range t.Revoke {
		st.write(r, true, false)
	}
	for _, g := range t.Grant {
		st.check(g)
		st.write(g, false, false)
	}
	return true
}

func (st *simStore) write(h ownership.Held, revoked, removed bool) {
	s := st.sim
	g := h.Grant
	g.Revoked = revoked
	if st.grants[h.Worker] == nil {
		st.grants[h.Worker] = map[rota.Instance]ownership.Grant{}
	}
	switch {
	case removed:
		delete(st.grants[h.Worker], g.Instance)
		s.trace("store   %v released from %s generation %d", g.Instance, h.Worker, g.Generation)
	case revoked:
		st.grants[h.Worker][g.Instance] = g
		s.did("moves")
		s.trace("store   %v revoked from %s generation %d", g.Instance, h.Worker, g.Generation)
	default:
		st.grants[h.Worker][g.Instance] = g
		s.did("grants")
		s.trace("store   %v granted to %s generation %d session %d spec %d", g.Instance, h.Worker, g.Generation, g.Session, g.Spec)
	}
	if x := st.sessions[h.Worker]; x != nil && x.stream != nil {
		x.stream.push(g, removed)
	}
}

// check holds a new grant against what is granted: generations grow, and an
// exclusive instance has no other living owner.
func (st *simStore) check(h ownership.Held) {
	s := st.sim
	if h.Generation <= s.granted[h.Instance] {
		s.fail("%v granted to %s with generation %d after %d", h.Instance, h.Worker, h.Generation, s.granted[h.Instance])
	}
	s.granted[h.Instance] = h.Generation
	for worker, page := range st.grants {
		g, ok := page[h.Instance]
		x := st.sessions[worker]
		if !ok || x == nil || x.created != g.Session {
			continue
		}
		if modeOf(h.Spec) == rota.Exclusive {
			s.fail("%v granted to %s while %s holds generation %d of its living session", h.Instance, h.Worker, worker, g.Generation)
		} else {
			s.did("overlaps")
		}
	}
}

// simSnapshot is what a leader reads at one revision.
type simSnapshot struct {
	rev, leader, sequence int64
	sessions              map[string]simSession
	grants                map[string]map[rota.Instance]ownership.Grant
	acks                  map[string]map[rota.Instance]ownership.Ack
}

func (st *simStore) read() simSnapshot {
	r := simSnapshot{
		rev: st.rev, leader: st.leader, sequence: st.sequence, sessions: map[string]simSession{},
		grants: map[string]map[rota.Instance]ownership.Grant{}, acks: map[string]map[rota.Instance]ownership.Ack{},
	}
	for w, x := range st.sessions {
		r.sessions[w] = *x
	}
	for w, page := range st.grants {
		r.grants[w] = maps.Clone(page)
	}
	for w, page := range st.acks {
		r.acks[w] = maps.Clone(page)
	}
	return r
}
