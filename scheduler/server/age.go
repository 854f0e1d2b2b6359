package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/api/rest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
)

// answersUnread are the services that do not answer from the picture.
var answersUnread = map[string]bool{
	healthv1.Health_ServiceDesc.ServiceName:                    true,
	reflectionv1.ServerReflection_ServiceDesc.ServiceName:      true,
	reflectionv1alpha.ServerReflection_ServiceDesc.ServiceName: true,
	rotav1.Members_ServiceDesc.ServiceName:                     true, // how to mend a store that cannot be read
}

// whole has a call wait for the first picture, as one that is not whole would be
// taken for a cluster without tasks.
func (s *Server) whole(ctx context.Context, method string) error {
	if service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/"); answersUnread[service] {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if s.sched.Ready(wait) != nil {
		return convert.ReadError(errUnread)
	}
	return nil
}

// wholeUnary and wholeStream do so for the calls of a server.
func (s *Server) wholeUnary(ctx context.Context, r any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	if err := s.whole(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return h(ctx, r)
}

func (s *Server) wholeStream(srv any, st grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	if err := s.whole(st.Context(), info.FullMethod); err != nil {
		return err
	}
	return h(srv, st)
}

// dated says in the header of each answer how old the picture is that it is from.
func (s *Server) dated(ctx context.Context, r any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	_ = grpc.SetHeader(ctx, s.age()) // a caller that does not want it does without
	return h(ctx, r)
}

// datedStream does so when a stream begins.
func (s *Server) datedStream(srv any, st grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	_ = st.SetHeader(s.age())
	return h(srv, st)
}

func (s *Server) age() metadata.MD { return ageHeader(s.sched.Age()) }

// ageHeader says how old the picture is that an answer is from.
func ageHeader(age time.Duration, stale bool) metadata.MD {
	md := metadata.Pairs(rest.AgeHeader, strconv.FormatInt(age.Milliseconds(), 10))
	if stale {
		md.Set(rest.StaleHeader, "true")
	}
	return md
}

// readyTimeout bounds what a call or a probe waits for a node that has just started.
const readyTimeout = 2 * time.Second

var errUnread = errors.New("the store has not been read yet")

// ready answers /readyz: the store has been read, and is heard of.
func (s *Server) ready(ctx context.Context) error {
	first, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if s.sched.Ready(first) != nil {
		return errUnread
	}
	if age, stale := s.sched.Age(); stale {
		return fmt.Errorf("nothing has been heard of the store for %v: answers are as of then", age.Round(time.Second))
	}
	return nil
}

// tellHealth has gRPC's health service say what /readyz does.
func (s *Server) tellHealth(ctx context.Context) {
	if s.sched.Ready(ctx) != nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		status := healthv1.HealthCheckResponse_SERVING
		if _, stale := s.sched.Age(); stale {
			status = healthv1.HealthCheckResponse_NOT_SERVING
		}
		s.health.SetServingStatus("", status)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
