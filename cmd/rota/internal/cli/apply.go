package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/api/convert"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// One call takes about so many bytes, and so many tasks. A task is far smaller
// than what a call may have.
const (
	applyPart  = bound.MaxMessage / 4
	applyTasks = 20_000
)

// parts cuts tasks into lists for one call each, and makes one of none.
func parts(tasks []*rotav1.TaskDefinition) (out [][]*rotav1.TaskDefinition) {
	from, size := 0, 0
	for n, t := range tasks {
		one := protowire.SizeTag(1) + protowire.SizeBytes(proto.Size(t))
		if n > from && (size+one > applyPart || n-from == applyTasks) {
			out = append(out, tasks[from:n])
			from, size = n, 0
		}
		size += one
	}
	return append(out, tasks[from:])
}

// apply declares tasks. Those that take more than one call are asked after first,
// all of them, so that nothing changes if one is refused.
func (a *app) apply(ctx context.Context, tasks []rota.Task, dryRun bool) error {
	lists := parts(convert.TasksToProto(tasks))
	sum := &rotav1.ApplyTasksResponse{}
	if dryRun || len(lists) > 1 {
		for _, list := range lists {
			if err := a.applyList(ctx, list, true, sum); err != nil {
				return err
			}
		}
	}
	if !dryRun {
		sum.Reset()
		done := 0
		for _, list := range lists {
			if err := a.applyList(ctx, list, false, sum); err != nil {
				if len(lists) > 1 {
					err = fmt.Errorf("%d of %d tasks were applied; run the same command again for the others: %w", done, len(tasks), err)
				}
				return err
			}
			done += len(list)
		}
	}
	return a.print(sum, func(w io.Writer) error {
		would := ""
		if dryRun {
			would = "would be: "
		}
		_, err := fmt.Fprintf(w, "%s%d created, %d changed, %d unchanged\n", would, sum.GetCreated(), sum.GetChanged(), sum.GetUnchanged())
		return err
	})
}

// applyList does one call and adds to sum what it did.
func (a *app) applyList(ctx context.Context, list []*rotav1.TaskDefinition, dryRun bool, sum *rotav1.ApplyTasksResponse) error {
	return a.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		r, err := tasksOf(conn).ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: list, DryRun: dryRun})
		sum.Created += r.GetCreated()
		sum.Changed += r.GetChanged()
		sum.Unchanged += r.GetUnchanged()
		return err
	})
}
