package kubernetes

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rota-project/rota/engine/internal/room"
	"github.com/rota-project/rota/internal/text"
)

// lostSlack is how long after the end of its grace period a pod that is still there is
// taken for lost: the node that was to end it does not answer.
const lostSlack = 30 * time.Second

// copyOf is a pod as a copy, and when it ended if it has.
func copyOf(p *corev1.Pod, now time.Time) (c room.Copy, ended time.Time) {
	c = room.Copy{
		Cluster: p.Labels[labelCluster], Pool: p.Labels[labelPool], Worker: p.Labels[labelWorker], Handle: handleOf(p), State: room.Waiting,
	}
	var s corev1.ContainerState
	for _, status := range p.Status.ContainerStatuses {
		if status.Name == container {
			s = status.State
		}
	}
	switch {
	case s.Terminated != nil:
		c.State, c.Began, ended = room.Ended, s.Terminated.StartedAt.Time, s.Terminated.FinishedAt.Time
		c.Detail = exited(s.Terminated)
	case p.Status.Phase == corev1.PodSucceeded, p.Status.Phase == corev1.PodFailed:
		c.State, c.Detail = room.Ended, string(p.Status.Phase)
	case s.Running != nil:
		c.State, c.Began = room.Running, s.Running.StartedAt.Time
	case p.Status.Phase == corev1.PodRunning, p.Status.Phase == corev1.PodUnknown:
		c.State = room.Running
	default:
		c.Detail = waits(p, s.Waiting)
	}
	if p.Status.Reason != "" { // Evicted, DeadlineExceeded and others
		c.Detail = because(p.Status.Reason, p.Status.Message)
	}
	if p.Spec.ActiveDeadlineSeconds != nil && p.Status.StartTime != nil {
		c.Ends = p.Status.StartTime.Add(time.Duration(*p.Spec.ActiveDeadlineSeconds) * time.Second)
		if c.Began.IsZero() {
			c.Began = p.Status.StartTime.Time
		}
	}
	if p.DeletionTimestamp != nil && c.State != room.Ended {
		c.Detail = "being deleted"
		if why := lost(p, now); why != "" {
			c.State, c.Detail, ended = room.Ended, why, now
		}
	}
	if c.State == room.Running && c.Detail == "" {
		c.Detail = "on " + p.Spec.NodeName
	}
	if c.State == room.Ended && ended.IsZero() {
		ended = p.CreationTimestamp.Time
	}
	c.Detail = text.Clip(strings.ToValidUTF8(c.Detail, "?"), maxTold)
	return c, ended
}

// lost says why a pod that is being deleted is taken for gone though it is listed: its node
// has been given up. Should its worker live, it has lost its lease, and its name with it.
func lost(p *corev1.Pod, now time.Time) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "DeletionByTaintManager" {
			return "lost with its node " + p.Spec.NodeName + ": " + c.Message
		}
	}
	if p.Spec.NodeName != "" && now.Sub(p.DeletionTimestamp.Time) > lostSlack {
		return "its node " + p.Spec.NodeName + " was to end it, and does not say that it has"
	}
	return ""
}

func because(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + strings.Join(strings.Fields(message), " ")
}

// exited says how a container ended, with its last words.
func exited(t *corev1.ContainerStateTerminated) string {
	how := fmt.Sprintf("exit status %d", t.ExitCode)
	if t.Signal != 0 {
		how = fmt.Sprintf("signal %d", t.Signal)
	}
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		how = t.Reason + ", " + how
	}
	lines := strings.Split(strings.TrimSpace(t.Message), "\n")
	return because(how, lines[len(lines)-1])
}

// waits says why a pod does not run yet.
func waits(p *corev1.Pod, w *corev1.ContainerStateWaiting) string {
	if w != nil && w.Reason != "" {
		return because(w.Reason, w.Message)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return because(c.Reason, c.Message)
		}
	}
	return string(p.Status.Phase)
}
