package jobs

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/compat/schedulerworker"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/uuid"
)

// Old lets clients of the old HTTP API run jobs on workers of this cluster: they
// are declared, kept and driven like all others. A worker's id is its name, or
// the UUID that uuid.Of makes of it.
func (c *Control) Old() schedulerworker.Backend { return oldBackend{c} }

type oldBackend struct{ c *Control }

// worker finds the name of a worker by what an old client calls it.
func (o oldBackend) worker(id string) (string, bool) {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	if o.c.p.workers[id] != nil {
		return id, true
	}
	for name := range o.c.p.workers {
		if uuid.Of(name) == id {
			return name, true
		}
	}
	return "", false
}

// Has reports whether a worker of this cluster takes jobs under the id.
func (o oldBackend) Has(workerID string) bool {
	_, ok := o.worker(workerID)
	return ok
}

// Start declares a job for the worker.
func (o oldBackend) Start(ctx context.Context, workerID, command, path string) (string, error) {
	name, ok := o.worker(workerID)
	if !ok {
		return "", schedulerworker.ErrNoWorker
	}
	spec := schedulerworker.Spec(command, path)
	spec.Worker = name
	j, err := o.c.Declare(ctx, "", spec)
	if err != nil {
		return "", err
	}
	return j.ID, o.refusal(ctx, j.ID)
}

// startWait is how long an old start waits to hear whether the worker runs it:
// the old one answered when the command ran, or with why it did not.
const startWait = 5 * time.Second

// refusal is why the worker would not run a job at all. A job that waits for its
// turn is none.
func (o oldBackend) refusal(ctx context.Context, id string) error {
	w := o.c.watch(id)
	defer o.c.unwatch(w)
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	for {
		e, err := o.c.get(id)
		if err != nil {
			return err
		}
		a, _ := e.job.Current()
		switch {
		case e.job.State == job.Failed && a.Result.Started.IsZero():
			return status.Error(codes.PermissionDenied, a.Result.Error)
		case e.job.State != job.Queued && e.job.State != job.Starting:
			return nil
		}
		select {
		case <-w.signal:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// job finds a job that was meant for the worker.
func (o oldBackend) job(workerID, jobID string) (*entry, error) {
	name, ok := o.worker(workerID)
	if !ok {
		return nil, schedulerworker.ErrNoWorker
	}
	e, err := o.c.get(jobID)
	if err != nil || e.job.Worker() != name && e.spec.Worker != name {
		return nil, errOldJob
	}
	return e, nil
}

var errOldJob = status.Error(codes.NotFound, "job not found")

// Stop asks for the job's end. One that has ended is stopped already.
func (o oldBackend) Stop(ctx context.Context, workerID, jobID string) error {
	if _, err := o.job(workerID, jobID); err != nil {
		return err
	}
	err := o.c.do(ctx, &update{id: jobID, change: func(j job.Job, _ job.Spec) (job.Job, error) { return j.Stop(time.Now()) }})
	if errors.Is(err, job.ErrState) {
		return nil
	}
	return err
}

// Query says where the job is.
func (o oldBackend) Query(_ context.Context, workerID, jobID string) (schedulerworker.Answer, error) {
	e, err := o.job(workerID, jobID)
	if err != nil {
		return schedulerworker.Answer{}, err
	}
	a, _ := e.job.Current()
	answer := schedulerworker.AnswerOf(e.job.State, a.Result)
	if e.job.State == job.Stopped {
		answer.ErrorText = "signal: killed" // the old worker knew no other end of a stopped job
	}
	return answer, nil
}

// Stream hands over the job's output until it ends.
func (o oldBackend) Stream(ctx context.Context, workerID, jobID string, out func([]byte) error) error {
	if _, err := o.job(workerID, jobID); err != nil {
		return err
	}
	return o.c.ReadOutput(&rotav1.ReadOutputRequest{Id: jobID, Follow: true}, &oldStream{ctx: ctx, out: out})
}

// oldStream is an output stream within the process.
type oldStream struct {
	grpc.ServerStream
	ctx context.Context
	out func([]byte) error
}

func (s *oldStream) Context() context.Context { return s.ctx }

func (s *oldStream) Send(m *rotav1.JobOutput) error { return s.out(m.GetData()) }

func (s *oldStream) SetHeader(metadata.MD) error { return nil }
