package program

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/program/build"
	"github.com/rota-project/rota/placement"
)

// Builder makes a program that workers offer, each time it starts. The arguments are the
// name and the arguments with which it was submitted.
type Builder func(name string, args []string) (*Program, error)

// SchedulerKind returns the kind of the cluster task that runs the scheduler function of a
// program. The argument is the name under which workers offer the program.
func SchedulerKind(offered string) string { return rota.ProgramSchedulerKind + offered }

// submission is the payload of that task. It is JSON.
type submission struct {
	Name string   `json:"name"`
	Args []string `json:"args,omitempty"`
	// ID tells it from one of the same words before it, whose grant may not have been
	// withdrawn yet. A task that was declared by hand may have none.
	ID string `json:"id,omitempty"`
}

// Submission is a program that runs detached from this process.
type Submission struct {
	// Name is the program's name, unique in the cluster.
	Name string
	// Offered is the name under which workers offer it.
	Offered string
	// Args are passed to its Builder.
	Args []string
	// Require are label conditions that the worker of its scheduler function must meet.
	// Without a condition on program.set, the program uses a set of this executable's
	// module, and Submit returns an error if workers of several sets offer it. The version
	// may change when another worker takes over.
	Require []string
}

// Submit starts a detached program; see Submission.Submit.
func Submit(ctx context.Context, c ClusterConfig, name, offered string, args ...string) error {
	return Submission{Name: name, Offered: offered, Args: args}.Submit(ctx, c)
}

// Submit starts a detached program: its scheduler function runs on a worker that offers it
// (worker.RegisterProgram), as the cluster task program/NAME. When that worker is lost or
// drained, another one runs it: its tasks start again, and the scheduler function first
// gets all events from before. The program continues until the scheduler function returns
// or a caller stops it.
func (s Submission) Submit(ctx context.Context, c ClusterConfig) error {
	if err := errors.Join(validName("program", s.Name), validName("offered", s.Offered), validRules("require", s.Require)); err != nil {
		return err
	}
	payload, err := json.Marshal(submission{Name: s.Name, Args: s.Args, ID: rand.Text()})
	if err != nil {
		return fmt.Errorf("writing the submission: %w", err)
	}
	return onScheduler(c, func(conn *grpc.ClientConn) error {
		tasks := rotav1.NewTasksClient(conn)
		_, err := tasks.GetTask(ctx, &rotav1.GetTaskRequest{Id: submittedID(s.Name)})
		if err == nil {
			return fmt.Errorf("%w: %s", ErrRunning, s.Name)
		}
		if grpcstatus.Code(err) != codes.NotFound {
			return err
		}
		workers, err := rotav1.NewWorkersClient(conn).ListWorkers(ctx, &rotav1.ListWorkersRequest{})
		if err != nil {
			return err
		}
		require, err := s.rules(workers.GetWorkers())
		if err != nil {
			return err
		}
		_, err = tasks.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{
			Id: submittedID(s.Name), Kind: SchedulerKind(s.Offered), Payload: string(payload), Require: require,
		}}})
		return err
	})
}

// rules are the label conditions of the worker that runs the scheduler function.
func (s Submission) rules(workers []*rotav1.Worker) ([]string, error) {
	// One scheduler function runs at a time, and outlives the workers of a version.
	wish := build.Wish{Function: s.Offered, Require: append(slices.Clone(s.Require), build.VersionLabel), Own: build.Own()}
	var offers []build.Offer
	for _, w := range workers {
		// A worker that is gone offers nothing, nor is it known to come back with this.
		if w.GetState() == "lost" || w.GetState() == "away" || !slices.Contains(w.GetKinds(), SchedulerKind(s.Offered)) {
			continue
		}
		seen := rota.Worker{Name: w.GetName(), Zone: w.GetZone(), Labels: w.GetLabels()}
		meets := !slices.ContainsFunc(s.Require, func(rule string) bool {
			c, err := placement.ParseCondition(rule)
			return err != nil || !c.Met(&seen)
		})
		offers = build.Gather(offers, w.GetName(), w.GetLabels(), meets, w.GetState() == "ready")
	}
	if len(offers) == 0 { // it waits for those that come
		return wish.Before(), nil
	}
	_, require, missing := build.Choose(wish, offers)
	if missing != "" {
		return nil, fmt.Errorf("submitting program %s: %s", s.Name, missing)
	}
	return require, nil
}

func submittedID(name string) string { return "program/" + name }

// onScheduler calls f with a connection to the first scheduler that answers.
func onScheduler(c ClusterConfig, f func(*grpc.ClientConn) error) error {
	if err := c.check(); err != nil {
		return err
	}
	var errs []error
	for _, address := range c.Addresses {
		conn, err := grpc.NewClient("passthrough:///"+address, c.credentials(address)...)
		if err == nil {
			err = f(conn)
			_ = conn.Close()
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("scheduler %s: %w", address, err))
		if grpcstatus.Code(err) != codes.Unavailable {
			break
		}
	}
	return errors.Join(errs...)
}

// RunSubmitted runs the scheduler function of a submitted program on a worker. Ctx is the
// grant: when it ends, the program continues elsewhere. When the scheduler function
// returns, the cluster deletes the task. LeaseEnds is that of the grant (worker.Assigned);
// after that time RunSubmitted waits for nobody.
func RunSubmitted(ctx context.Context, c ClusterConfig, b Builder, payload []byte, leaseEnds <-chan time.Time) error {
	var s submission
	if err := json.Unmarshal(payload, &s); err != nil {
		return fmt.Errorf("a submission that cannot be read: %w", err)
	}
	c.detached, c.leaseEnds = true, leaseEnds
	run, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	defer context.AfterFunc(ctx, func() { end(errMoves) })()
	over := false
	for {
		p, err := s.build(b)
		if err != nil {
			return err
		}
		where := &cluster{cfg: c}
		err = p.Run(run, where)
		pause := time.Second
		switch {
		case ctx.Err() != nil:
			return err
		case errors.Is(err, ErrRunning): // the one before is dead, and its lease has not ended yet
			pause = 100 * time.Millisecond
		case where.ended, errors.Is(err, errStopped) && !where.opened:
			// The cluster has deleted the task, and the grant ends; unless the task was
			// declared again meanwhile, word for word: then it has the grant.
			over = true
		case over && !where.opened: // it was not
		case where.opened && err == nil:
			return errNotTold
		default: // it never began, or is not over
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// errNotTold is why a program begins again although it had come to its end.
var errNotTold = errors.New("program: no scheduler has confirmed its end")

// build makes the program for one start.
func (s *submission) build(b Builder) (*Program, error) {
	p, err := b(s.Name, s.Args)
	if err != nil {
		return nil, fmt.Errorf("making program %s: %w", s.Name, err)
	}
	if p.Name() != s.Name {
		return nil, fmt.Errorf("making program %s: it is called %s", s.Name, p.Name())
	}
	return p, nil
}
