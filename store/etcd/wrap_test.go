package etcd

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestCauses: an error of etcd has no gRPC status, which the API would answer as its
// own, and is still told apart by whoever asks for its cause.
func TestCauses(t *testing.T) {
	t.Parallel()
	ping := status.Error(codes.Unavailable, "keepalive ping failed to receive ACK within timeout")
	for _, err := range []error{
		ping, status.Error(codes.DeadlineExceeded, "late"), status.Error(codes.Internal, "x"), rpctypes.ErrGRPCNoLeader,
		rpctypes.ErrNoLeader, rpctypes.ErrGRPCNoSpace, rpctypes.ErrPermissionDenied, rpctypes.ErrGRPCTimeout, rpctypes.ErrLeaseNotFound,
		context.DeadlineExceeded, context.Canceled, fmt.Errorf("http://a:1: %w", ping),
	} {
		got := wrap(err, "txn of %d operations", 4)
		if st, ok := status.FromError(got); ok {
			t.Errorf("%v has the status %v", got, st)
		}
	}
	for _, err := range []error{context.DeadlineExceeded, context.Canceled, rpctypes.ErrPermissionDenied} {
		if !errors.Is(wrap(fmt.Errorf("http://a:1: %w", err), "get"), err) {
			t.Errorf("%v is not known any more", err)
		}
	}
}
