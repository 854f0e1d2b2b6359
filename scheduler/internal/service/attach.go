package service

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// attachment is the stream of the process that runs a program's scheduler
// function. Its lease is the program's: it is renewed by what comes in, goes on
// for its time when the stream breaks, and when it ends the leader removes what
// is left.
type attachment struct {
	s      *Service
	stream grpc.BidiStreamingServer[rotav1.FromProgram, rotav1.ToProgram]
	name   string
	run    string
	source string
	prefix string // of its tasks' ids
	// detached says that its scheduler function is a task of the cluster.
	detached  bool
	lease     store.LeaseID
	functions []function
	// history is what happened to an earlier scheduler function of it.
	history []*storepb.ProgramEvent

	sending sync.Mutex

	mu   sync.Mutex      // taken while the view stands still: never held while sending
	lost []string        // workers, not told yet
	near map[string]bool // workers that had a task of it
	wake chan struct{}
	// roster says that workers have changed since their offers were gathered.
	roster bool
}

// AttachProgram serves one attachment.
func (s *Service) AttachProgram(stream grpc.BidiStreamingServer[rotav1.FromProgram, rotav1.ToProgram]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "hello: want it first")
	}
	if err := (rota.Task{ID: hello.GetName()}).Validate(); err != nil || strings.Contains(hello.GetName(), "/") || hello.GetRun() == "" || strings.Contains(hello.GetRun(), "/") {
		return convert.FieldStatus("name, run", "name, run: want names without / or white space")
	}
	a := &attachment{
		s: s, stream: stream, name: hello.GetName(), run: hello.GetRun(), near: map[string]bool{}, wake: make(chan struct{}, 1), roster: true,
		source: record.ProgramSource(hello.GetName(), hello.GetRun()), prefix: hello.GetName() + "/", detached: hello.GetDetached(),
	}
	if a.functions, err = functionsOf(hello); err != nil {
		return err
	}
	if err := a.permit(ctx); err != nil {
		return convert.StoreError(err)
	}
	ttl, err := a.open(ctx, hello)
	if errors.Is(err, errStopped) { // it has its end here, and is not begun
		if err := a.forget(ctx); err != nil {
			return convert.StoreError(err)
		}
		return a.send(&rotav1.ToProgram{Body: &rotav1.ToProgram_Ended{Ended: &rotav1.ProgramEnded{}}})
	}
	if err != nil {
		return convert.StoreError(err)
	}
	auth.Audit(ctx, auth.Target(first), nil)
	s.record(ctx, events.ProgramStarted, events.Subject{Program: a.name}, fmt.Sprintf("process %d on %s", hello.GetPid(), hello.GetHost()))
	if err := a.send(&rotav1.ToProgram{Body: &rotav1.ToProgram_Welcome{Welcome: &rotav1.ProgramWelcome{
		TtlMs: ttl.Milliseconds(), Schedulers: s.schedulers(), History: eventsToAPI(a.history),
	}}}); err != nil {
		return err
	}
	sub := s.cfg.View.Subscribe(a.know, a.changed)
	defer sub.Close()
	var telling sync.WaitGroup
	telling.Go(func() {
		defer cancel()
		a.tell(ctx)
	})
	defer telling.Wait()
	defer cancel()
	return a.listen(ctx, ttl)
}

// schedulers are the gRPC addresses of all.
func (s *Service) schedulers() (out []string) {
	v := s.cfg.View
	v.Read(func() {
		for _, name := range slices.Sorted(maps.Keys(v.Schedulers)) {
			out = append(out, v.Schedulers[name].GetGrpc())
		}
	})
	return out
}

func (a *attachment) send(m *rotav1.ToProgram) error {
	a.sending.Lock()
	defer a.sending.Unlock()
	return a.stream.Send(m)
}

// open takes the program's name, or goes on with it.
func (a *attachment) open(ctx context.Context, hello *rotav1.ProgramHello) (time.Duration, error) {
	st, key := a.s.cfg.Store, store.ProgramKey(a.name)
	kv, ok, _, err := st.Get(ctx, key)
	if err != nil {
		return 0, convert.ReadError(err)
	}
	if ok {
		m := &storepb.Program{}
		if err := record.DecodeLeased(kv, m); err != nil {
			return 0, status.Errorf(codes.Unavailable, "program %q: %v; it will be repaired or removed", a.name, err)
		}
		if m.GetRun() != a.run || m.GetDetached() != a.detached {
			return 0, status.Errorf(codes.AlreadyExists, "program %q: runs already, on %s", a.name, m.GetHost())
		}
		a.lease = kv.Lease
		return st.KeepAlive(ctx, a.lease)
	}
	// A stop that is accepted from here on finds no program, and deletes the task.
	history, err := a.readHistory(ctx, hello.GetDetached())
	if err != nil {
		return 0, err
	}
	lease, ttl, err := st.Grant(ctx, a.s.cfg.Lease)
	if err != nil {
		return 0, err
	}
	a.lease = lease
	value, err := record.Encode(&storepb.Program{
		Version: record.Version, Name: a.name, Run: a.run, Policy: text.Clip(hello.GetPolicy(), rota.MaxIDLen),
		Host: text.Clip(hello.GetHost(), rota.MaxIDLen), Pid: hello.GetPid(), SinceUnixMs: time.Now().UnixMilli(),
		Lease: int64(lease), Phase: "waiting", Detached: hello.GetDetached(), Events: history,
	})
	if err != nil {
		return 0, err
	}
	ok, rev, err := st.Txn(ctx, []store.Cond{{Key: key, By: store.ByCreate}}, []store.Op{{Key: key, Value: value, Lease: lease}})
	if err == nil && !ok {
		_ = st.Revoke(ctx, lease) // it ends by itself too
		err = status.Errorf(codes.AlreadyExists, "program %q: runs already", a.name)
	}
	if err != nil {
		return 0, err
	}
	// Nobody may see its tasks before it: they would be taken for orphans.
	return ttl, convert.UnseenError(a.s.seen(ctx, rev))
}

// readHistory is what happened to a detached program before.
func (a *attachment) readHistory(ctx context.Context, detached bool) ([]*storepb.ProgramEvent, error) {
	if !detached {
		return nil, nil
	}
	kv, ok, _, err := a.s.cfg.Store.Get(ctx, store.HistoryKey(a.name))
	if err != nil {
		return nil, convert.ReadError(err)
	}
	if !ok {
		return nil, nil
	}
	m := &storepb.ProgramHistory{}
	if err := record.Decode(kv.Value, m); err != nil {
		return nil, convert.Error(err)
	}
	if m.GetStop() != "" {
		return nil, errStopped
	}
	a.history = m.GetEvents()
	return a.history, nil
}

// errStopped says that a detached program was stopped before the process that ran its
// scheduler function was lost.
var errStopped = errors.New("the program was stopped")

// listen takes what the program says, to its end or the stream's.
func (a *attachment) listen(ctx context.Context, ttl time.Duration) error {
	var renewed time.Time
	for {
		m, err := a.stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil // it may come back
			}
			return err
		}
		if now := time.Now(); now.Sub(renewed) > ttl/6 {
			if _, err := a.s.cfg.Store.KeepAlive(ctx, a.lease); err != nil {
				return convert.StoreError(err)
			}
			renewed = now
		}
		held := a.held(ctx)
		if held != nil && m.GetEnd() == nil {
			return convert.StoreError(held)
		}
		switch body := m.GetBody().(type) {
		case *rotav1.FromProgram_Change:
			err := a.change(ctx, body.Change)
			auth.Audit(ctx, "program="+a.name+" "+auth.Target(m), err)
			if err != nil {
				if code := status.Code(err); code != codes.InvalidArgument && code != codes.PermissionDenied {
					return convert.StoreError(err)
				}
				text := status.Convert(err).Message()
				if err := a.send(&rotav1.ToProgram{Body: &rotav1.ToProgram_Rejected{Rejected: &rotav1.ProgramRejected{Text: text}}}); err != nil {
					return err
				}
			}
		case *rotav1.FromProgram_Report:
			was, heard := "", time.Now()
			if err := a.s.updateProgram(ctx, a.name, a.run, func(p *storepb.Program) {
				was = p.GetPhase()
				reported(p, body.Report, heard)
			}); err != nil {
				return err
			}
			a.s.tellProgram(a.name, was, body.Report)
		case *rotav1.FromProgram_End:
			// Who does not hold the task of the scheduler function any more may only
			// clear up after itself.
			if err := a.end(ctx, body.End.GetMoves() || held != nil); err != nil {
				return convert.StoreError(err)
			}
			return a.send(&rotav1.ToProgram{Body: &rotav1.ToProgram_Ended{Ended: &rotav1.ProgramEnded{}}})
		}
	}
}

// change declares and removes tasks of the program.
func (a *attachment) change(ctx context.Context, c *rotav1.ProgramChange) error {
	tasks, err := convert.TasksFromProto(c.GetSet())
	if err != nil {
		return convert.Error(err)
	}
	set := make([]record.Task, len(tasks))
	for n, t := range tasks {
		if !strings.HasPrefix(t.ID, a.prefix) {
			return convert.FieldStatus("set.id", fmt.Sprintf("set.id: %q: want it to begin with %q", t.ID, a.prefix))
		}
		if err := placement.CheckTask(t); err != nil {
			return convert.FieldStatus("set", fmt.Sprintf("set: task %q: %v", t.ID, err))
		}
		if err := a.within(t); err != nil {
			return err
		}
		if err := auth.MayDeclare(ctx, t.Kind); err != nil {
			return err
		}
		set[n] = record.NewTask(t, a.source)
	}
	return a.write(ctx, set, c.GetDelete())
}

func (a *attachment) write(ctx context.Context, set []record.Task, del []string) error {
	v := a.s.cfg.View
	return a.s.again(ctx, func() (bool, error) {
		var units []table.Unit
		var err error
		v.Read(func() {
			for n := range set {
				if t, ok := v.Tasks.Get(set[n].ID); ok {
					if name, _, program := record.ProgramOf(t.Source); !program || name != a.name {
						err = convert.FieldStatus("set.id", fmt.Sprintf("set.id: task %q: somebody else has declared it", t.ID))
					} else {
						err = auth.MayDeclare(ctx, t.Kind)
					}
					if err != nil {
						return
					}
				}
			}
			var here []string
			for _, id := range del {
				if t, ok := v.Tasks.Get(id); ok && t.Source == a.source {
					if err = auth.MayDeclare(ctx, t.Kind); err != nil {
						return
					}
					here = append(here, id)
				}
			}
			units, err = v.Tasks.Stage(set, here)
		})
		if err != nil || len(units) == 0 {
			return true, err
		}
		return a.s.write(ctx, units)
	})
}

// tasks are those of this run of the program; the view stands still.
func (a *attachment) tasks() iter.Seq[*record.Task] {
	return func(yield func(*record.Task) bool) {
		for t := range a.s.cfg.View.Tasks.From(a.prefix) {
			if !strings.HasPrefix(t.ID, a.prefix) || t.Source == a.source && !yield(t) {
				return
			}
		}
	}
}

// know notes who has tasks of a program that comes back: it is to hear of their
// loss as of any other's. The view stands still.
func (a *attachment) know() {
	for t := range a.tasks() {
		for _, worker := range a.s.cfg.View.Holders(rota.Instance{Task: t.ID}) {
			a.near[worker] = true
		}
	}
}

// changed notes what the program should hear of. The view stands still.
func (a *attachment) changed(d *view.Delta) {
	news := slices.Contains(d.Programs, a.name)
	for worker, changes := range d.Grants {
		for _, c := range changes {
			if strings.HasPrefix(c.Last().Instance.Task, a.prefix) {
				news = true
				a.mu.Lock()
				a.near[worker] = true
				a.mu.Unlock()
			}
		}
	}
	for _, changes := range d.Acks {
		for _, c := range changes {
			news = news || c.New != nil && c.New.Error != "" && strings.HasPrefix(c.New.Instance.Task, a.prefix)
		}
	}
	for _, c := range d.Tasks {
		news = news || strings.HasPrefix(c.Key, a.prefix)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range d.Sessions {
		if c.New == nil && a.near[c.Name] {
			a.lost = append(a.lost, c.Name)
			news = true
		}
	}
	if len(d.Sessions)+len(d.Nodes) > 0 {
		a.roster = true
	}
	if news || len(d.Sessions)+len(d.Nodes) > 0 {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// gather is how long news gathers before it is told, and explainAfter how long
// tasks wait before it is said why.
const (
	gather       = 3 * time.Millisecond
	explainAfter = 200 * time.Millisecond
)

// tell keeps the program told where its tasks are, and of being asked to stop.
func (a *attachment) tell(ctx context.Context) {
	var last *rotav1.ProgramPlaces
	missing, stopped := "", false
	var offers []*rotav1.ProgramOffer
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		places, waiting, stop := a.places()
		if a.moved() {
			offers = a.offers()
		}
		places.Missing, places.Offers = missing, offers
		if waiting == "" {
			missing, places.Missing = "", ""
		}
		if len(places.GetLostWorkers()) > 0 || last == nil || !proto.Equal(places, last) {
			if a.send(&rotav1.ToProgram{Body: &rotav1.ToProgram_Places{Places: places}}) != nil {
				return
			}
			places.LostWorkers = nil
			last = places
		}
		if stop != "" && !stopped {
			stopped = true
			if a.send(&rotav1.ToProgram{Body: &rotav1.ToProgram_Stop{Stop: &rotav1.ProgramStop{Reason: stop}}}) != nil {
				return
			}
		}
		if waiting != "" {
			timer.Reset(explainAfter)
		} else {
			timer.Stop()
		}
		select {
		case <-a.wake:
			pause := time.NewTimer(gather)
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
			pause.Stop()
		case <-timer.C:
			missing = a.s.reasons(ctx, waiting)
		case <-ctx.Done():
			return
		}
	}
}

// places says where all tasks of the program are, names one that waits, and
// gives the reason if the program shall stop.
func (a *attachment) places() (out *rotav1.ProgramPlaces, waiting, stop string) {
	a.mu.Lock()
	out = &rotav1.ProgramPlaces{LostWorkers: a.lost}
	a.lost = nil
	a.mu.Unlock()
	v := a.s.cfg.View
	v.Read(func() {
		stop = v.Programs[a.name].GetStop()
		for t := range a.tasks() {
			p := &rotav1.ProgramPlace{Id: t.ID, Payload: digest(t.Payload), Pinned: t.Task().Rules.Pinned}
			i := rota.Instance{Task: t.ID}
			if worker, g := v.Owner(i); g != nil {
				p.Worker, p.Generation = worker, uint64(g.Generation)
				p.Current = !g.Revoked && g.Spec == record.Spec(t) && a.s.lives(worker, g)
				if ack, ok := v.Ack(worker, i); ok && ack.Generation == g.Generation {
					p.Error = ack.Error
				}
			}
			if !p.GetCurrent() && waiting == "" {
				waiting = t.ID
			}
			out.Places = append(out.Places, p)
		}
	})
	return out, waiting, stop
}

// digest tells payloads apart.
func digest(payload []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(payload) // never fails
	return h.Sum64()
}
