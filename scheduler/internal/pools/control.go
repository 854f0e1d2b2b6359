package pools

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
)

// Config of a Control. Store, View, Scheduler and Drain must be set.
type Config struct {
	Store store.Store
	View  *view.View
	// Scheduler is the name of the scheduler that this is part of.
	Scheduler string
	// Engines are those that this scheduler may use, by name. Close closes them.
	Engines map[string]engine.Engine
	// Drain has a worker give up what it holds.
	Drain func(ctx context.Context, worker string) error
	// Work is how much of other work than tasks a worker has. Nil is none.
	Work func(worker string) int
	// Queued visits jobs that wait for a worker now, so many at most, of those that are
	// placed alike the oldest first; Active those that a worker has. Nil: there are none.
	Queued func(most int, visit func(id string, s job.Spec))
	Active func(worker string, visit func(id string, s job.Spec))
	// Commands says which commands a worker runs as jobs, or whether it runs whatever it is
	// given, and how many at once: 0 for one that takes no jobs. Nil: none does.
	Commands func(worker string) (commands []string, whatever bool, slots int)
	// Environ are variables that workers of an engine get beside what their template says,
	// none of them a secret. Nil: there are none.
	Environ func(engine string) map[string]string
	// Sign makes the certificate of a worker for its public key (PKIX, DER), in PEM.
	// Nil: this scheduler has no authority.
	Sign func(worker string, publicKey []byte) ([]byte, error)
	// CA is the bundle that signs the schedulers' certificates (PEM). Nil: there is no
	// TLS, and no certificate is needed.
	CA func() ([]byte, error)
	// Known is told of a call whose join token is good, before it waits for anything. Nil:
	// nobody wants to know.
	Known func(ctx context.Context)
	// Events takes what happens to pools. Nil: nobody wants to know.
	Events *events.Recorder
	Logger *slog.Logger
}

const (
	// lookEvery is how often an engine that has workers is looked at.
	lookEvery = time.Second
	// engineTimeout bounds one call of an engine.
	engineTimeout = 30 * time.Second
	// storeTimeout bounds one call of the store.
	storeTimeout = 5 * time.Second
	// lookupsEvery and lookupsBurst are how often the store is asked about join tokens that
	// the picture of the cluster does not have: it may be behind by moments.
	lookupsEvery, lookupsBurst = 100 * time.Millisecond, 30
)

// Control is the pools of one scheduler.
type Control struct {
	rotav1.UnimplementedPoolsServer
	rotav1.UnimplementedPoolJoinServer
	cfg     Config
	fence   *commit.Fence
	sub     *view.Subscription
	loops   []*loop
	lookups *rate.Limiter // of tokens that are not in the picture

	mu     sync.Mutex
	left   map[string]bool // workers that have left in order, as far as this scheduler has seen them go
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// New returns a running Control. Close it.
func New(c Config) *Control {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Known == nil {
		c.Known = func(context.Context) {}
	}
	k := &Control{cfg: c, fence: &commit.Fence{Store: c.Store, Key: store.FenceKey(store.PoolFencesPrefix, c.Scheduler)}, lookups: rate.NewLimiter(rate.Every(lookupsEvery), lookupsBurst), left: map[string]bool{}}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	for _, name := range slices.Sorted(maps.Keys(c.Engines)) {
		k.loops = append(k.loops, &loop{k: k, name: name, engine: c.Engines[name], signal: make(chan struct{}, 1)})
	}
	k.loops = append(k.loops, &loop{k: k, signal: make(chan struct{}, 1)}) // for pools of engines that are not here
	k.sub = c.View.Subscribe(nil, func(d *view.Delta) {
		k.note(d.Sessions)
		if d.Pools || d.Leader || len(d.Sessions) > 0 {
			for _, l := range k.loops {
				l.wake()
			}
		}
	})
	for _, l := range k.loops {
		k.done.Go(l.run)
	}
	return k
}

// note notes which workers of pools leave in order.
func (k *Control) note(changes []view.SessionChange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range changes {
		switch {
		case c.New != nil:
			delete(k.left, c.Name)
		case c.Old.GetLeaving() && strings.HasPrefix(c.Name, engine.NamePrefix):
			k.left[c.Name] = true
		}
	}
}

// tellLeft marks the workers that have left in order. Those that the pools have forgotten
// are forgotten here.
func (k *Control) tellLeft(workers map[string]*worker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.left {
		if w := workers[name]; w != nil {
			w.left = true
		} else {
			delete(k.left, name)
		}
	}
}

// Register adds the services that users call; RegisterJoin the one that workers do.
func (k *Control) Register(r grpc.ServiceRegistrar) { rotav1.RegisterPoolsServer(r, k) }

// RegisterJoin adds the service by which workers join.
func (k *Control) RegisterJoin(r grpc.ServiceRegistrar) { rotav1.RegisterPoolJoinServer(r, k) }

// Close stops deciding, and ends the workers that live no longer than this process:
// they hand over meanwhile, within the time of ctx.
func (k *Control) Close(ctx context.Context) {
	k.sub.Close()
	k.cancel()
	k.done.Wait()
	var all sync.WaitGroup
	for name, e := range k.cfg.Engines {
		all.Go(func() {
			if err := e.Close(ctx); err != nil {
				k.cfg.Logger.Warn("engine not closed", "engine", name, "error", err)
			}
		})
	}
	all.Wait()
}

// txn writes within the time that the store may take, and returns when the picture has
// it. ok with an error is done, and not in the picture yet.
func (k *Control) txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, error) {
	one, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	ok, rev, err := k.fence.Txn(one, conds, ops)
	if err != nil {
		return false, convert.StoreError(err)
	}
	// The picture then has what was written, or what came before it.
	seen, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.cfg.View.Wait(seen, rev); err != nil && !ok {
		return false, convert.ReadError(err)
	} else if err != nil {
		return true, convert.UnseenError(err)
	}
	return ok, nil
}
