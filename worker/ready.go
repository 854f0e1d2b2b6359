package worker

import (
	"fmt"
	"net/http"
)

// ReadyHandler answers a readiness probe. It answers 200 if this worker has a valid lease
// and runs every instance that it was granted or, with ?scope=cluster, if every task of the
// cluster is known to run (AllRunning); else 503 with a line that says why.
func (w *Worker) ReadyHandler() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		status, said, all, n, held := w.status, w.all, w.allRunning(), len(w.tasks), w.held
		w.mu.Unlock()
		scope := r.URL.Query().Get("scope")
		why := ""
		switch {
		case scope != "" && scope != "cluster" && scope != "worker":
			http.Error(rw, "scope: want worker or cluster", http.StatusBadRequest)
			return
		case status != StatusLeftBarrier:
			why = fmt.Sprintf("worker is %s", status)
		case !w.Leased():
			why = ErrLeaseEnded.Error()
		case scope == "cluster" && said && !all:
			why = "it is not known whether every task of the cluster runs"
		case scope == "cluster" && !all:
			why = "not every task of the cluster runs"
		case held > n:
			why = fmt.Sprintf("%d of %d instances do not run", held-n, held)
		}
		if why != "" {
			http.Error(rw, why, http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintf(rw, "ready: %d instances run here\n", n)
	})
}
