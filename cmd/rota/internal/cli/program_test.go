package cli_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// TestPrograms compares what people see of programs with testdata.
func TestPrograms(t *testing.T) {
	t.Parallel()
	c, addr := serve(t)
	noon := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local))
	c.SetProgram(&rotav1.Program{
		Name: "building-7", Run: "r1", Phase: "running", Policy: "restart-task", Host: "desk", Pid: 4711, MessagesPerSecond: 1200,
		Tasks: []*rotav1.ProgramTask{
			{Name: "elevator-0", State: "running", Generation: 2, Worker: "w1", Error: "panic: door"},
			{Name: "floor-0", State: "lost", Generation: 1, Worker: "w2"},
		},
		Events: []*rotav1.ProgramEvent{
			{Time: noon, Kind: "registered"},
			{Time: noon, Kind: "task failed", Task: "elevator-0", Generation: 1, Worker: "w1", Text: "panic: door\nstack\x1b[2J"},
		},
	})
	c.SetProgram(&rotav1.Program{Name: "moved", Phase: "moving", Missing: "a worker for its scheduler function: no worker"})
	c.SetProgram(&rotav1.Program{Name: "night", Run: "r2", Phase: "waiting", Missing: "3 workers: 3 do not run kind program/map", Policy: "stop-all", Host: "desk", Pid: 1})
	var got strings.Builder
	for _, args := range []string{
		"program list", "program get building-7", "program get night", "program get moved", "program logs building-7", "program get nobody",
		"program stop building-7 --reason enough", "program stop building-7", "program list -o jsonl", "program list",
	} {
		status, out, errs := run(t, "", nil, append(strings.Fields(args), "--server", addr)...)
		fmt.Fprintf(&got, "$ rota %s\n%s%s", args, out, errs)
		if status != 0 {
			fmt.Fprintf(&got, "exit status %d\n", status)
		}
		got.WriteByte('\n')
	}
	text := ages(got.String())
	golden := filepath.Join("testdata", "programs.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("got:\n%s\nwant (go test -update rewrites it):\n%s", text, want)
	}
}

// story is a program that goes on a little each time that it is asked after.
type story struct {
	rotav1.UnimplementedProgramsServer
	mu      sync.Mutex
	answers []*rotav1.Program
}

func (s *story) GetProgram(context.Context, *rotav1.GetProgramRequest) (*rotav1.Program, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 {
		return nil, status.Error(codes.NotFound, `program "a": not running`)
	}
	p := s.answers[0]
	s.answers = s.answers[1:]
	return p, nil
}

// TestFollowProgram: each event is told once, to the end of the program.
func TestFollowProgram(t *testing.T) {
	t.Parallel()
	at := func(run, phase string, kinds ...string) *rotav1.Program {
		p := &rotav1.Program{Name: "a", Run: run, Phase: phase}
		for _, k := range kinds {
			p.Events = append(p.Events, &rotav1.ProgramEvent{Kind: k, Time: timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local))})
		}
		return p
	}
	for name, c := range map[string]struct {
		answers   []*rotav1.Program
		args      string
		status    int
		out, errs string
	}{
		"ends":         {answers: []*rotav1.Program{at("r", "running", "x", "y"), at("r", "running", "x", "y"), at("r", "ended", "x", "y", "z")}, out: "x y z"},
		"is forgotten": {answers: []*rotav1.Program{at("r", "running", "x")}, out: "x", errs: "its last events are unknown"},
		"begins anew":  {answers: []*rotav1.Program{at("r", "running", "x"), at("s", "running", "y")}, out: "x"},
		"moves": {answers: []*rotav1.Program{
			at("", "waiting"), at("r", "running", "x"), at("", "moving", "x", "y"), at("s", "running", "x", "y", "z"), at("s", "ended", "x", "y", "z"),
		}, out: "x y z"},
		"moves at once": {answers: []*rotav1.Program{at("r", "running", "x"), at("s", "running", "x", "y"), at("s", "ended", "x", "y")}, out: "x y"},
		"never begins":  {answers: []*rotav1.Program{at("", "waiting")}, errs: "stopped before it began"},
		"much happens":  {answers: []*rotav1.Program{at("r", "running", "x"), at("r", "ended", "y")}, out: "x y", errs: "older events are no longer kept"},
		"was never":     {status: 1, errs: "not running"},
		"as one list":   {args: "-o json", status: 2, errs: "jsonl"},
		"line by line":  {args: "-o jsonl", answers: []*rotav1.Program{at("r", "ended", "x", "y")}, out: `"kind":"x" "kind":"y"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := grpc.NewServer()
			rotav1.RegisterProgramsServer(s, &story{answers: c.answers})
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = s.Serve(l)
			}()
			defer func() { s.Stop(); <-ended }()
			status, out, errs := run(t, "", nil, append([]string{"program", "logs", "-f", "a", "--server", l.Addr().String()}, strings.Fields(c.args)...)...)
			rest := out
			for _, word := range strings.Fields(c.out) {
				_, after, found := strings.Cut(rest, word)
				if !found {
					t.Errorf("%q is not in %q", word, rest)
				}
				rest = after
			}
			if status != c.status || !strings.Contains(errs, c.errs) || (c.errs == "") != (errs == "") || strings.Count(out, "\n") != len(strings.Fields(c.out)) {
				t.Errorf("%d %q %q", status, out, errs)
			}
		})
	}
}
