package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// cluster is a scheduler on loopback, with sessions for workers.
type cluster struct {
	store  *memory.Store
	server *server.Server
	http   *meter
	all    []atomic.Pointer[session] // nil: it has not joined
}

// meter counts what goes out on the connections that it accepts.
type meter struct {
	net.Listener
	sent, answers atomic.Int64 // bytes; writes
}

func (m *meter) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &metered{c, m}, nil
}

type metered struct {
	net.Conn
	m *meter
}

func (c *metered) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.m.sent.Add(int64(n))
	c.m.answers.Add(1)
	return n, err
}

// session is the worker's end of a stream that acknowledges at once.
type session struct {
	conn interface {
		Send(*rotav1.FromWorker) error
		Recv() (*rotav1.ToWorker, error)
	}
	lease atomic.Int64 // zero: it is not welcome yet
	seq   atomic.Uint64
}

func (s *session) serve() {
	for {
		m, err := s.conn.Recv()
		if err != nil {
			return
		}
		switch b := m.GetBody().(type) {
		case *rotav1.ToWorker_Welcome:
			s.lease.Store(b.Welcome.GetLease())
		case *rotav1.ToWorker_Grants:
			var acks []*rotav1.Ack
			for _, r := range b.Grants.GetRevoke() {
				acks = append(acks, &rotav1.Ack{Task: r.GetTask(), Index: r.GetIndex(), Generation: r.GetGeneration(), State: string(ownership.Stopped)})
			}
			for _, g := range b.Grants.GetGrant() {
				acks = append(acks, &rotav1.Ack{Task: g.GetTask().GetId(), Index: g.GetIndex(), Generation: g.GetGeneration(), State: string(ownership.Running)})
			}
			if len(acks) > 0 {
				_ = s.conn.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Acks{Acks: &rotav1.Acks{Acks: acks}}})
			}
		}
	}
}

// lifetime is the lease of the sessions, of which each renews five times in it. It is long:
// a machine that is busy otherwise makes the measurement slow, and loses no worker.
const lifetime = 2 * time.Minute

// join gives the worker of a number a session.
func (c *cluster) join(ctx context.Context, n int) error {
	s := &session{conn: c.server.Scheduler().Sessions().Dial(ctx)}
	s.seq.Store(1)
	go s.serve()
	if err := s.conn.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{Seq: 1, Info: &rotav1.WorkerInfo{
		Name: fmt.Sprintf("node-%04d", n), Incarnation: strconv.FormatInt(time.Now().UnixNano(), 16), Pid: int64(1000 + n), Host: fmt.Sprintf("node-%04d.example.org", n),
		Zone: string(rune('a' + n%5)), Labels: map[string]string{"arch": "amd64", "disk": "ssd", "rack": strconv.Itoa(n / 40)},
		AnyKind: true, Capacity: map[string]float64{"cpu": 64, "memory": 256 << 30}, Version: "v1.0.0",
	}}}}); err != nil {
		return err
	}
	c.all[n].Store(s)
	return nil
}

// fill starts a scheduler and gives it the workers and the tasks; it comes back when all
// tasks run.
func fill(ctx context.Context, workers, tasks int) (c *cluster, err error) {
	c = &cluster{store: memory.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	var listen net.ListenConfig
	grpc, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return c, err
	}
	web, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return c, err
	}
	c.http = &meter{Listener: web}
	c.server, err = server.Start(server.Config{Scheduler: scheduler.Config{
		Store: c.store, Name: "s1", Lease: lifetime,
		BarrierWorkers: workers, BarrierWait: 10 * time.Minute, // all is placed by one plan
		SuspectAfter: 1000, // one worker is killed again and again
	}, GRPC: grpc, HTTP: c.http})
	if err != nil {
		return c, err
	}
	if err := c.server.Ready(ctx); err != nil {
		return c, err
	}
	const chunk = 10_000
	for from := 0; from < tasks; from += chunk {
		var list []*rotav1.TaskDefinition
		for n := from; n < min(from+chunk, tasks); n++ {
			list = append(list, &rotav1.TaskDefinition{Id: fmt.Sprintf("service-%03d/shard-%05d", n%200, n/200), Group: fmt.Sprintf("service-%03d", n%200), Weight: float64(1 + n%7)})
		}
		if _, err := c.server.Service().ApplyTasks(auth.Inside(ctx), &rotav1.ApplyTasksRequest{Tasks: list}); err != nil {
			return c, err
		}
	}
	c.all = make([]atomic.Pointer[session], workers)
	go c.renew(ctx)
	for n := range workers {
		if err := c.join(ctx, n); err != nil {
			return c, err
		}
	}
	return c, c.settled(ctx, workers, tasks)
}

func (c *cluster) renew(ctx context.Context) {
	const parts = 100
	ticker := time.NewTicker(lifetime / 5 / parts)
	defer ticker.Stop()
	for at := 0; ; at++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		for n := at % parts; n < len(c.all); n += parts {
			s := c.all[n].Load()
			if s == nil || s.lease.Load() == 0 {
				continue
			}
			_ = s.conn.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Renew{Renew: &rotav1.Renew{Seq: s.seq.Add(1)}}})
		}
	}
}

// settled waits until all tasks run and nothing moves.
func (c *cluster) settled(ctx context.Context, workers, tasks int) error {
	for {
		s, err := c.server.Service().GetStatus(ctx, &rotav1.GetStatusRequest{})
		if err != nil {
			return err
		}
		if s.GetWorkers().GetReady() == int64(workers) && s.GetTasks().GetRunning() == int64(tasks) && s.GetMoving() == 0 {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("cluster does not settle: %v: %w", s, ctx.Err())
		}
	}
}

// kill ends the lease of a worker, as its supervisor does when its process has died.
func (c *cluster) kill(ctx context.Context, n int) error {
	return c.store.Revoke(ctx, store.LeaseID(c.all[n].Load().lease.Load()))
}

func (c *cluster) stop() error {
	var err error
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if c.server != nil {
		err = c.server.Stop(ctx)
	}
	c.store.Close()
	return err
}
