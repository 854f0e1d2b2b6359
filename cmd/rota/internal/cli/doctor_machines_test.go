package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/cli"
)

// told is a scheduler as it tells of itself and of workers.
type told struct {
	rotav1.UnimplementedClusterServer
	rotav1.UnimplementedWorkersServer
	ahead   time.Duration
	older   bool // it does not know of clocks
	others  []*rotav1.Scheduler
	workers []*rotav1.Worker
	caller  *rotav1.Caller
	refuse  error // of the list of workers
}

func (s *told) GetStatus(context.Context, *rotav1.GetStatusRequest) (*rotav1.Status, error) {
	out := &rotav1.Status{Leader: "a", Schedulers: s.others, Tasks: &rotav1.TaskCounts{}, Caller: s.caller}
	if !s.older {
		out.Time = timestamppb.New(time.Now().Add(s.ahead))
	}
	return out, nil
}

func (s *told) ListWorkers(context.Context, *rotav1.ListWorkersRequest) (*rotav1.ListWorkersResponse, error) {
	return &rotav1.ListWorkersResponse{Workers: s.workers}, s.refuse
}

// serve serves it until the test ends.
func (s *told) serve(t *testing.T) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	rotav1.RegisterClusterServer(srv, s)
	rotav1.RegisterWorkersServer(srv, s)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

func seenWorker(name string, ahead, ends time.Duration) *rotav1.Worker {
	w := &rotav1.Worker{Name: name, State: "ready", Scheduler: "a"}
	if ahead != unknown {
		w.ClockAheadMs = proto.Int64(ahead.Milliseconds())
	}
	if ends != 0 {
		w.CertificateEnds = timestamppb.New(time.Now().Add(ends))
	}
	return w
}

const unknown = time.Duration(-1)

const year = 365 * 24 * time.Hour

// TestDoctorMachines: clocks that are apart, whichever they are, and certificates and
// tokens that end soon are said, and what the caller may not see.
func TestDoctorMachines(t *testing.T) {
	t.Parallel()
	pair := []*rotav1.Worker{seenWorker("v", 0, year), seenWorker("w", 0, year)}
	for name, c := range map[string]struct {
		a, b told // two schedulers
		line string
		said string
		not  string
	}{
		"all agree":                {a: told{workers: pair}, line: "clocks ok", said: "5 agree"},
		"a little":                 {a: told{workers: pair, ahead: 500 * time.Millisecond}, line: "clocks ok", said: "5 agree"},
		"a scheduler ahead":        {b: told{ahead: time.Hour}, a: told{workers: pair}, line: "clocks warn", said: "is 1h0m0s ahead"},
		"a scheduler behind":       {b: told{ahead: -36 * time.Hour}, a: told{workers: pair}, line: "clocks warn", said: "is 36h0m0s behind"},
		"this machine":             {a: told{ahead: time.Hour, workers: pair}, b: told{ahead: time.Hour}, line: "clocks warn", said: "this machine is 1h0m0s behind", not: "worker"},
		"a worker ahead":           {a: told{workers: []*rotav1.Worker{pair[0], seenWorker("x", 3*time.Second, 0)}}, line: "clocks warn", said: "worker x is 3s ahead", not: "worker v"},
		"a worker of a far one":    {a: told{ahead: time.Hour, workers: []*rotav1.Worker{seenWorker("x", -time.Hour, 0), seenWorker("y", -time.Hour, 0)}}, line: "clocks warn", said: "is 1h0m0s ahead", not: "worker"},
		"told by another":          {b: told{workers: []*rotav1.Worker{seenWorker("x", time.Minute, 0)}}, a: told{workers: []*rotav1.Worker{seenWorker("x", unknown, 0)}}, line: "clocks warn", said: "worker x is 1m0s ahead", not: "not known"},
		"not told":                 {a: told{workers: []*rotav1.Worker{seenWorker("x", unknown, 0)}}, line: "clocks ok", said: "1 worker's is not known"},
		"older schedulers":         {a: told{older: true, workers: pair}, b: told{older: true}, not: "clocks"},
		"certificates are good":    {a: told{workers: pair}, line: "workers' certificates ok", said: "2 are good until"},
		"a worker's ends":          {a: told{workers: []*rotav1.Worker{pair[0], seenWorker("x", 0, 50*time.Hour)}}, line: "workers' certificates warn", said: "of 2: x ends in"},
		"a pool's renew theirs":    {a: told{workers: []*rotav1.Worker{seenWorker("pool.p.1", 0, 9*time.Hour)}}, line: "workers' certificates ok", said: "1 are good until"},
		"a pool's does not":        {a: told{workers: []*rotav1.Worker{seenWorker("pool.p.1", 0, 5*time.Hour)}}, line: "workers' certificates warn", said: "pool.p.1 ends in"},
		"a worker's has ended":     {a: told{workers: []*rotav1.Worker{pair[0], seenWorker("x", 0, -time.Hour)}}, line: "workers' certificates fail", said: "x has ended"},
		"the token ends":           {a: told{workers: pair, caller: &rotav1.Caller{Kind: "token", Name: "eve", Role: "viewer", Ends: timestamppb.New(time.Now().Add(time.Hour))}}, line: "caller warn", said: `token "eve", role viewer ends in`},
		"the token is good":        {a: told{workers: pair, caller: &rotav1.Caller{Kind: "token", Name: "eve", Role: "viewer"}}, line: "caller ok", said: "does not end"},
		"a JWT is always short":    {a: told{workers: pair, caller: &rotav1.Caller{Kind: "jwt", Name: "eve", Role: "viewer", Ends: timestamppb.New(time.Now().Add(time.Hour))}}, line: "caller ok", said: "good until"},
		"workers may not be seen":  {a: told{refuse: status.Error(codes.PermissionDenied, "not you")}, b: told{refuse: status.Error(codes.PermissionDenied, "not you")}, line: "workers warn", said: "not seen: not you"},
		"one of them may see them": {a: told{refuse: status.Error(codes.PermissionDenied, "not you")}, b: told{workers: pair}, line: "workers ok", said: "2 ready"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := c.b.serve(t)
			c.a.others = []*rotav1.Scheduler{{Name: "a"}, {Name: "b", Grpc: other}}
			var o, e bytes.Buffer
			exit := cli.Run(t.Context(), []string{"doctor", "-o", "json", "--server", c.a.serve(t)}, cli.Env{Stdout: &o, Stderr: &e})
			var said struct {
				Checks []struct{ Status, Check, Text, Mend string }
			}
			if err := json.Unmarshal(o.Bytes(), &said); err != nil || e.Len() > 0 {
				t.Fatalf("%v: %s %s", err, o.String(), e.String())
			}
			failed, found := false, c.line == ""
			for _, one := range said.Checks {
				failed = failed || one.Status == "fail"
				if one.Check+" "+one.Status == c.line {
					found = true
					if !strings.Contains(one.Text, c.said) || c.not != "" && strings.Contains(one.Text, c.not) {
						t.Errorf("%q: want %q in it, and no %q", one.Text, c.said, c.not)
					}
					if (one.Status == "ok") != (one.Mend == "") {
						t.Errorf("%+v", one)
					}
				}
				if c.line == "" && one.Check == c.not {
					t.Errorf("it says %+v", one)
				}
			}
			if !found {
				t.Errorf("no line %q: %s", c.line, o.String())
			}
			if failed != (exit == cli.ExitFailed) {
				t.Errorf("exit %d", exit)
			}
		})
	}
}
