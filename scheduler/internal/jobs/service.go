package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/api/paging"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/scheduler/internal/events"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// Types of an event.
const (
	eventSet     = "set"
	eventDeleted = "deleted"
	eventSynced  = "synced" // what comes after it is new
)

// apiError is an error as the API answers it.
func apiError(err error) error {
	switch {
	case errors.Is(err, job.ErrState):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, errNotAllowed):
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, errFull):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, errBusy):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, errClosed):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, rota.ErrNotFound):
		return convert.Error(err)
	}
	var field *rota.FieldError
	if _, ok := status.FromError(err); ok || errors.As(err, &field) {
		return convert.Error(err)
	}
	return convert.StoreError(err)
}

// Declare keeps a job that is to run. It returns once the job is in the store.
// The same id with the same Spec again is no error.
func (c *Control) Declare(ctx context.Context, id string, s job.Spec) (job.Job, error) {
	return c.declare(ctx, id, s, "")
}

// declare is Declare, of a job of a schedule if that is not empty.
func (c *Control) declare(ctx context.Context, id string, s job.Spec, schedule string) (job.Job, error) {
	if err := s.Validate(); err != nil {
		return job.Job{}, err
	}
	if _, err := conditionsOf(s); err != nil {
		return job.Job{}, err
	}
	if err := c.refuse(s); err != nil {
		if id == "" {
			return job.Job{}, err
		}
		// It may have been kept when its worker was there, and is only said again.
		switch _, kept := c.find(ctx, id); {
		case errors.Is(kept, rota.ErrNotFound):
			return job.Job{}, err
		case kept != nil:
			return job.Job{}, kept
		}
	}
	s = s.Normalize()
	now := time.Now()
	if id == "" {
		id = uuid.New(now)
	} else if !uuid.Valid(id) {
		return job.Job{}, &rota.FieldError{Field: "id", Value: text.Clip(id, text.Short), Want: "a UUID in lower case"}
	}
	span := c.askedSpan(ctx, id)
	err := c.do(ctx, &update{id: id, declare: &s, created: now, schedule: schedule, trace: tracing.Parent(span.SpanContext())})
	endSpan(span, err)
	if err != nil {
		return job.Job{}, err
	}
	e, err := c.get(id)
	if err != nil {
		return job.Job{}, err
	}
	if !e.spec.Equal(s) || e.job.Schedule != schedule {
		return job.Job{}, &rota.FieldError{Field: "id", Value: id, Want: "one that no other job has"}
	}
	return e.job, nil
}

// change does fn to a job and returns what became of it.
func (c *Control) change(ctx context.Context, id string, fn func(job.Job, job.Spec) (job.Job, error)) (*rotav1.Job, error) {
	if _, err := c.find(ctx, id); err != nil {
		return nil, apiError(err)
	}
	if err := c.do(ctx, &update{id: id, change: fn}); err != nil {
		return nil, apiError(err)
	}
	e, err := c.get(id)
	if err != nil {
		return nil, apiError(err)
	}
	return c.jobOf(e), nil
}

// RunJob declares a job.
func (c *Control) RunJob(ctx context.Context, r *rotav1.RunJobRequest) (*rotav1.Job, error) {
	s, err := specOf(r.GetJob())
	if err != nil {
		return nil, convert.Error(err)
	}
	j, err := c.Declare(ctx, r.GetId(), s)
	if err != nil {
		return nil, apiError(err)
	}
	e, err := c.get(j.ID)
	if err != nil {
		return nil, apiError(err)
	}
	c.tellAsked(ctx, events.JobQueued, j.ID, text.Clip(e.spec.Argv[0], text.Short)) // arguments may hold secrets
	return c.jobOf(e), nil
}

// StopJob asks for a job's end.
func (c *Control) StopJob(ctx context.Context, r *rotav1.StopJobRequest) (*rotav1.Job, error) {
	m, err := c.change(ctx, r.GetId(), func(j job.Job, _ job.Spec) (job.Job, error) { return j.Stop(time.Now()) })
	if err == nil {
		c.tellAsked(ctx, events.JobStopping, r.GetId(), "")
	}
	return m, err
}

// RetryJob runs a job that is done once more.
func (c *Control) RetryJob(ctx context.Context, r *rotav1.RetryJobRequest) (*rotav1.Job, error) {
	asked := false
	m, err := c.change(ctx, r.GetId(), func(j job.Job, _ job.Spec) (job.Job, error) {
		if asked && !j.State.Done() {
			return j, nil // it was written, though we did not hear so
		}
		asked = true
		return j.Retry(time.Now())
	})
	if err == nil {
		c.tellAsked(ctx, events.JobRetried, r.GetId(), "")
	}
	return m, err
}

// DeleteJob forgets a job that is done.
func (c *Control) DeleteJob(ctx context.Context, r *rotav1.DeleteJobRequest) (*rotav1.DeleteJobResponse, error) {
	if _, err := c.find(ctx, r.GetId()); err != nil {
		return nil, apiError(err)
	}
	if err := c.do(ctx, &update{id: r.GetId(), remove: true}); err != nil {
		return nil, apiError(err)
	}
	c.tellAsked(ctx, events.JobDeleted, r.GetId(), "")
	return &rotav1.DeleteJobResponse{}, nil
}

// GetJob answers one job with all that is known of it.
func (c *Control) GetJob(ctx context.Context, r *rotav1.GetJobRequest) (*rotav1.JobDetail, error) {
	if n := r.GetWorkers(); n < 0 || n > maxWhyWorkers {
		return nil, convert.Error(&rota.FieldError{Field: "workers", Value: n, Want: fmt.Sprintf("a number from 0 to %d", maxWhyWorkers)})
	}
	e, err := c.find(ctx, r.GetId())
	if err != nil {
		return nil, apiError(err)
	}
	out := &rotav1.JobDetail{Job: c.jobOf(e), Definition: definitionOf(e.spec)}
	if auth.From(ctx).Role < auth.Submitter {
		hide(out.GetDefinition())
	}
	if !e.job.State.Done() {
		c.mu.Lock()
		x := c.explain(e, int(cmp.Or(r.GetWorkers(), whyWorkers)))
		c.mu.Unlock()
		x.tell(out)
		if e.job.State == job.Queued && x.why != "" {
			out.Job.Reason = x.why
		}
	}
	if e.job.State == job.Queued {
		if c.cfg.Pools != nil {
			out.Pools = c.cfg.Pools(e.spec)
		}
	}
	for _, a := range e.job.Attempts {
		m := &rotav1.JobAttempt{
			Number: int64(a.Number), Worker: a.Worker, Generation: uint64(a.Generation), State: string(a.State),
			Placed: stamp(a.Placed), Finished: stamp(a.Finished), Started: stamp(a.Result.Started), Ended: stamp(a.Result.Ended),
			Signal: a.Result.Signal, Error: a.Result.Error,
		}
		if a.State.Done() {
			code := int64(a.Result.ExitCode)
			m.ExitCode = &code
		}
		out.Attempts = append(out.Attempts, m)
	}
	return out, nil
}

// hide takes out what goes into a job and may be secret: who may not run it need not see it.
func hide(d *rotav1.JobDefinition) {
	for k := range d.GetEnv() {
		d.Env[k] = auth.Secret("").String()
	}
	d.StdinBase64 = nil
}

// ListJobs lists jobs, newest first.
func (c *Control) ListJobs(_ context.Context, r *rotav1.ListJobsRequest) (*rotav1.ListJobsResponse, error) {
	size := int(r.GetPageSize())
	switch {
	case size < 0 || size > maxPage:
		return nil, convert.Error(&rota.FieldError{Field: "page_size", Value: size, Want: fmt.Sprintf("0 to %d", maxPage)})
	case size == 0:
		size = defaultPage
	}
	if r.GetState() != "" && !job.State(r.GetState()).Known() {
		return nil, convert.Error(&rota.FieldError{
			Field: "state", Value: text.Clip(r.GetState(), text.Short), Want: "queued, starting, running, succeeded, failed, stopped, timed-out or lost",
		})
	}
	looked := paging.NewText(r.GetText())
	out := &rotav1.ListJobsResponse{}
	c.mu.Lock()
	defer c.mu.Unlock()
	end := len(c.p.ids)
	if r.GetPageToken() != "" {
		at, ok := slices.BinarySearch(c.p.ids, r.GetPageToken())
		if end = at; ok {
			end++
		}
	}
	for _, id := range slices.Backward(c.p.ids[:end]) {
		e := c.p.entries[id]
		if !meant(r, looked, e) {
			continue
		}
		if len(out.GetJobs()) == size {
			out.NextPageToken = id
			break
		}
		out.Jobs = append(out.Jobs, c.jobOf(e))
	}
	for _, id := range c.p.ids {
		if meant(r, looked, c.p.entries[id]) {
			out.Total++
		}
	}
	return out, nil
}

// meant reports whether a job is one of those that are asked for.
func meant(r *rotav1.ListJobsRequest, text paging.Text, e *entry) bool {
	if r.GetState() != "" && string(e.job.State) != r.GetState() || r.GetWorker() != "" && e.job.Worker() != r.GetWorker() {
		return false
	}
	return text.In(e.job.ID) || text.In(e.job.Worker()) || slices.ContainsFunc(e.spec.Argv, text.In)
}

// WatchJobs answers the jobs as they are and then each change.
func (c *Control) WatchJobs(r *rotav1.WatchJobsRequest, out grpc.ServerStreamingServer[rotav1.JobEvent]) error {
	w := c.watch(r.GetId())
	defer c.unwatch(w)
	var all []string
	if r.GetId() == "" {
		c.mu.Lock()
		all = slices.Clone(c.p.ids)
		c.mu.Unlock()
	} else if _, err := c.find(out.Context(), r.GetId()); err != nil {
		return apiError(err)
	} else {
		all = []string{r.GetId()}
	}
	send := func(id string) error {
		e, err := c.get(id)
		if err != nil {
			return out.Send(&rotav1.JobEvent{Type: eventDeleted, Job: &rotav1.Job{Id: id}})
		}
		return out.Send(&rotav1.JobEvent{Type: eventSet, Job: c.jobOf(e)})
	}
	for _, id := range all {
		if err := send(id); err != nil {
			return err
		}
	}
	if err := out.Send(&rotav1.JobEvent{Type: eventSynced}); err != nil {
		return err
	}
	for {
		select {
		case <-w.signal:
			for id := range w.take() {
				if err := send(id); err != nil {
					return err
				}
			}
		case <-c.ctx.Done():
			return status.Error(codes.Unavailable, errClosed.Error())
		case <-out.Context().Done():
			return nil
		}
	}
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func (c *Control) jobOf(e *entry) *rotav1.Job {
	j := e.job
	m := &rotav1.Job{
		Id: j.ID, Argv: e.spec.Argv, State: string(j.State), Attempts: int64(j.Count), Reason: j.Reason, StopAsked: j.StopAsked, Schedule: j.Schedule,
		Created: stamp(j.Created), NotBefore: stamp(j.NotBefore),
	}
	if a, ok := j.Current(); ok {
		m.Worker, m.Generation, m.Signal, m.Error = a.Worker, uint64(a.Generation), a.Result.Signal, a.Result.Error
		m.Started = stamp(a.Result.Started)
		if a.State.Done() {
			code := int64(a.Result.ExitCode)
			m.ExitCode = &code
			if m.Ended = stamp(a.Result.Ended); m.GetEnded() == nil {
				m.Ended = stamp(a.Finished)
			}
		}
	}
	return m
}

func ms(v int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(max(-most, min(v, most))) * time.Millisecond
}

func specOf(d *rotav1.JobDefinition) (job.Spec, error) {
	s := job.Spec{
		Argv: d.GetArgv(), Env: d.GetEnv(), Dir: d.GetDir(), Stdin: d.GetStdinBase64(), Timeout: ms(d.GetTimeoutMs()), Grace: ms(d.GetGraceMs()),
		Resources: d.GetResources(), Worker: d.GetWorker(), Require: d.GetRequire(), Backoff: ms(d.GetBackoffMs()),
		MaxBackoff: ms(d.GetMaxBackoffMs()), Rerun: d.GetRerun(), Keep: ms(d.GetKeepMs()),
	}
	r := d.GetRetries()
	if r < 0 || r > job.MaxRetries { // here, where it has not been narrowed
		return s, &rota.FieldError{Field: "retries", Value: r, Want: fmt.Sprintf("0 to %d", job.MaxRetries)}
	}
	s.Retries = int(r)
	if d.GetStdin() != "" {
		if len(d.GetStdinBase64()) > 0 {
			return s, &rota.FieldError{Field: "stdin", Value: "both", Want: "stdin or stdin_base64"}
		}
		s.Stdin = []byte(d.GetStdin())
	}
	return s, nil
}

func definitionOf(s job.Spec) *rotav1.JobDefinition {
	return &rotav1.JobDefinition{
		Argv: s.Argv, Env: maps.Clone(s.Env), Dir: s.Dir, StdinBase64: s.Stdin, TimeoutMs: s.Timeout.Milliseconds(), GraceMs: s.Grace.Milliseconds(),
		Resources: s.Resources, Worker: s.Worker, Require: s.Require, Retries: int64(s.Retries), BackoffMs: s.Backoff.Milliseconds(),
		MaxBackoffMs: s.MaxBackoff.Milliseconds(), Rerun: s.Rerun, KeepMs: s.Keep.Milliseconds(),
	}
}
