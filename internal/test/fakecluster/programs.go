package fakecluster

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// SetProgram makes a program run; its age counts from epoch.
func (c *Cluster) SetProgram(p *rotav1.Program) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.programs == nil {
		c.programs = map[string]*rotav1.Program{}
	}
	p = proto.CloneOf(p)
	p.Since = timestamppb.New(epoch)
	c.programs[p.GetName()] = p
}

// ListPrograms lists them without events.
func (c *Cluster) ListPrograms(context.Context, *rotav1.ListProgramsRequest) (*rotav1.ListProgramsResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &rotav1.ListProgramsResponse{}
	for _, name := range slices.Sorted(maps.Keys(c.programs)) {
		p := proto.CloneOf(c.programs[name])
		p.Events = nil
		out.Programs = append(out.Programs, p)
	}
	return out, nil
}

// GetProgram answers one.
func (c *Cluster) GetProgram(_ context.Context, r *rotav1.GetProgramRequest) (*rotav1.Program, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.programs[r.GetName()]; p != nil {
		return proto.CloneOf(p), nil
	}
	return nil, status.Errorf(codes.NotFound, "program %q: not running", r.GetName())
}

// StopProgram ends one at once.
func (c *Cluster) StopProgram(_ context.Context, r *rotav1.StopProgramRequest) (*rotav1.Program, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.programs[r.GetName()]
	if p == nil {
		return nil, status.Errorf(codes.NotFound, "program %q: not running", r.GetName())
	}
	delete(c.programs, r.GetName())
	return p, nil
}
