package program

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/program/flow"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/program/internal/lifecycle"
)

// MaxLocal is the maximum number of worker processes of Local.
const MaxLocal = 1024

// Local runs programs on this machine with n worker processes: copies of this executable,
// started with the same arguments, which end when this process ends, however it ends. A
// copy becomes a worker when it calls ServeIfWorker, or Run with Local; it must have
// registered its task functions by then. Each copy executes what main does before that.
func Local(n int, opts ...PlaceOption) Place { return &local{n: n, cfg: options(opts)} }

// workerEnv makes a copy a worker: file descriptor, secret, name.
const workerEnv = "ROTA_PROGRAM_WORKER"

// IsWorker reports whether Local started this process as a worker.
func IsWorker() bool { return os.Getenv(workerEnv) != "" }

// ServeIfWorker makes this process a worker and does not return, if Local started the
// process; otherwise it does nothing. Call it first in main, after registering the task
// functions.
func ServeIfWorker(opts ...PlaceOption) {
	if IsWorker() {
		serveLocal(options(opts).functions)
	}
}

// serveLocal is the whole life of a worker process.
func serveLocal(fs *Functions) {
	err := serveParent(fs, os.Getenv(workerEnv))
	if err != nil {
		fmt.Fprintln(os.Stderr, "program: worker process:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveParent(fs *Functions, env string) error {
	signal.Ignore(os.Interrupt) // the parent stops us in order
	if err := os.Unsetenv(workerEnv); err != nil {
		return fmt.Errorf("keeping children from being workers: %w", err)
	}
	name, hexKey, ok := strings.Cut(env, " ")
	raw, err := hex.DecodeString(hexKey)
	if !ok || err != nil || len(raw) != len(secret{}) {
		return errors.New(workerEnv + " is not as Local sets it")
	}
	key := secret(raw)
	c, err := inheritedConn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	node := link.NewNode(link.NodeConfig{})
	orders := link.NewInbox()
	node.Bind(key.addr(name, 0), orders, nil).Open(key.addr(controlEnd, 0), nil, 0)
	go func() {
		batch := make([]link.Record, 64)
		for {
			n, err := orders.Read(ctx, batch)
			if err != nil {
				return
			}
			for _, r := range batch[:n] {
				var o order
				if err := json.Unmarshal(r.Data, &o); err != nil {
					fmt.Fprintln(os.Stderr, "program: worker process: an order that cannot be read:", err)
					continue
				}
				go func() { _ = serveOrder(ctx, node, fs, o) }() // it fails only when this process ends
			}
		}
	}()
	// The connection is to our parent and cannot be mended: its end is ours.
	_ = node.Serve(ctx, c)
	return nil
}

type local struct {
	n   int
	cfg placeConfig
}

func (l *local) open(_ context.Context, r *run) (host, error) {
	if IsWorker() {
		serveLocal(l.cfg.functions)
	}
	if l.n < 1 || l.n > MaxLocal {
		return nil, &rota.FieldError{Field: "processes", Value: l.n, Want: fmt.Sprintf("1 to %d", MaxLocal)}
	}
	release, err := takeName(r.p.name)
	if err != nil {
		return nil, err
	}
	h := &localHost{cfg: l.cfg, run: r, release: release}
	_, _ = rand.Read(h.key[:]) // never fails
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if err := h.begin(l.n); err != nil {
		h.close(nil)
		return nil, err
	}
	return h, nil
}

// localHost is this process and its worker processes while they run a program.
type localHost struct {
	cfg     placeConfig
	run     *run
	key     secret
	room    *room
	release func()
	relay   link.Relay
	node    *link.Node
	end     *link.End
	control *link.End
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	workers []*process
}

// process is one worker process; a new one takes the place of one that died.
type process struct {
	name   string
	cmd    *exec.Cmd
	orders *link.Lane
}

func (h *localHost) begin(n int) error {
	h.node = link.NewNode(link.NodeConfig{})
	h.end = h.node.Bind(h.key.addr(schedEnd, 0), h.run.sched.inbox, h.run.sched.reply)
	h.control = h.node.Bind(h.key.addr(controlEnd, 0), link.NewInbox(), nil)
	near, far, err := connPair()
	if err != nil {
		return err
	}
	h.wg.Go(func() { _ = h.relay.Serve(h.ctx, near) }) // ends with the program
	h.wg.Go(func() { _ = h.node.Serve(h.ctx, far) })
	var names []string
	h.workers = make([]*process, n)
	for i := range n {
		names = append(names, fmt.Sprintf("local-%d", i))
		if err := h.spawn(i, 0); err != nil {
			return err
		}
	}
	h.room = newRoom(h.cfg.capacity, names...)
	return nil
}

// spawn starts the worker process of place i.
func (h *localHost) spawn(i, incarnation int) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this executable: %w", err)
	}
	near, far, err := connFile()
	if err != nil {
		return err
	}
	defer func() { _ = far.Close() }()
	w := &process{name: fmt.Sprintf("local-%d", i)}
	end := fmt.Sprintf("%s/%d", w.name, incarnation)
	w.cmd = exec.Command(exe, os.Args[1:]...) //nolint:gosec // ourselves
	w.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %x", workerEnv, end, h.key[:]))
	w.cmd.Stdout, w.cmd.Stderr = os.Stdout, os.Stderr
	w.cmd.ExtraFiles = []*os.File{far}
	if err := w.cmd.Start(); err != nil {
		_ = near.Close()
		return fmt.Errorf("starting worker process %s: %w", w.name, err)
	}
	w.orders = h.control.Open(h.key.addr(end, 0), i, flow.MaxWindow)
	h.mu.Lock()
	h.workers[i] = w
	h.mu.Unlock()
	h.wg.Go(func() { _ = h.relay.Serve(h.ctx, near) }) // ends with the process
	h.wg.Go(func() {
		err := w.cmd.Wait()
		w.orders.Close()
		h.died(i, incarnation, w, err)
	})
	return nil
}

// died starts a new worker process, then says that the old one is gone.
func (h *localHost) died(i, incarnation int, w *process, err error) {
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return
	}
	text := "its process ended"
	if err != nil {
		text = "its process ended: " + err.Error()
	}
	if serr := h.spawn(i, incarnation+1); serr != nil {
		h.run.do(func(m *lifecycle.Machine) { m.Stop(serr.Error(), serr) })
	}
	h.run.do(func(m *lifecycle.Machine) { m.WorkerLost(w.name, text) })
}

func (h *localHost) wire(p *peer) (link.Outlet, error) {
	return h.end.Open(h.key.addr(p.name, p.generation), p, h.run.window), nil
}

func (h *localHost) place(ctx context.Context, peers []*peer, missing func(string)) ([]string, error) {
	return h.room.take(ctx, h.cfg.functions, peers, missing)
}

func (h *localHost) start(p *peer) error {
	data, err := json.Marshal(p.order(h.key, h.run)) //nolint:gosec // the order is for the worker, and needs the secret
	if err != nil {
		return fmt.Errorf("writing the order: %w", err)
	}
	h.mu.Lock()
	w := h.workers[h.room.of(p)]
	h.mu.Unlock()
	if err := w.orders.Send(h.ctx, 0, data); !errors.Is(err, link.ErrClosed) {
		return err
	}
	return nil // its process has just ended, and that is about to be told
}

func (h *localHost) ended(p *peer) { h.room.give(p) }

func (h *localHost) event(Event) {}

// close ends the worker processes: their connection goes, and with it they.
func (h *localHost) close(error) {
	h.mu.Lock()
	h.closed = true
	workers := h.workers
	h.mu.Unlock()
	h.cancel()
	h.relay.Close()
	t := time.AfterFunc(lastWords, func() {
		for _, w := range workers {
			if w != nil {
				_ = w.cmd.Process.Kill() // it may have ended just now
			}
		}
	})
	h.wg.Wait()
	t.Stop()
	h.release()
}
