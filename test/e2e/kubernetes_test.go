package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/ports"
	"go.yaml.in/yaml/v4"
)

// manifest is what the walk needs of a StatefulSet.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Replicas int
		Template struct {
			Spec struct{ Containers []manifestContainer }
		}
	}
}

type manifestContainer struct {
	Args  []string
	Env   []struct{ Name, Value string }
	Ports []struct {
		Name string
		Port int `yaml:"containerPort"`
	}
	ReadinessProbe manifestProbe `yaml:"readinessProbe"`
	LivenessProbe  manifestProbe `yaml:"livenessProbe"`
}

type manifestProbe struct {
	Exec struct{ Command []string }
	HTTP struct {
		Path, Port, Scheme string
		Headers            []struct{ Name, Value string } `yaml:"httpHeaders"`
	} `yaml:"httpGet"`
}

// statefulSet reads the one of a file of deploy/kubernetes.
func statefulSet(t *testing.T, file string) (m manifest) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/kubernetes", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		m = manifest{}
		if err := yaml.Unmarshal(doc, &m); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if m.Kind == "StatefulSet" {
			return m
		}
	}
	t.Fatalf("%s has no StatefulSet", file)
	return m
}

// walk is a namespace of Kubernetes whose pods are processes: each container is started
// with the arguments and variables of its manifest. Only names of hosts and the places of
// files are others.
type walk struct {
	t      *testing.T
	dir    string
	addrs  map[string]string // of "POD:PORT"
	pods   map[string]*proc
	probes map[string]func() error // of readiness
	token  string
}

// pods are the names of the pods of a set.
func podsOf(m manifest) (names []string) {
	for n := range m.Spec.Replicas {
		names = append(names, fmt.Sprintf("%s-%d", m.Metadata.Name, n))
	}
	return names
}

// here is a word of a pod's manifest with the names of this machine.
func (w *walk) here(pod, word string) string {
	word = strings.ReplaceAll(word, "$(POD_NAME)", pod)
	for at, addr := range w.addrs {
		name, port, _ := strings.Cut(at, ":")
		set := name[:strings.LastIndex(name, "-")]
		word = strings.ReplaceAll(word, name+"."+set+":"+port, addr)
		if name == pod {
			_, here, _ := strings.Cut(addr, ":")
			for own, as := range map[string]string{"0.0.0.0:": "0.0.0.0:", "localhost:": "127.0.0.1:", "127.0.0.1:": "127.0.0.1:"} {
				if before, ok := strings.CutSuffix(word, own+port); ok && (before == "" || strings.HasSuffix(before, "=")) {
					word = before + as + here
				}
			}
		}
	}
	return strings.NewReplacer(
		"/etc/rota/tls", filepath.Join(w.dir, "rota-pki", pod[:strings.LastIndex(pod, "-")]), "/etc/rota/tokens", w.dir,
		"/var/lib/rota", filepath.Join(w.dir, pod), "/usr/bin/rota", rotaBin,
	).Replace(word)
}

// secrets runs the commands of docs/kubernetes.md that make certificates and the token,
// and lays the files out as the secrets of that page do.
func (w *walk) secrets() {
	page, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, line := range regexp.MustCompile(`(?m)^    rota ((?:cert|token) .*)$`).FindAllStringSubmatch(string(page), -1) {
		args := strings.Fields(line[1])
		if strings.Contains(line[1], "issue scheduler") {
			args = append(args, "--host", "127.0.0.1") // in place of the names
		}
		cmd := exec.CommandContext(w.t.Context(), rotaBin, args...)
		cmd.Dir = w.dir
		out, err := cmd.Output()
		if err != nil {
			w.t.Fatalf("rota %s: %v", line[1], errors.Join(err, errors.New(string(out))))
		}
		if args[0] == "token" {
			w.token = strings.TrimSpace(string(out))
		}
	}
	for set, role := range map[string]string{"rota-scheduler": "scheduler", "rota-worker": "worker"} {
		pki := filepath.Join(w.dir, "rota-pki")
		err := os.MkdirAll(filepath.Join(pki, set), 0o700)
		for _, name := range []string{"ca.crt", "revoked"} {
			err = errors.Join(err, os.Link(filepath.Join(pki, name), filepath.Join(pki, set, name)))
		}
		made, _ := filepath.Glob(filepath.Join(pki, role+"-*"))
		for _, path := range made {
			err = errors.Join(err, os.Link(path, filepath.Join(pki, set, strings.TrimPrefix(filepath.Base(path), role+"-"))))
		}
		if err != nil || len(made) == 0 {
			w.t.Fatalf("secrets of %s: %d files, %v", set, len(made), err)
		}
	}
}

// place finds a port for each of a pod's.
func (w *walk) place(m manifest) {
	for _, pod := range podsOf(m) {
		for _, p := range m.Spec.Template.Spec.Containers[0].Ports {
			w.addrs[fmt.Sprint(pod, ":", p.Port)] = ports.Addr(w.t)
		}
		if err := os.Mkdir(filepath.Join(w.dir, pod), 0o770); err != nil { // a volume, open to the pod's group
			w.t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(w.dir, pod), os.ModeSetgid|0o770); err != nil { // as fsGroup leaves it
			w.t.Fatal(err)
		}
	}
}

// start starts the container of a pod.
func (w *walk) start(m manifest, pod string) {
	c := m.Spec.Template.Spec.Containers[0]
	if strings.HasSuffix(m.Metadata.Name, "worker") { // its address of /readyz is no port of the pod
		w.addrs[pod+":8080"] = ports.Addr(w.t)
	}
	env := []string{"HOME=" + filepath.Join(w.dir, pod), "TMPDIR=" + w.t.TempDir()}
	for _, e := range c.Env {
		if e.Value != "" {
			env = append(env, e.Name+"="+w.here(pod, e.Value))
		}
	}
	var args []string
	for _, a := range c.Args {
		args = append(args, w.here(pod, a))
	}
	w.pods[pod] = start(w.t, env, rotaBin, args...)
	var command []string
	for _, word := range c.ReadinessProbe.Exec.Command {
		command = append(command, w.here(pod, word))
	}
	w.probes[pod] = func() error {
		cmd := exec.CommandContext(w.t.Context(), command[0], command[1:]...)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

// ready waits until a pod is.
func (w *walk) ready(pod string) {
	w.t.Helper()
	await(w.t, 3*time.Minute, pod+" is ready", func() bool { return w.probes[pod]() == nil })
}

// alive asks a pod as its liveness probe does.
func (w *walk) alive(m manifest, pod string) {
	w.t.Helper()
	c := m.Spec.Template.Spec.Containers[0]
	at := ""
	for _, p := range c.Ports {
		if p.Name == c.LivenessProbe.HTTP.Port {
			at = w.addrs[fmt.Sprint(pod, ":", p.Port)]
		}
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, strings.ToLower(c.LivenessProbe.HTTP.Scheme)+"://"+at+c.LivenessProbe.HTTP.Path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range c.LivenessProbe.HTTP.Headers {
		if h.Name == "Host" {
			req.Host = h.Value
		}
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, // as kubelets do
	}}
	res, err := client.Do(req)
	if err != nil {
		w.t.Fatalf("%s is not alive: %v", pod, err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		w.t.Errorf("%s: alive is %s", pod, res.Status)
	}
}

// rota is what a command says that asks the schedulers of the service rota.
func (w *walk) rota(m manifest, args ...string) string {
	w.t.Helper()
	var servers []string
	for _, pod := range podsOf(m) {
		servers = append(servers, w.addrs[pod+":50000"])
	}
	cmd := exec.CommandContext(w.t.Context(), rotaBin, append(args, "--server", strings.Join(servers, ","), "--tls-ca", filepath.Join(w.dir, "rota-pki/ca.crt"))...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "ROTA_TOKEN=" + w.token}
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = exit.Stderr
		}
		w.t.Fatalf("rota %v: %v: %s", args, err, out)
	}
	return string(out)
}

// running is how many instances run.
func (w *walk) running(m manifest) int {
	var s struct{ Tasks struct{ Running int } }
	if err := json.Unmarshal([]byte(w.rota(m, "status", "-o", "json")), &s); err != nil {
		w.t.Fatal(err)
	}
	return s.Tasks.Running
}

// grants are who runs each task, and since which grant.
func (w *walk) grants(m manifest) string {
	w.t.Helper()
	var all []struct {
		ID        string
		Instances []struct {
			Worker     string
			Generation int64
		}
	}
	if err := json.Unmarshal([]byte(w.rota(m, "task", "list", "-o", "json")), &all); err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprint(all)
}

// TestKubernetes walks through deploy/kubernetes with processes in place of pods: the
// secrets of docs/kubernetes.md, three schedulers that start at once, two workers, their
// probes, tasks and a call, and then a rolling update of the schedulers, which disturbs
// nothing that runs, and of the workers, which hand over.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	w := &walk{t: t, dir: shortDir(t), addrs: map[string]string{}, pods: map[string]*proc{}, probes: map[string]func() error{}}
	schedulers, workers := statefulSet(t, "scheduler.yaml"), statefulSet(t, "worker.yaml")
	w.secrets()
	w.place(schedulers)
	w.place(workers)
	for _, pod := range podsOf(schedulers) { // podManagementPolicy: Parallel
		w.start(schedulers, pod)
	}
	for _, pod := range podsOf(schedulers) {
		w.ready(pod)
		w.alive(schedulers, pod)
	}
	for _, pod := range podsOf(workers) {
		w.start(workers, pod)
	}
	for _, pod := range podsOf(workers) {
		w.ready(pod)
	}
	const tasks = 40
	var list strings.Builder
	for n := range tasks {
		fmt.Fprintf(&list, "- id: t%d\n", n)
	}
	file := filepath.Join(w.dir, "tasks.yaml")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	w.rota(schedulers, "task", "apply", "-f", file)
	await(t, 2*time.Minute, "all run", func() bool { return w.running(schedulers) == tasks })
	w.call(schedulers)

	before := w.grants(schedulers)
	update := func(m manifest, pod string) {
		w.pods[pod].signal(syscall.SIGTERM)
		if status := w.pods[pod].wait(t, 2*time.Minute); status != 0 {
			t.Errorf("%s ends with %d", pod, status)
		}
		w.start(m, pod)
		w.ready(pod)
	}
	all := podsOf(schedulers)
	for n := len(all) - 1; n >= 0; n-- { // as a StatefulSet goes
		update(schedulers, all[n])
	}
	await(t, 2*time.Minute, "all run", func() bool { return w.running(schedulers) == tasks })
	if after := w.grants(schedulers); after != before {
		t.Errorf("the update of the schedulers has moved tasks:\n%s\nafter it\n%s", before, after)
	}
	all = podsOf(workers)
	for n := len(all) - 1; n >= 0; n-- {
		update(workers, all[n])
		await(t, 2*time.Minute, "all run", func() bool { return w.running(schedulers) == tasks })
	}
	w.call(schedulers)
}

// call calls a function of the workers by the gateway of each scheduler.
func (w *walk) call(m manifest) {
	w.t.Helper()
	for _, pod := range podsOf(m) {
		await(w.t, 2*time.Minute, "a call by "+pod, func() bool {
			req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "https://"+w.addrs[pod+":9080"]+"/run/hello", strings.NewReader(`{"name":"moon"}`))
			if err != nil {
				w.t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+w.token)
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
			res, err := client.Do(req)
			if err != nil {
				return false
			}
			text, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			return err == nil && res.StatusCode == http.StatusOK && strings.Contains(string(text), "moon")
		})
	}
}
