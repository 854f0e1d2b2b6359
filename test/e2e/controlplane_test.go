//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// workersPods are the pods of workers, in the namespace of deploy/kubernetes-pools.
const (
	workersPods    = "/api/v1/namespaces/rota-workers/pods"
	workersSecrets = "/api/v1/namespaces/rota-workers/secrets"
	workerLabel    = "rota-project.github.io/worker"
)

// pods are those of workers.
func (p *plane) pods() []corev1.Pod {
	p.t.Helper()
	list := &corev1.PodList{}
	p.must(http.MethodGet, workersPods, nil, list)
	return list.Items
}

// pod is that of a worker, nil if there is none.
func (p *plane) pod(worker string) *corev1.Pod {
	p.t.Helper()
	pod := &corev1.Pod{}
	err := p.send(p.t.Context(), http.MethodGet, workersPods+"/"+strings.ReplaceAll(worker, ".", "-"), nil, pod)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return pod
}

// secrets are the names of the Secrets of workers.
func (p *plane) secrets() (names []string) {
	p.t.Helper()
	list := &corev1.SecretList{}
	p.must(http.MethodGet, workersSecrets, nil, list)
	for _, s := range list.Items {
		names = append(names, s.Name)
	}
	return names
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// copyOf makes another pod of a pod's text, which somebody might.
func (p *plane) copyOf(pod *corev1.Pod, name string) *corev1.Pod {
	p.t.Helper()
	other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: pod.Namespace, Labels: pod.Labels}, Spec: *pod.Spec.DeepCopy()}
	other.Spec.NodeName = ""
	p.must(http.MethodPost, workersPods, other, other)
	return other
}

// TestKubernetes runs pools on a real control plane, that ROTA_KUBERNETES names the
// directory of, with nodes of the test's own and the rights of
// deploy/kubernetes-pools/rights.yaml. A pool grows and shrinks, emptiest first; its pods
// are copied, deleted and lost with their node; the API server is away; a quota, an image
// and a request stand in its way; the elevator runs on it; nothing is left of it. Each
// task has one owner at a time all the while, and no token is where others could read it.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	bin := os.Getenv("ROTA_KUBERNETES")
	if bin == "" {
		t.Skip("make engines builds the control plane")
	}
	p := newPlane(t, bin)
	token := p.rights()
	k := &kubePool{plane: p}
	p.join("n1")
	p.join("n2")
	kubeContract(t, p.kubeAPI, "rota-workers")
	p.manifests()
	k.pooled = newPooled(t, "kubernetes", []string{"ROTA_KUBECONFIG=" + p.kubeconfig("rota-scheduler", token), "ROTA_KUBE_NAMESPACES=rota-workers"})
	k.record = newRecord(t, shortDir(t))
	t.Cleanup(p.sweep) // before the record waits for what is told to it
	k.apply("web", "2", "")
	k.tasks(5)
	k.awaitAll("five tasks run on two workers", 2)
	await(t, 2*time.Minute, "both pods are ready", func() bool {
		pods := p.pods()
		return len(pods) == 2 && isReady(&pods[0]) && isReady(&pods[1])
	})
	for _, pod := range p.pods() {
		text, err := json.Marshal(pod)
		if err != nil || bytes.Contains(text, []byte("rotajoin_")) || len(pod.OwnerReferences) != 1 {
			t.Errorf("error %v, pod %s", err, text)
		}
	}
	k.limited(token)
	k.sizes()
	elevatorOn(t, k.pooled, "web")
	k.copied()
	k.deleted()
	k.lost()
	k.apart()
	k.refused()

	// All goes, and nothing is left.
	k.ask("task", "delete", "t0", "t1", "t2", "t3", "t4")
	k.ask("pool", "delete", "web")
	await(t, 4*time.Minute, "no pool is left", func() bool {
		time.Sleep(200 * time.Millisecond)
		return strings.TrimSpace(k.ask("pool", "list", "--output", "jsonl")) == ""
	})
	await(t, 2*time.Minute, "no pod and no Secret is left", func() bool {
		time.Sleep(200 * time.Millisecond)
		return len(p.pods()) == 0 && len(p.secrets()) == 0
	})
	await(t, time.Minute, "no task runs", func() bool { tasks, _ := k.record.running(); return len(tasks) == 0 })
	k.record.check(t)
	if strings.Contains(k.sched.out.String(), "rotajoin_") || strings.Contains(k.sched.out.String(), token) {
		t.Error("the scheduler logs a token")
	}
	k.sched.signal(syscall.SIGTERM)
	k.sched.wait(t, time.Minute)
}

// manifests has the tests of deploy ask the API server what it thinks of them.
func (p *plane) manifests() {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "go", "-C", "../../bench", "test", "-count=1", "-v", "-run=^TestServer$", "./manifests")
	cmd.Env = append(os.Environ(), "ROTA_KUBERNETES_URL="+p.url, "ROTA_KUBERNETES_TOKEN="+p.token, "ROTA_KUBERNETES_CA="+p.ca)
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("SKIP")) {
		p.t.Errorf("manifests: %v\n%s", err, out)
	}
}

// kubePool is a cluster of rota with pools on a plane.
type kubePool struct {
	*plane
	*pooled
	record *record
	count  int // of tasks
}

// template is a pool whose workers hold tasks, and run members of programs.
func (k *kubePool) template(name, size, more string) string {
	return fmt.Sprintf(`name: %s
engine: kubernetes
size: %s
start_timeout: 60s
options: {image: rota, owner: rota-pools, rota: %q, requests: "cpu=100m,memory=64Mi", grace: 30s}
template:
  max_tasks: 20
  command: [rota, worker, --demo, --exec, "hold=%s %s pods {{.ID}} {{.Generation}}"]
%s`, name, size, rotaBin, holderBin, k.record.socket, more)
}

func (k *kubePool) file(name, text string) string {
	k.t.Helper()
	k.write(name, text)
	return filepath.Join(k.dir, name)
}

func (k *kubePool) apply(name, size, more string) {
	k.t.Helper()
	k.ask("pool", "apply", "-f", k.file(name+".yaml", k.template(name, size, more)))
}

func (k *kubePool) tasks(n int) {
	k.t.Helper()
	list := "tasks:\n"
	for i := range n {
		list += fmt.Sprintf("- {id: t%d, kind: hold}\n", i)
	}
	k.count = n
	k.ask("task", "apply", "-f", k.file("tasks.yaml", list))
}

// all reports whether each task runs once.
func (k *kubePool) all() bool {
	tasks, _ := k.record.running()
	for _, n := range tasks {
		if n != 1 {
			return false
		}
	}
	return len(tasks) == k.count
}

// workers are those of the pool that run.
func (k *kubePool) workers() (list []*rotav1.PoolWorker) {
	k.t.Helper()
	for _, w := range k.pool("web").GetWorkers() {
		if w.GetState() == "running" && w.GetHandle() != "" {
			list = append(list, w)
		}
	}
	return list
}

// awaitAll waits until all tasks run on workers of a number, and there are no others but some.
func (k *kubePool) awaitAll(what string, size int, not ...string) (list []*rotav1.PoolWorker) {
	k.t.Helper()
	await(k.t, 4*time.Minute, what, func() bool {
		time.Sleep(200 * time.Millisecond)
		if !k.all() {
			return false
		}
		list = k.workers()
		held := 0
		for _, w := range list {
			if slices.Contains(not, w.GetName()) {
				return false
			}
			held += int(w.GetInstances())
		}
		return len(list) == size && len(k.pool("web").GetWorkers()) == size && held == k.count
	})
	return list
}

// limited: the scheduler's account may do what the engine does, and nothing else.
func (k *kubePool) limited(token string) {
	t := k.t
	t.Helper()
	user := &kubeAPI{url: k.url, token: token, http: k.http}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}}
	for path, method := range map[string]string{
		workersSecrets: http.MethodGet, workersSecrets + "/x": http.MethodGet, workersSecrets + "/x?": http.MethodDelete, workersPods + "/x": http.MethodGet,
		workersPods + "/x?": http.MethodPut, workersPods + "/x/log": http.MethodGet, workersPods + "/x/exec": http.MethodPost, "/api/v1/namespaces/rota-workers/configmaps/kube-root-ca.crt": http.MethodGet,
		"/api/v1/namespaces/rota/pods": http.MethodGet, "/api/v1/namespaces/rota/pods?": http.MethodPost, "/api/v1/namespaces/default/secrets": http.MethodPost,
		"/api/v1/nodes": http.MethodGet, "/api/v1/namespaces": http.MethodGet,
	} {
		var in any
		if method == http.MethodPost || method == http.MethodPut {
			in = pod
		}
		if err := user.send(t.Context(), method, strings.TrimSuffix(path, "?"), in, nil); !apierrors.IsForbidden(err) {
			t.Errorf("%s %s: %v", method, path, err)
		}
	}
}

// sizes: the pool grows; it shrinks by the emptiest, from which what it holds moves before.
func (k *kubePool) sizes() {
	t := k.t
	t.Helper()
	k.ask("pool", "scale", "web", "3")
	list := k.awaitAll("three workers run", 3)
	await(t, 2*time.Minute, "the tasks are spread", func() bool {
		time.Sleep(200 * time.Millisecond)
		list = k.workers()
		return len(list) == 3 && !slices.ContainsFunc(list, func(w *rotav1.PoolWorker) bool { return w.GetInstances() == 0 || w.GetInstances() > 2 }) && k.all()
	})
	emptiest := slices.MinFunc(list, func(a, b *rotav1.PoolWorker) int { return int(a.GetInstances() - b.GetInstances()) })
	if emptiest.GetInstances() != 1 {
		t.Fatalf("%v", list)
	}
	before := k.record.count()
	k.ask("pool", "scale", "web", "2")
	k.awaitAll("the emptiest has gone", 2, emptiest.GetName())
	if n := k.record.count() - before; n != 1 {
		t.Errorf("%d tasks began for the one that had to move", n)
	}
	await(t, 2*time.Minute, "its Secret goes with its pod", func() bool {
		time.Sleep(200 * time.Millisecond)
		return k.pod(emptiest.GetName()) == nil && len(k.pods()) == 2 && len(k.secrets()) == 2
	})
}

// copied: a second copy of a worker that lives ends, and takes nothing.
func (k *kubePool) copied() {
	t := k.t
	t.Helper()
	before, runs := k.workers(), k.record.count()
	other := k.copyOf(k.pod(before[0].GetName()), "copied")
	await(t, 2*time.Minute, "the copy is gone", func() bool {
		time.Sleep(100 * time.Millisecond)
		err := k.send(t.Context(), http.MethodGet, workersPods+"/copied", nil, other)
		return apierrors.IsNotFound(err) || err == nil && (other.Status.Phase == corev1.PodFailed || other.DeletionTimestamp != nil)
	})
	now := k.awaitAll("both workers go on", 2)
	if now[0].GetName() != before[0].GetName() || now[1].GetName() != before[1].GetName() || k.record.count() != runs {
		t.Errorf("%v runs, %d runs of tasks; %v before, %d", now, k.record.count(), before, runs)
	}
	_ = k.send(t.Context(), http.MethodDelete, workersPods+"/copied", nil, nil)
}

// deleted: a pod that somebody deletes hands over, and is replaced; so is one that is
// deleted without waiting.
func (k *kubePool) deleted() {
	t := k.t
	t.Helper()
	for _, grace := range []*int64{nil, new(int64)} {
		victim := k.workers()[0]
		k.must(http.MethodDelete, workersPods+"/"+k.pod(victim.GetName()).Name, &metav1.DeleteOptions{GracePeriodSeconds: grace}, nil)
		k.awaitAll("another worker takes its place", 2, victim.GetName())
	}
}

// lost: a node is lost to Kubernetes, and its worker lives: it goes on, also when a pod is
// made a second time. Then the worker is lost, too, and replaced. When the node is back
// nothing of it comes again.
func (k *kubePool) lost() {
	t := k.t
	t.Helper()
	victim := k.workers()[0]
	pod := k.pod(victim.GetName())
	node := k.nodes[pod.Spec.NodeName]
	away := func() []string { // the workers of that node
		var names []string
		for _, x := range k.pods() {
			if x.Spec.NodeName == node.name {
				names = append(names, x.Labels[workerLabel])
			}
		}
		return names
	}()
	runs := k.record.count()
	node.frozen.Store(true)
	await(t, 4*time.Minute, "Kubernetes gives the node up", func() bool {
		time.Sleep(200 * time.Millisecond)
		x := k.pod(victim.GetName())
		return x != nil && x.DeletionTimestamp != nil
	})
	await(t, time.Minute, "the pool says so", func() bool {
		time.Sleep(200 * time.Millisecond)
		return strings.Contains(k.ask("pool", "get", "web"), "lost with its node "+node.name)
	})
	if !k.all() || k.record.count() != runs {
		t.Errorf("the tasks did not go on: %d runs, %d before", k.record.count(), runs)
	}
	second := k.copyOf(pod, "second")
	said := ""
	await(t, 2*time.Minute, "the second copy ends", func() bool {
		time.Sleep(100 * time.Millisecond)
		for _, n := range k.nodes {
			if n.ended(second.UID) {
				said = n.wrote(second.UID)
				return true
			}
		}
		return k.send(t.Context(), http.MethodGet, workersPods+"/second", nil, second) != nil
	})
	if said != "" && !strings.Contains(said, "this second copy of the worker must end") {
		t.Errorf("the second copy says %s", said)
	}
	if !k.all() || k.record.count() != runs {
		t.Errorf("the tasks did not go on: %d runs, %d before", k.record.count(), runs)
	}
	_ = k.send(t.Context(), http.MethodDelete, workersPods+"/second", nil, nil)
	for _, x := range k.pods() {
		if x.Spec.NodeName == node.name && x.Labels[workerLabel] != "" && x.Name != "second" {
			node.freeze(x.UID)
		}
	}
	k.awaitAll("others take the place of what was lost", 2, away...)
	node.frozen.Store(false)
	await(t, 3*time.Minute, "the node is back, and has let go of it", func() bool {
		time.Sleep(200 * time.Millisecond)
		return node.ended(pod.UID) && k.pod(victim.GetName()) == nil
	})
	k.awaitAll("nothing has changed", 2, away...)
}

// apart: without the API server workers go on, and what is wanted meanwhile is done when it
// is back.
func (k *kubePool) apart() {
	t := k.t
	t.Helper()
	before, runs := k.workers(), k.record.count()
	k.away()
	await(t, 2*time.Minute, "the pool says that the engine is away", func() bool {
		time.Sleep(200 * time.Millisecond)
		return strings.Contains(k.ask("pool", "get", "web"), "the engine kubernetes does not answer: list pods of rota-workers:")
	})
	k.ask("pool", "scale", "web", "3")
	for range 10 {
		time.Sleep(500 * time.Millisecond)
		if p := k.pool("web"); p.GetDesired() != 3 || len(k.workers()) != 2 || !k.all() || k.record.count() != runs {
			t.Fatalf("%v, %d runs, %d before", p, k.record.count(), runs)
		}
	}
	k.serve()
	now := k.awaitAll("three workers run", 3)
	for _, w := range before {
		if !slices.ContainsFunc(now, func(x *rotav1.PoolWorker) bool { return x.GetName() == w.GetName() }) {
			t.Errorf("%s has gone", w.GetName())
		}
	}
	await(t, time.Minute, "the pool no longer says that it is away", func() bool {
		time.Sleep(200 * time.Millisecond)
		return len(k.pool("web").GetNotes()) == 0
	})
}

// refused: a quota, an image that cannot be had, a request that no node has room for are
// told, and nothing is left of what was tried.
func (k *kubePool) refused() {
	t := k.t
	t.Helper()
	const quotas = "/api/v1/namespaces/rota-workers/resourcequotas"
	k.must(http.MethodPost, quotas, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "few"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/pods": resource.MustParse("0")}},
	}, nil)
	await(t, 2*time.Minute, "the quota is counted", func() bool {
		time.Sleep(100 * time.Millisecond)
		q := &corev1.ResourceQuota{}
		k.must(http.MethodGet, quotas+"/few", nil, q)
		return len(q.Status.Hard) > 0
	})
	k.apply("more", "1", "")
	await(t, 2*time.Minute, "the quota is told", func() bool {
		time.Sleep(200 * time.Millisecond)
		p := k.pool("more")
		return p.GetState() == "failing" && strings.Contains(p.GetError(), "exceeded quota: few")
	})
	k.ask("pool", "delete", "more")
	k.must(http.MethodDelete, quotas+"/few", nil, nil)

	absent := strings.Replace(k.template("absent", "1", ""), "image: rota,", "image: "+kubeletImage+"/image,", 1)
	large := strings.Replace(k.template("large", "1", ""), "cpu=100m", "cpu=100", 1)
	k.ask("pool", "apply", "-f", k.file("absent.yaml", absent), "-f", k.file("large.yaml", large))
	for pool, want := range map[string]string{"absent": "ErrImagePull: no such image: missing/image", "large": "Unschedulable: 0/2 nodes are available"} {
		await(t, 2*time.Minute, want+" is told", func() bool {
			time.Sleep(200 * time.Millisecond)
			list := k.pool(pool).GetWorkers()
			return len(list) == 1 && strings.Contains(list[0].GetDetail(), want)
		})
	}
	await(t, 3*time.Minute, "what was never started is a failure", func() bool {
		time.Sleep(200 * time.Millisecond)
		return strings.Contains(k.pool("large").GetError(), "did not start it within 1m0s: Unschedulable")
	})
	for _, name := range []string{"absent", "large"} {
		k.ask("pool", "delete", name)
	}
}
