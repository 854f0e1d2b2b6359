//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// kubelet is a node of a plane whose pods are processes of this machine. It starts the
// command of the first container, with the variables that the pod names, those from Secrets
// among them; asks its readiness probe; ends it by SIGTERM, and when the grace period is
// over by SIGKILL. Of images it knows one that cannot be had. Pods have no root and no
// network of their own: 127.0.0.1:7438 of each is another address of loopback.
type kubelet struct {
	*plane
	t      *testing.T
	name   string
	frozen atomic.Bool // it says and does nothing, and what it started goes on
	stop   context.CancelFunc
	done   sync.WaitGroup
	said   string // the last error

	mu   sync.Mutex
	pods map[types.UID]*container
}

// container is the process of a pod.
type container struct {
	cmd   *exec.Cmd
	dir   string // its own
	began metav1.Time
	probe []string
	asked bool      // to end
	ready bool      // as it was told last
	next  time.Time // when it is probed

	out   *output
	ended bool
	exit  int
}

const (
	kubeletHealth = "127.0.0.1:7438"
	kubeletImage  = "missing" // begins the names of images that cannot be had
)

var kubeletAddresses atomic.Int32

// join starts a node, which the plane's sweep ends.
func (p *plane) join(name string) *kubelet {
	p.t.Helper()
	k := &kubelet{plane: p, t: p.t, name: name, pods: map[types.UID]*container{}}
	room := corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("50")}
	p.must(http.MethodPost, "/api/v1/nodes", &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status:     corev1.NodeStatus{Capacity: room, Allocatable: room},
	}, nil)
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	k.done.Go(func() { k.every(ctx, time.Second, k.beat) })
	k.done.Go(func() { k.every(ctx, 200*time.Millisecond, k.look) })
	p.nodes[name] = k
	p.t.Cleanup(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		for uid, c := range k.pods {
			if p.t.Failed() {
				p.t.Logf("pod %s on %s:\n%s", uid, name, c.out)
			}
		}
	})
	return k
}

func (k *kubelet) every(ctx context.Context, pause time.Duration, do func(context.Context) error) {
	for ctx.Err() == nil {
		if !k.frozen.Load() {
			if err := do(ctx); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !errors.Is(err, syscall.ECONNREFUSED) {
				k.complain(err.Error())
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// complain logs an error that is another than before.
func (k *kubelet) complain(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.said != text {
		k.said = text
		k.t.Logf("kubelet %s: %s", k.name, text)
	}
}

// beat says that the node is well.
func (k *kubelet) beat(ctx context.Context) error {
	node, now := &corev1.Node{}, metav1.Now()
	if err := k.send(ctx, http.MethodGet, "/api/v1/nodes/"+k.name, nil, node); err != nil {
		return err
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Ready", LastHeartbeatTime: now, LastTransitionTime: now}}
	if err := k.send(ctx, http.MethodPut, "/api/v1/nodes/"+k.name+"/status", node, nil); err != nil {
		return err
	}
	const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	at, seconds, lease := metav1.NowMicro(), int32(10), &coordinationv1.Lease{}
	err := k.send(ctx, http.MethodGet, leases+"/"+k.name, nil, lease)
	if apierrors.IsNotFound(err) {
		err = k.send(ctx, http.MethodPost, leases, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: k.name},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &k.name, RenewTime: &at, LeaseDurationSeconds: &seconds},
		}, nil)
		if apierrors.IsNotFound(err) { // the namespace is not there yet
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec.RenewTime = &at
	return k.send(ctx, http.MethodPut, leases+"/"+k.name, lease, nil)
}

func podPath(pod *corev1.Pod) string {
	return "/api/v1/namespaces/" + pod.Namespace + "/pods/" + pod.Name
}

// look sees to all pods of the node.
func (k *kubelet) look(ctx context.Context) error {
	list := &corev1.PodList{}
	if err := k.send(ctx, http.MethodGet, "/api/v1/pods?fieldSelector=spec.nodeName%3D"+k.name, nil, list); err != nil {
		return err
	}
	var errs error
	there := map[types.UID]bool{}
	for n := range list.Items {
		pod := &list.Items[n]
		there[pod.UID] = true
		if err := k.see(ctx, pod); err != nil && !apierrors.IsNotFound(err) {
			errs = errors.Join(errs, fmt.Errorf("pod %s: %w", pod.Name, err))
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for uid, c := range k.pods { // of which the API server knows nothing: it was deleted by force
		if !there[uid] && !c.ended && !k.frozen.Load() {
			_ = syscall.Kill(c.cmd.Process.Pid, syscall.SIGKILL)
		}
	}
	return errs
}

// see brings one pod on.
func (k *kubelet) see(ctx context.Context, pod *corev1.Pod) error {
	over := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
	k.mu.Lock()
	c := k.pods[pod.UID]
	ended, asked := c != nil && c.ended, c != nil && c.asked
	if c != nil {
		c.asked = asked || pod.DeletionTimestamp != nil
	}
	k.mu.Unlock()
	switch {
	case c == nil && pod.DeletionTimestamp != nil, c != nil && ended && over && pod.DeletionTimestamp != nil:
		now := int64(0)
		return k.send(ctx, http.MethodDelete, podPath(pod), &metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID}}, nil)
	case over:
		return nil
	case c == nil:
		return k.begin(ctx, pod)
	case ended:
		return k.tell(ctx, pod, c)
	case pod.DeletionTimestamp != nil && !asked:
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		time.AfterFunc(time.Duration(*pod.DeletionGracePeriodSeconds)*time.Second, func() { _ = c.cmd.Process.Kill() })
		return nil
	}
	ready := c.ready
	if time.Now().After(c.next) {
		ready = len(c.probe) == 0 || exec.CommandContext(ctx, c.probe[0], c.probe[1:]...).Run() == nil
		c.next = time.Now().Add(2 * time.Second)
	}
	if ready != c.ready || pod.Status.Phase == corev1.PodPending {
		c.ready = ready
		return k.tell(ctx, pod, c)
	}
	return nil
}

// waits says why a pod does not run.
func (k *kubelet) waits(ctx context.Context, pod *corev1.Pod, reason, message string) error {
	if s := pod.Status.ContainerStatuses; len(s) > 0 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == reason {
		return nil
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
	}}
	return k.send(ctx, http.MethodPut, podPath(pod)+"/status", pod, nil)
}

// begin starts a pod's process.
func (k *kubelet) begin(ctx context.Context, pod *corev1.Pod) error {
	spec := &pod.Spec.Containers[0]
	if strings.HasPrefix(spec.Image, kubeletImage) {
		return k.waits(ctx, pod, "ErrImagePull", "no such image: "+spec.Image)
	}
	dir, err := os.MkdirTemp(k.dir, "pod-")
	if err != nil {
		return err
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "HOME=" + dir}
	n := kubeletAddresses.Add(1)
	own := strings.NewReplacer(kubeletHealth, fmt.Sprintf("127.0.%d.%d:7438", 10+n/250, 1+n%250), "$$", "$")
	for _, v := range spec.Env {
		value := own.Replace(v.Value)
		if v.ValueFrom != nil {
			ref, s := v.ValueFrom.SecretKeyRef, &corev1.Secret{}
			if err := k.send(ctx, http.MethodGet, "/api/v1/namespaces/"+pod.Namespace+"/secrets/"+ref.Name, nil, s); err != nil {
				_ = os.Remove(dir)
				if apierrors.IsNotFound(err) {
					return k.waits(ctx, pod, "CreateContainerConfigError", "secret "+ref.Name+" not found")
				}
				return err
			}
			value = string(s.Data[ref.Key])
		}
		env = append(env, v.Name+"="+value)
	}
	argv := func(words []string) (out []string) {
		for _, w := range words {
			out = append(out, own.Replace(w))
		}
		return out
	}
	c := &container{began: metav1.Now(), dir: dir, out: newOutput()}
	if spec.ReadinessProbe != nil {
		c.probe = argv(spec.ReadinessProbe.Exec.Command)
	}
	command := argv(spec.Command)
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Dir, c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr, c.cmd.WaitDelay = dir, env, c.out, c.out, time.Second
	if err := c.cmd.Start(); err != nil {
		return k.waits(ctx, pod, "RunContainerError", err.Error())
	}
	k.mu.Lock()
	k.pods[pod.UID] = c
	k.mu.Unlock()
	go func() {
		_ = c.cmd.Wait()
		// What is left of a container goes with its first process.
		oursIn(c.dir, func(pid int, _ string, _ []byte) { _ = syscall.Kill(pid, syscall.SIGKILL) })
		k.mu.Lock()
		defer k.mu.Unlock()
		c.ended, c.exit = true, c.cmd.ProcessState.ExitCode()
		if c.exit < 0 {
			c.exit = 137
		}
	}()
	return k.tell(ctx, pod, c)
}

// tell says how a pod is.
func (k *kubelet) tell(ctx context.Context, pod *corev1.Pod, c *container) error {
	k.mu.Lock()
	now, ready := metav1.Now(), corev1.ConditionFalse
	pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &c.began
	s := corev1.ContainerStatus{
		Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image, Ready: c.ready && !c.ended,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: c.began}},
	}
	if c.ended {
		pod.Status.Phase = corev1.PodSucceeded
		if c.exit != 0 {
			pod.Status.Phase = corev1.PodFailed
		}
		text := c.out.String()
		s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: int32(c.exit), StartedAt: c.began, FinishedAt: now, Message: text[max(0, len(text)-2000):],
		}}
	}
	if s.Ready {
		ready = corev1.ConditionTrue
	}
	k.mu.Unlock()
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{s}
	conditions := []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: now}}
	for _, old := range pod.Status.Conditions {
		if old.Type != corev1.PodReady {
			conditions = append(conditions, old)
		}
	}
	pod.Status.Conditions = conditions
	return k.send(ctx, http.MethodPut, podPath(pod)+"/status", pod, nil)
}

// wrote is what the process of a pod has written.
func (k *kubelet) wrote(uid types.UID) string {
	k.mu.Lock()
	c := k.pods[uid]
	k.mu.Unlock()
	if c == nil {
		return ""
	}
	return c.out.String()
}

// ended reports whether the process of a pod has ended.
func (k *kubelet) ended(uid types.UID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pods[uid] != nil && k.pods[uid].ended
}

// freeze stops the worker of a pod, whose keeper goes on.
func (k *kubelet) freeze(uid types.UID) {
	k.t.Helper()
	k.mu.Lock()
	keeper := k.pods[uid].cmd.Process.Pid
	k.mu.Unlock()
	stopped := 0
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", keeper))
	for _, file := range threads { // each has those that it began
		children, _ := os.ReadFile(file)
		for word := range strings.FieldsSeq(string(children)) {
			if pid, err := strconv.Atoi(word); err == nil && syscall.Kill(pid, syscall.SIGSTOP) == nil {
				stopped++
			}
		}
	}
	if stopped == 0 {
		k.t.Fatalf("the keeper %d has no worker", keeper)
	}
}
