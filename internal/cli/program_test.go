package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// TestPrograms compares what people see of programs with testdata.
func TestPrograms(t *testing.T) {
	t.Parallel()
	c, addr := serve(t)
	noon := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local))
	c.SetProgram(&rotav1.Program{
		Name: "building-7", Run: "r1", Phase: "running", Policy: "restart-task", Host: "desk", Pid: 4711,
		Tasks: []*rotav1.ProgramTask{
			{Name: "elevator-0", State: "running", Generation: 2, Worker: "w1", Error: "panic: door"},
			{Name: "floor-0", State: "lost", Generation: 1, Worker: "w2"},
		},
		Events: []*rotav1.ProgramEvent{
			{Time: noon, Kind: "registered"},
			{Time: noon, Kind: "task failed", Task: "elevator-0", Generation: 1, Worker: "w1", Text: "panic: door\nstack\x1b[2J"},
		},
	})
	c.SetProgram(&rotav1.Program{Name: "night", Phase: "waiting", Missing: "3 workers: 3 lack kind program/map", Policy: "stop-all", Host: "desk", Pid: 1})
	var got strings.Builder
	for _, args := range []string{
		"program list", "program get building-7", "program get night", "program logs building-7", "program get nobody",
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
