package service

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Phases of a program that nobody runs: it is over, or it was submitted and its scheduler
// function has not begun yet, or is between two workers.
const (
	phaseEnded   = "ended"
	phaseWaiting = "waiting"
	phaseMoving  = "moving"
)

// Limits of what is kept of a program.
const (
	maxProgramEvents = 100
	maxProgramTasks  = 2000 // shown; the others run unseen
	maxProgramText   = 1 << 10
	maxProgramStack  = 4 << 10
)

// ListPrograms lists the programs that run, and those that were submitted and are to run,
// in order of name.
func (s *Service) ListPrograms(ctx context.Context, _ *rotav1.ListProgramsRequest) (*rotav1.ListProgramsResponse, error) {
	all := map[string]*rotav1.Program{}
	waiting := false
	v := s.cfg.View
	v.Read(func() {
		for name, m := range v.Programs {
			all[name] = programToAPI(m)
			all[name].Events = nil
		}
		for t := range v.Tasks.From(record.Submitted + "/") {
			name, ok := strings.CutPrefix(t.ID, record.Submitted+"/")
			if !ok {
				break
			}
			if all[name] == nil && checkSubmitted(t) == nil {
				all[name] = &rotav1.Program{Name: name, Phase: phaseWaiting}
				waiting = true
			}
		}
	})
	if waiting {
		kvs, _, err := s.cfg.Store.Range(ctx, store.HistoriesPrefix)
		if err != nil {
			return nil, convert.ReadError(err)
		}
		for _, kv := range kvs {
			if name, ok := store.NameIn(store.HistoriesPrefix, kv.Key); ok && all[name].GetPhase() == phaseWaiting && all[name].GetRun() == "" {
				all[name].Phase = phaseMoving
			}
		}
	}
	out := &rotav1.ListProgramsResponse{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out.Programs = append(out.Programs, all[name])
	}
	return out, nil
}

// GetProgram answers one program with its last events: one that runs or is to run, or
// for an hour one that has ended.
func (s *Service) GetProgram(ctx context.Context, r *rotav1.GetProgramRequest) (*rotav1.Program, error) {
	var p *rotav1.Program
	waits := false
	v := s.cfg.View
	v.Read(func() {
		if m := v.Programs[r.GetName()]; m != nil {
			p = programToAPI(m)
		} else if t, ok := v.Tasks.Get(record.SubmittedID(r.GetName())); ok {
			waits = checkSubmitted(t) == nil
		}
	})
	switch {
	case p != nil:
		return p, nil
	case waits:
		return s.unbegun(ctx, r.GetName())
	}
	kv, ok, _, err := s.cfg.Store.Get(ctx, store.EndedKey(r.GetName()))
	if err != nil {
		return nil, convert.ReadError(err)
	}
	if !ok {
		return nil, noProgram(r.GetName())
	}
	m := &storepb.Program{}
	if err := record.Decode(kv.Value, m); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	m.Phase, m.Missing, m.MessagesPerSecond = phaseEnded, "", 0
	return programToAPI(m), nil
}

// unbegun answers a submitted program whose scheduler function runs nowhere now.
func (s *Service) unbegun(ctx context.Context, name string) (*rotav1.Program, error) {
	p := &rotav1.Program{Name: name, Phase: phaseWaiting}
	kv, ok, _, err := s.cfg.Store.Get(ctx, store.HistoryKey(name))
	if err != nil {
		return nil, convert.ReadError(err)
	}
	if ok {
		m := &storepb.ProgramHistory{}
		if err := record.Decode(kv.Value, m); err != nil {
			return nil, convert.Error(err)
		}
		p.Phase, p.Events = phaseMoving, eventsToAPI(m.GetEvents())
	}
	id := record.SubmittedID(name)
	worker := ""
	s.cfg.View.Read(func() {
		if at, g := s.cfg.View.Owner(rota.Instance{Task: id}); g != nil && !g.Revoked {
			worker = at
		}
	})
	if worker != "" {
		p.Missing = "its scheduler function has not started on " + worker + " yet"
	} else if why := s.reasons(ctx, id); why != "" {
		p.Missing = "a worker for its scheduler function: " + why
	}
	return p, nil
}

func noProgram(name string) error {
	return status.Errorf(codes.NotFound, "program %q: not running", name)
}

// StopProgram asks for the end of a program.
func (s *Service) StopProgram(ctx context.Context, r *rotav1.StopProgramRequest) (*rotav1.Program, error) {
	if len(r.GetReason()) > rota.MaxIDLen {
		return nil, convert.FieldStatus("reason", fmt.Sprintf("reason: want at most %d bytes", rota.MaxIDLen))
	}
	reason := r.GetReason()
	if reason == "" {
		reason = "asked to stop"
	}
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	if err := s.mayStop(ctx, r.GetName()); err != nil {
		return nil, err
	}
	var p *rotav1.Program
	err := s.again(ctx, func() (done bool, err error) {
		err = s.updateProgram(ctx, r.GetName(), "", func(m *storepb.Program) {
			m.Stop = reason
			p = programToAPI(m)
		})
		if status.Code(err) == codes.NotFound {
			p = &rotav1.Program{Name: r.GetName(), Phase: phaseEnded}
			return s.dropWaiting(ctx, r.GetName())
		}
		return true, err
	})
	if err == nil {
		s.record(ctx, events.ProgramStopping, events.Subject{Program: r.GetName()}, reason)
	}
	return p, err
}

// dropWaiting ends a submitted program whose scheduler function runs nowhere: it has
// not begun yet, or moves. done is false if it has begun meanwhile.
func (s *Service) dropWaiting(ctx context.Context, name string) (done bool, err error) {
	nowhere := store.Cond{Key: store.ProgramKey(name), By: store.ByCreate}
	_, ok, rev, err := s.cfg.Store.Get(ctx, nowhere.Key)
	if err != nil {
		return false, convert.ReadError(err)
	}
	if ok {
		return false, nil
	}
	if err := s.seen(ctx, rev); err != nil {
		return false, convert.ReadError(err)
	}
	done, err = s.tryDelete(ctx, []string{record.SubmittedID(name)}, false, func(t *record.Task) error {
		if checkSubmitted(t) != nil {
			return noProgram(name)
		}
		return auth.MayStop(ctx, t.Kind)
	}, nowhere)
	if status.Code(err) == codes.NotFound {
		err = noProgram(name)
	}
	return done, err
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
			return false, convert.ReadError(err)
		}
		m := &storepb.Program{}
		if ok {
			if err := record.DecodeLeased(kv, m); err != nil {
				return false, convert.Error(err)
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
		ops := []store.Op{{Key: key, Value: value, Lease: kv.Lease}}
		if m.GetDetached() {
			history, err := record.Encode(&storepb.ProgramHistory{Version: record.Version, Events: m.GetEvents(), Stop: m.GetStop()})
			if err != nil {
				return false, err
			}
			ops = append(ops, store.Op{Key: store.HistoryKey(name), Value: history})
		}
		done, _, err := s.fence.Txn(ctx, []store.Cond{{Key: key, By: store.ByMod, Revision: kv.Mod}}, ops)
		return done, err
	})
}

func programToAPI(m *storepb.Program) *rotav1.Program {
	p := &rotav1.Program{
		Name: m.GetName(), Run: m.GetRun(), Phase: m.GetPhase(), Missing: m.GetMissing(), Policy: m.GetPolicy(),
		Host: m.GetHost(), Pid: m.GetPid(), Since: timestamppb.New(time.UnixMilli(m.GetSinceUnixMs())),
		MessagesPerSecond: m.GetMessagesPerSecond(),
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

// reported takes a report that was heard at that time into the record. Times in it are
// then of this scheduler's clock, as are all others of a program: as long ago as they
// were by the program's own.
func reported(m *storepb.Program, r *rotav1.ProgramReport, heard time.Time) {
	m.MessagesPerSecond = 0
	if n := r.GetMessagesPerSecond(); n >= 0 && n <= math.MaxInt64 { // JSON has no other
		m.MessagesPerSecond = n
	}
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
		at := e.GetTime().AsTime()
		if now := r.GetNowUnixUs(); now != 0 {
			at = heard.Add(-max(0, time.UnixMicro(now).Sub(at)))
		}
		m.Events = append(m.Events, &storepb.ProgramEvent{
			UnixMs: at.UnixMilli(), Kind: e.GetKind(), Task: e.GetTask(), Generation: e.GetGeneration(),
			Worker: e.GetWorker(), Text: text.Clip(e.GetText(), maxProgramText), Stack: text.Clip(e.GetStack(), maxProgramStack),
		})
	}
	if n := len(m.GetEvents()); n > maxProgramEvents {
		m.Events = m.GetEvents()[n-maxProgramEvents:]
	}
}
