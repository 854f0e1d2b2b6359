package scheduler

import (
	"time"

	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
)

// load takes the whole picture in, when a term begins; the view stands still.
// What the leader before had planned and not yet granted is planned anew.
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
			if !l.keeps(name, g) || l.planner.Assign(g.Instance, name) != nil {
				continue // it is placed like a new one
			}
			if t, ok := v.Tasks.Get(g.Instance.Task); ok && g.Instance.Index < t.Replicas {
				l.aim(g.Instance, target(t, name, g.Reason))
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
				Kind: events.WorkerLost, Subject: events.Subject{Worker: name}, Text: "its lease ended while nobody led",
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

// keeps reports whether a worker is the one that keeps an instance of which it
// has a grant. Where two have one, in the middle of a move, a worker that lives
// comes before one that is awaited, and the later grant before the earlier.
func (l *leader) keeps(worker string, g *record.Grant) bool {
	mine := l.claim(worker, g)
	if mine == 0 {
		return false
	}
	v := l.s.view
	for _, other := range v.Holders(g.Instance) {
		h, ok := v.Grant(other, g.Instance)
		if !ok || other == worker {
			continue
		}
		if its := l.claim(other, h); its > mine || its == mine && h.Generation > g.Generation {
			return false
		}
	}
	return true
}

// claim is how good a worker's claim to what it has a grant of is: 0 is none.
func (l *leader) claim(worker string, g *record.Grant) int {
	s := l.s.view.Sessions[worker]
	_, awaited := l.graceUntil[worker]
	switch {
	case g.Revoked || s != nil && s.GetLeaving() && !l.s.view.Returns(s):
		return 0
	case s != nil && !s.GetLeaving():
		return 2
	case s != nil || awaited:
		return 1
	}
	return 0
}
