package server

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rota-project/rota/api"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

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

func (s *Server) age() metadata.MD {
	age, stale := s.sched.Age()
	md := metadata.Pairs(api.AgeHeader, strconv.FormatInt(age.Milliseconds(), 10))
	if stale {
		md.Set(api.StaleHeader, "true")
	}
	return md
}

// ready answers /readyz: the store has been read, and is heard of.
func (s *Server) ready(ctx context.Context) error {
	if err := s.sched.Ready(ctx); err != nil {
		return err
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
