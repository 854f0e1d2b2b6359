package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/cmd/rota/internal/cli"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// ill is a store with members, as they say of themselves.
type ill struct {
	store.Store
	members []store.Member
}

func (i *ill) Inspect(context.Context) []store.Member { return i.members }

// TestDoctor: each kind of trouble is one line with a status and a way to mend it,
// and only a failed check fails the command.
func TestDoctor(t *testing.T) {
	t.Parallel()
	well := store.Member{Endpoint: "http://10.0.0.1:2379", Version: "3.6.1", DBBytes: 10 << 20, QuotaBytes: 2 << 30, Leader: true, Latency: time.Millisecond}
	with := func(change func(*store.Member)) []store.Member {
		m := well
		change(&m)
		return []store.Member{m}
	}
	for name, c := range map[string]struct {
		members []store.Member
		put     []store.Op
		line    string // that is there, as check, status and some text
		said    string
	}{
		"well":         {members: []store.Member{well}, line: "etcd http://10.0.0.1:2379 ok", said: "10.0 MiB of a quota of 2.0 GiB"},
		"full":         {members: with(func(m *store.Member) { m.Alarms = []string{"NOSPACE"} }), line: "etcd http://10.0.0.1:2379 fail", said: "etcdctl alarm disarm"},
		"asked before": {members: with(func(m *store.Member) { m.Asked = time.Now().Add(-12 * time.Minute) }), line: "etcd http://10.0.0.1:2379 ok", said: ", as of 12m"},
		"corrupt":      {members: with(func(m *store.Member) { m.Alarms = []string{"CORRUPT"} }), line: "etcd http://10.0.0.1:2379 fail", said: "remove this member"},
		"near full":    {members: with(func(m *store.Member) { m.DBBytes = 1600 << 20 }), line: "etcd http://10.0.0.1:2379 warn", said: "defragment"},
		"too full":     {members: with(func(m *store.Member) { m.DBBytes = 2040 << 20 }), line: "etcd http://10.0.0.1:2379 fail", said: "--quota-backend-bytes"},
		"no quota":     {members: with(func(m *store.Member) { m.QuotaBytes = 0 }), line: "etcd http://10.0.0.1:2379 ok", said: "etcd's default"},
		"old":          {members: with(func(m *store.Member) { m.Version = "3.5.2" }), line: "etcd http://10.0.0.1:2379 warn", said: "3.5.8 or newer"},
		"slow":         {members: with(func(m *store.Member) { m.Latency = time.Second }), line: "etcd http://10.0.0.1:2379 warn", said: "disk and network"},
		"away":         {members: with(func(m *store.Member) { m.Err = context.DeadlineExceeded }), line: "etcd http://10.0.0.1:2379 fail", said: "deadline"},
		"unread": {
			members: []store.Member{well}, put: []store.Op{{Key: store.NodeKey("w"), Value: []byte("nonsense")}},
			line: "value nodes/w fail", said: "cannot be read",
		},
		"lost tasks": {
			members: []store.Member{well}, put: []store.Op{{Key: store.TasksPrefix, Value: []byte("nonsense")}},
			line: "value tasks/ fail", said: "its content is unknown",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			under := memory.New()
			defer under.Close()
			if len(c.put) > 0 {
				if _, _, err := under.Txn(t.Context(), nil, c.put); err != nil {
					t.Fatal(err)
				}
			}
			var ls []net.Listener
			for range 2 {
				l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				ls = append(ls, l)
			}
			s, err := server.Start(server.Config{Scheduler: scheduler.Config{Name: "s", Store: &ill{under, c.members}}, GRPC: ls[0], HTTP: ls[1]})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Stop(context.Background()) }()
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			var said struct {
				Status string
				Checks []struct{ Status, Check, Text, Mend string }
			}
			for found := false; !found; time.Sleep(20 * time.Millisecond) {
				if t.Context().Err() != nil {
					t.Fatal("the members are not asked")
				}
				var o, e bytes.Buffer
				status := cli.Run(t.Context(), []string{"doctor", "-o", "json", "--server", ls[0].Addr().String()}, cli.Env{Stdout: &o, Stderr: &e})
				said.Checks = nil
				if err := json.Unmarshal(o.Bytes(), &said); err != nil {
					t.Fatalf("%v: %s %s", err, o.String(), e.String())
				}
				// Without a worker one check always fails.
				if status != cli.ExitFailed || said.Status != "fail" {
					t.Fatalf("exit %d, status %s", status, said.Status)
				}
				for _, one := range said.Checks {
					if one.Check+" "+one.Status == c.line {
						found = true
						if !strings.Contains(one.Text+one.Mend, c.said) {
							t.Errorf("%q, %q do not say %q", one.Text, one.Mend, c.said)
						}
						if (one.Status == "ok") != (one.Mend == "") {
							t.Errorf("%+v", one)
						}
					}
				}
			}
			var o, e bytes.Buffer
			if cli.Run(t.Context(), []string{"status", "--server", ls[0].Addr().String()}, cli.Env{Stdout: &o, Stderr: &e}) != 0 || !strings.Contains(o.String(), "http://10.0.0.1:2379") {
				t.Errorf("status says %s%s", o.String(), e.String())
			}
		})
	}
}

// TestDoctorAlone: where no scheduler answers it says so, and checks what is here.
func TestDoctorAlone(t *testing.T) {
	t.Parallel()
	var o, e bytes.Buffer
	status := cli.Run(t.Context(), []string{"doctor", "--server", "127.0.0.1:1", "--tls-ca", "/nowhere/ca.pem"}, cli.Env{Stdout: &o, Stderr: &e})
	for _, want := range []string{"scheduler 127.0.0.1:1", "fail", "--tls-ca", "only local checks were made"} {
		if !strings.Contains(o.String(), want) {
			t.Errorf("it does not say %q: %s", want, o.String())
		}
	}
	if status != cli.ExitFailed || e.Len() > 0 {
		t.Errorf("exit %d, %s", status, e.String())
	}
}
