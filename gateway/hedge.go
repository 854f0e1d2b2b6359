package gateway

import (
	"errors"
	"time"

	"github.com/rota-project/rota/balance"
)

// hedgeLeast is how many calls of a function must be known before its 95th
// percentile means anything.
const hedgeLeast = 100

// asked is what came of asking one worker.
type asked struct {
	u     *upstream
	buf   []byte
	n     int
	wrote int
	err   error
}

// hedged asks u, and if nothing has come after the function's 95th percentile, a
// second worker too. The first answer counts; the other worker's connection is
// closed. On return the call's worker is the one that answered.
func (x *exchange) hedged(u *upstream, request []byte) (*upstream, int, int, error) {
	c := &x.call
	after := c.f.times.quantile(0.95, hedgeLeast)
	if after == 0 {
		n, wrote, err := u.Ask(request, x.bufs.up)
		return u, n, wrote, err
	}
	answers := make(chan asked, 2)
	request = append([]byte(nil), request...) // the loser may still be writing it
	ask := func(u *upstream, request, buf []byte) {
		n, wrote, err := u.Ask(request, buf)
		answers <- asked{u, buf, n, wrote, err}
	}
	go ask(u, request, make([]byte, upSize))
	timer := time.NewTimer(after)
	defer timer.Stop()
	var first asked
	select {
	case first = <-answers:
		return x.takeAnswer(first)
	case <-timer.C:
	}
	var other second
	second := x.askSecond(&other)
	if second == nil {
		return x.takeAnswer(<-answers)
	}
	go ask(second, x.retraced(request), make([]byte, upSize))
	first = <-answers
	if first.err != nil { // whoever breaks off first has lost
		broken := first
		x.rec.BrokeOff(x.g.now(), broken.u == u, broken.wrote, broken.n, broken.err)
		if broken.u == u && !x.watch.CompareAndSwap(u, second) {
			second.close() // it did not break, it was cut off, and the call with it
		}
		first = <-answers
		if first.err != nil {
			x.rec.BrokeOff(x.g.now(), first.u == u, first.wrote, first.n, first.err)
			first = broken
			x.watch.CompareAndSwap(second, u)
		}
	}
	x.rec.Hedged(x.g.now(), first.u == u)
	loser := u
	if first.u == u {
		loser = second
		other.pick.Release()
	} else {
		// The second one's place is the call's now.
		c.pick.Release()
		c.pick, c.w = other.pick, other.w
		if x.watch.Load() != second && !x.watch.CompareAndSwap(u, second) { // cut off by the sweeper
			first.err = errors.Join(first.err, errLate)
		}
	}
	loser.close()
	c.released()
	return x.takeAnswer(first)
}

// second is the place on the second worker.
type second struct {
	pick balance.Pick
	w    *worker
}

// askSecond reserves a place on another worker and gets a connection to it; nil
// if the budget or the workers have none.
func (x *exchange) askSecond(s *second) *upstream {
	c := &x.call
	if c.p.RetryBudget < 0 || c.task != "" || !c.f.budget.Spend() {
		return nil
	}
	bal := c.bal
	bal.Tried[len(bal.Tried)-1] = c.w.bal
	if bal.Tried[0] == nil {
		bal.Tried[0] = c.w.bal
	}
	bal.Rand = c.rnd.Next()
	if s.w = of(c.f.group.Load().set.Pick(c.p.rule, &bal, &s.pick)); s.w == nil {
		return nil
	}
	u := s.w.pool.get(x.g.now(), idleFor)
	if u == nil {
		var err error
		if u, err = x.g.dial(x.context(), s.w, c.p.ConnectTimeout); err != nil {
			s.pick.Release()
			return nil
		}
	}
	x.try(s.w, x.g.now())
	x.rec.Last().Reused = u.reused
	u.reused = false // its failure is not to be taken for a stale connection's
	c.f.hedges.Add(1)
	return u
}

func (x *exchange) takeAnswer(a asked) (*upstream, int, int, error) {
	x.bufs.up = a.buf
	return a.u, a.n, a.wrote, a.err
}
