package gateway

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/offer"
)

// WorkerRefusal is an answer by which a worker says that it has not run a call: the
// call is tried on another one. A function may itself answer with the same status: the
// body decides.
type WorkerRefusal struct {
	// Status is the answer's status, 400 to 599.
	Status int
	// Begins is how its body begins, up to 64 bytes.
	Begins string
	// Failing counts the answer against the worker.
	Failing bool
	// MayHaveRun says that the call may have run all the same: it is repeated only if
	// calls are that may run twice.
	MayHaveRun bool
}

// maxBegins is how long Begins may be, in bytes.
const maxBegins = 64

// maxTold is how much of a cause is read that is not for callers, in bytes.
const maxTold = 512

var errRefused = errors.New("the worker refused the call")

func checkRefusals(list []WorkerRefusal) error {
	for i, r := range list {
		field := "worker_refusals[" + strconv.Itoa(i) + "]"
		if r.Status < 400 || r.Status > 599 {
			return &rota.FieldError{Field: field + ".status", Value: r.Status, Want: "400 to 599"}
		}
		if r.Begins == "" || len(r.Begins) > maxBegins {
			return &rota.FieldError{Field: field + ".begins", Value: r.Begins, Want: "1 to 64 bytes"}
		}
	}
	return nil
}

// refusalsOf is how many bytes of a body tell the refusals of that status from other
// answers; 0 if there are none.
func (st *state) refusalsOf(status int) (bytes int) {
	for i := range st.refusals {
		if r := &st.refusals[i]; r.Status == status {
			bytes = max(bytes, len(r.Begins))
		}
	}
	return bytes
}

// refusals are the answers by which workers say that they have not run a call: those of
// the configuration and, in a cluster, those of its own workers, which are for the
// gateway alone.
func refusals(cfg *Config) []workerRefusal {
	var list []workerRefusal
	for _, r := range cfg.WorkerRefusals {
		list = append(list, workerRefusal{WorkerRefusal: r})
	}
	if cfg.Members != nil {
		list = append(list,
			workerRefusal{WorkerRefusal{Status: http.StatusBadGateway, Begins: offer.NotReached}, true},
			workerRefusal{WorkerRefusal{Status: http.StatusBadGateway, Begins: offer.BrokeOff, MayHaveRun: true}, true})
	}
	return list
}

// workerRefusal is a refusal that is told by its body. One that is inside is not passed
// on, as it says what callers are not told, such as addresses: the attempt is one that
// broke, as far as they see.
type workerRefusal struct {
	WorkerRefusal
	inside bool
}

// refusal is what an answer says that begins so, nil if it is none of a worker that has
// not run the call.
func (st *state) refusal(status int, body []byte) *workerRefusal {
	i := slices.IndexFunc(st.refusals, func(r workerRefusal) bool {
		return r.Status == status && bytes.HasPrefix(body, []byte(r.Begins))
	})
	if i < 0 {
		return nil
	}
	return &st.refusals[i]
}
