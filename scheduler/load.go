package scheduler

import (
	"time"

	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
)

// load takes the whole picture in, when a term begins; the view stands still.
// What the leader before had planned and not begun is planned anew.
func (l *leader) load() {
	l.inbox.Take() // what came while workers gathered is in the picture
	v, now := l.s.view, time.Now()
	l.loadSuspects()
	for name, u := range l.s.capacity.Lead() {
		l.planner.Claim(name, u)
	}
	l.planner.Reserve(v.Tasks.Len())
	for t := range v.Tasks.All() {
		l.setTask(t)
	}
	for name := range v.Sessions {
		l.ledger.Session(name, v.Sessions[name].ID)
		l.standing(name)
	}
	l.loadAbsent(now)
	for name := range v.Grants {
		for g := range v.Grants[name].All() {
			l.ledger.Record(name, g.Grant, false)
			if s, ok := l.suspects.docket.Of(g.Instance.Task); ok && s.Withheld() {
				continue
			}
			to, reason, claim := l.heir(name, g)
			if claim == 0 || l.yields(name, g, claim) || l.planner.Assign(g.Instance, to) != nil {
				continue // it is placed like a new one
			}
			if t, ok := v.Tasks.Get(g.Instance.Task); ok && g.Instance.Index < t.Replicas {
				l.aim(g.Instance, target(t, to, reason))
			}
		}
	}
	for name, acks := range v.Acks {
		for a := range acks.All() {
			l.ack(name, a)
		}
	}
	l.told = factsOf(v.Cluster)
	l.orphans, l.histories = true, true
	l.planAt = now
	l.s.capacity.Open(l.epoch)
}

// loadAbsent takes in the workers that do not live: those that still hold grants
// were lost, and may be awaited; the others left.
func (l *leader) loadAbsent(now time.Time) {
	v := l.s.view
	for name, held := range v.Grants {
		if v.Sessions[name] != nil || held.Len() == 0 {
			continue
		}
		if v.Nodes[name].GetLostUnixMs() == 0 {
			l.s.events.Record(events.Event{
				Kind: events.WorkerLost, Subject: events.Subject{Worker: name}, Text: "its lease ended while there was no leader",
			})
		}
		l.owed.lost(name, v.Nodes[name], nil)
		if left := v.Grace(name, now); left > 0 {
			l.graceUntil[name] = now.Add(left)
			l.standing(name)
		}
	}
	for name, node := range v.Nodes {
		holds := v.Grants[name] != nil && v.Grants[name].Len() > 0
		left := v.Grace(name, now)
		switch {
		case v.Sessions[name] != nil, holds:
		case node.GetLostUnixMs() == 0, node.GetLast().GetLeaving() && left == 0:
			l.owed.left(name)
		case node.GetLast().GetLeaving():
			l.graceUntil[name] = now.Add(left)
		}
	}
}

// heir is whose the instance of a worker's grant is, and why: of the one to which it
// was to move, once its worker was asked to stop it, if that one is there or awaited;
// else of the worker. claim is how good its claim is: 0 is none.
func (l *leader) heir(worker string, g *record.Grant) (to, reason string, claim int) {
	if g.Revoked {
		if claim := l.claim(g.To); claim > 0 {
			return g.To, "it was moving there from " + worker, claim
		}
	}
	return worker, g.Reason, l.claim(worker)
}

// claim is how good a worker's claim to what it has a grant of is: 0 is none.
func (l *leader) claim(worker string) int {
	s := l.s.view.Sessions[worker]
	_, awaited := l.graceUntil[worker]
	switch {
	case s != nil && s.GetLeaving() && !l.s.view.Returns(s):
		return 0
	case s != nil && !s.GetLeaving():
		return 2
	case s != nil || awaited:
		return 1
	}
	return 0
}

// yields reports whether another grant of the instance says better whose that is, in
// the middle of a move: an heir that lives comes before one that is awaited, and the
// later grant before the earlier.
func (l *leader) yields(worker string, g *record.Grant, claim int) bool {
	v := l.s.view
	for _, other := range v.Holders(g.Instance) {
		h, ok := v.Grant(other, g.Instance)
		if !ok || other == worker {
			continue
		}
		if _, _, its := l.heir(other, h); its > claim || its == claim && h.Generation > g.Generation {
			return true
		}
	}
	return false
}
