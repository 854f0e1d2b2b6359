package schedulerworker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/internal/unread"
)

// MaxBody is the most bytes that the body of an old call may have.
const MaxBody = 1 << 20

// Methods under which the old calls are guarded: each is in the table of who may
// call what, as a gRPC method is.
const (
	StartMethod  = "/jobscheduler.HTTP/Start"
	StopMethod   = "/jobscheduler.HTTP/Stop"
	QueryMethod  = "/jobscheduler.HTTP/Query"
	StreamMethod = "/jobscheduler.HTTP/Stream"
)

// Backend has workers that run jobs. A Registry is one.
type Backend interface {
	Has(workerID string) bool
	Start(ctx context.Context, workerID, command, path string) (jobID string, err error)
	Stop(ctx context.Context, workerID, jobID string) error
	Query(ctx context.Context, workerID, jobID string) (Answer, error)
	Stream(ctx context.Context, workerID, jobID string, out func([]byte) error) error
}

// HandlerConfig of a Handler.
type HandlerConfig struct {
	// Backends are asked in order for who has a worker.
	Backends []Backend
	// Admit decides whether a request may call one of the methods above, and
	// returns the context to go on with. Its error is a gRPC status. Nil: all may.
	Admit func(r *http.Request, method string) (context.Context, error)
}

// paths of the old calls, for whoever mounts the handler.
var paths = map[string]string{"/start": StartMethod, "/stop": StopMethod, "/query": QueryMethod, "/stream": StreamMethod}

// NewHandler answers POST /start, /stop and /query, and GET or POST /stream, as
// the old scheduler did: 500 for whatever the old one knew as an error. What it
// did not know keeps its own status: 401 and 403, 405, 413, 429.
func NewHandler(c HandlerConfig) http.Handler {
	return &handler{c}
}

type handler struct{ cfg HandlerConfig }

// body is that of each of the calls.
type body struct {
	WorkerID string `json:"worker_id"`
	JobID    string `json:"job_id"`
	Command  string `json:"command"`
	Path     string `json:"path"`
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method, ok := paths[r.URL.Path]
	if !ok {
		fail(w, http.StatusNotFound, errors.New("no such call"))
		return
	}
	if r.Method != http.MethodPost && (method != StreamMethod || r.Method != http.MethodGet) {
		w.Header().Set("Allow", http.MethodPost)
		fail(w, http.StatusMethodNotAllowed, errors.New("use POST"))
		return
	}
	ctx := r.Context()
	if h.cfg.Admit != nil {
		var err error
		if ctx, err = h.cfg.Admit(r, method); err != nil {
			unread.Close(w, r)
			fail(w, httpStatus(err), err)
			return
		}
	}
	b, err := read(w, r)
	if err != nil {
		auth.Audit(ctx, "", status.Error(codes.InvalidArgument, err.Error()))
		code := http.StatusInternalServerError
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		fail(w, code, err)
		return
	}
	be := h.backend(b.WorkerID)
	if be == nil {
		auth.Audit(ctx, b.target(), ErrNoWorker)
		fail(w, http.StatusInternalServerError, ErrNoWorker)
		return
	}
	switch method {
	case StartMethod:
		if len(strings.Fields(b.Command)) == 0 {
			fail(w, http.StatusInternalServerError, errors.New("command: want one; it is missing"))
			return
		}
		id, err := be.Start(ctx, b.WorkerID, b.Command, b.Path)
		auth.Audit(ctx, b.target(), err)
		answer(w, http.StatusCreated, map[string]string{"job_id": id}, err)
	case StopMethod:
		err := be.Stop(ctx, b.WorkerID, b.JobID)
		auth.Audit(ctx, b.target(), err)
		answer(w, http.StatusOK, map[string]bool{"success": true}, err)
	case QueryMethod:
		a, err := be.Query(ctx, b.WorkerID, b.JobID)
		answer(w, http.StatusOK, a, err)
	case StreamMethod:
		h.stream(ctx, w, be, b)
	}
}

// target is what the audit shows of a call: of a command its first word, for the
// others may be secrets.
func (b body) target() string {
	job := &rotav1.JobDefinition{Worker: b.WorkerID}
	if words := strings.Fields(b.Command); len(words) > 0 {
		job.Argv = words[:1]
	}
	return auth.Target(&rotav1.RunJobRequest{Id: b.JobID, Job: job})
}

func (h *handler) backend(workerID string) Backend {
	for _, be := range h.cfg.Backends {
		if be.Has(workerID) {
			return be
		}
	}
	return nil
}

func (h *handler) stream(ctx context.Context, w http.ResponseWriter, be Backend, b body) {
	ctl := http.NewResponseController(w)
	begun := false
	err := be.Stream(ctx, b.WorkerID, b.JobID, func(p []byte) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.WriteHeader(http.StatusOK)
		}
		if _, err := w.Write(p); err != nil { //nolint:gosec // an octet stream that is not sniffed
			return err
		}
		return ctl.Flush()
	})
	switch {
	case err != nil && !begun:
		fail(w, http.StatusInternalServerError, err)
	case err != nil:
		panic(http.ErrAbortHandler) // the answer has begun: a cut connection says that it is not whole
	case !begun:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(http.StatusOK)
	}
}

func read(w http.ResponseWriter, r *http.Request) (b body, err error) {
	if r.Method == http.MethodGet {
		q := r.URL.Query()
		return body{WorkerID: q.Get("worker_id"), JobID: q.Get("job_id")}, nil
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		return b, fmt.Errorf("body: %w", err)
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return b, errors.New("body: want a JSON object")
	}
	return b, nil
}

func answer(w http.ResponseWriter, code int, v any, err error) {
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	reply(w, code, v)
}

func fail(w http.ResponseWriter, code int, err error) {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	reply(w, code, map[string]string{"error": text})
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) //nolint:errchkjson // nothing is left to be said to a client that is gone
}

// httpStatus is for refusals that the old scheduler did not know.
func httpStatus(err error) int {
	switch status.Code(err) {
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.NotFound:
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}
