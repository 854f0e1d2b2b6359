package nomad

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"go.uber.org/goleak"

	"github.com/rota-project/rota/engine/internal/room"
	"github.com/rota-project/rota/internal/secretfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func orderOf(worker string, options map[string]string) room.Order {
	return room.Order{
		Cluster: "c", Pool: "web", Worker: worker, Argv: []string{"rota", "worker", "--exec", "web=it's {ID:word}"}, Token: "rotajoin_secret",
		Env: map[string]string{"ROTA_NAME": worker, "ROTA_LABELS": "a=b'c"}, Options: options,
	}
}

// TestContract holds Nomad to what the engine takes it for: the double, or with
// ROTA_NOMAD_ADDR a real agent (make engines).
func TestContract(t *testing.T) {
	t.Parallel()
	var e *Engine
	if addr := os.Getenv("ROTA_NOMAD_ADDR"); addr != "" {
		e = against(t, addr, "")
	} else {
		_, e = newDouble(t)
	}
	ctx := t.Context()
	find := func(worker string) *room.Copy {
		t.Helper()
		e.listing.Forget()
		list, err := e.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Worker == worker {
				return &c
			}
		}
		return nil
	}
	until := func(worker string, is func(c room.Copy) bool) room.Copy {
		t.Helper()
		for {
			c := find(worker)
			if c != nil && is(*c) {
				return *c
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("it stays %+v", c)
			}
		}
	}
	secrets := func() int {
		t.Helper()
		list, _, err := e.client.Variables().PrefixList(jobsPath+prefix, nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}

	// More than any node has: it waits, and its token is not in the job.
	big := orderOf("pool.web.big", map[string]string{"memory": "60000000", "cpu": "20"})
	h, err := e.Start(ctx, big)
	if err != nil || h != "default/rota-pool-web-big" {
		t.Fatalf("handle %q, error %v", h, err)
	}
	c := until(big.Worker, func(c room.Copy) bool { return c.Detail == "pending: no room: exhausted: memory on 1 node" })
	if c.State != room.Waiting || c.Handle != h || c.Cluster != "c" || c.Pool != "web" {
		t.Errorf("%+v", c)
	}
	if n := secrets(); n != 1 {
		t.Errorf("%d variables", n)
	}
	if os.Getenv("ROTA_NOMAD_ADDR") != "" {
		job, _, err := e.client.Jobs().Info("rota-pool-web-big", nil)
		text, err2 := json.Marshal(job)
		if err != nil || err2 != nil || strings.Contains(string(text), "rotajoin_") {
			t.Errorf("error %v, job %s", err, text)
		}
	}
	// Once more is refused, and the first stays.
	if _, err := e.Start(ctx, big); err == nil || strings.Contains(err.Error(), "rotajoin_") {
		t.Errorf("error %v", err)
	}
	if n := secrets(); find(big.Worker) == nil || n != 1 {
		t.Errorf("the first is gone, or its token: %d variables", n)
	}
	for range 2 { // twice is as good as once
		if err := e.Stop(ctx, h); err != nil {
			t.Error(err)
		}
	}
	until(big.Worker, func(c room.Copy) bool { return c.State == room.Ended })
	find(big.Worker)
	if n := secrets(); n != 0 {
		t.Errorf("%d variables are left", n)
	}

	// Where there is none of what a pool says nothing is started, and nothing left.
	for _, o := range []room.Order{orderOf("pool.web.n", map[string]string{"namespace": "nope"}), orderOf("pool.web.p", map[string]string{"node_pool": "nope"})} {
		if h, err := e.Start(ctx, o); err == nil || errors.Is(err, room.ErrUnsure) || !strings.Contains(err.Error(), "nonexistent") || strings.Contains(err.Error(), "rotajoin_") {
			t.Errorf("%v: handle %q, error %v", o.Options, h, err)
		}
		if c := find(o.Worker); c != nil {
			t.Errorf("%+v", c)
		}
	}
	if n := secrets(); n != 0 {
		t.Errorf("%d variables are left", n)
	}
	// What is asked of nodes is understood.
	if err := e.draining(ctx, &seen{allocs: map[string][]*api.AllocationListStub{"": {stub("j", "a", "running", time.Now(), 1)}}}); err != nil {
		t.Error(err)
	}
	for _, h := range []string{"", "x", "default/rota-pool-none", "default/other"} {
		if err := e.Stop(ctx, h); err != nil {
			t.Errorf("%q: %v", h, err)
		}
	}
}

// TestJob: what Nomad is told of a worker.
func TestJob(t *testing.T) {
	t.Parallel()
	_, e := newDouble(t)
	o := orderOf("pool.web.x", map[string]string{
		"datacenters": "dc1,dc2", "node_pool": "batch", "driver": "exec", "constraint": "${attr.cpu.arch} = amd64", "priority": "70", "cpu": "500", "memory": "256",
		"memory_max": "512", "kill_timeout": "5m", "user": "rota", "dir": "/scratch", "rota": "/usr/bin/rota",
	})
	j := e.job(o, "ns")
	text, err := json.Marshal(j)
	if err != nil || strings.Contains(string(text), o.Token) {
		t.Errorf("error %v, job %s", err, text)
	}
	g := j.TaskGroups[0]
	task := g.Tasks[0]
	got := []any{
		*j.ID, *j.Name, *j.Namespace, *j.Type, j.Datacenters, *j.NodePool, *j.Priority, *j.Constraints[0], task.Driver, task.User, task.Config,
		*task.KillTimeout, task.KillSignal, *task.Resources.CPU, *task.Resources.MemoryMB, *task.Resources.MemoryMaxMB, task.Env,
		*g.Count, *g.RestartPolicy.Attempts, *g.ReschedulePolicy.Attempts, *g.ReschedulePolicy.Unlimited, *g.Disconnect.Replace,
	}
	want := []any{
		"rota-pool-web-x", "pool.web.x", "ns", "batch",
		[]string{"dc1", "dc2"},
		"batch", 70,
		api.Constraint{LTarget: "${attr.cpu.arch}", Operand: "=", RTarget: "amd64"},
		"exec", "rota",
		map[string]any{"command": "/usr/bin/rota", "args": []string{"worker", "--exec", "web=it's {ID:word}"}, "work_dir": "/scratch"},
		5 * time.Minute, "SIGTERM", 500, 256, 512, o.Env,
		1, 0, 0, false, false,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	j = e.job(orderOf("pool.web.x", nil), "ns")
	task = j.TaskGroups[0].Tasks[0]
	if task.Driver != "raw_exec" || task.Config["command"] != "/opt/rota" || *task.KillTimeout != killTimeout || !slices.Equal(j.Datacenters, []string{"*"}) {
		t.Errorf("%+v %v", task, j.Datacenters)
	}
}

// TestStartFails: nothing was started, or nobody knows.
func TestStartFails(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		on     string
		status int
		text   string
		want   string
		is     error
		left   bool // the token
	}{
		{"PUT /v1/var/", 403, "Permission denied", "write variable nomad/jobs/rota-pool-web-x: nomad answers 403: Permission denied", nil, false},
		{"PUT /v1/jobs", 403, "Permission denied", "nomad answers 403: Permission denied", nil, false},
		{"PUT /v1/jobs", 400, "1 error occurred: * bad", "400: 1 error occurred: * bad", nil, false},
		{"PUT /v1/jobs", 500, "quota limit reached", "quota limit", room.ErrNoRoom, false},
		{"PUT /v1/jobs", 500, "No cluster leader", "No cluster leader", room.ErrUnsure, true},
		{"PUT /v1/jobs", 502, "", "502", room.ErrUnsure, true},
	} {
		d, e := newDouble(t)
		d.fails = func(r *http.Request) (int, string) {
			if strings.HasPrefix(r.Method+" "+r.URL.Path, tc.on) {
				return tc.status, tc.text
			}
			return 0, ""
		}
		_, err := e.Start(t.Context(), orderOf("pool.web.x", nil))
		if err == nil || !strings.Contains(err.Error(), "start pool.web.x: ") || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "rotajoin_") {
			t.Errorf("%+v: error %v", tc, err)
		}
		for _, kind := range []error{room.ErrNoRoom, room.ErrUnsure} {
			if errors.Is(err, kind) != (tc.is == kind) { //nolint:errorlint // which of the two it is
				t.Errorf("%v is %v", err, kind)
			}
		}
		if (len(d.vars) > 0) != tc.left {
			t.Errorf("%+v: variables %v", tc, d.vars)
		}
	}
	// The engine is not there: nothing was sent.
	e := against(t, "http://127.0.0.1:1", "")
	if _, err := e.Start(t.Context(), orderOf("pool.web.x", nil)); err == nil || errors.Is(err, room.ErrUnsure) || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	if _, err := e.List(t.Context()); err == nil || !strings.Contains(err.Error(), "list variables: nomad: dial tcp") {
		t.Errorf("error %v", err)
	}
}

// stub is an allocation of a worker's job.
func stub(job, id, status string, began time.Time, index uint64) *api.AllocationListStub {
	a := &api.AllocationListStub{ID: id, JobID: job, Namespace: "default", NodeID: "n1", NodeName: "one", ClientStatus: status, DesiredStatus: "run", CreateIndex: index}
	if !began.IsZero() {
		a.TaskStates = map[string]*api.TaskState{taskName: {StartedAt: began, Events: []*api.TaskEvent{
			{Type: api.TaskTerminated, DisplayMessage: "Exit Code: 3"}, {Type: api.TaskNotRestarting, DisplayMessage: "Policy allows no restarts"},
		}}}
	}
	return a
}

// TestList: what becomes of allocations, and of tokens.
func TestList(t *testing.T) {
	t.Parallel()
	d, e := newDouble(t)
	began := time.Unix(1000, 0).UTC()
	for _, w := range []string{"a", "b", "c", "d", "e", "f"} {
		if _, err := e.Start(t.Context(), orderOf("pool.web."+w, nil)); err != nil {
			t.Fatal(err)
		}
	}
	drained := began.Add(time.Hour)
	d.mu.Lock()
	d.jobs["rota-pool-other"] = &api.Job{ID: ptr("rota-pool-other"), Name: ptr("other"), TaskGroups: d.jobs["rota-pool-web-a"].TaskGroups}
	d.nodes = []*api.Node{{ID: "n1", Name: "one", Drain: true, DrainStrategy: &api.DrainStrategy{StartedAt: drained, ForceDeadline: drained.Add(time.Hour)}}}
	lost := stub("rota-pool-web-e", "e2", "pending", time.Time{}, 9)
	d.allocs = []*api.AllocationListStub{
		lost,
		stub("rota-pool-web-a", "a1", "running", began, 1), stub("rota-pool-web-b", "b1", "failed", began, 2), stub("rota-pool-web-c", "c1", "unknown", began, 3),
		stub("rota-pool-web-d", "d1", "pending", time.Time{}, 4), stub("rota-pool-web-e", "e1", "lost", began, 5), stub("other", "o1", "running", began, 6),
	}
	d.mu.Unlock()
	e.listing.Every = time.Hour
	e.listing.Forget()
	got, err := e.List(t.Context())
	base := func(w string, s room.State, detail string, began time.Time) room.Copy {
		return room.Copy{Cluster: "c", Pool: "web", Worker: "pool.web." + w, Handle: "default/rota-pool-web-" + w, State: s, Detail: detail, Began: began}
	}
	want := []room.Copy{
		base("a", room.Running, "running on one", began), base("b", room.Ended, "failed on one: Exit Code: 3", began),
		base("c", room.Ended, "unknown on one: Nomad does not hear of the node", began), base("d", room.Waiting, "pending on one", time.Time{}),
		base("e", room.Ended, "lost on one: Exit Code: 3", began), base("e", room.Waiting, "pending on one", time.Time{}), base("f", room.Waiting, "pending", time.Time{}),
	}
	want[0].Ends = drained.Add(drainWithin)
	want[5].Handle += "/e2"
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("error %v, got %+v\nwant %+v", err, got, want)
	}
	left := []string{}
	for path := range d.vars {
		left = append(left, strings.TrimPrefix(path, jobsPath+prefix))
	}
	if slices.Sort(left); !slices.Equal(left, []string{"web-d", "web-f"}) {
		t.Errorf("tokens that are left: %q", left)
	}
	asked := len(d.asked)
	if again, err := e.List(t.Context()); err != nil || len(d.asked) != asked || !reflect.DeepEqual(again, want) {
		t.Errorf("error %v, got %+v, asked %v", err, again, d.asked[asked:])
	}
	// One copy among several is asked by itself.
	if err := e.Stop(t.Context(), "default/rota-pool-web-e/e2"); err != nil || d.asked[len(d.asked)-1] != "PUT /v1/client/allocation/e2/signal" || d.stopped["rota-pool-web-e"] {
		t.Errorf("error %v, asked %q", err, d.asked[len(d.asked)-1])
	}
	// A token whose job never came is deleted in the end.
	d.vars["nomad/jobs/rota-pool-none"] = &api.Variable{Path: "nomad/jobs/rota-pool-none"}
	for range 2 {
		e.listing.Forget()
		if _, err := e.List(t.Context()); err != nil || d.vars["nomad/jobs/rota-pool-none"] == nil {
			t.Errorf("error %v, variables %v", err, d.vars)
		}
	}
	e.orphans["default/rota-pool-none"] = time.Now().Add(-orphanFor)
	e.listing.Forget()
	if _, err := e.List(t.Context()); err != nil || d.vars["nomad/jobs/rota-pool-none"] != nil {
		t.Errorf("error %v, variables %v", err, d.vars)
	}
}

// TestListFails: an answer that is not whole is none.
func TestListFails(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/vars", "/v1/jobs", "/v1/allocations", "/v1/evaluations"} {
		d, e := newDouble(t)
		if _, err := e.Start(t.Context(), orderOf("pool.web.x", nil)); err != nil {
			t.Fatal(err)
		}
		d.fails = func(r *http.Request) (int, string) {
			if r.URL.Path == path {
				return 500, "No cluster leader"
			}
			return 0, ""
		}
		if list, err := e.List(t.Context()); err == nil || !strings.Contains(err.Error(), "nomad answers 500: No cluster leader") || len(list) > 0 {
			t.Errorf("%s: error %v, %+v", path, err, list)
		}
	}
}

// TestToken: the file is read anew at each request, and its token never told.
func TestToken(t *testing.T) {
	t.Parallel()
	d, _ := newDouble(t)
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	server := newServer(t, d)
	e := against(t, server, file)
	var shown []string
	d.fails = func(r *http.Request) (int, string) {
		shown = append(shown, r.Header.Get("X-Nomad-Token"))
		return 0, ""
	}
	for _, token := range []string{"first", "second"} {
		write(token + "\n")
		e.listing.Forget()
		if _, err := e.List(t.Context()); err != nil || len(shown) == 0 || shown[len(shown)-1] != token {
			t.Errorf("error %v, shown %q", err, shown)
		}
	}
	for _, text := range []string{"", "two words", "a\x00b"} {
		write(text)
		e.listing.Forget()
		if _, err := e.List(t.Context()); err == nil || !strings.Contains(err.Error(), "token of Nomad") || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: error %v", text, err)
		}
		if _, err := open(Config{TokenFile: file}, &api.Config{Address: server, TLSConfig: &api.TLSConfig{}}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	write("third\n")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	e.listing.Forget()
	if _, err := e.List(t.Context()); !errors.Is(err, secretfile.ErrOpen) {
		t.Errorf("a file that others may read: error %v", err)
	}
	for _, addr := range []string{"nomad:4646", "ftp://nomad", "http://", "://"} {
		if _, err := open(Config{}, &api.Config{Address: addr, TLSConfig: &api.TLSConfig{}}); err == nil || !strings.Contains(err.Error(), "NOMAD_ADDR") {
			t.Errorf("%q: error %v", addr, err)
		}
	}
	if _, err := open(Config{}, &api.Config{Address: server, TLSConfig: &api.TLSConfig{CACert: "/none"}}); err == nil || !strings.Contains(err.Error(), "NOMAD_CACERT") {
		t.Errorf("error %v", err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for value, ok := range map[string]bool{
		"namespace=batch": true, "namespace=": false, "namespace=a/b": false, "node_pool=gpu": true, "datacenters=dc1,dc-2": true, "datacenters=*": true, "datacenters=a b": false,
		"driver=exec": true, "driver=raw_exec": true, "driver=docker": false, "constraint=${node.class} = batch": true, "constraint=${attr.x} is_set": true, "constraint=x": false,
		"priority=50": true, "priority=0": false, "priority=101": false, "cpu=500": true, "cpu=0": false, "cores=2": true, "memory=256": true, "memory=1": false, "memory=4G": false,
		"kill_timeout=2m": true, "kill_timeout=0s": false, "kill_timeout=2": false, "user=nobody": true, "user=a b": false, "dir=/scratch": true, "dir=tmp": false, "rota=/a\nb": false,
	} {
		name, v, _ := strings.Cut(value, "=")
		check := Options()[name]
		if check == nil {
			t.Fatalf("no option %s", name)
		}
		if want := check(v); (want == "") != ok {
			t.Errorf("%s: %q", value, want)
		}
	}
}
