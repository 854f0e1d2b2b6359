package worker_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/worker"
)

// ttl is the lease that the fake scheduler gives.
const ttl = 5 * time.Second

// fake is a scheduler that a test plays: it answers hellos and renewals as it is
// told, and keeps what the worker says.
type fake struct {
	t *testing.T

	mu       sync.Mutex
	session  int64
	refusal  *rotav1.Refused // instead of a welcome
	down     bool            // nobody answers the door
	mute     bool            // nobody answers anything
	full     []*rotav1.GrantItem
	barrier  bool
	stream   *stream
	hellos   []*rotav1.Hello
	acks     map[rota.Instance]*rotav1.Ack
	said     []string // states of acks of any instance, in order
	loads    map[string]float64
	renewals int
	machine  *rotav1.Machine // of the last renewal
	leaves   int
	farewell int
}

func newFake(t *testing.T) *fake {
	return &fake{t: t, session: 100, acks: map[rota.Instance]*rotav1.Ack{}, loads: map[string]float64{}}
}

// stream is the worker's end of a connection, and the channels to the other.
type stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	up     chan *rotav1.FromWorker
	down   chan *rotav1.ToWorker
}

func (s *stream) Send(m *rotav1.FromWorker) error {
	select {
	case s.up <- m:
		return nil
	case <-s.ctx.Done():
		return io.EOF
	}
}

func (s *stream) Recv() (*rotav1.ToWorker, error) {
	select {
	case m := <-s.down:
		return m, nil
	case <-s.ctx.Done():
		return nil, io.EOF
	}
}

func (s *stream) say(m *rotav1.ToWorker) {
	select {
	case s.down <- m:
	case <-s.ctx.Done():
	}
}

// connect is the worker's Connector.
func (f *fake) connect(ctx context.Context, _ []string) (worker.Stream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errors.New("nobody there")
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{ctx, cancel, make(chan *rotav1.FromWorker), make(chan *rotav1.ToWorker)}
	f.stream = s
	go f.serve(s)
	return s, nil
}

func (f *fake) serve(s *stream) {
	for {
		select {
		case m := <-s.up:
			for _, a := range f.answer(m) {
				s.say(a)
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// answer notes what the worker says and answers it.
func (f *fake) answer(m *rotav1.FromWorker) (out []*rotav1.ToWorker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch b := m.GetBody().(type) {
	case *rotav1.FromWorker_Hello:
		f.hellos = append(f.hellos, b.Hello)
		f.take(b.Hello.GetHeld())
		if f.refusal != nil {
			out = append(out, &rotav1.ToWorker{Body: &rotav1.ToWorker_Refused{Refused: f.refusal}})
			break
		}
		out = append(out,
			&rotav1.ToWorker{Body: &rotav1.ToWorker_Welcome{Welcome: &rotav1.Welcome{
				Session: f.session, Lease: f.session + 1, TtlMs: ttl.Milliseconds(), Seq: b.Hello.GetSeq(), Schedulers: []string{"10.0.0.9:1"},
			}}},
			&rotav1.ToWorker{Body: &rotav1.ToWorker_Grants{Grants: &rotav1.Grants{Full: true, Grant: f.full}}},
			clusterState(f.barrier, false))
	case *rotav1.FromWorker_Renew:
		f.renewals++
		f.machine = b.Renew.GetMachine()
		out = append(out, &rotav1.ToWorker{Body: &rotav1.ToWorker_Renewed{Renewed: &rotav1.Renewed{
			Seq: b.Renew.GetSeq(), TtlMs: ttl.Milliseconds(),
		}}})
	case *rotav1.FromWorker_Acks:
		f.take(b.Acks.GetAcks())
	case *rotav1.FromWorker_Load:
		for _, l := range b.Load.GetItems() {
			f.loads[l.GetTask()] = l.GetLoad()
		}
	case *rotav1.FromWorker_Leave:
		if !b.Leave.GetDone() {
			f.leaves++
			break
		}
		f.farewell++
		out = append(out, &rotav1.ToWorker{Body: &rotav1.ToWorker_Goodbye{Goodbye: &rotav1.Goodbye{Left: true}}})
	}
	if f.mute {
		return nil
	}
	return out
}

func (f *fake) take(acks []*rotav1.Ack) {
	for _, a := range acks {
		f.acks[rota.Instance{Task: a.GetTask(), Index: int(a.GetIndex())}] = a
		f.said = append(f.said, a.GetTask()+" "+a.GetState())
	}
}

func clusterState(barrier, all bool) *rotav1.ToWorker {
	return &rotav1.ToWorker{Body: &rotav1.ToWorker_Cluster{Cluster: &rotav1.ClusterState{Barrier: barrier, AllRunning: all}}}
}

// grants says what changed.
func (f *fake) grants(g *rotav1.Grants) {
	f.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Grants{Grants: g}})
}

// say tells the worker something, and waits until everything it leads to is done.
func (f *fake) say(m *rotav1.ToWorker) {
	f.mu.Lock()
	s := f.stream
	f.mu.Unlock()
	s.say(m)
	synctest.Wait()
}

// set changes how the fake behaves.
func (f *fake) set(change func()) {
	f.mu.Lock()
	change()
	f.mu.Unlock()
}

// cut ends the connection.
func (f *fake) cut() {
	f.mu.Lock()
	f.stream.cancel()
	f.mu.Unlock()
	synctest.Wait()
}

// state is what the worker last said of a task.
func (f *fake) state(task string) *rotav1.Ack {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acks[rota.Instance{Task: task}]
}

// wants fails unless the worker last said state of task.
func (f *fake) wants(task, state string) {
	f.t.Helper()
	if a := f.state(task); a.GetState() != state {
		f.t.Fatalf("%s is %v, want %s", task, a, state)
	}
}

func grant(task string, gen uint64, mode rota.Mode, payload string) *rotav1.GrantItem {
	return &rotav1.GrantItem{
		Task: &rotav1.TaskSpec{Id: task, Kind: "k", Payload: []byte(payload), Mode: string(mode)}, Generation: gen,
	}
}

func give(items ...*rotav1.GrantItem) *rotav1.Grants { return &rotav1.Grants{Grant: items} }

func revoke(task string, gen uint64) *rotav1.Grants {
	return &rotav1.Grants{Revoke: []*rotav1.RevokeItem{{Task: task, Generation: gen}}}
}

// start runs a worker named w on the fake, in a bubble, and ends it with the test.
func start(t *testing.T, f *fake, c worker.Config, kinds map[string]worker.TaskFunc) *worker.Worker {
	t.Helper()
	c.Name, c.Connect = "w", f.connect
	w, err := worker.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for kind, fn := range kinds {
		if err := w.HandleTask(kind, fn); err != nil {
			t.Fatal(err)
		}
	}
	w.Start()
	synctest.Wait()
	t.Cleanup(func() { _ = w.Stop(context.Background()) })
	return w
}

// wait is a function that runs until its context ends.
func wait(ctx context.Context, _ worker.Assigned) error {
	<-ctx.Done()
	return nil
}

// pass lets time pass, and everything that it leads to be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
