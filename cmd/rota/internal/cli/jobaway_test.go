package cli

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/rest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// awayJobs knows a job whose worker is not connected.
type awayJobs struct {
	rotav1.UnimplementedJobsServer
	state string
	stale bool
}

func (j *awayJobs) job() *rotav1.Job {
	return &rotav1.Job{Id: "j", State: j.state, Worker: "w1", Generation: 7, Attempts: 1}
}

func (j *awayJobs) WatchJobs(_ *rotav1.WatchJobsRequest, out grpc.ServerStreamingServer[rotav1.JobEvent]) error {
	if err := out.Send(&rotav1.JobEvent{Type: "set", Job: j.job()}); err != nil {
		return err
	}
	<-out.Context().Done()
	return nil
}

func (j *awayJobs) GetJob(ctx context.Context, _ *rotav1.GetJobRequest) (*rotav1.JobDetail, error) {
	if j.stale {
		_ = grpc.SetHeader(ctx, metadata.Pairs(rest.AgeHeader, "25000", rest.StaleHeader, "true"))
	}
	return &rotav1.JobDetail{Job: j.job(), Attempts: []*rotav1.JobAttempt{{Worker: "w1", Generation: 7, State: j.state}}}, nil
}

func (*awayJobs) ReadOutput(*rotav1.ReadOutputRequest, grpc.ServerStreamingServer[rotav1.JobOutput]) error {
	return status.Error(codes.Unavailable, "the worker is not connected")
}

// TestJobLogsOfAWorkerAway: without --follow, or of a job that has ended, nobody waits
// for ever for a worker; what could not be read is no success, and what is said of an
// old picture says how old it is.
func TestJobLogsOfAWorkerAway(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	defer all.Wait()
	for name, c := range map[string]struct {
		state, flag string
		stale       bool
	}{
		"runs":                    {state: "running"},
		"runs, no word of store":  {state: "running", stale: true},
		"ended":                   {state: "succeeded"},
		"ended, followed":         {state: "succeeded", flag: "-f"},
		"ended, no word of store": {state: "failed", flag: "-f", stale: true},
	} {
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		rotav1.RegisterJobsServer(s, &awayJobs{state: c.state, stale: c.stale})
		all.Go(func() { _ = s.Serve(ln) })
		all.Go(func() { // all at once: each waits for its worker
			defer s.Stop()
			code, out, errs := runRota(t, map[string]string{"ROTA_SERVER": ln.Addr().String()}, "", append([]string{"job", "logs", "j"}, strings.Fields(c.flag)...)...)
			if code != ExitFailed || out != "" || !strings.Contains(errs, "the rest of the output is on worker w1, which is not connected") {
				t.Errorf("%s: status %d, %q, %q", name, code, out, errs)
			}
			if strings.Contains(errs, "as of 25s ago, when the scheduler last heard from its store") != c.stale {
				t.Errorf("%s: as of when: %q", name, errs)
			}
		})
	}
}
