//go:build linux

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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// podServer is a double of what the engine asks of Kubernetes, and of a node: each pod is a
// process of this machine, that begins when the Secret of its token is there and is asked
// to end when it is deleted. kubeContract holds both it and a real API server to the same.
type podServer struct {
	t   *testing.T
	url string

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
	k.url = srv.URL
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
	answer, code := refusal(http.StatusNotFound, metav1.StatusReasonNotFound)
	switch what := r.Method + " " + kind; {
	case what == "GET pods":
		list := &corev1.PodList{}
		which, err := labels.Parse(r.URL.Query().Get("labelSelector"))
		if err != nil {
			k.t.Errorf("%s: %v", r.URL, err)
		}
		for _, p := range k.pods {
			if which.Matches(labels.Set(p.Labels)) {
				list.Items = append(list.Items, *p)
			}
		}
		answer, code = list, http.StatusOK
	case what == "POST pods":
		p := &corev1.Pod{}
		if err := json.Unmarshal(body, p); err != nil || bytes.Contains(body, []byte("rotajoin_")) {
			k.t.Errorf("pod %s: %v", body, err)
		}
		if k.pods[p.Name] != nil {
			answer, code = refusal(http.StatusConflict, metav1.StatusReasonAlreadyExists)
			break
		}
		answer, code = k.make(p), http.StatusCreated
	case what == "POST secrets":
		s := &corev1.Secret{}
		if err := json.Unmarshal(body, s); err != nil {
			k.t.Errorf("secret: %v", err)
		}
		if k.secrets[s.Name] != nil {
			answer, code = refusal(http.StatusConflict, metav1.StatusReasonAlreadyExists)
			break
		}
		k.secrets[s.Name] = s
		answer, code = s, http.StatusCreated
		if p := k.pods[s.Name]; p != nil {
			k.begin(p)
		}
	case what == "DELETE pods" && k.pods[name] != nil:
		p, o := k.pods[name], &metav1.DeleteOptions{}
		if err := json.Unmarshal(body, o); err != nil {
			k.t.Errorf("options %s: %v", body, err)
		}
		if o.Preconditions != nil && o.Preconditions.UID != nil && *o.Preconditions.UID != p.UID {
			answer, code = refusal(http.StatusConflict, metav1.StatusReasonConflict)
			break
		}
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

// refusal is an answer of an API server to what it does not do.
func refusal(code int, reason metav1.StatusReason) (any, int) {
	return &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: reason, Code: int32(code)}, code
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

// kubeContract holds an API server to what the engine takes it for, in a namespace without
// pods and Secrets: the double (TestPodServer), or a real one with a node (TestKubernetes).
func kubeContract(t *testing.T, api *kubeAPI, namespace string) {
	t.Helper()
	at := "/api/v1/namespaces/" + namespace
	list := func(selector string) (names []string, pods map[string]*corev1.Pod) {
		t.Helper()
		all := &corev1.PodList{}
		if err := api.send(t.Context(), http.MethodGet, at+"/pods?labelSelector="+selector, nil, all); err != nil {
			t.Fatal(err)
		}
		pods = map[string]*corev1.Pod{}
		for n := range all.Items {
			pods[all.Items[n].Name] = &all.Items[n]
			names = append(names, all.Items[n].Name)
		}
		slices.Sort(names)
		return names, pods
	}
	no, yes, grace := false, true, int64(60)
	pod := func(name, script string) *corev1.Pod {
		return &corev1.Pod{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"of": name}},
			Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &grace, AutomountServiceAccountToken: &no,
				SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
				Containers: []corev1.Container{{
					Name: "worker", Image: "x", Command: []string{"sh", "-c", script},
					SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
					Env: []corev1.EnvVar{{Name: "SAID", ValueFrom: &corev1.EnvVarSource{
						SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: "k"},
					}}},
				}},
			},
		}
	}
	create := func(name, script string) *corev1.Pod {
		t.Helper()
		p := &corev1.Pod{}
		if err := api.send(t.Context(), http.MethodPost, at+"/pods", pod(name, script), p); err != nil || p.UID == "" || p.CreationTimestamp.IsZero() || p.Status.Phase != corev1.PodPending {
			t.Fatalf("pod %s: %+v, error %v", name, p, err)
		}
		return p
	}
	secret := func(p *corev1.Pod) error {
		return api.send(t.Context(), http.MethodPost, at+"/secrets", &corev1.Secret{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{
				Name: p.Name, Namespace: namespace, OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}},
			},
			Data: map[string][]byte{"k": []byte("it is there")},
		}, nil)
	}
	remove := func(name string, uid types.UID) error {
		return api.send(t.Context(), http.MethodDelete, at+"/pods/"+name,
			&metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}, Preconditions: &metav1.Preconditions{UID: &uid}}, nil)
	}
	until := func(what string, is func(pods map[string]*corev1.Pod) bool) {
		t.Helper()
		await(t, 2*time.Minute, what, func() bool {
			time.Sleep(20 * time.Millisecond)
			_, pods := list("")
			return is(pods)
		})
	}

	// A name is given once, and it is listed by its labels.
	a, b := create("a", "echo $SAID >&2; exit 7"), create("b", "trap 'sleep 3; exit 3' TERM; while :; do sleep 0.1; done")
	if err := api.send(t.Context(), http.MethodPost, at+"/pods", pod("a", ""), nil); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second pod of one name: %v", err)
	}
	for selector, want := range map[string][]string{"": {"a", "b"}, "of%3Da": {"a"}, "of%3Da,of": {"a"}, "other": nil} {
		if names, _ := list(selector); !slices.Equal(names, want) {
			t.Errorf("%q has pods %q", selector, names)
		}
	}

	// A pod waits for its Secret, then it runs; how it ends is told, and it stays.
	for _, p := range []*corev1.Pod{a, b} {
		if err := secret(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := secret(a); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second Secret of one name: %v", err)
	}
	until("one pod has ended, the other runs", func(pods map[string]*corev1.Pod) bool {
		return pods["a"].Status.Phase == corev1.PodFailed && pods["b"].Status.Phase == corev1.PodRunning && pods["b"].Status.ContainerStatuses[0].State.Running != nil
	})
	_, pods := list("")
	if end := pods["a"].Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 7 || end.FinishedAt.IsZero() || !strings.Contains(end.Message, "it is there") {
		t.Errorf("%+v", pods["a"].Status)
	}

	// A pod is deleted by name and uid: at once if it has ended, else when its process has,
	// which is asked to. Asked again it gets no more time.
	for _, p := range []*corev1.Pod{a, b} {
		if err := remove(p.Name, "another"); !apierrors.IsConflict(err) {
			t.Errorf("deleted by the uid of another: %v", err)
		}
	}
	if err := remove("none", "another"); !apierrors.IsNotFound(err) {
		t.Errorf("none deleted: %v", err)
	}
	if names, _ := list(""); len(names) != 2 {
		t.Errorf("pods %q", names)
	}
	for _, p := range []*corev1.Pod{a, b, b} {
		if err := remove(p.Name, p.UID); err != nil {
			t.Error(err)
		}
	}
	if names, pods := list(""); !slices.Equal(names, []string{"b"}) || pods["b"].DeletionTimestamp == nil {
		t.Errorf("pods %q, %+v", names, pods["b"])
	} else if left := time.Until(pods["b"].DeletionTimestamp.Time); left < 0 || left > time.Minute {
		t.Errorf("its grace period ends after %v", left)
	}
	until("it is gone", func(pods map[string]*corev1.Pod) bool { return len(pods) == 0 })
	// One that was never started goes at once, and Secrets go with their pods.
	c := create("c", "")
	if err := remove(c.Name, c.UID); err != nil {
		t.Error(err)
	}
	until("it is gone, too", func(pods map[string]*corev1.Pod) bool { return len(pods) == 0 })
	for _, p := range []*corev1.Pod{a, b} {
		await(t, 2*time.Minute, "its Secret is gone", func() bool {
			time.Sleep(20 * time.Millisecond)
			err := secret(p) // of a pod that is no more
			if err != nil && !apierrors.IsAlreadyExists(err) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
}

// TestPodServer: the double answers as the real one does.
func TestPodServer(t *testing.T) {
	t.Parallel()
	k, _ := newPodServer(t)
	kubeContract(t, &kubeAPI{url: k.url, http: http.DefaultClient}, "workers")
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
