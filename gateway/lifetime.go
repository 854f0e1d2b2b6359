package gateway

import "time"

// quietFor is how long an old connection must have been idle to be closed without a word:
// of one that is in use the client is told in an answer, so that no call is on its way.
const quietFor = time.Second

// aged says whether a client connection is as old as one may become.
func (c *conn) aged(now int64) bool {
	most := int64(c.g.state.Load().cfg.Limits.ConnectionAge)
	return most > 0 && now-c.born > most
}

// worn says whether the present call is the last of a client connection.
func (c *conn) worn() bool {
	l := &c.call.st.cfg.Limits
	return l.ConnectionCalls > 0 && c.carried >= l.ConnectionCalls || l.ConnectionAge > 0 && c.g.now()-c.born > int64(l.ConnectionAge)
}

// worn says whether a connection to a worker is to be used no more.
func (u *upstream) worn(l *Limits, now int64) bool {
	return l.WorkerConnectionCalls > 0 && u.carried >= l.WorkerConnectionCalls || l.WorkerConnectionAge > 0 && now-u.born > int64(l.WorkerConnectionAge)
}

// idle takes a connection to the worker that has been idle for at most so long, nil if
// there is none.
func (x *exchange) idle(w *worker, within time.Duration) *upstream {
	now := x.call.sent
	for {
		u := w.pool.get(now, within)
		if u == nil || !u.worn(&x.call.st.cfg.Limits, now) {
			return u
		}
		u.close()
	}
}
