//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/rota-project/rota/internal/test/ports"
)

// nomad is a cluster of Nomad's own program on this machine: a server and two clients,
// with ACLs.
type nomad struct {
	t      *testing.T
	bin    string
	dir    string
	agents map[string]*proc
	admin  *api.Client
	token  string // of a scheduler, by deploy/nomad/policy.hcl
	addr   string
}

// newNomad starts one, and ends it with the test, with all that it runs.
func newNomad(t *testing.T, bin string) *nomad {
	t.Helper()
	n := &nomad{t: t, bin: bin, dir: shortDir(t), agents: map[string]*proc{}}
	t.Cleanup(func() {
		if t.Failed() {
			for name, p := range n.agents {
				t.Logf("%s:\n%s", name, p.out)
			}
		}
		n.sweep()
	})
	http, rpc := ports.Free(t), ports.Free(t)
	n.addr = fmt.Sprintf("http://127.0.0.1:%d", http)
	n.configure("srv", http, rpc, `server {
  enabled = true
  bootstrap_expect = 1
  heartbeat_grace = "1s"
  min_heartbeat_ttl = "2s"
}`)
	for _, c := range []string{"c1", "c2"} {
		n.configure(c, ports.Free(t), ports.Free(t), fmt.Sprintf(`client {
  enabled = true
  servers = ["127.0.0.1:%d"]
  network_interface = "lo"
  cpu_total_compute = 4000
  memory_total_mb = 2048
  max_kill_timeout = "1m"
  options = {
    "driver.allowlist" = "raw_exec"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault,cni,bridge"
  }
}
plugin "raw_exec" {
  config {
    enabled = true
  }
}`, rpc))
	}
	n.start("srv")
	open, err := api.NewClient(&api.Config{Address: n.addr, TLSConfig: &api.TLSConfig{}})
	if err != nil {
		t.Fatal(err)
	}
	await(t, 2*time.Minute, "the server can be asked", func() bool {
		boot, _, err := open.ACLTokens().Bootstrap(n.write())
		if err != nil {
			return false
		}
		open.SetSecretID(boot.SecretID)
		return true
	})
	n.admin = open
	await(t, 2*time.Minute, "the server has a key", func() bool {
		keys, _, err := n.admin.Keyring().List(n.query())
		return err == nil && len(keys) > 0
	})
	n.token = n.grant("rota", "../../deploy/nomad/policy.hcl")
	n.start("c1")
	n.start("c2")
	await(t, 3*time.Minute, "both nodes are ready", func() bool { return n.status("c1") == "ready" && n.status("c2") == "ready" })
	return n
}

func (n *nomad) query() *api.QueryOptions { return (&api.QueryOptions{}).WithContext(n.t.Context()) }

func (n *nomad) write() *api.WriteOptions { return (&api.WriteOptions{}).WithContext(n.t.Context()) }

// grant answers a token that may do what a file says.
func (n *nomad) grant(name, file string) string {
	n.t.Helper()
	rules, err := os.ReadFile(file)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.admin.ACLPolicies().Upsert(&api.ACLPolicy{Name: name, Rules: string(rules)}, n.write()); err != nil {
		n.t.Fatal(err)
	}
	token, _, err := n.admin.ACLTokens().Create(&api.ACLToken{Name: name, Type: "client", Policies: []string{name}}, n.write())
	if err != nil {
		n.t.Fatal(err)
	}
	return token.SecretID
}

// configure writes the configuration of an agent.
func (n *nomad) configure(name string, http, rpc int, more string) {
	n.t.Helper()
	text := fmt.Sprintf(`name = %[1]q
bind_addr = "127.0.0.1"
data_dir = "%[2]s/%[1]s"
disable_update_check = true
log_level = "WARN"
ports {
  http = %[3]d
  rpc = %[4]d
  serf = %[5]d
}
advertise {
  http = "127.0.0.1"
  rpc = "127.0.0.1"
  serf = "127.0.0.1"
}
acl {
  enabled = true
}
%[6]s
`, name, n.dir, http, rpc, n.gossip(), more)
	if err := os.WriteFile(filepath.Join(n.dir, name+".hcl"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// gossip is a port for TCP and UDP: of those of package ports the test itself has the latter.
func (n *nomad) gossip() int {
	n.t.Helper()
	for {
		l, err := (&net.ListenConfig{}).Listen(n.t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			n.t.Fatal(err)
		}
		p, err := (&net.ListenConfig{}).ListenPacket(n.t.Context(), "udp", l.Addr().String())
		_ = l.Close()
		if err != nil {
			continue
		}
		_ = p.Close()
		addr, _ := l.Addr().(*net.TCPAddr) // it is one
		return addr.Port
	}
}

func (n *nomad) start(name string) {
	n.agents[name] = start(n.t, append(os.Environ(), "HOME="+n.dir), n.bin, "agent", "-config="+filepath.Join(n.dir, name+".hcl"))
}

// node is what Nomad knows of a node.
func (n *nomad) node(name string) *api.NodeListStub {
	nodes, _, err := n.admin.Nodes().List(n.query())
	if err != nil {
		return nil
	}
	for _, x := range nodes {
		if x.Name == name {
			return x
		}
	}
	return nil
}

func (n *nomad) status(name string) string {
	if x := n.node(name); x != nil {
		return x.Status
	}
	return ""
}

// allocs are the allocations of a worker's job, the first one first.
func (n *nomad) allocs(handle string) []*api.AllocationListStub {
	n.t.Helper()
	_, job, _ := strings.Cut(handle, "/")
	list, _, err := n.admin.Jobs().Allocations(job, true, n.query())
	if err != nil {
		n.t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b *api.AllocationListStub) int { return int(a.CreateIndex) - int(b.CreateIndex) })
	return list
}

// where is the node of a worker's job.
func (n *nomad) where(handle string) string {
	n.t.Helper()
	list := n.allocs(handle)
	if len(list) == 0 {
		n.t.Fatalf("%s has no allocation", handle)
	}
	return list[len(list)-1].NodeName
}

// secrets is how many join tokens there are.
func (n *nomad) secrets() int {
	n.t.Helper()
	list, _, err := n.admin.Variables().PrefixList("nomad/jobs/", n.query())
	if err != nil {
		n.t.Fatal(err)
	}
	return len(list)
}

// said is what tasks on a node have written.
func (n *nomad) said(node, alloc string) string {
	out := ""
	files, _ := filepath.Glob(filepath.Join(n.dir, node, "alloc", alloc, "alloc", "logs", "worker.std*"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		out += string(b)
	}
	return out
}

// lose kills an agent, not what it has started.
func (n *nomad) lose(name string) {
	_ = n.agents[name].cmd.Process.Kill()
	<-n.agents[name].done
}

// sweep ends what agents have left, and what they have mounted.
func (n *nomad) sweep() {
	for name := range n.agents {
		n.lose(name)
	}
	await(n.t, time.Minute, "nothing of it lives", func() bool {
		left := 0
		oursIn(n.dir, func(pid int, _ string, _ []byte) {
			left++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		})
		return left == 0
	})
	mounts, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], n.dir+"/") {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
}

// TestNomad runs a pool on the agent of Nomad that ROTA_NOMAD names, with a server, two
// clients and the rights of deploy/nomad/policy.hcl: it grows and shrinks, the elevator
// runs on it, a node is drained, a client is lost while its worker lives on and a second
// copy of that worker is started, then that worker is lost, too. Each task has one owner
// at a time all the while, and no secret is where others could read it.
func TestNomad(t *testing.T) {
	t.Parallel()
	bin := os.Getenv("ROTA_NOMAD")
	if bin == "" {
		t.Skip("make engines names the agent")
	}
	n := newNomad(t, bin)
	n.examples()
	secret := filepath.Join(n.dir, "token")
	if err := os.WriteFile(secret, []byte(n.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newPooled(t, "nomad", []string{"NOMAD_ADDR=" + n.addr, "ROTA_NOMAD_TOKEN_FILE=" + secret})
	r := newRecord(t, n.dir)
	t.Cleanup(n.sweep) // before the record waits for what is told to it
	file := filepath.Join(c.dir, "pool.yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(`
- name: web
  engine: nomad
  size: 2
  options: {cpu: "300", memory: "200", datacenters: dc1, kill_timeout: 1m}
  template:
    max_tasks: 20
    command: [rota, worker, --demo, --exec, "hold=%[1]s %[2]s ${NOMAD_JOB_NAME} {{.ID}} {{.Generation}}"]
- name: big
  engine: nomad
  size: 1
  start_timeout: 15s
  options: {memory: "100000"}
  template:
    kinds: [nothing]
    command: [rota, worker, --exec, "nothing=true"]
`, holderBin, r.socket)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ask("pool", "apply", "-f", file)
	tasks := filepath.Join(c.dir, "tasks.yaml")
	if err := os.WriteFile(tasks, []byte("tasks:\n- {id: a, kind: hold}\n- {id: b, kind: hold}\n- {id: c, kind: hold}\n- {id: d, kind: hold}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ask("task", "apply", "-f", tasks)
	all := func() bool {
		tasks, _ := r.running()
		return len(tasks) == 4 && tasks["a"] == 1 && tasks["b"] == 1 && tasks["c"] == 1 && tasks["d"] == 1
	}
	runs := func(size int) func() bool {
		return func() bool {
			n := 0
			for _, w := range c.pool("web").GetWorkers() {
				if w.GetState() != "running" || w.GetHandle() == "" {
					return false
				}
				n++
			}
			return n == size
		}
	}

	// More than any node has: it waits, is told, given up, and its token is nobody's.
	await(t, 2*time.Minute, "the pool that no node has room for says so", func() bool {
		text := c.ask("pool", "get", "big")
		return strings.Contains(text, "did not start it within 15s: pending: no room: exhausted: memory on 2 nodes")
	})
	c.ask("pool", "delete", "big")
	await(t, 2*time.Minute, "all tasks run on two workers", func() bool {
		_, workers := r.running()
		return all() && len(workers) == 2 && runs(2)()
	})
	await(t, time.Minute, "no join token is left", func() bool { return n.secrets() == 0 })
	n.noToken(c)

	// It shrinks, and grows again.
	c.ask("pool", "scale", "web", "1")
	await(t, 3*time.Minute, "one worker has all", func() bool {
		_, workers := r.running()
		return all() && len(workers) == 1 && runs(1)()
	})
	c.ask("pool", "scale", "web", "2")
	await(t, 3*time.Minute, "two workers are there", runs(2))
	n.elevator(c)

	// A node is drained: what is there moves before the drain ends.
	first := c.pool("web").GetWorkers()[0]
	node := n.where(first.GetHandle())
	other := map[string]string{"c1": "c2", "c2": "c1"}[node]
	if _, err := n.admin.Nodes().UpdateDrain(n.node(node).ID, &api.DrainSpec{Deadline: 40 * time.Second}, false, n.write()); err != nil {
		t.Fatal(err)
	}
	await(t, 3*time.Minute, "all run on the other node", func() bool {
		if !all() || !runs(2)() {
			return false
		}
		for _, w := range c.pool("web").GetWorkers() {
			if n.where(w.GetHandle()) != other {
				return false
			}
		}
		return true
	})
	if log := c.sched.out.String(); !strings.Contains(log, `worker=`+first.GetName()+` why="its allocation ends"`) {
		t.Errorf("%s was not drained for the drain of its node", first.GetName())
	}
	if _, err := n.admin.Nodes().UpdateDrain(n.node(node).ID, nil, true, n.write()); err != nil {
		t.Fatal(err)
	}
	c.ask("pool", "scale", "web", "1")
	await(t, 3*time.Minute, "one worker has all", func() bool { return all() && runs(1)() })

	// The client is lost to Nomad, and its worker lives: nothing else is started.
	lone := c.ready("web")
	began, alloc := r.count(), n.allocs(lone.GetHandle())[0]
	n.lose(alloc.NodeName)
	await(t, time.Minute, "Nomad misses the node", func() bool { return n.allocs(lone.GetHandle())[0].ClientStatus == "unknown" })
	if list := n.allocs(lone.GetHandle()); len(list) != 1 {
		t.Errorf("Nomad has started %d more", len(list)-1)
	}
	// Somebody registers its job anew, with all that the first copy had: the second is refused.
	token, err := os.ReadFile(filepath.Join(n.dir, alloc.NodeName, "alloc", alloc.ID, "worker", "secrets", "join-token.env"))
	_, text, ok := strings.Cut(strings.TrimSpace(string(token)), "=")
	if err != nil || !ok {
		t.Fatalf("error %v, file of %d bytes", err, len(token))
	}
	job, _, err := n.admin.Jobs().Info(alloc.JobID, n.query())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.admin.Jobs().Deregister(alloc.JobID, true, n.write()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.admin.Jobs().Register(job, n.write()); err != nil {
		t.Fatal(err)
	}
	second := alloc
	await(t, 2*time.Minute, "a second copy ends", func() bool {
		list := n.allocs(lone.GetHandle())
		if len(list) > 0 {
			second = list[len(list)-1]
		}
		if second.ID != alloc.ID && second.ClientStatus == "failed" {
			return true
		}
		// The scheduler deletes it, as the first copy has begun.
		if _, _, err := n.admin.Variables().Create(&api.Variable{Path: "nomad/jobs/" + alloc.JobID, Items: api.VariableItems{"join_token": text}}, n.write()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		return false
	})
	if out := n.said(second.NodeName, second.ID); !strings.Contains(out, "this second copy of the worker must end") {
		t.Errorf("the second copy says %s", out)
	}
	if !all() || r.count() != began {
		t.Errorf("the tasks did not go on: %d runs, %d before", r.count(), began)
	}
	if now := c.ready("web"); now.GetName() != lone.GetName() {
		t.Errorf("%v, which should go on", now)
	}

	// The worker is lost, too. When its node is back nothing of it comes again.
	oursIn(n.dir, func(pid int, _ string, text []byte) {
		if bytes.Contains(text, []byte("ROTA_NAME="+lone.GetName())) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	c.ready("web", lone.GetName())
	await(t, 3*time.Minute, "all tasks run on another worker", all)
	n.start(alloc.NodeName)
	await(t, 3*time.Minute, "its node is back, and has let go of it", func() bool {
		for _, a := range n.allocs(lone.GetHandle()) {
			if a.ClientStatus == "running" || a.ClientStatus == "pending" || a.ClientStatus == "unknown" {
				return false
			}
		}
		return n.status(alloc.NodeName) == "ready"
	})

	c.ask("task", "delete", "a", "b", "c", "d")
	c.ask("pool", "delete", "web")
	await(t, 3*time.Minute, "nothing is left", func() bool {
		jobs, _, err := n.admin.Jobs().List(n.query())
		return err == nil && !slices.ContainsFunc(jobs, func(j *api.JobListStub) bool { return j.Status != "dead" }) && n.secrets() == 0
	})
	await(t, time.Minute, "no task runs", func() bool { tasks, _ := r.running(); return len(tasks) == 0 })
	await(t, time.Minute, "no worker runs", func() bool {
		left := 0
		oursIn(n.dir, func(_ int, file string, text []byte) {
			if file == "environ" && bytes.Contains(text, []byte("ROTA_NAME=pool.")) {
				left++
			}
		})
		return left == 0
	})
	r.check(t)
	n.noToken(c)
	c.sched.signal(syscall.SIGTERM)
	c.sched.wait(t, time.Minute)
}

// noToken looks where others could read a join token, or the one for Nomad.
func (n *nomad) noToken(c *pooled) {
	n.t.Helper()
	jobs, _, err := n.admin.Jobs().List(n.query())
	if err != nil || len(jobs) == 0 {
		n.t.Fatalf("%d jobs, error %v", len(jobs), err)
	}
	for _, j := range jobs {
		job, _, err := n.admin.Jobs().Info(j.ID, n.query())
		if err != nil {
			n.t.Fatal(err)
		}
		if text, err := json.Marshal(job); err != nil || bytes.Contains(text, []byte("rotajoin_")) {
			n.t.Errorf("whoever may read jobs reads %s, error %v", text, err)
		}
	}
	for _, secret := range []string{"rotajoin_", n.token} {
		oursIn(n.dir, func(pid int, file string, text []byte) {
			if file == "cmdline" && bytes.Contains(text, []byte(secret)) {
				n.t.Errorf("the arguments of process %d have the token: %q", pid, text)
			}
		})
		if strings.Contains(c.sched.out.String(), secret) {
			n.t.Error("the scheduler logs a token")
		}
	}
}

// elevator runs the building of the example on the workers that Nomad started.
func (n *nomad) elevator(c *pooled) { elevatorOn(n.t, c, "web") }

// elevatorOn runs the building of the example on the workers of a pool.
func elevatorOn(t *testing.T, c *pooled, pool string) {
	t.Helper()
	bin := filepath.Join(c.dir, "elevator")
	if err := build(bin, "../../examples/elevator"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "-cluster", c.grpc, "-ca", filepath.Join(c.dir, "rota-pki", "ca.crt"), "-pool", pool, "-plain", "-tick", "20ms", "-time", "5s")
	cmd.Env = append(os.Environ(), c.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("elevator: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
}

// examples holds the jobs of deploy/nomad to what Nomad takes.
func (n *nomad) examples() {
	n.t.Helper()
	files, err := filepath.Glob("../../deploy/nomad/*.nomad.hcl")
	if err != nil || len(files) == 0 {
		n.t.Fatalf("%q, error %v", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			n.t.Fatal(err)
		}
		job, err := n.admin.Jobs().ParseHCL(string(text), true)
		if err != nil {
			n.t.Errorf("%s: %v", f, err)
			continue
		}
		said, _, err := n.admin.Jobs().Validate(job, n.write())
		if err != nil || len(said.ValidationErrors) > 0 || said.Warnings != "" {
			n.t.Errorf("%s: %+v, error %v", f, said, err)
		}
	}
}
