package jobs

import (
	"fmt"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
)

// micros is a time as the store keeps it; zero stays zero.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func encodeSpec(j job.Job, s job.Spec) ([]byte, error) {
	return record.Encode(specToStore(j, s))
}

// specToStore is what is asked for as the store keeps it.
func specToStore(j job.Job, s job.Spec) *storepb.JobSpec {
	return &storepb.JobSpec{
		Version: record.Version, Id: j.ID, CreatedUnixUs: micros(j.Created), Trace: j.Trace, Schedule: j.Schedule, Argv: s.Argv, Env: s.Env, Dir: s.Dir, Stdin: s.Stdin,
		TimeoutNs: int64(s.Timeout), GraceNs: int64(s.Grace), Resources: s.Resources, Worker: s.Worker, Require: s.Require,
		Retries: int64(s.Retries), BackoffNs: int64(s.Backoff), MaxBackoffNs: int64(s.MaxBackoff), Rerun: s.Rerun, KeepNs: int64(s.Keep),
	}
}

// specFromStore is what the store keeps of what is asked for.
func specFromStore(m *storepb.JobSpec) job.Spec {
	return job.Spec{
		Argv: m.GetArgv(), Env: m.GetEnv(), Dir: m.GetDir(), Stdin: m.GetStdin(), Timeout: time.Duration(m.GetTimeoutNs()),
		Grace: time.Duration(m.GetGraceNs()), Resources: m.GetResources(), Worker: m.GetWorker(), Require: m.GetRequire(),
		Retries: int(m.GetRetries()), Backoff: time.Duration(m.GetBackoffNs()), MaxBackoff: time.Duration(m.GetMaxBackoffNs()),
		Rerun: m.GetRerun(), Keep: time.Duration(m.GetKeepNs()),
	}
}

// decodeSpec reads a job as it was declared, and what it asks for.
func decodeSpec(value []byte) (j job.Job, s job.Spec, err error) {
	var m storepb.JobSpec
	if err := record.Decode(value, &m); err != nil {
		return j, s, err
	}
	s = specFromStore(&m)
	if !uuid.Valid(m.GetId()) {
		return j, s, fmt.Errorf("%w: job id %q", record.ErrMalformed, m.GetId())
	}
	if err := s.Validate(); err != nil {
		return j, s, fmt.Errorf("%w: job %s: %w", record.ErrMalformed, m.GetId(), err)
	}
	j = job.New(m.GetId(), fromMicros(m.GetCreatedUnixUs()))
	j.Trace, j.Schedule = m.GetTrace(), m.GetSchedule()
	return j, s, nil
}

func encodeState(j job.Job) ([]byte, error) {
	m := &storepb.JobState{
		Version: record.Version, State: string(j.State), FinishedUnixUs: micros(j.Finished), NotBeforeUnixUs: micros(j.NotBefore),
		StopAsked: j.StopAsked, Reason: j.Reason, Failures: int64(j.Failures), Count: int64(j.Count),
		Attempts: make([]*storepb.JobAttempt, len(j.Attempts)),
	}
	for n, a := range j.Attempts {
		m.Attempts[n] = &storepb.JobAttempt{
			Number: int64(a.Number), Worker: a.Worker, Incarnation: a.Incarnation, Session: a.Session, Generation: uint64(a.Generation), State: string(a.State),
			PlacedUnixUs: micros(a.Placed), FinishedUnixUs: micros(a.Finished), Result: string(a.Result.State),
			ExitCode: int64(a.Result.ExitCode), Signal: a.Result.Signal, Error: a.Result.Error, Permanent: a.Result.Permanent,
			StartedUnixUs: micros(a.Result.Started), EndedUnixUs: micros(a.Result.Ended),
		}
	}
	return record.Encode(m)
}

// decodeState reads a state onto the job as it was declared.
func decodeState(value []byte, j job.Job) (job.Job, error) {
	var m storepb.JobState
	if err := record.Decode(value, &m); err != nil {
		return j, err
	}
	j.State, j.Finished, j.NotBefore = job.State(m.GetState()), fromMicros(m.GetFinishedUnixUs()), fromMicros(m.GetNotBeforeUnixUs())
	j.StopAsked, j.Reason, j.Failures, j.Count = m.GetStopAsked(), m.GetReason(), int(m.GetFailures()), int(m.GetCount())
	j.Attempts = make([]job.Attempt, len(m.GetAttempts()))
	if !j.State.Known() || j.State.Active() && len(j.Attempts) == 0 {
		return j, fmt.Errorf("%w: job in state %q with %d attempts", record.ErrMalformed, m.GetState(), len(j.Attempts))
	}
	for n, a := range m.GetAttempts() {
		j.Attempts[n] = job.Attempt{
			Number: int(a.GetNumber()), Worker: a.GetWorker(), Incarnation: a.GetIncarnation(), Session: a.GetSession(), Generation: rota.Generation(a.GetGeneration()),
			State: job.State(a.GetState()), Placed: fromMicros(a.GetPlacedUnixUs()), Finished: fromMicros(a.GetFinishedUnixUs()),
			Result: job.Result{
				State: job.State(a.GetResult()), ExitCode: int(a.GetExitCode()), Signal: a.GetSignal(), Error: a.GetError(),
				Permanent: a.GetPermanent(), Started: fromMicros(a.GetStartedUnixUs()), Ended: fromMicros(a.GetEndedUnixUs()),
			},
		}
	}
	return j, nil
}
