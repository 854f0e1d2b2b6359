package schedulerworker

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/output"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/uuid"
)

// generation is that of every job that an old scheduler starts: it never moves one.
const generation = 1

// Runner is what the old worker runs jobs with; *runner.Runner is one.
type Runner interface {
	Start(runner.Job) error
	Stop(id string, g rota.Generation, grace time.Duration) error
	Status(id string, g rota.Generation) (runner.Status, bool)
	Output(id string, g rota.Generation) (*output.Log, error)
}

// workerCalls answers an old scheduler.
type workerCalls struct {
	jobschedulerv1.UnimplementedWorkerServer
	runner Runner
}

// newWorker returns the server of the old worker's calls.
func newWorker(r Runner) *workerCalls { return &workerCalls{runner: r} }

// Spec is the job of an old start: the command, and the path as its one argument
// unless that is empty, in the directory in which the worker was started.
func Spec(command, path string) job.Spec {
	s := job.Spec{Argv: []string{command}, Dir: job.WorkerDir}
	if path != "" {
		s.Argv = append(s.Argv, path)
	}
	return s
}

// StartJob runs a command, if the worker's own rules allow it.
func (w *workerCalls) StartJob(_ context.Context, r *jobschedulerv1.StartJobReq) (*jobschedulerv1.StartJobRes, error) {
	id := uuid.New(time.Now())
	err := w.runner.Start(runner.Job{ID: id, Generation: generation, Spec: Spec(r.GetCommand(), r.GetPath())})
	if err != nil {
		return nil, statusOf(err)
	}
	return &jobschedulerv1.StartJobRes{JobID: id}, nil
}

// StopJob kills a job at once, as the old worker did. One that has ended is
// stopped already.
func (w *workerCalls) StopJob(_ context.Context, r *jobschedulerv1.StopJobReq) (*jobschedulerv1.StopJobRes, error) {
	if err := w.runner.Stop(r.GetJobID(), generation, runner.AtOnce); err != nil && !errors.Is(err, runner.ErrNotRunning) {
		return nil, statusOf(err)
	}
	return &jobschedulerv1.StopJobRes{}, nil
}

// QueryJob says where a job is.
func (w *workerCalls) QueryJob(_ context.Context, r *jobschedulerv1.QueryJobReq) (*jobschedulerv1.QueryJobRes, error) {
	st, ok := w.runner.Status(r.GetJobID(), generation)
	if !ok {
		return nil, status.Error(codes.NotFound, "job not found")
	}
	a := AnswerOf(st.State, st.Result)
	return &jobschedulerv1.QueryJobRes{Done: a.Done, Error: a.Error, ErrorText: a.ErrorText}, nil
}

// StreamJob sends a job's output from its beginning until it ends.
func (w *workerCalls) StreamJob(r *jobschedulerv1.StreamJobReq, s grpc.ServerStreamingServer[jobschedulerv1.StreamJobRes]) error {
	log, err := w.runner.Output(r.GetPath(), generation)
	if err != nil {
		return statusOf(err)
	}
	from, err := log.Reader(0, true)
	if err != nil {
		return statusOf(err)
	}
	defer func() { _ = from.Close() }()
	var text textStream
	for {
		c, err := from.Next(s.Context())
		if errors.Is(err, io.EOF) {
			if rest := text.rest(); rest != "" {
				return s.Send(&jobschedulerv1.StreamJobRes{Output: rest})
			}
			return nil
		}
		if err != nil {
			return statusOf(err)
		}
		if out := text.next(c.Data); out != "" {
			if err := s.Send(&jobschedulerv1.StreamJobRes{Output: out}); err != nil {
				return err
			}
		}
	}
}

// Answer is what the old query says of a job.
type Answer struct {
	Done      bool   `json:"done"`
	Error     bool   `json:"error"`
	ErrorText string `json:"error_text"`
}

// AnswerOf puts a state in the old words: "exit status 3", "signal: killed".
func AnswerOf(s job.State, r job.Result) Answer {
	a := Answer{Done: s.Done()}
	switch {
	case !a.Done || s == job.Succeeded:
		return a
	case r.Signal != "":
		a.ErrorText = "signal: " + r.Signal
	case r.Error != "":
		a.ErrorText = r.Error
	case r.ExitCode > 0:
		a.ErrorText = "exit status " + itoa(r.ExitCode)
	default:
		a.ErrorText = string(s)
	}
	a.Error = true
	return a
}

// statusOf is the gRPC status of a runner's error.
func statusOf(err error) error {
	var field *rota.FieldError
	switch {
	case errors.Is(err, rota.ErrNotFound):
		return status.Error(codes.NotFound, "job not found")
	case errors.Is(err, runner.ErrNotAllowed):
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, runner.ErrBusy):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, runner.ErrClosed):
		return status.Error(codes.Unavailable, err.Error())
	case errors.As(err, &field):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unknown, strings.TrimPrefix(err.Error(), "process: "))
}
