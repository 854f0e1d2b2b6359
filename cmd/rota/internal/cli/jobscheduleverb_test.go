package cli_test

import (
	"context"
	"encoding/json"
	"net"
	"testing"

	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// schedules answers what is asked of any schedule.
type schedules struct {
	rotav1.UnimplementedJobSchedulesServer
}

func (schedules) PauseJobSchedule(context.Context, *rotav1.PauseJobScheduleRequest) (*rotav1.JobSchedule, error) {
	return &rotav1.JobSchedule{}, nil
}

func (schedules) ResumeJobSchedule(context.Context, *rotav1.ResumeJobScheduleRequest) (*rotav1.JobSchedule, error) {
	return &rotav1.JobSchedule{}, nil
}

func (schedules) RunJobSchedule(context.Context, *rotav1.RunJobScheduleRequest) (*rotav1.Job, error) {
	return &rotav1.Job{Id: "j"}, nil
}

func (schedules) DeleteJobSchedule(context.Context, *rotav1.DeleteJobScheduleRequest) (*rotav1.DeleteJobScheduleResponse, error) {
	return &rotav1.DeleteJobScheduleResponse{}, nil
}

// TestScheduleVerbs has each verb say what it did in a line, or as JSON where that is asked for.
func TestScheduleVerbs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	rotav1.RegisterJobSchedulesServer(s, schedules{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	env := map[string]string{"ROTA_SERVER": l.Addr().String()}
	for verb, line := range map[string]string{"pause": "n is paused\n", "resume": "n runs never\n", "run": "j\n", "delete": "n is deleted\n"} {
		if status, out, errs := run(t, "", env, "job", "schedule", verb, "n"); status != 0 || out != line {
			t.Errorf("%s: %d %q %s", verb, status, out, errs)
		}
		if status, out, errs := run(t, "", env, "job", "schedule", verb, "n", "-o", "json"); status != 0 || !json.Valid([]byte(out)) {
			t.Errorf("%s: %d %q %s, want JSON", verb, status, out, errs)
		}
	}
}
