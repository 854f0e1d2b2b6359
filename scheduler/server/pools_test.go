package server_test

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/door"
	"github.com/rota-project/rota/internal/wholefile"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// orders is an engine that takes orders and starts nothing: the test is the worker.
type orders struct {
	mu   sync.Mutex
	list []engine.Copy
	came chan engine.Order
}

func (o *orders) Start(_ context.Context, order engine.Order) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, engine.Copy{Cluster: order.Cluster, Pool: order.Pool, Worker: order.Worker, Handle: order.Worker, State: engine.Running, Began: time.Now()})
	o.came <- order
	return order.Worker, nil
}

func (o *orders) List(context.Context) ([]engine.Copy, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]engine.Copy(nil), o.list...), nil
}

func (*orders) Stop(context.Context, string) error { return nil }
func (*orders) Close(context.Context) error        { return nil }

// TestPoolWorkerIsWhoItsTokenSays: over TLS a worker of a pool has no credentials but
// its token, gets a certificate for it once, and is let in by that as what its template
// says, and as nothing else.
func TestPoolWorkerIsWhoItsTokenSays(t *testing.T) {
	t.Parallel()
	starts := &orders{came: make(chan engine.Order, 10)}
	var dir string
	c := newClosed(t, server.Config{Pools: server.Pools{
		Engines: map[string]engine.Engine{engine.Local: starts},
		CA:      func() ([]byte, error) { return wholefile.Read(filepath.Join(dir, pki.CAFile), wholefile.Most) },
		Sign: func(worker string, key []byte) ([]byte, error) {
			return pki.Sign(dir, pki.Request{Role: pki.Worker, Name: worker, Life: time.Hour}, key, time.Now())
		},
	}}, func(d string) { dir = d })
	bare := c.dial(t, c.source(t, pki.Request{}).Credentials(""))
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Admin].Reveal())
	if _, err := rotav1.NewPoolsClient(bare).ApplyPools(admin, &rotav1.ApplyPoolsRequest{Pools: []*rotav1.PoolDefinition{{
		Name: "web", Engine: engine.Local, Size: &rotav1.PoolSize{From: 1, To: 1},
		Template: &rotav1.PoolTemplate{Labels: map[string]string{"tier": "web"}, Kinds: []string{"web"}, Command: []string{"rota", "worker"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	order := <-starts.came
	token, err := auth.ParseJoinToken(auth.Secret(order.Token))
	if err != nil || token.Worker != order.Worker || !strings.Contains(token.CA, "BEGIN CERTIFICATE") {
		t.Fatalf("token for %s, error %v", token.Worker, err)
	}
	hello := func(src *pki.Source, info *rotav1.WorkerInfo) string {
		t.Helper()
		info.Name, info.Incarnation = order.Worker, "i"
		s, err := rotav1.NewSessionsClient(c.dial(t, src.Credentials(""))).Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{Info: info}}}); err != nil && err != io.EOF { //nolint:errorlint // as gRPC documents it
			t.Fatal(err)
		}
		m, err := s.Recv()
		switch {
		case err != nil:
			return err.Error()
		case m.GetRefused() != nil:
			return m.GetRefused().GetText()
		}
		return "welcome"
	}
	good := func() *rotav1.WorkerInfo {
		return &rotav1.WorkerInfo{Labels: map[string]string{"tier": "web", "pool": "web"}, Kinds: []string{"web"}}
	}
	// A certificate of its name, by whoever has the authority's key, is not enough.
	forged := c.source(t, pki.Request{Role: pki.Worker, Name: order.Worker})
	if got := hello(forged, good()); !strings.Contains(got, "belongs to no pool") {
		t.Errorf("before it has joined: %s", got)
	}
	join := func() (*pki.Source, error) {
		public, private, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rotav1.NewPoolJoinClient(bare).JoinWorker(t.Context(), &rotav1.JoinWorkerRequest{Token: order.Token, PublicKey: public})
		if err != nil {
			return nil, err
		}
		own := t.TempDir()
		f := pki.Files{CA: filepath.Join(dir, pki.CAFile), Cert: filepath.Join(own, "crt"), Key: filepath.Join(own, "key")}
		if err := pki.Replace(f.Cert, f.Key, resp.GetCertificate(), private); err != nil {
			t.Fatal(err)
		}
		return pki.Load(f)
	}
	src, err := join()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := join(); err == nil || !strings.Contains(err.Error(), "this second copy of the worker") {
		t.Errorf("a second copy: %v", err)
	}
	for want, change := range map[string]func(i *rotav1.WorkerInfo){
		"labels.pool":       func(i *rotav1.WorkerInfo) { delete(i.GetLabels(), "pool") },
		"labels.tier":       func(i *rotav1.WorkerInfo) { i.Labels["tier"] = "db" },
		`labels: "gpu"`:     func(i *rotav1.WorkerInfo) { i.Labels["gpu"] = "yes" },
		`kinds: "pay"`:      func(i *rotav1.WorkerInfo) { i.Kinds = append(i.Kinds, "pay") },
		`zone: "elsewhere"`: func(i *rotav1.WorkerInfo) { i.Zone = "elsewhere" },
	} {
		info := good()
		change(info)
		if got := hello(src, info); !strings.Contains(got, want) {
			t.Errorf("%s, want an error of %s", got, want)
		}
	}
	if got := hello(src, good()); got != "welcome" {
		t.Errorf("it is answered %s", got)
	}
	public, _, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := rotav1.NewPoolJoinClient(c.dial(t, src.Credentials(""))).RenewWorker(t.Context(), &rotav1.RenewWorkerRequest{Worker: order.Worker, PublicKey: public})
	if err != nil || len(again.GetCertificate()) == 0 {
		t.Errorf("renewed: %v", err)
	}
	other := c.source(t, pki.Request{Role: pki.Worker, Name: "w"})
	if _, err := rotav1.NewPoolJoinClient(c.dial(t, other.Credentials(""))).RenewWorker(t.Context(), &rotav1.RenewWorkerRequest{Worker: "w", PublicKey: public}); err == nil {
		t.Error("a worker of no pool has its certificate renewed")
	}
}

// gated is a store that holds back writes of the records of pools' workers.
type gated struct {
	store.Store
	reached chan struct{} // has one for each
	pass    chan struct{} // closed lets them through
}

func (g gated) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	for _, op := range ops {
		if w := new(storepb.PoolWorker); strings.HasPrefix(op.Key, store.PoolWorkersPrefix) && record.Decode(op.Value, w) == nil && w.GetJoinedUnixMs() != 0 {
			g.reached <- struct{}{}
			<-g.pass
		}
	}
	return g.Store.Txn(context.WithoutCancel(ctx), conds, ops) // however long it took
}

// TestJoinsBesideFloods: a worker joins at once with a good token, whatever others ask
// without credentials from the same address: wrong tokens have used up every rate, and
// calls that do not end come while the store is slow to write that it has joined.
func TestJoinsBesideFloods(t *testing.T) {
	t.Parallel()
	st := memory.New()
	defer st.Close()
	slow := gated{st, make(chan struct{}, 10), make(chan struct{})}
	starts := &orders{came: make(chan engine.Order, 10)}
	var dir string
	c := newClosed(t, server.Config{
		Scheduler: scheduler.Config{Store: slow}, Limits: auth.Limits{Rate: 1e-9, Burst: 100},
		Pools: server.Pools{
			Engines: map[string]engine.Engine{engine.Local: starts},
			CA:      func() ([]byte, error) { return wholefile.Read(filepath.Join(dir, pki.CAFile), wholefile.Most) },
			Sign: func(worker string, key []byte) ([]byte, error) {
				return pki.Sign(dir, pki.Request{Role: pki.Worker, Name: worker, Life: time.Hour}, key, time.Now())
			},
		},
	}, func(d string) { dir = d })
	creds := c.source(t, pki.Request{}).Credentials("")
	honest := c.dial(t, creds)
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Admin].Reveal())
	if _, err := rotav1.NewPoolsClient(honest).ApplyPools(admin, &rotav1.ApplyPoolsRequest{Pools: []*rotav1.PoolDefinition{{
		Name: "web", Engine: engine.Local, Size: &rotav1.PoolSize{From: 1, To: 1},
		Template: &rotav1.PoolTemplate{Kinds: []string{"web"}, Command: []string{"rota", "worker"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	order := <-starts.came
	wrong := auth.NewJoinToken(order.Worker, "").Text().Reveal()
	flood := c.dial(t, creds)
	for range 200 {
		if _, err := rotav1.NewPoolJoinClient(flood).JoinWorker(t.Context(), &rotav1.JoinWorkerRequest{Token: wrong, PublicKey: []byte("key")}, grpc.WaitForReady(true)); err == nil {
			t.Fatal("a guess is let in")
		}
	}
	public, _, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	honest = c.dial(t, creds) // as a worker comes, with nothing but its token
	joined := make(chan error, 1)
	go func() {
		_, err := rotav1.NewPoolJoinClient(honest).JoinWorker(t.Context(), &rotav1.JoinWorkerRequest{Token: order.Token, PublicKey: public})
		joined <- err
	}()
	select {
	case err := <-joined:
		t.Fatalf("it joins without a word to the store, or not: %v", err)
	case <-slow.reached:
	}
	for range 2 * door.DefaultCalls { // each is let in for the one whose turn it is to go
		conn := c.dial(t, creds)
		if _, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, rotav1.PoolJoin_JoinWorker_FullMethodName); err != nil {
			t.Fatal(err)
		}
		if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
			t.Fatal(err) // when it is answered the call before has come
		}
	}
	close(slow.pass)
	if err := <-joined; err != nil {
		t.Errorf("beside them: %v", err)
	}
}
