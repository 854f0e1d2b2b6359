package service

import (
	"cmp"
	"context"
	"fmt"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/taskfile"
	"github.com/rota-project/rota/internal/text"

	"google.golang.org/grpc/status"
)

// maxFile is the most bytes of a file, and maxRead the most tasks: as many as can be
// declared in one call.
const maxFile = bound.MaxMessage

var maxRead = bound.Lists["rota.v1.ApplyTasksRequest.tasks"]

// ReadTasks answers the tasks of a file. One file is read at a time: a short text in YAML
// takes much memory until it is read.
func (s *Service) ReadTasks(ctx context.Context, r *rotav1.ReadTasksRequest) (*rotav1.ReadTasksResponse, error) {
	if len(r.GetText()) > maxFile {
		return nil, convert.FieldStatus("text", fmt.Sprintf("text: %d bytes: want at most %d", len(r.GetText()), maxFile))
	}
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	name := cmp.Or(text.Clip(r.GetName(), text.Short), "text")
	tasks, err := taskfile.Parse([]byte(r.GetText()), name, taskfile.Options{MaxTasks: maxRead})
	if err = convert.Error(err); err != nil {
		return nil, convert.FieldStatus(cmp.Or(convert.Field(err), "text"), status.Convert(err).Message())
	}
	return &rotav1.ReadTasksResponse{Tasks: convert.TasksToProto(tasks)}, nil
}
