package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestUnavailable: whoever is refused is told whether anything may have been done.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code codes.Code
		done string
	}{
		{store.ErrNoSpace, codes.ResourceExhausted, "nothing was done"},
		{store.ErrTooLarge, codes.InvalidArgument, ""},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "may be done or not"},
		{errors.New("connection lost"), codes.Unavailable, "may be done or not"},
	} {
		got := status.Convert(unavailable(fmt.Errorf("etcd: txn: %w", c.err)))
		if got.Code() != c.code || !strings.Contains(got.Message(), c.done) {
			t.Errorf("%v is answered as %v: %s", c.err, got.Code(), got.Message())
		}
	}
}
