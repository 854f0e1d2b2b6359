//go:build unix

package slurm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/engine/internal/room"
	"github.com/rota-project/rota/internal/process"

	"go.uber.org/goleak"
)

// TestMain is also each program that a test has a script for: a file that has just been
// written cannot be run safely while others start processes.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SCRIPTS"); dir != "" {
		script := filepath.Join(dir, filepath.Base(os.Args[0])+".sh")
		fmt.Fprintln(os.Stderr, syscall.Exec("/bin/sh", append([]string{"sh", script}, os.Args[1:]...), os.Environ()))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// program puts a program into dir that runs a script.
func program(t *testing.T, dir, name, script string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(self, filepath.Join(dir, name)), os.WriteFile(filepath.Join(dir, name+".sh"), []byte(script), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// slurm is an engine whose commands are scripts of the test. Each writes its name and
// arguments to the file "calls".
func slurm(t *testing.T, scripts map[string]string) (e *Engine, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, script := range scripts {
		program(t, dir, name, "echo \""+name+" $*\" >>$SCRIPTS/calls\n"+script)
	}
	e = New(Config{Self: "/opt/rota"})
	e.env = []string{"PATH=" + dir + ":" + process.DefaultPath, "SCRIPTS=" + dir}
	return e, dir
}

func calls(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

var order = room.Order{
	Cluster: "c", Pool: "web", Worker: "pool.web.x", Argv: []string{"rota", "worker", "--exec", "web=it's {ID:word} $HOME `id`"}, Token: "secret",
	Env: map[string]string{"ROTA_LABELS": "a=b'c", "ROTA_OTLP_ENDPOINT": "http://a:4317"}, Options: map[string]string{"time": "2h", "partition": "long", "memory": "4G"},
}

// TestStart: what sbatch is told, and what the script that it gets does.
func TestStart(t *testing.T) {
	t.Parallel()
	e, dir := slurm(t, map[string]string{"sbatch": "cat >$SCRIPTS/script; echo '17;cluster'"})
	// The script runs a program of the test's in the place of rota.
	e.cfg.Self = filepath.Join(dir, "it's me")
	program(t, dir, "it's me", `printf '%s|' "$ROTA_JOIN_TOKEN" "$ROTA_LABELS" "$ROTA_OTLP_ENDPOINT" "$@"`)
	handle, err := e.Start(t.Context(), order)
	if err != nil || handle != "17" {
		t.Fatalf("handle %q, error %v", handle, err)
	}
	want := "sbatch --chdir=/tmp --comment=rota/c/web --cpus-per-task=1 --export=ALL --input=/dev/null --job-name=pool.web.x --mem=4G " +
		"--no-requeue --nodes=1 --ntasks=1 --open-mode=append --output=/dev/null --parsable --partition=long --signal=B:TERM@60 --time=120"
	if got := calls(t, dir); len(got) != 1 || got[0] != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	var out capped
	p, err := process.Start(t.Context(), process.Spec{Argv: []string{"/bin/sh", filepath.Join(dir, "script")}, Env: e.env, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
	if got, want := out.String(), "secret|a=b'c|http://a:4317|worker|--exec|web=it's {ID:word} $HOME `id`|"; got != want {
		t.Errorf("the worker gets %q, want %q", got, want)
	}
}

// TestArgs: a short job is not asked to end by Slurm, which could do so before it began.
func TestArgs(t *testing.T) {
	t.Parallel()
	for limit, want := range map[string]bool{"": true, "10m": true, "9m": false} {
		o := order
		o.Options = map[string]string{"time": limit}
		if got := slices.Contains(args(o), "--signal=B:TERM@60"); got != want {
			t.Errorf("time %q: %v", limit, args(o))
		}
	}
}

// TestStartFails: nothing was started, or nobody knows.
func TestStartFails(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		script, want string
		is           error
	}{
		{"echo 'sbatch: error: invalid partition specified: nope' >&2; exit 1", "sbatch: invalid partition specified: nope", nil},
		{"echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)' >&2; exit 1", "job submit limit", room.ErrNoRoom},
		{"echo 'sbatch: error: Batch job submission failed: Requested node configuration is not available' >&2; exit 1", "not available", room.ErrNoRoom},
		{"echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1", "timed out", room.ErrUnsure},
		{"echo hello", `"hello", which is no job's number`, room.ErrUnsure},
		{"exit 3", "exit status 3", nil},
	} {
		e, _ := slurm(t, map[string]string{"sbatch": tc.script})
		_, err := e.Start(t.Context(), order)
		if err == nil || !strings.Contains(err.Error(), "start pool.web.x: ") || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.script, err, tc.want)
		}
		for _, kind := range []error{room.ErrNoRoom, room.ErrUnsure} {
			if errors.Is(err, kind) != (tc.is == kind) { //nolint:errorlint // which of the two it is
				t.Errorf("%s: %v is %v", tc.script, err, kind)
			}
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the token is told: %v", err)
		}
	}
	e, _ := slurm(t, nil)
	e.env = []string{"PATH=" + t.TempDir()}
	if _, err := e.Start(t.Context(), order); err == nil || errors.Is(err, room.ErrUnsure) || !strings.Contains(err.Error(), "sbatch") {
		t.Errorf("without Slurm: %v", err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	e, dir := slurm(t, map[string]string{"squeue": `cat <<'E'
1|RUNNING|1000|4600|1:00:00|None|pool.web.a|rota/c/web
2|RUNNING|1000|NONE|UNLIMITED|None|pool.web.b|rota/c/web
3|PENDING|N/A|N/A|UNLIMITED|QOSMaxJobsPerUserLimit|pool.web.c|rota/c/web
4|NODE_FAIL|1000|2000|UNLIMITED|NodeDown|pool.api.d|rota/other/api
5|NEW_STATE|1000|N/A|UNLIMITED|None|pool.web.e|rota/c/web
8|COMPLETING|1000|1010|1:00:00|None|pool.web.f|rota/c/web
6|RUNNING|1000|2000|1:00:00|None|train|
7|RUNNING|1000|2000|1:00:00|None|train|my | comment/with/it
E`})
	e.listing.Every = time.Hour
	got, err := e.List(t.Context())
	want := []room.Copy{
		{Cluster: "other", Pool: "api", Worker: "pool.api.d", Handle: "4", State: room.Ended, Detail: "NODE_FAIL: NodeDown", Began: time.Unix(1000, 0)},
		{Cluster: "c", Pool: "web", Worker: "pool.web.a", Handle: "1", State: room.Running, Detail: "RUNNING", Began: time.Unix(1000, 0), Ends: time.Unix(4600, 0)},
		{Cluster: "c", Pool: "web", Worker: "pool.web.b", Handle: "2", State: room.Running, Detail: "RUNNING", Began: time.Unix(1000, 0)},
		{Cluster: "c", Pool: "web", Worker: "pool.web.c", Handle: "3", State: room.Waiting, Detail: "PENDING: QOSMaxJobsPerUserLimit"},
		{Cluster: "c", Pool: "web", Worker: "pool.web.e", Handle: "5", State: room.Running, Detail: "NEW_STATE", Began: time.Unix(1000, 0)},
		{Cluster: "c", Pool: "web", Worker: "pool.web.f", Handle: "8", State: room.Running, Detail: "COMPLETING", Began: time.Unix(1000, 0)},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("error %v, got %+v\nwant %+v", err, got, want)
	}
	asked := func() int { return len(calls(t, dir)) }
	if again, err := e.List(t.Context()); err != nil || !reflect.DeepEqual(again, want) || asked() != 1 {
		t.Errorf("error %v, got %+v, asked %d times", err, again, asked())
	}
	e.listing.Forget()
	if _, err := e.List(t.Context()); err != nil || asked() != 2 {
		t.Errorf("error %v, asked %d times, want twice", err, asked())
	}
}

// TestListFails: an answer that is not whole is none.
func TestListFails(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1": "squeue: slurm_load_jobs error: Unable to contact slurm controller",
		"echo '1|RUNNING|1000'": "not the eight fields",
	} {
		e, _ := slurm(t, map[string]string{"squeue": script})
		if list, err := e.List(t.Context()); err == nil || !strings.Contains(err.Error(), want) || len(list) > 0 {
			t.Errorf("%s: %v, %+v", script, err, list)
		}
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	e, dir := slurm(t, map[string]string{"scancel": "case $* in *PENDING*) echo 'scancel: error: Kill job error on job id 7: Invalid job id specified' >&2; exit 1;; esac"})
	for _, handle := range []string{"7", "", "-u root", "7 8"} {
		if err := e.Stop(t.Context(), handle); err != nil {
			t.Errorf("%q: %v", handle, err)
		}
	}
	e.asked["7"] = time.Now().Add(-grace - time.Second) // it has not ended
	if err := e.Stop(t.Context(), "7"); err != nil {
		t.Error(err)
	}
	want := []string{"scancel --state=PENDING 7", "scancel --state=RUNNING --batch --signal=TERM 7", "scancel 7"}
	if got := calls(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	e, _ = slurm(t, map[string]string{"scancel": "echo 'scancel: error: Unable to contact slurm controller' >&2; exit 1"})
	if err := e.Stop(t.Context(), "7"); err == nil || !strings.Contains(err.Error(), "stop job 7: scancel: Unable to contact") {
		t.Errorf("error %v", err)
	}
}

// TestEnviron: jobs inherit what sbatch has, so that is next to nothing.
func TestEnviron(t *testing.T) {
	t.Parallel()
	got := environ([]string{"PATH=/bin", "HOME=/root", "SLURM_CONF=/etc/s", "SLURM_JWT=secret", "AWS_SECRET=x", "SBATCH_EXPORT=ALL", "PATHS=1"})
	if want := []string{"SLURM_TIME_FORMAT=%s", "PATH=/bin", "HOME=/root", "SLURM_CONF=/etc/s"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for value, ok := range map[string]bool{
		"time=24h": true, "time=90s": false, "time=0s": false, "time=-1h": false, "time=1d": false, "time=9000h": false,
		"cpus=2": true, "cpus=0": false, "cpus=x": false, "dir=/home/me": true, "dir=tmp": false, "output=/tmp/%j.log": true, "output=/a\nb": false,
		"partition=long": true, "partition=": false, "partition=a b": false, "memory=4G": true, "gres=gpu:1": true,
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
