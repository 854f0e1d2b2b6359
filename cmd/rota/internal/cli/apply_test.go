package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/bound"
)

// declarer takes tasks, or refuses one, or fails when it has taken some.
type declarer struct {
	rotav1.UnimplementedTasksServer
	mu          sync.Mutex
	dry, done   [][]string // ids of each call
	refuse      string
	failsBefore int // the call that is to fail, from 1
}

func (d *declarer) ApplyTasks(_ context.Context, r *rotav1.ApplyTasksRequest) (*rotav1.ApplyTasksResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []string
	for _, t := range r.GetTasks() {
		ids = append(ids, t.GetId())
	}
	switch {
	case slices.Contains(ids, d.refuse):
		return nil, status.Errorf(codes.InvalidArgument, "task %q: no", d.refuse)
	case r.GetDryRun():
		d.dry = append(d.dry, ids)
	case len(d.done)+1 == d.failsBefore:
		return nil, status.Error(codes.Unavailable, "gone")
	default:
		d.done = append(d.done, ids)
	}
	return &rotav1.ApplyTasksResponse{Created: int64(len(ids))}, nil
}

func (d *declarer) serve(t *testing.T) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(bound.MaxMessage))
	rotav1.RegisterTasksServer(s, d)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() { s.Stop(); <-ended })
	return l.Addr().String()
}

// TestApplyMuch: a list that no single call takes is asked after whole before any
// of it is declared.
func TestApplyMuch(t *testing.T) {
	t.Parallel()
	const n = bound.MaxMessage/rota.MaxPayload + 1 // more than one call takes
	var list strings.Builder
	payload := strings.Repeat("x", rota.MaxPayload)
	var all []string
	for i := range n {
		id := fmt.Sprintf("t%05d", i)
		all = append(all, id)
		line, err := json.Marshal(map[string]string{"id": id, "payload": payload})
		if err != nil {
			t.Fatal(err)
		}
		list.Write(append(line, '\n'))
	}
	lines := strings.SplitAfter(list.String(), "\n")
	const some = n * 3 / 10 // more than one call of apply
	for name, c := range map[string]struct {
		n           int
		args        string
		refuse      string
		failsBefore int
		status      int
		out, errs   string
		dry, done   int // tasks
	}{
		"taken":        {n: n, out: fmt.Sprintf("%d created, 0 changed, 0 unchanged\n", n), dry: n, done: n},
		"only asked":   {n: some, args: "--dry-run", out: fmt.Sprintf("would be: %d created, 0 changed, 0 unchanged\n", some), dry: some},
		"refused":      {n: some, refuse: all[some-1], status: 1, errs: fmt.Sprintf("task %q: no", all[some-1]), dry: -1},
		"cluster dies": {n: some, failsBefore: 2, status: 1, errs: fmt.Sprintf("of %d tasks were applied; run the same command again", some), dry: some, done: -1},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they are large
			d := &declarer{refuse: c.refuse, failsBefore: c.failsBefore}
			args := append([]string{"task", "apply", "-f", "-"}, strings.Fields(c.args)...)
			status, out, errs := run(t, strings.Join(lines[:c.n], ""), map[string]string{"ROTA_SERVER": d.serve(t)}, args...)
			if status != c.status || out != c.out || !strings.Contains(errs, c.errs) {
				t.Errorf("%d %q %q", status, out, errs)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			dry, done := slices.Concat(d.dry...), slices.Concat(d.done...)
			if c.dry >= 0 && len(dry) != c.dry || c.done >= 0 && len(done) != c.done || c.done > 0 && !slices.Equal(done, all) {
				t.Errorf("asked after %d in %d calls, declared %d in %d calls", len(dry), len(d.dry), len(done), len(d.done))
			}
			if c.failsBefore > 0 && len(d.done) != c.failsBefore-1 {
				t.Errorf("%d calls were taken", len(d.done))
			}
		})
	}
}
