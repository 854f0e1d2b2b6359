package functions

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/gateway"
)

// Service implements the service Functions of rota.v1 by what a gateway of this process
// says of itself. Its zero value has no gateway.
type Service struct {
	rotav1.UnimplementedFunctionsServer
	gateway atomic.Pointer[gateway.Gateway]
}

// Tell has the service tell of a gateway from now on.
func (s *Service) Tell(g *gateway.Gateway) { s.gateway.Store(g) }

// Tells says whether there is a gateway to tell of.
func (s *Service) Tells() bool { return s.gateway.Load() != nil }

// errNoGateway says that there are no calls to tell of.
var errNoGateway = status.Error(codes.FailedPrecondition, "this scheduler has no gateway: see --gateway")

// ListFunctions implements rotav1.FunctionsServer.
func (s *Service) ListFunctions(context.Context, *rotav1.ListFunctionsRequest) (*rotav1.ListFunctionsResponse, error) {
	g := s.gateway.Load()
	if g == nil {
		return nil, errNoGateway
	}
	out := &rotav1.ListFunctionsResponse{}
	for _, r := range g.Routes() {
		f := function(&r)
		f.Workers, f.Failures = nil, nil
		out.Functions = append(out.Functions, f)
	}
	return out, nil
}

// GetFunction implements rotav1.FunctionsServer.
func (s *Service) GetFunction(_ context.Context, r *rotav1.GetFunctionRequest) (*rotav1.Function, error) {
	g := s.gateway.Load()
	if g == nil {
		return nil, errNoGateway
	}
	route, ok := g.Route(r.GetName())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no worker offers the function %q, and it is not configured", r.GetName())
	}
	return function(&route), nil
}

// function is how a function's calls go, in the API's words. Who called, and with what
// path, is not in it: that is for whoever may steer the gateway.
func function(r *gateway.RouteStatus) *rotav1.Function {
	f := &rotav1.Function{
		Name: r.Function, Balancer: r.Balancer, Paths: r.Paths, InFlight: r.InFlight, Waiting: int64(r.Waiting), Calls: int64(r.Calls), Errors: int64(r.Errors),
		Retries: int64(r.Retries), Refused: int64(r.Refused), P50Ms: r.P50MS, P99Ms: r.P99MS, Next: r.Next,
	}
	for _, w := range r.Workers {
		f.Workers = append(f.Workers, &rotav1.FunctionWorker{
			Name: w.Name, State: w.State, May: w.May, Why: w.Why, InFlight: int64(w.InFlight), MeanMs: w.LatencyMS,
		})
	}
	for i := range r.Failures {
		one := &r.Failures[i]
		failure := &rotav1.FunctionFailure{
			Id: one.ID, Time: timestamppb.New(one.Time), TookMs: one.TookMS, Status: int64(one.Status), Cause: one.Cause, Blame: one.Blame, Error: one.Error,
		}
		for _, a := range one.Attempts {
			failure.Attempts = append(failure.Attempts, &rotav1.FunctionAttempt{
				Worker: a.Worker, AfterMs: a.AfterMS, TookMs: a.TookMS, Status: int64(a.Status), Cause: a.Cause, Verdict: a.Verdict, Error: a.Error,
			})
		}
		f.Failures = append(f.Failures, failure)
	}
	return f
}
