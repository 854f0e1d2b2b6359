package convert

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/store"
)

// storeAway is the reason in the details of an error that says that the store does
// not answer.
const storeAway = "STORE_AWAY"

// StoreError is what the API answers when the store failed a call that may have been
// done all the same. What has a status keeps it. The cause is for the scheduler's log.
func StoreError(err error) error {
	return storeError(err, "what was asked may be done or not; look when the store is back, and ask again if it is not (rota doctor says what is wrong)")
}

// ReadError is what the API answers when the store failed a call before anything was
// written.
func ReadError(err error) error {
	return storeError(err, "nothing was done; ask again when the store is back (rota doctor says what is wrong)")
}

// UnseenError is what the API answers when a write was done, and this scheduler's
// picture did not have it in time. Nil stays nil.
func UnseenError(err error) error {
	if err == nil {
		return nil
	}
	return away(codes.DeadlineExceeded, "it is done, and the store has it; this scheduler did not hear so from the store in time, and may answer for a while as if it were not (rota doctor says what is wrong)")
}

func storeError(err error, done string) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, store.ErrNoSpace):
		return status.Error(codes.ResourceExhausted, "the store is full; nothing was done (docs/etcd.md says how to make room)")
	case errors.Is(err, store.ErrTooLarge):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, store.ErrWentBack), errors.Is(err, store.ErrLeaseNotFound):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, store.ErrInvalid):
		return status.Error(codes.Internal, err.Error())
	}
	code, text := codes.Unavailable, "the store does not answer; "
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		code, text = codes.DeadlineExceeded, "the store did not answer in time; "
	}
	return away(code, text+done)
}

// away is an error of a store that does not answer, or not in time.
func away(code codes.Code, text string) error {
	st := status.New(code, text)
	if with, err := st.WithDetails(&errdetails.ErrorInfo{Reason: storeAway, Domain: "rota"}); err == nil {
		st = with
	}
	return st.Err()
}

// IsStoreAway reports whether an error of the API says that the store does not answer,
// which another scheduler would say too.
func IsStoreAway(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == storeAway {
			return true
		}
	}
	return false
}
