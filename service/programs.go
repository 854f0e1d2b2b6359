package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/api/convert"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// phaseEnded is the phase of a program that runs no more.
const phaseEnded = "ended"

// Limits of what is kept of a program.
const (
	maxProgramEvents = 100
	maxProgramTasks  = 2000 // shown; the others run unseen
	maxProgramText   = 1 << 10
	maxProgramStack  = 4 << 10
)

// ListPrograms lists the programs that run, in order of name.
func (s *Service) ListPrograms(context.Context, *rotav1.ListProgramsRequest) (*rotav1.ListProgramsResponse, error) {
	out := &rotav1.ListProgramsResponse{}
	v := s.cfg.View
	v.Read(func() {
		for _, name := range slices.Sorted(maps.Keys(v.Programs)) {
			p := programToAPI(v.Programs[name])
			p.Events = nil
			out.Programs = append(out.Programs, p)
		}
	})
	return out, nil
}

// GetProgram answers one program with its last events: one that runs, or for an
// hour one that has ended.
func (s *Service) GetProgram(ctx context.Context, r *rotav1.GetProgramRequest) (*rotav1.Program, error) {
	var p *rotav1.Program
	s.cfg.View.Read(func() {
		if m := s.cfg.View.Programs[r.GetName()]; m != nil {
			p = programToAPI(m)
		}
	})
	if p != nil {
		return p, nil
	}
	kv, ok, _, err := s.cfg.Store.Get(ctx, store.EndedKey(r.GetName()))
	if err != nil {
		return nil, unavailable(err)
	}
	if !ok {
		return nil, noProgram(r.GetName())
	}
	m := &storepb.Program{}
	if err := record.Decode(kv.Value, m); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	m.Phase, m.Missing = phaseEnded, ""
	return programToAPI(m), nil
}

func noProgram(name string) error {
	return status.Errorf(codes.NotFound, "program %q: not running", name)
}

// StopProgram asks for the end of a program.
func (s *Service) StopProgram(ctx context.Context, r *rotav1.StopProgramRequest) (*rotav1.Program, error) {
	if len(r.GetReason()) > rota.MaxIDLen {
		return nil, convert.FieldStatus("reason", fmt.Sprintf("want at most %d bytes", rota.MaxIDLen))
	}
	reason := r.GetReason()
	if reason == "" {
		reason = "asked to stop"
	}
	if err := s.mayStop(ctx, r.GetName()); err != nil {
		return nil, err
	}
	var p *rotav1.Program
	return p, s.updateProgram(ctx, r.GetName(), "", func(m *storepb.Program) {
		m.Stop = reason
		p = programToAPI(m)
	})
}

// mayStop is nil if the caller may declare all tasks of the program.
func (s *Service) mayStop(ctx context.Context, name string) (err error) {
	v := s.cfg.View
	v.Read(func() {
		for t := range v.Tasks.From(name + "/") {
			if !strings.HasPrefix(t.ID, name+"/") || err != nil {
				return
			}
			if of, _, ok := record.ProgramOf(t.Source); ok && of == name {
				err = auth.MayDeclare(ctx, t.Kind)
			}
		}
	})
	return err
}

// updateProgram rewrites the record of a program, whoever else does at the same
// time. With a run it must be that one.
func (s *Service) updateProgram(ctx context.Context, name, run string, f func(*storepb.Program)) error {
	key := store.ProgramKey(name)
	return s.again(ctx, func() (bool, error) {
		kv, ok, _, err := s.cfg.Store.Get(ctx, key)
		if err != nil {
			return false, err
		}
		m := &storepb.Program{}
		if ok {
			if err := record.Decode(kv.Value, m); err != nil {
				return false, err
			}
		}
		if !ok || (run != "" && m.GetRun() != run) {
			return false, noProgram(name)
		}
		f(m)
		value, err := record.Encode(m)
		if err != nil {
			return false, err
		}
		ops := []store.Op{{Key: key, Value: value, Lease: store.LeaseID(m.GetLease())}}
		if m.GetDetached() {
			history, err := record.Encode(&storepb.ProgramHistory{Version: record.Version, Events: m.GetEvents()})
			if err != nil {
				return false, err
			}
			ops = append(ops, store.Op{Key: store.HistoryKey(name), Value: history})
		}
		done, _, err := s.cfg.Store.Txn(ctx, []store.Cond{{Key: key, By: store.ByMod, Revision: kv.Mod}}, ops)
		return done, err
	})
}

func programToAPI(m *storepb.Program) *rotav1.Program {
	p := &rotav1.Program{
		Name: m.GetName(), Run: m.GetRun(), Phase: m.GetPhase(), Missing: m.GetMissing(), Policy: m.GetPolicy(),
		Host: m.GetHost(), Pid: m.GetPid(), Since: timestamppb.New(time.UnixMilli(m.GetSinceUnixMs())),
	}
	for _, t := range m.GetTasks() {
		p.Tasks = append(p.Tasks, &rotav1.ProgramTask{
			Name: t.GetName(), State: t.GetState(), Generation: t.GetGeneration(), Worker: t.GetWorker(), Error: t.GetError(),
		})
	}
	p.Events = eventsToAPI(m.GetEvents())
	return p
}

func eventsToAPI(events []*storepb.ProgramEvent) (out []*rotav1.ProgramEvent) {
	for _, e := range events {
		out = append(out, &rotav1.ProgramEvent{
			Time: timestamppb.New(time.UnixMilli(e.GetUnixMs())), Kind: e.GetKind(), Task: e.GetTask(), Generation: e.GetGeneration(),
			Worker: e.GetWorker(), Text: e.GetText(), Stack: e.GetStack(),
		})
	}
	return out
}

// reported takes a report into the record.
func reported(m *storepb.Program, r *rotav1.ProgramReport) {
	m.Phase, m.Missing, m.Tasks = r.GetPhase(), text.Clip(r.GetMissing(), maxProgramText), nil
	for _, t := range r.GetTasks() {
		if len(m.GetTasks()) == maxProgramTasks {
			break
		}
		m.Tasks = append(m.Tasks, &storepb.ProgramTask{
			Name: t.GetName(), State: t.GetState(), Generation: t.GetGeneration(), Worker: t.GetWorker(), Error: text.Clip(t.GetError(), maxProgramText),
		})
	}
	for _, e := range r.GetEvents() {
		m.Events = append(m.Events, &storepb.ProgramEvent{
			UnixMs: e.GetTime().AsTime().UnixMilli(), Kind: e.GetKind(), Task: e.GetTask(), Generation: e.GetGeneration(),
			Worker: e.GetWorker(), Text: text.Clip(e.GetText(), maxProgramText), Stack: text.Clip(e.GetStack(), maxProgramStack),
		})
	}
	if n := len(m.GetEvents()); n > maxProgramEvents {
		m.Events = m.GetEvents()[n-maxProgramEvents:]
	}
}
