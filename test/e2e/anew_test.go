//go:build linux

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"

	"google.golang.org/grpc"
)

// TestDeclaredAnew: processes of a replicated task are started anew where a change of
// the task reaches their command line or environment, on the worker and under the
// generation that they have, and go on otherwise; whichever scheduler says so, and
// however the connection was when it was declared.
func TestDeclaredAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 2, 5*time.Second,
		"--exec", `hold=/bin/sh -c 'echo "[$ROTA_INDEX.$ROTA_GENERATION $ROTA_GROUP $*]"; exec sleep 1000' sh {Weight:any}`)
	apply := func(d *rotav1.TaskDefinition) {
		t.Helper()
		d.Id, d.Kind, d.Replicas, d.Key = "a", "hold", 2, "k"
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r := &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{d}}
		if _, err := rotav1.NewTasksClient(c.living().conn).ApplyTasks(ctx, r, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
	}
	prefer := []*rotav1.Preference{{Label: "x=y", Weight: 1}}
	var lines [2][]string // of each worker
	says := func(group string, weight int) {
		t.Helper()
		for n, w := range c.workers {
			if len(lines[n]) == 0 {
				first := w.proc.find(t, `\[(\d\.\d+) `+group+" "+fmt.Sprint(weight)+`\]`, time.Minute)
				lines[n] = []string{first[1], first[0]}
				continue
			}
			line := fmt.Sprintf("[%s %s %d]", lines[n][0], group, weight)
			w.proc.find(t, regexp.QuoteMeta(line), time.Minute)
			lines[n] = append(lines[n], line)
		}
	}
	apply(&rotav1.TaskDefinition{Group: "g1", Weight: 1})
	says("g1", 1)
	apply(&rotav1.TaskDefinition{Group: "g1", Weight: 1, Priority: 5, Prefer: prefer})
	apply(&rotav1.TaskDefinition{Group: "g1", Weight: 1, Priority: 6, Spread: &rotav1.Spread{Label: "zone"}})
	apply(&rotav1.TaskDefinition{Group: "g2", Weight: 1, Priority: 6})
	says("g2", 1)
	apply(&rotav1.TaskDefinition{Group: "g2", Weight: 2, Priority: 6})
	says("g2", 2)

	// Workers that nobody reaches hear of it when they are back.
	for _, w := range c.workers {
		w.hold(true, true)
	}
	apply(&rotav1.TaskDefinition{Group: "g3", Weight: 2})
	for _, w := range c.workers {
		for _, p := range w.proxies {
			p.cut()
		}
		w.hold(false, false)
	}
	says("g3", 2)

	// The leader is killed, and whoever follows says the next change.
	_, text := run(t, c.scheds[0].grpc, "status")
	leads := regexp.MustCompile(`leader +s(\d)`).FindStringSubmatch(text)
	if leads == nil {
		t.Fatalf("nobody leads:\n%s", text)
	}
	leader := c.scheds[leads[1][0]-'0'].proc
	leader.signal(syscall.SIGKILL)
	<-leader.done
	apply(&rotav1.TaskDefinition{Group: "g3", Weight: 3})
	says("g3", 3)
	apply(&rotav1.TaskDefinition{Group: "g4", Weight: 3})
	says("g4", 3)

	for n, w := range c.workers {
		got := regexp.MustCompile(`\[\d\.[^\]]*\]`).FindAllString(w.proc.out.String(), -1)
		if want := lines[n][1:]; strings.Join(got, "") != strings.Join(want, "") {
			t.Errorf("%s ran %v, want %v", w.name, got, want)
		}
	}
	if status, text := run(t, c.living().grpc, "task", "get", "a"); status != 0 || !strings.Contains(text, "g4") {
		t.Errorf("rota task get: %d\n%s", status, text)
	}
	c.stop()
}
