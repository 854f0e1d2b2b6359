package service_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/service"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a service on a store, on a fake clock.
type bench struct {
	*testing.T
	st  *faulty.Store
	v   *view.View
	svc *service.Service
	age time.Duration // of the picture, the scheduler says

	mu     sync.Mutex
	next   faulty.Fault // of the next transaction
	behind bool         // the picture is a second behind
	taken  *capacity.Account
}

// Context is that of callers who may do everything.
func (b *bench) Context() context.Context { return auth.Inside(b.T.Context()) }

func bubble(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t}
		under := memory.New()
		b.st = faulty.New(under, func(c faulty.Call) (f faulty.Fault) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if c.Kind == faulty.Txn && !strings.HasPrefix(c.Key, store.APIFencesPrefix) {
				f, b.next = b.next, f
			}
			if c.Kind == faulty.Batch && b.behind {
				f.Delay = time.Second
			}
			return f
		})
		b.v = view.New(b.st, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(context.Background())
		go func() { _ = b.v.Run(ctx) }()
		synctest.Wait()
		b.taken = capacity.New(b.v)
		b.svc = service.New(service.Config{
			Store: b.st, View: b.v, Capacity: b.taken, Sources: []string{"list"}, Version: "v1", Lease: 10 * time.Second,
			Age: func() (time.Duration, bool) { return b.age, b.age > 10*time.Second },
		})
		defer func() {
			b.svc.Close()
			cancel()
			b.st.Close()
			under.Close()
		}()
		test(b)
	})
}

func (b *bench) put(ops ...store.Op) {
	b.Helper()
	if ok, _, err := b.st.Txn(context.Background(), nil, ops); err != nil || !ok {
		b.Fatal(ok, err)
	}
	synctest.Wait()
}

func (b *bench) lease() store.LeaseID {
	b.Helper()
	lease, _, err := b.st.Grant(b.Context(), time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	return lease
}

func (b *bench) value(m record.Versioned) []byte {
	out, err := record.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func (b *bench) worker(name string, leaving bool) {
	b.put(store.Op{Key: store.SessionKey(name), Value: b.value(&storepb.Session{Version: 1, Name: name, AnyKind: true, Leaving: leaving})})
}

// grant writes that a worker holds a task, and what it says of it.
func (b *bench) grant(worker, task string, gen int, revoked bool, state ownership.State) {
	b.Helper()
	b.moving(worker, task, "", gen, revoked, state)
}

// moving is grant for one that is to go to another worker.
func (b *bench) moving(worker, task, to string, gen int, revoked bool, state ownership.State) {
	b.Helper()
	i := rota.Instance{Task: task}
	b.v.Read(func() {
		g, a, session := b.v.Grants[worker], b.v.Acks[worker], int64(1)
		if s := b.v.Sessions[worker]; s != nil {
			session = s.ID
		}
		if g == nil {
			g = record.NewGrants(worker)
		}
		if a == nil {
			a = record.NewAcks(worker)
		}
		var spec uint64
		if t, ok := b.v.Tasks.Get(task); ok {
			spec = record.Spec(t)
		}
		units, err := g.Stage([]record.Grant{{Grant: ownership.Grant{
			Instance: i, Spec: spec, Generation: rota.Generation(gen), Session: session, Revoked: revoked, To: to, Reason: "it had to",
		}}}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if state != "" {
			u, err := a.Stage([]record.Ack{{Ack: ownership.Ack{Instance: i, Generation: rota.Generation(gen), State: state}, Since: 5, Load: -1}}, nil)
			if err != nil {
				b.Fatal(err)
			}
			units = append(units, u...)
		}
		for _, u := range units {
			if _, _, err := b.st.Txn(b.Context(), nil, u.Ops); err != nil {
				b.Fatal(err)
			}
		}
	})
	synctest.Wait()
}

// fromSource declares a task as a source does.
func (b *bench) fromSource(id, name string) {
	b.v.Read(func() {
		units, err := b.v.Tasks.Stage([]record.Task{record.NewTask(rota.Task{ID: id}, name)}, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, u := range units {
			if _, _, err := b.st.Txn(b.Context(), nil, u.Ops); err != nil {
				b.Fatal(err)
			}
		}
	})
	synctest.Wait()
}

func defs(ids ...string) (out []*rotav1.TaskDefinition) {
	for _, id := range ids {
		out = append(out, &rotav1.TaskDefinition{Id: id})
	}
	return out
}

func (b *bench) apply(ids ...string) *rotav1.ApplyTasksResponse {
	b.Helper()
	r, err := b.svc.ApplyTasks(b.Context(), &rotav1.ApplyTasksRequest{Tasks: defs(ids...)})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// wants fails unless err is of code, says text and names field.
func (b *bench) wants(err error, code codes.Code, text, field string) {
	b.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), text) || field != "" && convert.Field(err) != field {
		b.Errorf("error %v of field %q, want %s %q of field %q", err, convert.Field(err), code, text, field)
	}
}

// ungrant writes that a worker does not hold a task any more.
func (b *bench) ungrant(worker, task string) {
	b.Helper()
	var ops []store.Op
	b.v.Read(func() {
		units, err := b.v.Grants[worker].Stage(nil, []string{record.InstanceKey(rota.Instance{Task: task})})
		if err != nil {
			b.Fatal(err)
		}
		for _, u := range units {
			ops = append(ops, u.Ops...)
		}
	})
	b.put(ops...)
}
