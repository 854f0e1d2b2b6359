package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/cmd/rota/internal/cli"
	"github.com/rota-project/rota/internal/test/fakecluster"
)

var update = flag.Bool("update", false, "rewrite golden files")

// serve returns a cluster of two workers and five tasks, and where it answers.
func serve(t *testing.T) (*fakecluster.Cluster, string) {
	t.Helper()
	c := fakecluster.New("w1", "w2")
	for i, id := range []string{"a", "b", "c/d", "e", "f"} {
		if err := c.Apply(rota.Task{ID: id, Group: fmt.Sprint("g", i%2), Weight: float64(i) + 0.5, Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	addr, stop, err := c.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return c, addr
}

// run runs a command line and returns what it did.
func run(t *testing.T, stdin string, env map[string]string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = cli.Run(t.Context(), args, cli.Env{
		Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
		Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
	})
	return status, out.String(), errs.String()
}

// TestJSON: the fields that others parse, as the contract has them.
func TestJSON(t *testing.T) {
	t.Parallel()
	_, addr := serve(t)
	env := map[string]string{"ROTA_SERVER": addr}
	for _, c := range []struct {
		args   string
		fields string
	}{
		{"task list", "id group key weight priority kind instances"},
		{"worker list", "name incarnation pid state zone labels instances weight lease_left_ms"},
		{"status", "leader epoch schedulers workers tasks imbalance"},
		{"plan --without w1", "moves summary"},
		{"task get a", "task source instances"},
		{"why a", "id instances"},
		{"worker get w1", "name state"},
	} {
		status, out, errs := run(t, "", env, append(strings.Fields(c.args), "-o", "json")...)
		if status != 0 || errs != "" {
			t.Errorf("%s: %d %s", c.args, status, errs)
			continue
		}
		var one map[string]any
		if strings.HasSuffix(c.args, " list") {
			var list []map[string]any
			if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) == 0 {
				t.Errorf("%s: no array: %s", c.args, out)
				continue
			}
			one = list[0]
		} else if err := json.Unmarshal([]byte(out), &one); err != nil {
			t.Errorf("%s: %v: %s", c.args, err, out)
		}
		for _, f := range strings.Fields(c.fields) {
			if _, there := one[f]; !there {
				t.Errorf("%s: no field %s in %v", c.args, f, one)
			}
		}
		_, lines, _ := run(t, "", env, append(strings.Fields(c.args), "-o", "jsonl")...)
		for line := range strings.Lines(lines) {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s -o jsonl: %q", c.args, line)
			}
		}
	}
	var tasks []struct {
		Instances []struct {
			Index      *int    `json:"index"`
			Worker     *string `json:"worker"`
			Generation *uint64 `json:"generation"`
			State      *string `json:"state"`
			Since      *string `json:"since"`
		} `json:"instances"`
	}
	_, out, _ := run(t, "", env, "task", "list", "-o", "json")
	if err := json.Unmarshal([]byte(out), &tasks); err != nil || len(tasks) != 5 {
		t.Fatal(err, out)
	}
	if in := tasks[0].Instances[0]; in.Index == nil || in.Worker == nil || in.Generation == nil || in.State == nil || in.Since == nil {
		t.Errorf("an instance lacks a field: %s", out)
	}
}

// TestTables compares what people see with testdata.
func TestTables(t *testing.T) {
	t.Parallel()
	_, addr := serve(t)
	var got strings.Builder
	for _, args := range []string{
		"task list --group g0", "task list --prefix c", "task list --state waiting", "worker list", "worker get w2", "status",
		"plan --without w1", "plan", "why c/d", "worker cordon w2", "worker drain w2", "worker list", "worker undrain w2",
		"schedule notify", "task delete a c/d", "worker drain w1", "worker drain w2", "why b", "plan --without w1 --without w2",
	} {
		status, out, errs := run(t, "", nil, append(strings.Fields(args), "--server", addr)...)
		fmt.Fprintf(&got, "$ rota %s\n%s%s", args, out, errs)
		if status != 0 {
			fmt.Fprintf(&got, "exit status %d\n", status)
		}
		got.WriteByte('\n')
	}
	// How long ago the fixed times of the cluster are is all that changes.
	text := ages(got.String())
	golden := filepath.Join("testdata", "tables.txt")
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

// ages replaces "266d" by "AGE" so that the text is the same tomorrow.
func ages(s string) string {
	var b strings.Builder
	for word := range strings.SplitAfterSeq(s, "d") {
		trimmed := strings.TrimRight(strings.TrimSuffix(word, "d"), "0123456789")
		if digits := len(word) - 1 - len(trimmed); strings.HasSuffix(word, "d") && digits > 0 && strings.HasSuffix(trimmed, " ") {
			b.WriteString(trimmed + "AGE")
			continue
		}
		b.WriteString(word)
	}
	return b.String()
}

func TestApply(t *testing.T) {
	t.Parallel()
	_, addr := serve(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "more.yaml")
	if err := os.WriteFile(file, []byte("- id: new\n  weight: 3\n- id: a\n  group: other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(dir, "wrong.yaml")
	if err := os.WriteFile(wrong, []byte("- id: new2\n- id: x\n  weigth: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stdin, args string
		status      int
		out, errs   string
	}{
		{"", "-f " + file + " --dry-run", 0, "would be: 1 created, 1 changed, 0 unchanged\n", ""},
		{"", "-f " + file, 0, "1 created, 1 changed, 0 unchanged\n", ""},
		{"", "-f " + file + " -o jsonl", 0, `{"created":0,"changed":0,"unchanged":2}` + "\n", ""},
		{"id,weight\nfrom-csv,5\n", "-f -", 0, "1 created, 0 changed, 0 unchanged\n", ""},
		{"from,to\nA,B\n", "-f - --format csv --column id={from}/{to}", 0, "1 created, 0 changed, 0 unchanged\n", ""},
		{"", "-f " + wrong, 1, "", "rota: " + wrong + ":3: task 2: weigth: unknown field: want one of id, "},
		{"- id: new\n", "-f " + file + " -f -", 1, "", "rota: standard input: id: \"new\": want an id of its own; " + file},
		{"", "-f " + dir + "/not.yaml", 1, "", "rota: open " + dir + "/not.yaml: no such file or directory"},
		{"", "", 2, "", "rota: -f: want a file"},
		{"", "-f - --column id", 2, "", "rota: --column: \"id\": want FIELD=TEXT"},
	} {
		status, out, errs := run(t, c.stdin, map[string]string{"ROTA_SERVER": addr}, append([]string{"task", "apply"}, strings.Fields(c.args)...)...)
		if status != c.status || out != c.out || !strings.HasPrefix(errs, c.errs) || strings.Count(errs, "\n") > 1 {
			t.Errorf("apply %s: %d %q %q, want %d %q %q", c.args, status, out, errs, c.status, c.out, c.errs)
		}
	}
	// What get prints can be applied again.
	_, detail, _ := run(t, "", nil, "task", "get", "new", "-o", "json", "--server", addr)
	var got struct {
		Task json.RawMessage `json:"task"`
	}
	if err := json.Unmarshal([]byte(detail), &got); err != nil {
		t.Fatal(err)
	}
	if status, out, errs := run(t, string(got.Task), nil, "task", "apply", "-f", "-", "--server", addr); status != 0 || out != "0 created, 0 changed, 1 unchanged\n" {
		t.Errorf("%d %s %s", status, out, errs)
	}
}

// TestExitStatus: 1 for what failed, 2 for what was asked wrongly; one line each.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	_, addr := serve(t)
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := closed.Addr().String()
	secured := httptest.NewUnstartedServer(http.NotFoundHandler()) // vouched for by nobody here
	secured.EnableHTTP2, secured.Config.ErrorLog = true, log.New(io.Discard, "", 0)
	secured.StartTLS()
	t.Cleanup(secured.Close)
	tls := secured.Listener.Addr().String()
	others := filepath.Join(t.TempDir(), "pki")
	if status, _, errs := run(t, "", nil, "cert", "init", "--dir", others); status != 0 {
		t.Fatal(errs)
	}
	_ = closed.Close()
	for args, want := range map[string]struct {
		status int
		says   string
	}{
		"doctor --etcd http://127.0.0.1:1 --root x": {2, "are for peer clusters"},
		"status --server " + addr:                   {0, ""},
		"status --server " + dead + "," + addr:      {0, ""},
		"version":                                   {0, ""},
		"worker --exec hold={{.Nope}}":              {2, "exec.hold"},
		"worker --job {a:zz}":                       {2, `job: "{a:zz}": want`},
		"worker --job any --job-memory 1":           {2, "job_memory: 1: want a cgroup v2"},
		"worker --job any --job-user no-such":       {2, `job_user: "no-such": want a user`},
		"worker --job any --job-cgroup /":           {2, `job_cgroup: "/": want a directory of cgroup v2`},
		"task get nope --server " + addr:            {1, `task "nope": not found`},
		"task delete a nope --server " + addr:       {1, `task "nope": not found`},
		"worker drain nope --server " + addr:        {1, `worker "nope": not found`},
		"status --server " + dead:                   {1, "no scheduler answers (" + dead + ": dial tcp"},
		"status --server " + tls:                    {1, "only one side uses TLS (--tls-ca)"},
		"status --server " + tls + " --tls-ca " + filepath.Join(others, "ca.crt"): {1, tls + ": TLS: tls: failed to verify certificate: x509"},
		"status --timeout 1ns --server " + addr:                                   {1, "deadline exceeded"},
		"status --server nowhere":                                                 {2, `--server: "nowhere": want host:port`},
		"status --timeout 0s":                                                     {2, "--timeout"},
		"status -o xml":                                                           {2, `--output: "xml": want table, json or jsonl`},
		"status extra":                                                            {2, "unknown command"},
		"status --nope":                                                           {2, "unknown flag"},
		"nope":                                                                    {2, `unknown command "nope"`},
		"task":                                                                    {2, "rota task needs a command"},
		"task nope":                                                               {2, `unknown command "nope"; rota task has `},
		"task get":                                                                {2, "rota: want rota task get TASK, found 0 arguments"},
		"task list --watch -o json":                                               {2, "--watch"},
		"plan --with -1 --server " + addr:                                         {2, "--with"},
		"config check scheduler --http 0.0.0.0:80":                                {2, "--http"},
		"config show worker --config /not/there":                                  {2, "--config: open /not/there"},
		"config check worker":                                                     {0, ""},
	} {
		status, out, errs := run(t, "", nil, strings.Fields(args)...)
		if status != want.status || !strings.Contains(errs, want.says) {
			t.Errorf("rota %s: %d %q %q, want %d %q", args, status, out, errs, want.status, want.says)
		}
		if status != 0 && (strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "rota: ") || out != "") {
			t.Errorf("rota %s: %q on standard error, %q on standard output", args, errs, out)
		}
	}
}

func TestConfigShow(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rota.toml")
	if err := os.WriteFile(file, []byte("zone = 'z'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"ROTA_CONFIG": file, "ROTA_STRENGTH": "2"}
	status, out, errs := run(t, "", env, "config", "show", "worker", "--max-tasks=7", "-o", "json")
	var settings []struct {
		Key    string `json:"key"`
		Value  any    `json:"value"`
		Source string `json:"source"`
		Where  string `json:"where"`
	}
	if err := json.Unmarshal([]byte(out), &settings); err != nil || status != 0 {
		t.Fatal(status, errs, err)
	}
	got := map[string]string{}
	for _, s := range settings {
		got[s.Key] = fmt.Sprint(s.Value, " ", s.Source, " ", s.Where)
	}
	for key, want := range map[string]string{
		"zone": "z file " + file + ":1", "strength": "2 environment ROTA_STRENGTH", "max_tasks": "7 flag --max-tasks",
		"schedulers": "[127.0.0.1:50000] default ",
	} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}
	if _, table, _ := run(t, "", env, "config", "show", "worker"); !strings.Contains(table, "environment ROTA_STRENGTH\n") {
		t.Error(table)
	}
}

// TestWatch: what is, then each change, until the user ends it.
func TestWatch(t *testing.T) {
	t.Parallel()
	cluster, addr := serve(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	done := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		done <- cli.Run(ctx, []string{"task", "list", "--watch", "--group", "g0", "-o", "jsonl", "--server", addr},
			cli.Env{Stdin: strings.NewReader(""), Stdout: w, Stderr: &errs})
		_ = w.Close()
	}()
	lines := bufio.NewScanner(r)
	next := func() string {
		if !lines.Scan() {
			t.Fatalf("the watch ended: %v %s", lines.Err(), &errs)
		}
		var ev struct {
			Type string `json:"type"`
			Task struct {
				ID string `json:"id"`
			} `json:"task"`
		}
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(ev.Type + " " + ev.Task.ID)
	}
	var got []string
	for range 4 {
		got = append(got, next())
	}
	if err := cluster.Apply(rota.Task{ID: "z1", Group: "g1"}, rota.Task{ID: "z0", Group: "g0"}); err != nil {
		t.Fatal(err)
	}
	got = append(got, next())
	if want := []string{"set a", "set c/d", "set f", "synced", "set z0"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	stop()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if status := <-done; status != 0 {
		t.Errorf("a watch that was interrupted: exit status %d, %s", status, &errs)
	}
}

func TestColour(t *testing.T) {
	t.Parallel()
	_, addr := serve(t)
	for _, c := range []struct {
		env      map[string]string
		terminal bool
		want     bool
	}{{nil, true, true}, {nil, false, false}, {map[string]string{"NO_COLOR": "1"}, true, false}} {
		var out bytes.Buffer
		cli.Run(t.Context(), []string{"worker", "list", "--server", addr}, cli.Env{
			Stdout: &out, Stderr: io.Discard, Terminal: c.terminal,
			Lookup: func(k string) (string, bool) { v, ok := c.env[k]; return v, ok },
		})
		if got := strings.Contains(out.String(), "\x1b["); got != c.want {
			t.Errorf("%+v: colours %v", c, got)
		}
	}
}

// TestNoEscapes: what a task says never reaches the terminal as a command to it.
func TestNoEscapes(t *testing.T) {
	t.Parallel()
	cluster, addr := serve(t)
	if err := cluster.Apply(rota.Task{ID: "evil", Payload: []byte("\x1b]0;title\a\nrow")}); err != nil {
		t.Fatal(err)
	}
	if _, out, _ := run(t, "", nil, "task", "get", "evil", "--server", addr); strings.ContainsAny(out, "\x1b\a") || strings.Contains(out, "\nrow") {
		t.Errorf("%q", out)
	}
}

// TestWhyOfNobody: a name that is nobody's may have been meant for any of three.
func TestWhyOfNobody(t *testing.T) {
	t.Parallel()
	_, addr := serve(t)
	status, _, errs := run(t, "", map[string]string{"ROTA_SERVER": addr}, "why", "nobody")
	if want := "rota: no task, job or worker is called \"nobody\"\n"; status != cli.ExitFailed || errs != want {
		t.Errorf("%d %q, want %q", status, errs, want)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	_, addr := serve(t)
	status, out, _ := run(t, "", map[string]string{"ROTA_SERVER": addr}, "__complete", "worker", "drain", "")
	if status != 0 || !strings.HasPrefix(out, "w1\nw2\n") {
		t.Errorf("%d %q", status, out)
	}
	if _, out, _ = run(t, "", map[string]string{"ROTA_SERVER": addr}, "__complete", "why", "c"); !strings.HasPrefix(out, "c/d\n") {
		t.Errorf("%q", out)
	}
	if status, out, _ = run(t, "", nil, "completion", "bash"); status != 0 || !strings.Contains(out, "rota") {
		t.Errorf("%d %.40q", status, out)
	}
}

// TestRolesAskNobody: the flags of commands that ask a cluster are none of the
// roles', nor is what the environment says to them.
func TestRolesAskNobody(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"scheduler", "worker", "dev"} {
		status, out, _ := run(t, "", nil, role, "--help")
		if status != 0 || !strings.Contains(out, "--log-level") || strings.Contains(out, "--server ") || strings.Contains(out, "Global Flags") {
			t.Errorf("%s --help: %d\n%s", role, status, out)
		}
		status, out, errs := run(t, "", nil, role, "--server", "127.0.0.1:1")
		if status != 2 || out != "" || !strings.Contains(errs, "--server") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s --server: %d %q %q", role, status, out, errs)
		}
		status, _, errs = run(t, "", map[string]string{"ROTA_SERVER": "nowhere"}, role, "--log-level", "loud")
		if status != 2 || !strings.Contains(errs, "log-level") {
			t.Errorf("%s with a server in the environment: %d %q", role, status, errs)
		}
	}
	for _, asks := range []string{"worker list", "task list"} {
		if status, out, _ := run(t, "", nil, append(strings.Fields(asks), "--help")...); status != 0 || !strings.Contains(out, "--server ") {
			t.Errorf("%s --help: %d\n%s", asks, status, out)
		}
	}
}
