package service

import (
	"context"
	"maps"
	"slices"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// sourceOf is a source as the status shows it.
func sourceOf(src *storepb.Source) *rotav1.Source {
	m := &rotav1.Source{Name: src.GetName(), Tasks: src.GetTasks(), Error: src.GetError()}
	if waits(src) {
		m.Held = &rotav1.HeldList{
			Removes: src.GetHeldRemoves(), Of: src.GetHeldOf(), WaitMs: src.GetHeldWaitMs(),
			Since: timestamppb.New(time.UnixMilli(src.GetHeldSinceUnixMs())),
		}
	}
	return m
}

// waits reports whether a source has a list that nobody has confirmed yet.
func waits(src *storepb.Source) bool {
	return src.GetHeld() != 0 && src.GetConfirmed() != src.GetHeld()
}

// ConfirmList takes the list of a source that is held, or all that are. Should
// another list take its place before the leader has it, that is judged by itself.
func (s *Service) ConfirmList(ctx context.Context, r *rotav1.ConfirmListRequest) (*rotav1.ConfirmListResponse, error) {
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	v := s.cfg.View
	out := &rotav1.ConfirmListResponse{}
	known := false
	v.Read(func() {
		for _, name := range slices.Sorted(maps.Keys(v.Sources)) {
			if r.GetSource() != "" && r.GetSource() != name {
				continue
			}
			known = true
			if waits(v.Sources[name]) {
				out.Sources = append(out.Sources, name)
			}
		}
	})
	switch {
	case !known && r.GetSource() != "":
		return nil, status.Errorf(codes.NotFound, "source %q: not found", r.GetSource())
	case len(out.GetSources()) == 0:
		return nil, status.Error(codes.FailedPrecondition, "no list is held")
	}
	for _, name := range out.GetSources() {
		if err := s.confirm(ctx, name); err != nil {
			return nil, err
		}
		s.record(ctx, events.SourceConfirmed, events.Subject{}, "source "+name)
	}
	return out, nil
}

// confirm writes that the list that a source holds now is to be taken.
func (s *Service) confirm(ctx context.Context, name string) error {
	v, key := s.cfg.View, store.SourceKey(name)
	return s.again(ctx, func() (bool, error) {
		var m *storepb.Source
		cond := store.Cond{Key: key, By: store.ByMod}
		v.Read(func() {
			if now := v.Sources[name]; now != nil {
				m = proto.CloneOf(now)
			}
			cond.Revision = v.Mod(key)
		})
		if m == nil || !waits(m) {
			return true, nil // it was taken meanwhile
		}
		m.Confirmed = m.GetHeld()
		value, err := record.Encode(m)
		if err != nil {
			return false, err
		}
		done, _, err := s.fence.Txn(ctx, []store.Cond{cond}, []store.Op{{Key: key, Value: value}})
		return done, err
	})
}
