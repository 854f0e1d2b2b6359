package cli

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

func init() { endedTime = 2 * time.Second } // tests do not wait for a leader

// brief is a scheduler that answers each method once, then goes, and is then
// another that refuses.
type brief struct {
	mu     sync.Mutex
	asked  map[string]int
	refuse codes.Code
}

// briefly is what it answers.
var briefly = map[string][]proto.Message{
	"WatchTasks":   {&rotav1.TaskEvent{Type: "set", Task: &rotav1.Task{Id: "a"}}, &rotav1.TaskEvent{Type: "synced"}},
	"WatchWorkers": {&rotav1.WorkerEvent{Type: "set", Worker: &rotav1.Worker{Name: "a"}}, &rotav1.WorkerEvent{Type: "synced"}},
	"WatchJobs":    {&rotav1.JobEvent{Type: "set", Job: &rotav1.Job{Id: "a", State: "running", Generation: 1}}},
	"ReadOutput":   {&rotav1.JobOutput{Stream: "stdout", Data: []byte("a\n")}},
	"GetTask":      {&rotav1.TaskDetail{}},
	"ReadTaskLogs": {&rotav1.TaskLog{Worker: "w", Log: "l", Stream: "stdout", Data: []byte("a\n")}},
	"RunJob":       {&rotav1.Job{Id: "a", State: "running", Generation: 1}},
	"GetProgram":   {&rotav1.Program{Name: "a", Run: "r", Phase: "running", Events: []*rotav1.ProgramEvent{{Kind: "a"}}}},
}

func (b *brief) serve(_ any, s grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(s)
	method := full[strings.LastIndexByte(full, '/')+1:]
	if err := s.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	b.mu.Lock()
	b.asked[method]++
	n := b.asked[method]
	b.mu.Unlock()
	if n > 1 {
		return status.Error(b.refuse, "no longer you")
	}
	for _, m := range briefly[method] {
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
	switch method {
	case "RunJob", "GetProgram", "GetTask":
		return nil
	case "WatchJobs": // what is read of the job goes first
		<-s.Context().Done()
	}
	return status.Error(codes.Unavailable, "transport: error while reading from server: EOF")
}

// TestRefused: what follows something and is not let in any more ends at once, with
// what it has heard.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"task list -w", "task list -w -o jsonl", "worker list -w", "job run --wait -- true", "job logs -f a", "job logs a", "program logs -f a", "task logs -f a",
	} {
		for _, code := range []codes.Code{codes.Unauthenticated, codes.PermissionDenied} {
			t.Run(fmt.Sprintf("%s/%s", args, code), func(t *testing.T) {
				t.Parallel()
				l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				b := &brief{asked: map[string]int{}, refuse: code}
				s := grpc.NewServer(grpc.UnknownServiceHandler(b.serve))
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_ = s.Serve(l)
				}()
				defer func() { s.Stop(); <-ended }()
				status, out, errs := runRota(t, map[string]string{"ROTA_SERVER": l.Addr().String()}, "", strings.Fields(args)...)
				if status != ExitFailed || !strings.Contains(out, "a") || !strings.HasSuffix(errs, "rota: no longer you\n") || strings.Contains(errs, "transport") {
					t.Errorf("status %d, %q, %q", status, out, errs)
				}
			})
		}
	}
}
