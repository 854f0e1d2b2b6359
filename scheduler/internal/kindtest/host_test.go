package kindtest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/worker/line"
	"github.com/rota-project/rota/worker"
)

// witness sees what runs where.
type witness struct {
	t  *testing.T
	mu sync.Mutex
	on map[string]map[string]bool // workers, by the probe that they run
	n  map[string]int             // how often each probe was started
}

func newWitness(t *testing.T) *witness {
	return &witness{t: t, on: map[string]map[string]bool{}, n: map[string]int{}}
}

// run is the function of all probes: it runs until it is to stop.
func (w *witness) run(ctx context.Context, p probe, found func(string)) {
	w.mu.Lock()
	if w.on[p.Name] == nil {
		w.on[p.Name] = map[string]bool{}
	}
	w.on[p.Name][p.Worker] = true
	w.n[p.Name]++
	w.mu.Unlock()
	found("seen from " + p.Worker)
	<-ctx.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.on[p.Name], p.Worker)
}

// of is where a probe runs, in order.
func (w *witness) of(name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.on[name]))
}

func (w *witness) starts(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n[name]
}

// worked is a worker that takes probes: the worker's side of the kind.
type worked struct {
	name    string
	witness *witness
	worker  *worker.Worker
	kill    func() // cuts all connections, until it leaves
	stop    func() // leaves in order

	mu      sync.Mutex
	running map[string]*run
	link    *line.Link[message]
}

type run struct {
	probe
	end context.CancelFunc
}

// newHost starts a worker; its schedulers are tried in turn.
func newHost(t *testing.T, name string, w *witness, capacity map[string]float64, addresses ...string) *worked {
	t.Helper()
	alive, cut := context.WithCancel(context.Background())
	h := &worked{name: name, witness: w, running: map[string]*run{}}
	var (
		next atomic.Uint64
		away atomic.Bool
	)
	dial := func(ctx context.Context) (*grpc.ClientConn, error) {
		if away.Load() {
			return nil, io.EOF
		}
		conn, err := grpc.NewClient(addresses[int(next.Add(1))%len(addresses)], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.Close() })
			if alive.Err() == nil {
				context.AfterFunc(alive, func() { _ = conn.Close() })
			}
		}
		return conn, err
	}
	h.kill = func() { away.Store(true); cut() }
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	h.worker, err = worker.New(worker.Config{
		Name: name, Capacity: capacity, Logger: log, LeaseEnded: h.fence,
		Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
			conn, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return rotav1.NewSessionsClient(conn).Connect(ctx)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.worker.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
		t.Fatal(err)
	}
	l := &line.Line[message, message]{
		Connect: dial, Hello: h.hello, Take: h.take, Logger: log,
		Open: func(ctx context.Context, conn *grpc.ClientConn) (grpc.BidiStreamingClient[message, message], error) {
			s, err := conn.NewStream(ctx, &connectDesc, "/"+workService+"/Connect")
			return &grpc.GenericClientStream[message, message]{ClientStream: s}, err
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	h.worker.Start()
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	h.stop = sync.OnceFunc(func() {
		leave, forget := context.WithTimeout(context.Background(), 10*time.Second)
		defer forget()
		away.Store(false) // else it could tell nobody that it leaves
		if err := h.worker.Stop(leave); err != nil {
			t.Errorf("%s does not leave: %v", name, err)
		}
		cancel()
		cut()
		<-ended
		h.fence()
	})
	t.Cleanup(h.stop)
	return h
}

// hello says who the worker is, and what it runs.
func (h *worked) hello(k *line.Link[message]) *message {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.link = k
	r := report{Name: h.name, Incarnation: h.worker.Incarnation(), Session: h.worker.Session()}
	for _, one := range h.running {
		r.Held = append(r.Held, one.probe)
	}
	return packed(r)
}

var errLease = errors.New("the worker cannot trust its lease")

func (h *worked) take(_ context.Context, _ *grpc.ClientConn, m *message) error {
	var o order
	if err := unpacked(m, &o); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	have := h.running[o.Name]
	switch {
	case o.Do == stop && have != nil && have.Generation <= o.Generation:
		have.end()
		delete(h.running, o.Name)
	case o.Do == start && (have == nil || have.Generation < o.Generation):
		if !h.worker.LeasedFor(o.Session) {
			return errLease // it is asked again on the next connection, if it is still to run it
		}
		if have != nil {
			have.end()
		}
		ctx, cancel := context.WithCancel(context.Background())
		now := &run{o.probe, cancel}
		h.running[o.Name] = now
		go h.witness.run(ctx, o.probe, func(found string) { h.found(now, found) })
	}
	return nil
}

// found tells what a probe has found, now or with the next hello.
func (h *worked) found(of *run, found string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of.Found = found
	h.link.Out.Put(packed(report{Held: []probe{of.probe}}))
}

// fence stops everything: another worker may run it from now on.
func (h *worked) fence() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, r := range h.running {
		r.end()
		delete(h.running, name)
	}
	if h.link != nil {
		h.link.Cut()
	}
}
