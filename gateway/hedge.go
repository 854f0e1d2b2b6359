package gateway

import (
	"errors"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/upstream"
)

// hedgeLeast is how many calls of a function must be known before its 95th
// percentile means anything.
const hedgeLeast = 100

// asked is what came of asking one worker.
type asked struct {
	u     *upstream.Conn
	buf   []byte
	n     int
	wrote int
	err   error
}

// hedged asks u, and if nothing has come after the function's 95th percentile, a
// second worker too. The first answer counts; the other worker's connection is
// closed. On return the call's worker is the one that answered.
func (x *exchange) hedged(u *upstream.Conn, request []byte) (*upstream.Conn, int, int, error) {
	c := &x.call
	after := c.f.Times.Quantile(0.95, hedgeLeast)
	if after == 0 {
		n, wrote, err := u.Ask(request, x.bufs.up)
		return u, n, wrote, err
	}
	answers := make(chan asked, 2)
	request = append([]byte(nil), request...) // the loser may still be writing it
	ask := func(u *upstream.Conn, request, buf []byte) {
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
			second.Close() // it did not break, it was cut off, and the call with it
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
			first.err = errors.Join(first.err, upstream.ErrLate)
		}
	}
	loser.Close()
	c.released()
	return x.takeAnswer(first)
}

// second is the place on the second worker.
type second struct {
	pick balance.Pick
	w    *upstream.Worker
}

// askSecond reserves a place on another worker and gets a connection to it; nil
// if the budget or the workers have none.
func (x *exchange) askSecond(s *second) *upstream.Conn {
	c := &x.call
	if c.p.RetryBudget < 0 || c.task != "" || !c.f.budget.Spend() {
		return nil
	}
	bal := c.bal
	bal.Tried[len(bal.Tried)-1] = c.w.Bal
	if bal.Tried[0] == nil {
		bal.Tried[0] = c.w.Bal
	}
	bal.Rand = c.rnd.Next()
	if s.w = upstream.Of(c.f.group.Load().set.Pick(c.p.rule, &bal, &s.pick)); s.w == nil {
		return nil
	}
	u := s.w.Idle(x.g.now(), upstream.IdleFor, upstream.Life{})
	if u == nil {
		var err error
		if u, err = s.w.Dial(x.context(), c.p.ConnectTimeout, x.g.now()); err != nil {
			s.pick.Release()
			return nil
		}
	}
	x.try(s.w, x.g.now())
	x.rec.Last().Reused = u.Reused
	u.Reused = false // its failure is not to be taken for a stale connection's
	c.f.Hedges.Add(1)
	return u
}

func (x *exchange) takeAnswer(a asked) (*upstream.Conn, int, int, error) {
	x.bufs.up = a.buf
	return a.u, a.n, a.wrote, a.err
}
