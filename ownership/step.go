package ownership

import "github.com/rota-project/rota"

type verdict uint8

const (
	clean   verdict = iota // as it should be, or waiting for somebody else
	busy                   // effects were given; look again when they are recorded
	limited                // would move, but for the limits
)

// step gives the effects that e needs now. A move is begun only if a admits it;
// nil admits none.
func (l *Ledger) step(e *entry, gen rota.Generation, a *admission, out *Effects) verdict {
	var (
		t       = e.target()
		session = l.takes(t.Worker)
		overlap = t.Mode == rota.Available
		v       = clean

		living, fitting, started int
		owner                    string // the oldest living
		there                    bool   // some grant, of whatever age, is at the target
	)
	l.block(e, "")
	for _, h := range e.holds {
		lives := l.lives(h)
		if h.aims(t) && (!lives || h.state == Stopped && session == 0) {
			// Until the new grant replaces it, it says whose the instance is should
			// that worker return, from a death or from an orderly restart, even if the
			// task was changed meanwhile; one that may overlap may still run there.
			continue
		}
		if !lives && t.Worker != "" && session == 0 {
			l.block(e, t.Worker)
			continue // so it does until there is somebody to take it; a revoked one says who that is
		}
		there = there || h.worker == t.Worker
		if !lives || h.state == Stopped {
			out.Release = append(out.Release, h.held(e.instance))
			v = busy
			continue
		}
		if living++; living == 1 {
			owner = h.worker
		}
		if h.fits(t) {
			fitting++
			if h.state == Running {
				started++
			}
		}
	}
	for _, h := range e.holds {
		if !l.lives(h) || h.state == Stopped || h.revoked || h.fits(t) {
			continue
		}
		switch {
		case t.Worker == "": // it should be nowhere
		case h.worker == t.Worker || !overlap:
			if session == 0 {
				l.block(e, t.Worker)
				continue // nobody is there to take it
			}
			if !a.admits(e, h.worker) {
				return v.orLimited()
			}
		case started == 0:
			continue // its successor does not run yet
		}
		g := h.held(e.instance)
		g.To = t.Worker
		out.Revoke = append(out.Revoke, g)
		v = busy
	}
	switch {
	case t.Worker == "" || fitting > 0 || living > 0 && !overlap:
		return v
	case session == 0:
		l.block(e, t.Worker)
		return v
	case there:
		return v // one grant a worker: the old one must be gone first
	case living > 0 && !a.admits(e, owner):
		return v.orLimited()
	}
	out.Grant = append(out.Grant, Held{t.Worker, Grant{
		Instance: e.instance, Generation: gen, Session: session, Spec: t.Spec, Reason: t.Reason,
	}})
	return busy
}

// orLimited is limited, unless effects were given already: then the entry is
// looked at again when they are recorded.
func (v verdict) orLimited() verdict {
	if v == busy {
		return busy
	}
	return limited
}

// moveOf says anew which move of e is under way: one is while an old owner is
// being stopped, or a new one starts beside it, until the new one runs.
func (l *Ledger) moveOf(e *entry) (from, to string) {
	if len(e.holds) == 0 && e.from == "" { // nobody has it: it does not move
		return "", ""
	}
	t := e.target()
	arriving, running, stuck := false, false, false
	for _, h := range e.holds {
		if l.lives(h) && h.fits(t) {
			arriving = true
			running = h.state == Running || h.state == Backoff
		}
	}
	for _, h := range e.holds {
		if l.lives(h) && !h.fits(t) && (h.revoked || arriving) {
			if h.state == Stuck {
				stuck = true
			} else {
				from = h.worker
			}
		}
	}
	if from == "" && !running && !stuck {
		from = e.from // the old owner has stopped, the new one does not run yet
	}
	if from == "" || t.Worker == "" {
		return "", ""
	}
	return from, t.Worker
}
