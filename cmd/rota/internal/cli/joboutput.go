package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/job"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

func (a *app) jobLogs() *cobra.Command {
	var follow bool
	var offset int64
	var generation uint64
	c := &cobra.Command{
		Use:   "logs JOB",
		Short: "print the output of a job",
		Long: "Print the output of a job: its stdout to stdout, its stderr to stderr.\n" +
			"With --follow, also print new output until the job ends. If a scheduler or a worker is away, the command says so, waits, and\n" +
			"continues where it stopped. Ctrl-C ends the command, not the job. Without --follow, or if the job has ended, it waits at most\n" +
			"10 s for the worker, and the exit status is 1 if the output could not be read.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at := outputAt{id: args[0], generation: generation, offset: offset, follow: follow}
			ctx := cmd.Context()
			err := a.follow(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
				if at.generation == 0 {
					if err := at.pin(ctx, jobsOf(conn)); err != nil {
						return err
					}
				}
				return a.followOutput(ctx, conn, &at)
			})
			if follow && ctx.Err() != nil {
				a.leaveJob(at.id)
			}
			if err == nil && at.unread {
				return &exitError{1} // it has been said
			}
			return err
		},
		ValidArgsFunction: a.completeJobs,
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "follow the output until the job ends")
	c.Flags().Int64Var(&offset, "offset", 0, "byte to start from; a negative number counts from the end")
	c.Flags().Uint64Var(&generation, "generation", 0, "attempt to print; 0 for the last")
	return c
}

// exitError ends the command with the status of the job, or the worker, that it
// waited for.
type exitError struct{ status int }

func (e *exitError) Error() string { return "exit status " + strconv.Itoa(e.status) }

// signals are the numbers of the signals that jobs end by, as Linux has them.
var signals = map[string]int{
	"hangup": 1, "interrupt": 2, "quit": 3, "illegal instruction": 4, "trace/breakpoint trap": 5, "aborted": 6, "bus error": 7,
	"floating point exception": 8, "killed": 9, "user defined signal 1": 10, "segmentation fault": 11, "user defined signal 2": 12,
	"broken pipe": 13, "alarm clock": 14, "terminated": 15, "CPU time limit exceeded": 24, "file size limit exceeded": 25,
}

// waitFor follows a job's output, over all of its attempts, and ends as it does.
func (a *app) waitFor(ctx context.Context, j *rotav1.Job) error {
	at := outputAt{id: j.GetId(), follow: true}
	read := uint64(0) // the attempts up to this one were read
	err := a.follow(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		watch, err := jobsOf(conn).WatchJobs(ctx, &rotav1.WatchJobsRequest{Id: j.GetId()})
		if err != nil {
			return err
		}
		for {
			if g := j.GetGeneration(); g > read {
				if at.generation != g {
					at = outputAt{id: at.id, generation: g, follow: true} // what is missing of others does not matter any more
				}
				// An attempt that never began has no output: why is the job's own error.
				if err := a.followOutput(ctx, conn, &at); err != nil && !isNotFound(err) {
					return err
				}
				read = g
			}
			if job.State(j.GetState()).Done() {
				return nil
			}
			ev, err := received(watch.Recv())
			switch {
			case err != nil:
				return err
			case ev.GetType() == "deleted":
				return errors.New("the job was deleted")
			case ev.GetType() == "set":
				j = ev.GetJob()
			}
		}
	})
	switch {
	case ctx.Err() != nil:
		a.leaveJob(j.GetId())
		return &exitError{interrupted}
	case err != nil:
		return err
	}
	err = a.endedAs(j)
	switch {
	case err != nil:
		return err
	case at.missed > 0:
		return fmt.Errorf("the job succeeded, but %d bytes of its output are lost: %s", at.missed, dash(j.GetError()))
	case at.unread:
		return errors.New("the job succeeded, but its output could not be read to the end")
	case j.GetError() != "":
		a.say("the job succeeded; %s", j.GetError())
	}
	return nil
}

// leaveJob says what becomes of a job that is followed no more.
func (a *app) leaveJob(id string) {
	a.say("the job goes on; follow it with: rota job logs -f %s; stop it with: rota job stop %s", id, id)
}

func (a *app) endedAs(j *rotav1.Job) error {
	switch job.State(j.GetState()) {
	case job.Succeeded:
		return nil
	case job.Failed:
		if j.GetError() != "" {
			err := fmt.Errorf("the job failed: %s", j.GetError())
			if j.GetExitCode() > 0 { // it ended by itself, and something else was wrong as well
				a.say("%v", err)
				return &exitError{int(j.GetExitCode())}
			}
			return err
		}
		if n := signals[j.GetSignal()]; n != 0 {
			return &exitError{128 + n}
		}
		return &exitError{max(1, int(j.GetExitCode()))}
	}
	return fmt.Errorf("the job is %s: %s", j.GetState(), dash(j.GetError()+j.GetSignal()))
}

// outputAt is a place in the output of an attempt.
type outputAt struct {
	id         string
	generation uint64 // 0 until it is known which attempt is the last
	offset     int64  // of the next byte; below zero: so many before the end
	follow     bool
	missed     int64 // bytes that could not be had
	unread     bool  // there is more, on a worker that is not connected
}

// pin finds the attempt that is meant by none: the last, or, if its output is
// followed, the first to come.
func (at *outputAt) pin(ctx context.Context, client rotav1.JobsClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := client.WatchJobs(ctx, &rotav1.WatchJobsRequest{Id: at.id})
	for err == nil {
		var ev *rotav1.JobEvent
		if ev, err = received(watch.Recv()); ev.GetType() != "set" {
			continue
		}
		j := ev.GetJob()
		if at.generation = j.GetGeneration(); at.generation != 0 || !at.follow || job.State(j.GetState()).Done() {
			return nil
		}
	}
	return err
}

// How long a worker that is not connected is waited for if there is nothing to follow, or
// the attempt has ended, as that may be gone for good; and between two looks.
const (
	awayTime  = 10 * time.Second
	awayPause = 300 * time.Millisecond
)

// followOutput copies an attempt's output to where it belongs. It goes on where
// it was when the worker was away for a moment, or another scheduler is asked.
func (a *app) followOutput(ctx context.Context, conn *grpc.ClientConn, at *outputAt) error {
	client := jobsOf(conn)
	var told, over time.Time // when the worker's absence was told of; when there was nothing to wait for any more
	for {
		before := at.offset
		err := a.copyOutput(ctx, client, at)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !isUnavailable(err) || conn.GetState() != connectivity.Ready:
			return err
		}
		// The scheduler is there, the worker is not.
		if at.offset != before {
			told, over = time.Time{}, time.Time{}
		}
		a.stale = 0 // what was old once may be new by now
		worker, ended, jerr := attemptOf(ctx, client, at)
		switch {
		case jerr != nil:
			return jerr
		case !ended && at.follow:
			over = time.Time{}
		case over.IsZero():
			over = time.Now()
		case time.Since(over) > awayTime:
			at.unread = true
			a.say("the rest of the output is on worker %s, which is not connected%s", worker, a.asOf())
			a.stale = 0 // it has been said
			return nil
		}
		if told.IsZero() {
			told = time.Now().Add(awayPause - sayEvery) // a worker that goes to another scheduler is no news
		}
		if time.Since(told) > sayEvery {
			told = time.Now()
			a.say("worker %s is not connected%s; waiting for its output (Ctrl-C ends the wait, not the job)", worker, a.asOf())
		}
		if err := backoff.Sleep(ctx, awayPause); err != nil {
			return err
		}
	}
}

// attemptOf says on which worker an attempt is, or was, and whether it has ended.
func attemptOf(ctx context.Context, client rotav1.JobsClient, at *outputAt) (worker string, ended bool, err error) {
	d, err := client.GetJob(ctx, &rotav1.GetJobRequest{Id: at.id})
	if err != nil {
		return "", false, err
	}
	worker, ended = d.GetJob().GetWorker(), true
	for _, attempt := range d.GetAttempts() {
		if attempt.GetGeneration() == at.generation {
			worker, ended = attempt.GetWorker(), job.State(attempt.GetState()).Done()
		}
	}
	return worker, ended, nil
}

// copyOutput copies what comes on one stream.
func (a *app) copyOutput(ctx context.Context, client rotav1.JobsClient, at *outputAt) error {
	stream, err := client.ReadOutput(ctx, &rotav1.ReadOutputRequest{Id: at.id, Generation: at.generation, Offset: at.offset, Follow: at.follow})
	if err != nil {
		return err
	}
	return each(stream, func(m *rotav1.JobOutput) error {
		at.offset = m.GetOffset() + int64(len(m.GetData()))
		if m.GetMissed() > 0 {
			at.missed += m.GetMissed()
			a.say("%d bytes of output are lost", m.GetMissed())
		}
		return a.pass(m.GetStream(), m.GetData())
	})
}
