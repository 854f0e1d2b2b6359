package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// Builder makes a program that workers offer, for one start of it: under the
// name that it was submitted as, with the arguments that were given.
type Builder func(name string, args []string) (*Program, error)

// SchedulerKind is the kind of the cluster's task that runs the scheduler
// function of a program that workers offer under a name.
func SchedulerKind(offered string) string { return rota.ProgramSchedulerKind + offered }

// submission is the payload of that task. It is JSON.
type submission struct {
	Name string   `json:"name"`
	Args []string `json:"args,omitempty"`
}

// Submit starts a program detached: its scheduler function runs on some worker
// that offers it (worker.RegisterProgram), as the task program/NAME of the
// cluster. When that worker is lost or drained another one runs it: its tasks
// start again, and its scheduler function is first told all that happened
// before. It goes on until the scheduler function returns, or somebody stops it.
func Submit(ctx context.Context, c ClusterConfig, name, offered string, args ...string) error {
	if err := errors.Join(validName("program", name), validName("offered", offered)); err != nil {
		return err
	}
	payload, err := json.Marshal(submission{Name: name, Args: args})
	if err != nil {
		return fmt.Errorf("writing the submission: %w", err)
	}
	return onTasks(c, func(tasks rotav1.TasksClient) error {
		_, err := tasks.GetTask(ctx, &rotav1.GetTaskRequest{Id: submittedID(name)})
		if err == nil {
			return fmt.Errorf("%w: %s", ErrRunning, name)
		}
		if grpcstatus.Code(err) != codes.NotFound {
			return err
		}
		_, err = tasks.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{
			Id: submittedID(name), Kind: SchedulerKind(offered), Payload: string(payload),
		}}})
		return err
	})
}

func submittedID(name string) string { return "program/" + name }

// onTasks calls f with the API of the first scheduler that answers.
func onTasks(c ClusterConfig, f func(rotav1.TasksClient) error) error {
	if err := c.check(); err != nil {
		return err
	}
	var errs []error
	for _, address := range c.Addresses {
		conn, err := grpc.NewClient("passthrough:///"+address, c.credentials(address)...)
		if err == nil {
			err = f(rotav1.NewTasksClient(conn))
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

// RunSubmitted runs the scheduler function of a submitted program on a worker.
// Ctx is the grant: when it ends the program goes on elsewhere. When the
// scheduler function has returned, the cluster deletes the task.
func RunSubmitted(ctx context.Context, c ClusterConfig, b Builder, payload []byte) error {
	var s submission
	if err := json.Unmarshal(payload, &s); err != nil {
		return fmt.Errorf("a submission that cannot be read: %w", err)
	}
	p, err := b(s.Name, s.Args)
	if err != nil {
		return fmt.Errorf("making program %s: %w", s.Name, err)
	}
	if p.Name() != s.Name {
		return fmt.Errorf("making program %s: it is called %s", s.Name, p.Name())
	}
	c.moving = func() bool { return ctx.Err() != nil }
	run, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	defer context.AfterFunc(ctx, func() { end(errMoves) })()
	for {
		err = p.Run(run, ClusterWith(c))
		if !errors.Is(err, ErrRunning) {
			break
		}
		select { // the one before is dead, and its lease has not ended yet
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
	if ctx.Err() != nil || errors.Is(err, errEnded) {
		return err // it is not over
	}
	<-ctx.Done() // the grant ends with the task
	return nil
}
