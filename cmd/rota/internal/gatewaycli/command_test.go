package gatewaycli_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/cmd/rota/internal/gatewaycli"
	"github.com/rota-project/rota/internal/test/memo"
	"github.com/rota-project/rota/internal/test/ports"
)

// TestMain has the commands find each other in a directory of the test's own.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "rota-command-*")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := os.Setenv("XDG_STATE_HOME", dir); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// failedCall makes POSTs until one fails, and returns its id.
func failedCall(t *testing.T, url string) string {
	t.Helper()
	for range 100 {
		resp, err := http.Post(url, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusBadGateway {
			return resp.Header.Get("X-Request-ID")
		}
	}
	t.Fatal("no call has failed")
	return ""
}

func run(ctx context.Context, out, errOut *memo.Buffer, args ...string) error {
	root := &cobra.Command{Use: "rota", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(gatewaycli.Commands()...)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	return root.ExecuteContext(ctx)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What an operator of olscheduler types, flags before and after the URLs.
func TestStartAndWorkers(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") }))
	t.Cleanup(up.Close)
	port := ports.Free(t)
	file := write(t, "ol.json", fmt.Sprintf(`{"port": %d, "balancer": "round-robin", "workers": [], "name": "suite"}`, port))
	ctx, stop := context.WithCancel(t.Context())
	var out, errOut memo.Buffer
	done := make(chan error, 1)
	go func() { done <- run(ctx, &out, &errOut, "start", "-c", file) }()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(errOut.String(), "gateway on http://"); {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("it never said that it listens")
		}
	}
	if !strings.Contains(errOut.String(), "unknown key") || !strings.Contains(errOut.String(), "name") {
		t.Errorf("nothing is said of the unknown key: %s", errOut.String())
	}
	var o, e memo.Buffer
	for _, args := range [][]string{
		{"workers", "add", "-c", file, up.URL},
		{"workers", "add", up.URL, "http://127.0.0.1:1", "--config", file},
		{"workers", "remove", "http://127.0.0.1:1", "-c", file},
		{"workers", "remove", "-c", file, "http://127.0.0.1:2"},
	} {
		if err := run(t.Context(), &o, &e, args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	resp, err := http.Post(fmt.Sprintf("http://localhost:%d/runLambda/f", port), "", nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	gw := fmt.Sprintf("localhost:%d", port)
	var list, one memo.Buffer
	if err := run(t.Context(), &list, &e, "route", "list", "--gateway", gw); err != nil || !strings.Contains(list.String(), "f ") {
		t.Errorf("route list: %v\n%s", err, list.String())
	}
	if err := run(t.Context(), &one, &e, "route", "get", "f", "--gateway", gw, "-o", "json"); err != nil || !strings.Contains(one.String(), `"next": "`+up.URL) {
		t.Errorf("route get: %v\n%s", err, one.String())
	}
	broken := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer broken.Close()
	if err := run(t.Context(), &o, &e, "workers", "add", "-c", file, broken.URL); err != nil {
		t.Fatal(err)
	}
	id := failedCall(t, fmt.Sprintf("http://localhost:%d/run/g", port))
	for want, args := range map[string][]string{
		id:                    {"route", "failures"},
		"may have run":        {"route", "failures", id},
		`"verdict":"may have`: {"route", "failures", "--function", "g", "-o", "jsonl"},
		`"id": "` + id:        {"route", "failures", id, "-o", "json"},
		"[]":                  {"route", "failures", "--function", "nobody", "-o", "json"},
		"last failures\nTIME": {"route", "get", "g"},
	} {
		var out memo.Buffer
		if err := run(t.Context(), &out, &e, append(args, "--gateway", gw)...); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%v: %v: no %q in\n%s", args, err, want, out.String())
		}
	}
	for _, args := range [][]string{
		{"route", "get", "nobody", "--gateway", gw},
		{"route", "failures", "nobody", "--gateway", gw},
		{"start", "-c", file}, // the port is in use
	} {
		if err := run(t.Context(), &o, &e, args...); err == nil || status(err) != 1 {
			t.Errorf("%v: %v, want status 1", args, err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("start ended with %v", err)
	}
	if err := run(t.Context(), &o, &e, "workers", "add", "-c", file, up.URL); err == nil || status(err) != 1 {
		t.Errorf("nobody is there: %v", err)
	}
}

func status(err error) int {
	var x interface{ ExitStatus() int }
	if errors.As(err, &x) {
		return x.ExitStatus()
	}
	return 1
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	bad := write(t, "bad.json", `{"prot": 1}`)
	good := write(t, "good.json", `{}`)
	badYAML := write(t, "gateway.yaml", "wokers: []")
	noRule := write(t, "gateway.yaml", "defaults: {balancer: fastest}")
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"start", "--strict", "-c", bad}, "prot"},
		{[]string{"start", "-c", "/nowhere.json"}, "/nowhere.json"},
		{[]string{"workers", "add", "-c", good, "http://a/path?x=1"}, "http://a/path?x=1"},
		{[]string{"gateway", "--config", badYAML}, "wokers"},
		{[]string{"gateway", "--config", noRule}, "defaults.balancer"},
		{[]string{"gateway", "--config", "/nowhere.yaml"}, "/nowhere.yaml"},
		{[]string{"route", "list", "-o", "xml"}, "xml"},
	} {
		var o, e memo.Buffer
		err := run(t.Context(), &o, &e, tc.args...)
		if err == nil || status(err) != 2 || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want status 2 and one line about %s", tc.args, err, tc.want)
		}
	}
	for _, args := range [][]string{{"workers", "add", "-c", good}, {"workers"}, {"route"}, {"start", "extra"}} {
		var o, e memo.Buffer
		if err := run(t.Context(), &o, &e, args...); err == nil {
			t.Errorf("%v: accepted", args)
		}
	}
	var o, e memo.Buffer
	if err := run(t.Context(), &o, &e, "gateway", "--check", "--config", write(t, "g.yaml", "workers: [http://a]")); err != nil || !strings.Contains(o.String(), "ok") {
		t.Errorf("--check: %v, %s", err, o.String())
	}
}

// TestOldArgs: every spelling of a flag that the old program took.
func TestOldArgs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"start -c f":                         "start -c f",
		"start --config f":                   "start --config f",
		"start -config f":                    "start --config f",
		"start -config=f":                    "start --config=f",
		"start --c f":                        "start -c f",
		"start --c=f":                        "start -c=f",
		"start -c=f":                         "start -c=f",
		"start -help":                        "start --help",
		"start --h":                          "start -h",
		"workers add -config f http://a":     "workers add --config f http://a",
		"workers remove http://a --c=f":      "workers remove http://a -c=f",
		"workers add -config=a=b -- -config": "workers add --config=a=b -- -config",
		"gateway -config f":                  "gateway -config f",
		"job run -- x -config f":             "job run -- x -config f",
		"":                                   "",
	} {
		args := strings.Fields(in)
		if got := strings.Join(gatewaycli.OldArgs(args), " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
		if strings.Join(args, " ") != in {
			t.Errorf("%s: the arguments were changed", in)
		}
	}
	file := write(t, "ol.json", `{"prot": 1}`)
	for _, spelling := range []string{"-c " + file, "-c=" + file, "--c " + file, "-config " + file, "-config=" + file, "--config " + file, "--config=" + file} {
		var o, e memo.Buffer
		err := run(t.Context(), &o, &e, gatewaycli.OldArgs(strings.Fields("start -strict "+spelling))...)
		if err == nil || !strings.Contains(err.Error(), file+": prot") {
			t.Errorf("%s: %v", spelling, err)
		}
	}
}

// lineOf is the line of a keys file as docs/gateway.md has it.
func lineOf(name, key string) string {
	return fmt.Sprintf("%s %x\n", name, sha256.Sum256([]byte(key)))
}

// A key that was made is on stdout, its hash in the file, and both fit together.
func TestKey(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	keys := map[string]string{}
	for _, name := range []string{"alice", "bob"} {
		var o, e memo.Buffer
		if err := run(t.Context(), &o, &e, "gateway", "key", name, "--file", file); err != nil || e.String() != "" {
			t.Fatal(err, e.String())
		}
		keys[strings.TrimSpace(o.String())] = name
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(b), "\n") != 2 || len(keys) != 2 {
		t.Fatalf("%s", b)
	}
	for key, name := range keys {
		if !strings.Contains(string(b), lineOf(name, key)) || strings.Contains(string(b), key) {
			t.Errorf("the line of %s is not in %s", name, b)
		}
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	var o, e memo.Buffer
	if err := run(t.Context(), &o, &e, "gateway", "key", "a b"); err == nil || !strings.Contains(err.Error(), "name: ") || o.String() != "" {
		t.Errorf("%v", err)
	}
	if err := run(t.Context(), &o, &e, "gateway", "key", "carol"); err != nil || !strings.HasPrefix(e.String(), lineOf("carol", strings.TrimSpace(o.String()))) {
		t.Errorf("%v, %q %q", err, o.String(), e.String())
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), &o, &e, "gateway", "key", "dave", "--file", file); err == nil || !strings.Contains(err.Error(), "file: ") {
		t.Errorf("a file that others may read: %v", err)
	}
}
