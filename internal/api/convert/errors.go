package convert

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
)

// Error returns err as the API answers it: a *rota.FieldError as invalid
// argument that carries the field, the errors of package rota by their meaning,
// an error that has a gRPC status already as it is, and any other as internal.
// Nil stays nil.
func Error(err error) error {
	if err == nil {
		return nil
	}
	if fe := (*rota.FieldError)(nil); errors.As(err, &fe) {
		return FieldStatus(fe.Field, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codeOf(err), err.Error())
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, rota.ErrNotFound):
		return codes.NotFound
	case errors.Is(err, rota.ErrNameAlive):
		return codes.AlreadyExists
	case errors.Is(err, rota.ErrTooManyWorkers):
		return codes.ResourceExhausted
	case errors.Is(err, rota.ErrNewerVersion):
		return codes.FailedPrecondition
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	return codes.Internal
}

// FieldStatus is an invalid-argument error that names the field.
func FieldStatus(field, text string) error {
	st := status.New(codes.InvalidArgument, text)
	if with, err := st.WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: text}},
	}); err == nil {
		st = with
	}
	return st.Err()
}

// Field returns the field that a gRPC error names, or nothing.
func Field(err error) string {
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) > 0 {
			return bad.GetFieldViolations()[0].GetField()
		}
	}
	return ""
}
