// Command jobs measures jobs on ten workers over embedded etcd that waits for
// the disk: how many it accepts and runs a second, how long it takes from the
// request to the first byte of output, and what ten thousand queued jobs cost the
// API. Beside it stand a loop that starts the same command itself, which is the
// least that any runner can take, a loop over ssh where there is an sshd, and
// Nomad's published figure for two jobs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/worker/agent"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/worker"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	n := flag.Int("jobs", 3000, "jobs to run for the rate")
	samples := flag.Int("samples", 200, "jobs to run for the time to the first output")
	queued := flag.Int("queued", 10_000, "jobs to queue")
	flag.Parse()
	if err := run(*n, *samples, *queued); err != nil {
		fmt.Fprintln(os.Stderr, "jobs:", err)
		os.Exit(1)
	}
}

const workers = 10

type cluster struct {
	jobs rotav1.JobsClient
	stop []func()
}

func (c *cluster) close() {
	for _, f := range slices.Backward(c.stop) {
		f()
	}
}

func start() (c *cluster, err error) {
	c = &cluster{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	dir, err := os.MkdirTemp("", "rota-bench-jobs-")
	if err != nil {
		return c, err
	}
	c.stop = append(c.stop, func() { _ = os.RemoveAll(dir) })
	quiet := slog.New(slog.DiscardHandler)
	embedded, err := etcd.Embed(context.Background(), etcd.EmbedConfig{DataDir: dir + "/etcd", Logger: quiet})
	if err != nil {
		return c, err
	}
	c.stop = append(c.stop, func() { _ = embedded.Stop() })
	st, err := etcd.Open(context.Background(), etcd.Config{Endpoints: embedded.Endpoints(), Root: "bench/", Logger: quiet})
	if err != nil {
		return c, err
	}
	c.stop = append(c.stop, func() { _ = st.Close() })
	grpcL, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return c, err
	}
	httpL, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return c, err
	}
	node, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "bench", Logger: quiet}, GRPC: grpcL, HTTP: httpL})
	if err != nil {
		return c, err
	}
	c.stop = append(c.stop, func() { _ = node.Stop(context.Background()) })
	dial := func() (*grpc.ClientConn, error) {
		return grpc.NewClient(grpcL.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	for i := range workers {
		name := fmt.Sprintf("w%d", i)
		w, err := worker.New(worker.Config{Name: name, Schedulers: []string{grpcL.Addr().String()}})
		if err != nil {
			return c, err
		}
		if err := w.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
			return c, err
		}
		a, err := agent.New(agent.Config{
			Name: name, Incarnation: w.Incarnation(), Runner: runner.Config{Dir: dir + "/" + name, MaxRunning: 8, Allow: runner.Allow{Any: true}},
			Connect: func(context.Context) (*grpc.ClientConn, error) { return dial() },
		})
		if err != nil {
			return c, err
		}
		w.Start()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			a.Run(ctx, time.Second)
		}()
		c.stop = append(c.stop, func() {
			cancel()
			<-ended
			_ = w.Stop(context.Background())
		})
	}
	conn, err := dial()
	if err != nil {
		return c, err
	}
	c.stop = append(c.stop, func() { _ = conn.Close() })
	c.jobs = rotav1.NewJobsClient(conn)
	// All workers take jobs once one job has run on each.
	for i := range workers {
		var id string
		for id == "" {
			j, err := c.jobs.RunJob(context.Background(), &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"true"}, Worker: fmt.Sprintf("w%d", i)}})
			if err != nil {
				time.Sleep(10 * time.Millisecond) // not joined yet
			}
			id = j.GetId()
		}
		if err := c.done(id); err != nil {
			return c, err
		}
	}
	return c, nil
}

// done waits for a job's end.
func (c *cluster) done(id string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := c.jobs.WatchJobs(ctx, &rotav1.WatchJobsRequest{Id: id})
	if err != nil {
		return err
	}
	for {
		ev, err := s.Recv()
		if err != nil {
			return err
		}
		switch ev.GetJob().GetState() {
		case "succeeded", "stopped":
			return nil
		case "failed", "lost", "timed-out":
			return fmt.Errorf("job %s is %s: %s", id, ev.GetJob().GetState(), ev.GetJob().GetError())
		}
	}
}

func run(n, samples, queued int) error {
	c, err := start()
	if err != nil {
		return err
	}
	defer c.close()
	fmt.Printf("%-52s %14s %14s\n", "what", "measured", "bar")
	row := func(what, measured, bar string) { fmt.Printf("%-52s %14s %14s\n", what, measured, bar) }

	first, err := c.firstOutput(samples)
	if err != nil {
		return err
	}
	least, err := floor(samples)
	if err != nil {
		return err
	}
	row("asked to first output, p50", ms(first, 50), "5 ms")
	row("asked to first output, p99", ms(first, 99), "25 ms")
	row("a write to the disk and a command begun, p50", ms(least, 50), "-")
	row("ratio", fmt.Sprintf("%.1f", float64(at(first, 50))/float64(at(least, 50))), "-")

	flooded, bytes, err := c.flooded(max(samples/4, 20))
	if err != nil {
		return err
	}
	row(fmt.Sprintf("the same beside a job that writes %d MB/s, p50", bytes/1e6), ms(flooded, 50), "-")

	rate, err := c.rate(n)
	if err != nil {
		return err
	}
	bare, err := loop(min(n, 1000))
	if err != nil {
		return err
	}
	row(fmt.Sprintf("jobs a second, %d of true on %d workers", n, workers), fmt.Sprintf("%.0f", rate), "500")
	row("the same command started by a loop, two at once", fmt.Sprintf("%.0f", bare), "-")
	row("ratio", fmt.Sprintf("%.2f", rate/bare), "-")
	row("Nomad raw_exec, published: two jobs", "0.44 s", "-")
	if err := beside(row, samples, at(first, 50), rate); err != nil {
		return err
	}

	before, err := c.asking(300)
	if err != nil {
		return err
	}
	if err := c.queue(queued); err != nil {
		return err
	}
	after, err := c.asking(300)
	if err != nil {
		return err
	}
	row("get of a job, p50, nothing queued", ms(before, 50), "-")
	row(fmt.Sprintf("get of a job, p50, %d queued", queued), ms(after, 50), "about the same")
	return nil
}

// firstOutput measures from the request to the first byte, one job at a time.
func (c *cluster) firstOutput(samples int) ([]time.Duration, error) {
	var out []time.Duration
	for range samples {
		began := time.Now()
		j, err := c.jobs.RunJob(context.Background(), &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"echo", "x"}}})
		if err != nil {
			return nil, err
		}
		s, err := c.jobs.ReadOutput(context.Background(), &rotav1.ReadOutputRequest{Id: j.GetId(), Follow: true})
		if err != nil {
			return nil, err
		}
		if m, err := s.Recv(); err != nil || string(m.GetData()) != "x\n" {
			return nil, fmt.Errorf("output %q: %w", m.GetData(), err)
		}
		out = append(out, time.Since(began))
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("after the output: %w", err)
		}
	}
	slices.Sort(out)
	return out, nil
}

// flooded is firstOutput while a job writes as fast as it may and somebody
// follows it. It also says how many bytes a second that one got.
func (c *cluster) flooded(samples int) ([]time.Duration, int64, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	j, err := c.jobs.RunJob(ctx, &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"cat", "/dev/zero"}}})
	if err != nil {
		return nil, 0, err
	}
	s, err := c.jobs.ReadOutput(ctx, &rotav1.ReadOutputRequest{Id: j.GetId(), Follow: true})
	if err != nil {
		return nil, 0, err
	}
	var got atomic.Int64
	begun := make(chan struct{})
	go func() {
		once := sync.OnceFunc(func() { close(begun) })
		defer once()
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			got.Add(int64(len(m.GetData())))
			once()
		}
	}()
	<-begun
	began, at := time.Now(), got.Load()
	out, err := c.firstOutput(samples)
	bytes := int64(float64(got.Load()-at) / time.Since(began).Seconds())
	if err == nil && bytes == 0 {
		err = errors.New("nobody wrote anything beside")
	}
	if err != nil {
		return nil, 0, err
	}
	if _, err := c.jobs.StopJob(ctx, &rotav1.StopJobRequest{Id: j.GetId()}); err != nil {
		return nil, 0, err
	}
	return out, bytes, c.done(j.GetId())
}

// rate runs n jobs, asked for by 16 clients, and waits for the last to end.
func (c *cluster) rate(n int) (float64, error) {
	ids := make(chan string, n)
	errs := make(chan error, 16)
	began := time.Now()
	var wg sync.WaitGroup
	for client := range 16 {
		wg.Go(func() {
			for i := client; i < n; i += 16 {
				j, err := c.jobs.RunJob(context.Background(), &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"true"}}})
				if err != nil {
					errs <- err
					return
				}
				ids <- j.GetId()
			}
		})
	}
	wg.Wait()
	close(ids)
	select {
	case err := <-errs:
		return 0, err
	default:
	}
	done := 0
	for id := range ids {
		if err := c.done(id); err != nil {
			return 0, err
		}
		done++
	}
	if done != n {
		return 0, fmt.Errorf("%d jobs of %d", done, n)
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// loop starts the same command itself, two at once.
func loop(n int) (float64, error) {
	return together(n, 2, func() error { return exec.Command("true").Run() })
}

// floor measures what nobody can do without: a command started until its first
// byte, and one write that waits for the disk.
func floor(samples int) ([]time.Duration, error) {
	f, err := os.CreateTemp("", "rota-bench-sync-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	var out []time.Duration
	for range samples {
		began := time.Now()
		if _, err := f.Write(make([]byte, 512)); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		cmd := exec.Command("echo", "x")
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		if _, err := pipe.Read(make([]byte, 1)); err != nil {
			return nil, err
		}
		out = append(out, time.Since(began))
		if err := cmd.Wait(); err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return out, nil
}

// queue fills all places and declares jobs that wait behind them.
func (c *cluster) queue(n int) error {
	errs := make(chan error, 32)
	var wg sync.WaitGroup
	for client := range 32 {
		wg.Go(func() {
			for i := client; i < n+8*workers; i += 32 {
				if _, err := c.jobs.RunJob(context.Background(), &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"sleep", "1000"}}}); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// asking measures calls of the API.
func (c *cluster) asking(n int) ([]time.Duration, error) {
	list, err := c.jobs.ListJobs(context.Background(), &rotav1.ListJobsRequest{PageSize: 1})
	if err != nil || len(list.GetJobs()) == 0 {
		return nil, fmt.Errorf("no job to ask for: %w", err)
	}
	var out []time.Duration
	for range n {
		began := time.Now()
		if _, err := c.jobs.GetJob(context.Background(), &rotav1.GetJobRequest{Id: list.GetJobs()[0].GetId()}); err != nil {
			return nil, err
		}
		out = append(out, time.Since(began))
	}
	slices.Sort(out)
	return out, nil
}

// beside prints what a loop over ssh does on this machine, and how much sooner
// and more rota is.
func beside(row func(what, measured, bar string), samples int, first time.Duration, rate float64) error {
	s, err := startSSH()
	if errors.Is(err, errNoSSH) {
		row("an ssh loop: "+err.Error(), "not measured", "-")
		return nil
	}
	if err != nil {
		return err
	}
	defer s.stop()
	took, err := s.first(min(samples, 40))
	if err != nil {
		return err
	}
	slices.Sort(took)
	many, err := s.rate(60, 4)
	if err != nil {
		return err
	}
	row("ssh to first output, p50", ms(took, 50), "-")
	row("rota is sooner by a factor of", fmt.Sprintf("%.0f", float64(at(took, 50))/float64(first)), "-")
	row("commands a second over ssh, four at once", fmt.Sprintf("%.0f", many), "-")
	row("rota runs more by a factor of", fmt.Sprintf("%.0f", rate/many), "-")
	return nil
}

func at(sorted []time.Duration, percentile int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percentile/100)]
}

func ms(sorted []time.Duration, percentile int) string {
	return fmt.Sprintf("%.2f ms", float64(at(sorted, percentile).Microseconds())/1000)
}
