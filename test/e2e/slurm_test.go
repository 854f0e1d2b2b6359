//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/test/ports"
)

// slurm is a cluster of Slurm's own programs on this machine: two nodes, and munge.
type slurm struct {
	t     *testing.T
	dir   string
	nodes map[string]*proc
}

// newSlurm starts one, and ends it with the test, with all that it runs.
func newSlurm(t *testing.T) *slurm {
	t.Helper()
	s := &slurm{t: t, dir: shortDir(t), nodes: map[string]*proc{}}
	munged, slurmctld, slurmd := program(t, "munged"), program(t, "slurmctld"), program(t, "slurmd")
	for _, name := range []string{"sbatch", "squeue", "scancel", "scontrol"} {
		program(t, name)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 1024)
	_, _ = rand.Read(key)
	s.write("munge.key", key)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	port := func() string {
		return strconv.Itoa(ports.Free(t))
	}
	conf := fmt.Sprintf(`ClusterName=e2e
SlurmctldHost=%[1]s(127.0.0.1)
SlurmctldPort=%[2]s
SlurmUser=%[3]s
SlurmdUser=%[3]s
AuthType=auth/munge
AuthInfo=socket=%[4]s/munge
CredType=cred/munge
StateSaveLocation=%[4]s/state
SlurmdSpoolDir=%[4]s/spool-%%n
SlurmctldPidFile=%[4]s/ctld.pid
SlurmdPidFile=%[4]s/slurmd-%%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmctldTimeout=300
SlurmdTimeout=300
KillWait=30
OverTimeLimit=10
SlurmdParameters=config_overrides
CommunicationParameters=NoAddrCache
SchedulerParameters=batch_sched_delay=0,sched_interval=1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
`, host, port(), me.Username, s.dir)
	for _, n := range []string{"n1", "n2"} {
		conf += fmt.Sprintf("NodeName=%s NodeHostname=%s NodeAddr=127.0.0.1 Port=%s CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 State=UNKNOWN\n", n, host, port())
	}
	s.write("slurm.conf", []byte(conf))
	if err := os.Mkdir(filepath.Join(s.dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(s.dir, name) }
	munge := start(t, nil, munged, "--foreground", "--force", "--socket="+in("munge"), "--key-file="+in("munge.key"),
		"--pid-file="+in("munge.pid"), "--log-file="+in("munge.log"), "--seed-file="+in("munge.seed"))
	await(t, time.Minute, "munged listens", func() bool {
		conn, err := net.Dial("unix", in("munge"))
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	s.nodes["slurmctld"] = start(t, s.env(), slurmctld, "-D", "-f", in("slurm.conf"))
	for _, n := range []string{"n1", "n2"} {
		s.nodes[n] = start(t, s.env(), slurmd, "-D", "-f", in("slurm.conf"), "-N", n)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for name, p := range s.nodes {
				t.Logf("%s:\n%s", name, p.out)
			}
			t.Logf("munged:\n%s", munge.out)
		}
		s.sweep()
	})
	await(t, 2*time.Minute, "both nodes are idle", func() bool {
		out, err := s.try("sinfo", "--noheader", "--Node", "--format=%T")
		return err == nil && strings.Count(out, "idle\n") == 2
	})
	return s
}

func (s *slurm) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *slurm) env() []string { return []string{"SLURM_CONF=" + filepath.Join(s.dir, "slurm.conf")} }

func (s *slurm) try(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(s.t.Context(), name, args...)
	cmd.Env = append(os.Environ(), s.env()...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %v: %w %s", name, args, err, errs.String())
	}
	return string(out), err
}

func (s *slurm) must(name string, args ...string) string {
	s.t.Helper()
	out, err := s.try(name, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// job is what Slurm says of a job.
func (s *slurm) job(id string) map[string]string {
	s.t.Helper()
	out := map[string]string{}
	for _, word := range strings.Fields(s.must("scontrol", "show", "job", id)) {
		name, value, _ := strings.Cut(word, "=")
		out[name] = value
	}
	return out
}

// ours are the processes whose arguments or environment name this cluster's directory.
func (s *slurm) ours(visit func(pid int, file string, text []byte)) { oursIn(s.dir, visit) }

// oursIn visits the processes whose arguments or environment name a directory.
func oursIn(dir string, visit func(pid int, file string, text []byte)) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil || pid == os.Getpid() {
			continue
		}
		for _, file := range []string{"cmdline", "environ"} {
			if text, err := os.ReadFile(filepath.Join(d, file)); err == nil && bytes.Contains(text, []byte(dir)) {
				visit(pid, file, text)
			}
		}
	}
}

// sweep ends what a slurmd that was killed has left.
func (s *slurm) sweep() {
	for _, p := range s.nodes {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	await(s.t, time.Minute, "nothing of it lives", func() bool {
		left := 0
		s.ours(func(pid int, _ string, _ []byte) {
			left++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		})
		return left == 0
	})
}

// pooled is a closed cluster whose scheduler has an engine.
type pooled struct {
	*closed
	grpc   string
	client []string
	env    []string
	sched  *proc
}

// newPooled starts a scheduler with an engine.
func newPooled(t *testing.T, engine string, env []string) *pooled {
	t.Helper()
	c := &pooled{closed: &closed{t: t, dir: t.TempDir()}}
	c.must("cert", "init")
	c.must("cert", "issue", "scheduler", "s1", "--host", "localhost", "--host", "127.0.0.1")
	c.env = []string{"ROTA_TOKEN=" + regexp.MustCompile(`rota_\S+`).FindString(c.must("token", "create", "--role", "admin", "--file", "tokens"))}
	c.sched = start(t, env, rotaBin, append([]string{
		"scheduler", "--engines", engine, "--authority", filepath.Join(c.dir, "rota-pki"), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--gateway=",
		"--data-dir", filepath.Join(c.dir, "data"), "--tokens", filepath.Join(c.dir, "tokens"), "--tls", "--lease", "15s", "--suspect-after", "0",
	}, c.files("scheduler-s1")...)...)
	c.grpc = c.sched.find(t, `msg=ready .*grpc=(\S+)`, time.Minute)[1]
	c.client = []string{"--server", c.grpc, "--tls-ca", filepath.Join(c.dir, "rota-pki", "ca.crt")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("scheduler:\n%s", c.sched.out)
		}
	})
	return c
}

// ask runs a command of the binary as an admin.
func (c *pooled) ask(args ...string) string {
	c.t.Helper()
	status, text := c.rota(c.env, append(args, c.client...)...)
	if status != 0 {
		c.t.Fatalf("rota %s: status %d: %s", strings.Join(args, " "), status, text)
	}
	return text
}

// pool is a pool as the API has it.
func (c *pooled) pool(name string) *rotav1.Pool {
	c.t.Helper()
	p := &rotav1.Pool{}
	if err := protojson.Unmarshal([]byte(c.ask("pool", "get", name, "--output", "json")), p); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// ready waits until the pool has one worker, which runs, other than some.
func (c *pooled) ready(name string, not ...string) *rotav1.PoolWorker {
	c.t.Helper()
	var w *rotav1.PoolWorker
	await(c.t, 3*time.Minute, "a worker of "+name+" runs", func() bool {
		for _, x := range c.pool(name).GetWorkers() {
			if x.GetState() == "running" && x.GetHandle() != "" && !strings.Contains(strings.Join(not, " "), x.GetName()) {
				w = x
				return true
			}
		}
		return false
	})
	return w
}

// TestSlurm runs a pool on Slurm's own programs: the elevator runs on it; a node is lost
// and its job put into the queue again while the worker lives on; then that worker is
// lost, too; then the allocation of the one that took its place ends. Each task has one
// owner at a time all the while, and no secret is where others could read it.
func TestSlurm(t *testing.T) {
	t.Parallel()
	s := newSlurm(t)
	c := newPooled(t, "slurm", s.env())
	r := newRecord(t, s.dir)
	file := filepath.Join(c.dir, "pool.yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(`
name: web
engine: slurm
size: 1
options: {time: 9m, cpus: "2", output: %[1]s/out.%%j}
template:
  max_tasks: 20
  command: [rota, worker, --demo, --exec, "hold=%[2]s %[3]s slurm {{.ID}} {{.Generation}}"]
`, s.dir, holderBin, r.socket)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ask("pool", "apply", "-f", file)
	tasks := filepath.Join(c.dir, "tasks.yaml")
	if err := os.WriteFile(tasks, []byte("tasks:\n- {id: a, kind: hold}\n- {id: b, kind: hold}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ask("task", "apply", "-f", tasks)
	all := func() bool {
		tasks, _ := r.running()
		return len(tasks) == 2 && tasks["a"] == 1 && tasks["b"] == 1
	}
	await(t, 3*time.Minute, "both tasks run", all)
	first := c.ready("web")
	await(t, time.Minute, "the end of the allocation is known", func() bool { return c.ready("web").GetEnds() != nil })
	elevatorOn(t, c, "web")

	// Where others could read it there is no token.
	if text := s.must("scontrol", "show", "job", first.GetHandle()); strings.Contains(text, "rotajoin_") {
		t.Errorf("Slurm tells everybody: %s", text)
	}
	s.ours(func(pid int, file string, text []byte) {
		if file == "cmdline" && bytes.Contains(text, []byte("rotajoin_")) {
			t.Errorf("the arguments of process %d have the token: %q", pid, text)
		}
	})
	scripts, _ := filepath.Glob(filepath.Join(s.dir, "spool-*", "job*", "slurm_script"))
	for _, script := range scripts {
		if info, err := os.Stat(script); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, error %v", script, info.Mode(), err)
		}
	}
	if len(scripts) != 1 {
		t.Errorf("job scripts: %q", scripts)
	}

	// The node is lost to Slurm, the worker lives, and a second copy of it starts.
	began := r.count()
	node := s.job(first.GetHandle())["BatchHost"]
	s.must("scontrol", "update", "jobid="+first.GetHandle(), "requeue=1")
	_ = s.nodes[node].cmd.Process.Kill()
	<-s.nodes[node].done
	s.must("scontrol", "update", "nodename="+node, "state=down", "reason=lost")
	await(t, time.Minute, "the job waits again", func() bool { return s.job(first.GetHandle())["JobState"] == "PENDING" })
	s.must("scontrol", "update", "jobid="+first.GetHandle(), "starttime=now")
	await(t, 3*time.Minute, "the second copy is refused", func() bool {
		out, err := os.ReadFile(filepath.Join(s.dir, "out."+first.GetHandle()))
		return err == nil && bytes.Contains(out, []byte("this second copy of the worker must end"))
	})
	await(t, time.Minute, "the second copy ends", func() bool { return s.job(first.GetHandle())["JobState"] == "FAILED" })
	if !all() || r.count() != began {
		t.Errorf("the tasks did not go on: %d runs, %d before", r.count(), began)
	}
	if now := c.ready("web"); now.GetName() != first.GetName() || now.GetState() != "running" {
		t.Errorf("%v, which should go on", now)
	}

	// The worker is lost, too.
	s.ours(func(pid int, _ string, text []byte) {
		if bytes.Contains(text, []byte("ROTA_NAME="+first.GetName())) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	second := c.ready("web", first.GetName())
	await(t, 3*time.Minute, "both tasks run on another worker", all)

	// Its allocation ends: it is replaced before. Slurm itself gives it ten minutes more, and
	// has not been told to warn it, as the allocation was a short one.
	for _, node := range []string{"n1", "n2"} {
		if s.nodes[node].cmd.ProcessState != nil {
			s.nodes[node] = start(t, s.env(), program(t, "slurmd"), "-D", "-f", filepath.Join(s.dir, "slurm.conf"), "-N", node)
		}
	}
	await(t, 2*time.Minute, "both nodes are there", func() bool {
		return !strings.Contains(s.must("sinfo", "--noheader", "--Node", "--format=%T"), "down")
	})
	ends := time.Now().Add(30 * time.Second)
	s.must("scontrol", "update", "jobid="+second.GetHandle(), "endtime="+ends.Format("2006-01-02T15:04:05"))
	third := c.ready("web", first.GetName(), second.GetName())
	await(t, 3*time.Minute, "the worker whose allocation ends has gone", func() bool { return s.job(second.GetHandle())["JobState"] == "COMPLETED" })
	await(t, 3*time.Minute, "both tasks run on the third worker", all)
	if _, workers := r.running(); workers["slurm"] != 2 {
		t.Errorf("%v", third)
	}
	if log := c.sched.out.String(); !strings.Contains(log, `worker=`+second.GetName()+` why="its allocation ends"`) {
		t.Errorf("%s was not drained for the end of its allocation", second.GetName())
	}
	c.ask("task", "delete", "a", "b")
	c.ask("pool", "delete", "web")
	await(t, 3*time.Minute, "no job is left", func() bool {
		return strings.TrimSpace(s.must("squeue", "--noheader", "--states=PENDING,RUNNING,COMPLETING")) == ""
	})
	await(t, time.Minute, "no task runs", func() bool { tasks, _ := r.running(); return len(tasks) == 0 })
	r.check(t)
	c.sched.signal(syscall.SIGTERM)
	c.sched.wait(t, time.Minute)
}
