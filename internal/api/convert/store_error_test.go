package convert_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/store"
)

// TestStoreError: whoever is refused is told whether anything may have been done, and
// not the store's own words.
func TestStoreError(t *testing.T) {
	t.Parallel()
	const nothing = "nothing was done"
	for _, c := range []struct {
		err           error
		code          codes.Code
		written, read string // of a write, of a read
		away          bool
	}{
		{store.ErrNoSpace, codes.ResourceExhausted, nothing, nothing, false},
		{store.ErrTooLarge, codes.InvalidArgument, "", "", false},
		{store.ErrWentBack, codes.Unavailable, "went back", "went back", false},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "may be done or not", nothing, true},
		{errors.New("connection lost"), codes.Unavailable, "may be done or not", nothing, true},
		{errors.Join(context.Canceled, errors.New("x")), codes.DeadlineExceeded, "may be done or not", nothing, true},
		{status.Error(codes.NotFound, "not there"), codes.NotFound, "not there", "not there", false},
	} {
		err := c.err
		if _, ok := status.FromError(err); !ok {
			err = fmt.Errorf("etcd: txn of 2 operations: %w", err)
		}
		for text, err := range map[string]error{c.written: convert.StoreError(err), c.read: convert.ReadError(err)} {
			got := status.Convert(err)
			if got.Code() != c.code || !strings.Contains(got.Message(), text) || convert.IsStoreAway(err) != c.away {
				t.Errorf("%v is answered as %v, away %v: %s", c.err, got.Code(), convert.IsStoreAway(err), got.Message())
			}
			if c.away && strings.Contains(got.Message(), "txn") {
				t.Errorf("%v is answered in the store's words: %s", c.err, got.Message())
			}
		}
	}
}
