package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/worker/agent"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// listedCommands are what the worker of jobCluster lists beside every job.
var listedCommands = []runner.Command{{Argv: []string{"seq", "{first:int}", "{last:int}"}}, {Argv: []string{"uname", "{what:one(-a|-m)}"}}, {Argv: []string{"seq", "-w", "{last:int}"}}}

// jobCluster is a scheduler and a worker that runs every job; it returns the
// gRPC address.
func jobCluster(t *testing.T) string {
	t.Helper()
	st := memory.New()
	t.Cleanup(func() { st.Close() })
	var ls [2]net.Listener
	for i := range ls {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ls[i] = l
	}
	node, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "s", Logger: slog.New(slog.DiscardHandler)}, GRPC: ls[0], HTTP: ls[1]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Stop(context.Background()) })
	addr := ls[0].Addr().String()
	w, err := worker.New(worker.Config{Name: "w", Schedulers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Config{
		Name: "w", Incarnation: w.Incarnation(), Runner: runner.Config{Dir: t.TempDir(), Allow: runner.Allow{Any: true, Commands: listedCommands}},
		Connect: func(context.Context) (*grpc.ClientConn, error) {
			return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Start()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(ctx, time.Second)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = w.Stop(context.Background())
	})
	return addr
}

// runRota runs a command line.
func runRota(t *testing.T, env map[string]string, stdin string, args ...string) (status int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	status = Run(t.Context(), args, Env{
		Stdin: strings.NewReader(stdin), Stdout: &o, Stderr: &e,
		Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
	})
	return status, o.String(), e.String()
}

// The shell is offered the commands that workers list, word by word, with how many list them.
func TestCompleteCommands(t *testing.T) {
	t.Parallel()
	env := map[string]string{"ROTA_SERVER": jobCluster(t)}
	if status, _, errs := runRota(t, env, "", "job", "run", "--wait", "--", "true"); status != 0 { // the worker is there
		t.Fatal(status, errs)
	}
	seq, width, what := "seq {first:int} {last:int}, 1 worker\n", "seq -w {last:int}, 1 worker\n", "uname {what:one(-a|-m)}, 1 worker\n"
	for args, want := range map[string]string{
		"job run --|":            "seq\t" + width + "seq\t" + seq + "uname\t" + what,
		"job run --|u":           "uname\t" + what,
		"job run --|uname|":      "-a\t" + what + "-m\t" + what,
		"job run --|uname|-a|":   "",
		"job run --|seq|":        "-w\t" + width,
		"job run --|seq|-w|":     "",
		"job run --|something|x": "",
	} {
		words := strings.Split(args, "|")
		args := append([]string{"__complete"}, append(strings.Fields(words[0]), words[1:]...)...)
		if status, out, errs := runRota(t, env, "", args...); status != 0 || out != want+":4\n" {
			t.Errorf("%v: %d %q %q, want %q", args, status, out, errs, want)
		}
	}
}

func TestJobCommands(t *testing.T) {
	t.Parallel()
	env := map[string]string{"ROTA_SERVER": jobCluster(t), "MINE": "passed on"}
	for _, c := range []struct {
		args      string
		stdin     string
		status    int
		out, errs string
	}{
		{args: "job run --wait -- sh -c|cat;echo $A,$MINE;echo no >&2;exit 3", stdin: "in ", status: 3, out: "in b=c,passed on\n", errs: "no\n"},
		{args: "job run --wait -- true"},
		{args: "job run --wait -- sh -c|kill -9 $$", status: 137},
		{args: "job run --wait --timeout 20ms -- sleep 1000", status: 1, errs: "rota: the job is timed-out: terminated\n"},
		{args: "job run --wait --worker nobody -- true", status: 1, errs: "rota: worker nobody: not found\n"},
		{args: "job run --wait -- no-such-program", status: 1, errs: "rota: the job failed: "},
		{args: "job run", status: 2, errs: "rota: "},
		{args: "job run --env =x -- true", status: 2, errs: "rota: --env"},
		{args: "job run --resource cpus -- true", status: 2, errs: "rota: --resource"},
		{args: "job run --label zone== -- true", status: 1, errs: "rota: require"},
		{args: "job get x", status: 1, errs: "rota: job x: not found\n"},
		{args: "job logs x", status: 1, errs: "rota: job x: not found\n"},
		{args: "job stop x", status: 1, errs: "rota: job x: not found\n"},
		{args: "job list --limit 0", status: 2, errs: "rota: --limit"},
	} {
		head, script, _ := strings.Cut(c.args, "|")
		args := strings.Fields(head)
		if script != "" {
			args = append(args, script)
		}
		if c.stdin != "" {
			args = append([]string{"job", "run", "--stdin", "-", "--env", "A=b=c", "--env", "MINE"}, args[2:]...)
		}
		status, out, errs := runRota(t, env, c.stdin, args...)
		if status != c.status || out != c.out || !strings.HasPrefix(errs, c.errs) || c.errs == "" && errs != "" {
			t.Errorf("%s: %d %q %q, want %d %q %q", c.args, status, out, errs, c.status, c.out, c.errs)
		}
	}
	_, out, _ := runRota(t, env, "", "job", "run", "--", "echo", "later")
	id := strings.TrimSpace(out)
	if status, out, errs := runRota(t, env, "", "job", "logs", "-f", id); status != 0 || out != "later\n" || errs != "" {
		t.Errorf("logs: %d %q %q", status, out, errs)
	}
	if status, out, _ := runRota(t, env, "", "job", "logs", "--offset", "-3", id); status != 0 || out != "er\n" {
		t.Errorf("its end: %d %q", status, out)
	}
	_, out, _ = runRota(t, env, "", "job", "list", "-o", "json", "--limit", "2")
	var list []struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 2 || list[0].ID != id {
		t.Errorf("%s, %v", out, err)
	}
	if status, out, _ := runRota(t, env, "", "job", "get", id); status != 0 || !strings.Contains(out, "echo later") {
		t.Errorf("get: %d %s", status, out)
	}
}

func TestCertAndTokenCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pki, tokens := filepath.Join(dir, "pki"), filepath.Join(dir, "tokens")
	for _, c := range []struct {
		args   string
		status int
	}{
		{"cert issue worker w", 1},
		{"cert init", 0},
		{"cert init", 1},
		{"cert issue worker w", 0},
		{"cert issue scheduler s", 2},
		{"cert issue scheduler s --host localhost", 0},
		{"cert issue king k", 2},
		{"cert renew worker w", 0},
		{"cert renew worker gone", 1},
		{"cert show", 0},
		{"cert show /no/such", 1},
		{"token list", 1},
		{"token create", 2},
		{"token create --role king", 2},
		{"token create --role viewer --life 1h", 0},
		{"token revoke gone", 1},
		{"token list", 0},
	} {
		args := strings.Fields(c.args)
		if args[0] == "cert" {
			args = append(args, "--dir", pki)
		} else {
			args = append(args, "--file", tokens)
		}
		if status, _, errs := runRota(t, nil, "", args...); status != c.status {
			t.Errorf("%s: %d %s", c.args, status, errs)
		}
	}
	_, out, _ := runRota(t, nil, "", "token", "create", "--role", "admin", "--name", "me", "--file", tokens, "-o", "json")
	var made struct {
		ID    string `json:"id"`
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || !strings.HasPrefix(made.Token, "rota_"+made.ID) {
		t.Fatalf("%s, %v", out, err)
	}
	kept, err := os.ReadFile(tokens)
	if err != nil || strings.Contains(string(kept), made.Token) || strings.Contains(string(kept), strings.TrimPrefix(made.Token, "rota_"+made.ID+"_")) {
		t.Errorf("the file keeps the secret: %v", err)
	}
	if status, _, errs := runRota(t, nil, "", "token", "revoke", made.ID, "--file", tokens); status != 0 {
		t.Error(errs)
	}
	if _, out, _ := runRota(t, nil, "", "token", "list", "--file", tokens); !strings.Contains(out, "revoked") || strings.Contains(out, made.Token) {
		t.Errorf("%s", out)
	}
}

// TestJobWaitInterrupted: a wait that the user ends says so by its status: nothing
// is known of how the job ends.
func TestJobWaitInterrupted(t *testing.T) {
	t.Parallel()
	env := map[string]string{"ROTA_SERVER": jobCluster(t)}
	ctx, cancel := context.WithCancel(t.Context())
	var errs bytes.Buffer
	ended, up := make(chan int, 1), make(toldWriter, 100)
	go func() {
		ended <- Run(ctx, []string{"job", "run", "--wait", "--", "sh", "-c", "echo up; exec sleep 1000"}, Env{
			Stdout: up, Stderr: &errs, Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
		})
	}()
	select {
	case <-up:
	case status := <-ended:
		t.Fatalf("status %d, %q", status, errs.String())
	}
	cancel()
	if status := <-ended; status != 130 || !strings.Contains(errs.String(), "the job goes on") {
		t.Errorf("status %d, %q", status, errs.String())
	}
}

// toldWriter says when something is written.
type toldWriter chan struct{}

func (w toldWriter) Write(p []byte) (int, error) {
	w <- struct{}{}
	return len(p), nil
}
