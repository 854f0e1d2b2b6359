package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// podServer is what the engine asks of Kubernetes, and a node: each pod is a process of this
// machine, that begins when the Secret of its token is there and is asked to end when it is
// deleted.
type podServer struct {
	t *testing.T

	mu      sync.Mutex
	made    int
	pods    map[string]*corev1.Pod
	secrets map[string]*corev1.Secret
	procs   map[types.UID]*exec.Cmd
	waits   sync.WaitGroup
}

// newPodServer starts one, and answers a kubeconfig file of it.
func newPodServer(t *testing.T) (*podServer, string) {
	t.Helper()
	k := &podServer{t: t, pods: map[string]*corev1.Pod{}, secrets: map[string]*corev1.Secret{}, procs: map[types.UID]*exec.Cmd{}}
	srv := httptest.NewServer(k)
	t.Cleanup(func() {
		srv.Close()
		k.mu.Lock()
		for _, cmd := range k.procs {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		k.mu.Unlock()
		k.waits.Wait()
	})
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u, user: {token: t}}]\n"+
		"contexts: [{name: all, context: {cluster: c, user: u, namespace: workers}}]\ncurrent-context: all\n", srv.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return k, file
}

func (k *podServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	kind, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/workers/"), "/")
	k.mu.Lock()
	defer k.mu.Unlock()
	var answer any = &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound}
	code := http.StatusNotFound
	switch what := r.Method + " " + kind; {
	case what == "GET pods":
		list := &corev1.PodList{}
		for _, p := range k.pods {
			list.Items = append(list.Items, *p)
		}
		answer, code = list, http.StatusOK
	case what == "POST pods":
		p := &corev1.Pod{}
		if err := json.Unmarshal(body, p); err != nil || bytes.Contains(body, []byte("rotajoin_")) {
			k.t.Errorf("pod %s: %v", body, err)
		}
		answer, code = k.make(p), http.StatusCreated
	case what == "POST secrets":
		s := &corev1.Secret{}
		if err := json.Unmarshal(body, s); err != nil {
			k.t.Errorf("secret: %v", err)
		}
		k.secrets[s.Name] = s
		answer, code = s, http.StatusCreated
		k.begin(k.pods[s.Name])
	case what == "DELETE pods" && k.pods[name] != nil:
		p := k.pods[name]
		answer, code = p, http.StatusOK
		if cmd := k.procs[p.UID]; cmd == nil || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
			k.forget(p)
		} else if p.DeletionTimestamp == nil {
			p.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(time.Duration(*p.Spec.TerminationGracePeriodSeconds) * time.Second)}
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		k.t.Logf("%s %s: %v", r.Method, r.URL.Path, err)
	}
}

func (k *podServer) make(p *corev1.Pod) *corev1.Pod {
	k.made++
	p.UID, p.CreationTimestamp, p.Status.Phase = types.UID(fmt.Sprint("u", k.made)), metav1.Now(), corev1.PodPending
	k.pods[p.Name] = p
	return p
}

// forget forgets a pod, and the Secret that it owns with it.
func (k *podServer) forget(p *corev1.Pod) {
	delete(k.pods, p.Name)
	if s := k.secrets[p.Name]; s != nil && s.OwnerReferences[0].UID == p.UID {
		delete(k.secrets, p.Name)
	}
}

// begin starts a pod's process. Pods have no loopback of their own: each gets another address.
func (k *podServer) begin(p *corev1.Pod) {
	c := p.Spec.Containers[0]
	own := strings.NewReplacer("127.0.0.1:7438", fmt.Sprintf("127.0.7.%d:0", k.made), "$$", "$")
	cmd := exec.Command(c.Command[0])
	for _, a := range c.Command[1:] {
		cmd.Args = append(cmd.Args, own.Replace(a))
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + k.t.TempDir()}
	for _, v := range c.Env {
		value := own.Replace(v.Value)
		if v.ValueFrom != nil {
			ref := v.ValueFrom.SecretKeyRef
			value = string(k.secrets[ref.Name].Data[ref.Key])
		}
		cmd.Env = append(cmd.Env, v.Name+"="+value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		k.t.Errorf("pod %s: %v", p.Name, err)
		return
	}
	k.procs[p.UID] = cmd
	p.Status.Phase = corev1.PodRunning
	set := func(s corev1.ContainerState) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: c.Name, State: s}}
	}
	set(corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}})
	k.waits.Go(func() {
		_ = cmd.Wait()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.procs, p.UID)
		p.Status.Phase = corev1.PodFailed
		set(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(cmd.ProcessState.ExitCode()), FinishedAt: metav1.Now(), Message: out.String()}})
		if p.DeletionTimestamp != nil {
			k.forget(p)
		}
	})
}

// names are the names of what is there.
func (k *podServer) names() (pods, secrets []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.pods {
		pods = append(pods, name)
	}
	for name := range k.secrets {
		secrets = append(secrets, name)
	}
	return pods, secrets
}

// TestKubernetesPool: workers come and go as pods do; a second copy of one is stopped, an
// eviction and the loss of a pod are made good, and each task has one owner at a time.
func TestKubernetesPool(t *testing.T) {
	t.Parallel()
	k, kubeconfig := newPodServer(t)
	c := newPooled(t, "kubernetes", []string{"KUBECONFIG=" + kubeconfig})
	r := newRecord(t, shortDir(t))
	pool := filepath.Join(c.dir, "pool.yaml")
	tasks := filepath.Join(c.dir, "tasks.yaml")
	for name, text := range map[string]string{
		pool: fmt.Sprintf("name: web\nengine: kubernetes\nsize: 1\noptions: {image: rota, rota: %q, grace: 90s}\ntemplate:\n  kinds: [hold]\n  command: [rota, worker, --exec, \"hold=%s %s pods {{.ID}} {{.Generation}}\"]\n",
			rotaBin, holderBin, r.socket),
		tasks: "tasks:\n- {id: a, kind: hold}\n- {id: b, kind: hold}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.ask("pool", "apply", "-f", pool)
	c.ask("task", "apply", "-f", tasks)
	all := func() bool {
		tasks, _ := r.running()
		return len(tasks) == 2 && tasks["a"] == 1 && tasks["b"] == 1
	}
	await(t, 3*time.Minute, "both tasks run", all)
	first := c.ready("web")
	if pods, secrets := k.names(); len(pods) != 1 || !slices.Equal(pods, secrets) {
		t.Errorf("pods %q, Secrets %q", pods, secrets)
	}

	// A second copy starts, with the token of the first.
	k.mu.Lock()
	copied := k.pods[strings.ReplaceAll(first.GetName(), ".", "-")].DeepCopy()
	copied.Name, copied.Status = "copied", corev1.PodStatus{}
	k.begin(k.make(copied))
	k.mu.Unlock()
	await(t, 3*time.Minute, "the copy is gone", func() bool { pods, _ := k.names(); return !slices.Contains(pods, "copied") || k.failed("copied") })
	if now := c.ready("web"); now.GetName() != first.GetName() || !all() {
		t.Errorf("%v, which should go on", now)
	}

	// Evicted, a worker hands over; killed, it is replaced.
	not := []string{first.GetName()}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		k.mu.Lock()
		p := k.pods[strings.ReplaceAll(not[len(not)-1], ".", "-")]
		if s == syscall.SIGTERM {
			p.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(time.Minute)}
			_ = k.procs[p.UID].Process.Signal(s)
		} else {
			_ = syscall.Kill(-k.procs[p.UID].Process.Pid, s)
		}
		k.mu.Unlock()
		not = append(not, c.ready("web", not...).GetName())
		await(t, 3*time.Minute, "both tasks run on another worker", all)
	}
	c.ask("task", "delete", "a", "b")
	c.ask("pool", "delete", "web")
	await(t, 3*time.Minute, "no process is left", func() bool { k.mu.Lock(); defer k.mu.Unlock(); return len(k.procs) == 0 })
	await(t, time.Minute, "no task runs", func() bool { tasks, _ := r.running(); return len(tasks) == 0 })
	r.check(t)
	c.sched.signal(syscall.SIGTERM)
	c.sched.wait(t, time.Minute)
}

// failed reports whether a pod has ended by itself.
func (k *podServer) failed(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pods[name]
	return p != nil && p.Status.Phase == corev1.PodFailed
}
