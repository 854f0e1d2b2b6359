package gateway

import (
	"time"

	"github.com/rota-project/rota/gateway/internal/upstream"
)

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

// ofWorkers is how long connections to workers are used.
func (l *Limits) ofWorkers() upstream.Life {
	return upstream.Life{Age: l.WorkerConnectionAge, Calls: l.WorkerConnectionCalls}
}
