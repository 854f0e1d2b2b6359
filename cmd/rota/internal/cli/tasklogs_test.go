package cli

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// logger is a scheduler that has the tasks of its list, and answers each read of a log
// with the next of its answers.
type logger struct {
	rotav1.UnimplementedTasksServer
	tasks   []string
	answers []logAnswer

	mu    sync.Mutex
	asked []*rotav1.ReadTaskLogsRequest
}

type logAnswer struct {
	pieces []*rotav1.TaskLog
	err    error
}

func (l *logger) GetTask(_ context.Context, r *rotav1.GetTaskRequest) (*rotav1.TaskDetail, error) {
	for _, id := range l.tasks {
		if id == r.GetId() {
			return &rotav1.TaskDetail{}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "task %q: not found", r.GetId())
}

func (l *logger) ReadTaskLogs(r *rotav1.ReadTaskLogsRequest, out grpc.ServerStreamingServer[rotav1.TaskLog]) error {
	l.mu.Lock()
	n := len(l.asked)
	l.asked = append(l.asked, r)
	l.mu.Unlock()
	if n >= len(l.answers) {
		return status.Error(codes.NotFound, "task \"a\": not found")
	}
	for _, p := range l.answers[n].pieces {
		if err := out.Send(p); err != nil {
			return err
		}
	}
	return l.answers[n].err
}

func (l *logger) start(t *testing.T) (address string) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	rotav1.RegisterTasksServer(s, l)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() { s.Stop(); <-ended })
	return ln.Addr().String()
}

func (l *logger) Why(_ context.Context, r *rotav1.WhyRequest) (*rotav1.WhyResponse, error) {
	if _, err := l.GetTask(context.Background(), &rotav1.GetTaskRequest{Id: r.GetId()}); err != nil {
		return nil, err
	}
	out := &rotav1.WhyResponse{Id: r.GetId()}
	for n := range int64(3) {
		out.Instances = append(out.Instances, &rotav1.WhyInstance{Instance: &rotav1.Instance{Index: n, State: "waiting"}})
	}
	return out, nil
}

// TestWhyInstance: an instance is named as lists write it, for ids that end like instances, too.
func TestWhyInstance(t *testing.T) {
	t.Parallel()
	env := map[string]string{"ROTA_SERVER": (&logger{tasks: []string{"a", "b", "b#1"}}).start(t)}
	for arg, want := range map[string]string{
		"a": "a is on no worker (waiting)\n\na#1 is on no worker (waiting)\n\na#2 is on no worker (waiting)\n", "a#0": "a is on no worker (waiting)\n",
		"a#2": "a#2 is on no worker (waiting)\n", "b#1#1": "b#1#1 is on no worker (waiting)\n",
	} {
		if code, out, errs := runRota(t, env, "", "why", arg); code != ExitDone || out != want {
			t.Errorf("%s: status %d, %s\n%s", arg, code, errs, out)
		}
	}
	for arg, want := range map[string]string{"a#3": "has the instances 0 to 2", "c#1": "not found", "a#x": "not found"} {
		if code, out, errs := runRota(t, env, "", "why", arg); code != ExitFailed || !strings.Contains(errs, want) {
			t.Errorf("%s: status %d, %s %s", arg, code, errs, out)
		}
	}
}

// TestTaskLogsNames: what an argument names, for ids that end like instances, too.
func TestTaskLogsNames(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"a": "a -", "a/1": "a/1 -", "a/1/2": "a/1 2", "a/1#0": "a/1 0", "a#3": "a 3", "b/7": "b 7", "b/x": "b/x -", "b/-1": "b/-1 -", "/1": "/1 -", "b/99999999999": "b/99999999999 -",
	} {
		l := &logger{tasks: []string{"a", "a/1", "b"}, answers: make([]logAnswer, 1)}
		code, _, errs := runRota(t, map[string]string{"ROTA_SERVER": l.start(t)}, "", "task", "logs", "--tail", "5", arg)
		if code != ExitDone || len(l.asked) != 1 || l.asked[0].GetTail() != 5 {
			t.Fatalf("%s: status %d, %s, %v", arg, code, errs, l.asked)
		}
		got := l.asked[0].GetId() + " -"
		if l.asked[0].Index != nil {
			got = fmt.Sprint(l.asked[0].GetId(), " ", l.asked[0].GetIndex())
		}
		if got != want {
			t.Errorf("%s asks for %s, want %s", arg, got, want)
		}
	}
	for _, args := range []string{"--tail -2 a", "--tail x a", "-f -p a", "", "a b"} {
		if code, _, errs := runRota(t, nil, "", append([]string{"task", "logs"}, strings.Fields(args)...)...); code != ExitUsage {
			t.Errorf("%q: status %d, %s", args, code, errs)
		}
	}
}

// TestTaskLogsFollow: who follows goes on after a move, a restart, a worker that is away
// and a log that has begun anew, prints each byte once, and ends with the task.
func TestTaskLogsFollow(t *testing.T) {
	t.Parallel()
	piece := func(worker, log string, run uint64, stream string, offset, missed int64, data string) *rotav1.TaskLog {
		return &rotav1.TaskLog{Worker: worker, Log: log, Generation: 7, Run: run, Stream: stream, Offset: offset, Missed: missed, Data: []byte(data)}
	}
	l := &logger{tasks: []string{"a"}, answers: []logAnswer{
		{err: status.Error(codes.FailedPrecondition, "a is on no worker now")},
		{pieces: []*rotav1.TaskLog{piece("w", "l1", 0, "", 0, 0, ""), piece("w", "l1", 0, "stdout", 0, 0, "one "), piece("w", "l1", 0, "stderr", 4, 0, "err"), piece("w", "l1", 1, "log", 107, 100, "two ")}},
		{err: status.Error(codes.Unavailable, "the worker is not connected")},
		{pieces: []*rotav1.TaskLog{piece("v", "l2", 0, "", 0, 0, ""), piece("v", "l2", 0, "stdout", 0, 0, "three ")}},
		{err: status.Error(codes.FailedPrecondition, "no log is kept of a")},
		{pieces: []*rotav1.TaskLog{piece("v", "l2", 0, "", 6, 0, ""), piece("v", "l2", 0, "stdout", 6, 0, "four")}},
	}}
	code, out, errs := runRota(t, map[string]string{"ROTA_SERVER": l.start(t)}, "", "task", "logs", "-f", "--tail", "2", "a")
	want := "errrota: started again on worker w, generation 7\nrota: 100 bytes left out\nrota: started again on worker v, generation 7\nrota: task \"a\": not found\n"
	if code != ExitDone || out != "one two three four" || errs != want {
		t.Errorf("status %d, %q, %q", code, out, errs)
	}
	for n, want := range []string{"2  0", "2  0", "0 l1 111", "0 l1 111", "0 l2 6", "0 l2 6", "0 l2 10"} {
		r := l.asked[n]
		if got := fmt.Sprint(r.GetTail(), " ", r.GetLog(), " ", r.GetOffset()); got != want || r.GetId() != "a" || !r.GetFollow() {
			t.Errorf("read %d asks for %s, want %s", n, got, want)
		}
	}
	// One that never was is an error.
	l = &logger{}
	if code, _, errs := runRota(t, map[string]string{"ROTA_SERVER": l.start(t)}, "", "task", "logs", "-f", "x"); code != ExitFailed || !strings.Contains(errs, "not found") {
		t.Errorf("status %d, %s", code, errs)
	}
}
