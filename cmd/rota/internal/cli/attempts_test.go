package cli

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// attempts is a scheduler with one job, whose states come one after another.
type attempts struct {
	rotav1.UnimplementedJobsServer
	states []*rotav1.Job
	output map[uint64]*rotav1.JobOutput // of each attempt; nil is gone
}

func (a *attempts) RunJob(context.Context, *rotav1.RunJobRequest) (*rotav1.Job, error) {
	return a.states[0], nil
}

func (a *attempts) WatchJobs(_ *rotav1.WatchJobsRequest, s grpc.ServerStreamingServer[rotav1.JobEvent]) error {
	for _, j := range a.states {
		if err := s.Send(&rotav1.JobEvent{Type: "set", Job: j}); err != nil {
			return err
		}
	}
	<-s.Context().Done()
	return nil
}

func (a *attempts) ReadOutput(r *rotav1.ReadOutputRequest, s grpc.ServerStreamingServer[rotav1.JobOutput]) error {
	out := a.output[r.GetGeneration()]
	if out == nil {
		return status.Error(codes.NotFound, "the output is gone: it was removed")
	}
	return s.Send(out)
}

// TestAttempts: of a job that is waited for what is missing of an attempt counts if
// it is the last; what logs are asked for and are not there is an error.
func TestAttempts(t *testing.T) {
	t.Parallel()
	state := func(s string, generation uint64) *rotav1.Job {
		return &rotav1.Job{Id: "a", State: s, Generation: generation}
	}
	whole, cut := &rotav1.JobOutput{Stream: "stdout", Data: []byte("whole\n")}, &rotav1.JobOutput{Stream: "stdout", Missed: 5, Data: []byte("cut\n")}
	twice := []*rotav1.Job{state("running", 1), state("running", 2), state("succeeded", 2)}
	for name, c := range map[string]struct {
		args   string
		server attempts
		status int
		out    string
		errs   string
	}{
		"of the first":    {"job run --wait -- x", attempts{states: twice, output: map[uint64]*rotav1.JobOutput{1: cut, 2: whole}}, 0, "cut\nwhole\n", "5 bytes of output are lost"},
		"of the last":     {"job run --wait -- x", attempts{states: twice, output: map[uint64]*rotav1.JobOutput{1: whole, 2: cut}}, 1, "whole\ncut\n", "5 bytes of its output are lost"},
		"one never began": {"job run --wait -- x", attempts{states: twice, output: map[uint64]*rotav1.JobOutput{2: whole}}, 0, "whole\n", ""},
		"logs":            {"job logs a", attempts{states: twice[2:], output: map[uint64]*rotav1.JobOutput{2: whole}}, 0, "whole\n", ""},
		"logs, gone":      {"job logs a", attempts{states: twice[2:]}, 1, "", "the output is gone"},
		"follow, gone":    {"job logs -f a", attempts{states: twice[2:]}, 1, "", "the output is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := grpc.NewServer()
			rotav1.RegisterJobsServer(s, &c.server)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = s.Serve(l)
			}()
			defer func() { s.Stop(); <-ended }()
			status, out, errs := runRota(t, map[string]string{"ROTA_SERVER": l.Addr().String()}, "", strings.Fields(c.args)...)
			if status != c.status || out != c.out || !strings.Contains(errs, c.errs) || c.errs == "" && errs != "" {
				t.Errorf("status %d, %q, %q", status, out, errs)
			}
		})
	}
}
