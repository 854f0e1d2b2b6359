//go:build linux

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/test/ports"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// newQuorum is a cluster of schedulers that keep the store themselves.
func newQuorum(t *testing.T, schedulers, workers int, lease time.Duration) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), lease: lease}
	members := make([]string, schedulers)
	for n := range members {
		members[n] = fmt.Sprintf("s%d=%s", n, ports.Addr(t))
	}
	for n := range schedulers {
		c.scheds = append(c.scheds, c.member(fmt.Sprint("s", n), members))
	}
	c.begin(workers)
	return c
}

// member is a scheduler that keeps the store with others.
func (c *cluster) member(name string, members []string, flags ...string) *sched {
	return &sched{c: c, name: name, keeps: append([]string{
		"--gateway=", "--cluster", strings.Join(members, ","), "--data-dir", filepath.Join(c.dir, name),
	}, flags...)}
}

// insist declares a task that holds, and tries again while the store has no leader.
func (c *cluster) insist(id string) {
	c.t.Helper()
	await(c.t, 2*time.Minute, id+" is declared", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
		defer cancel()
		_, err := rotav1.NewTasksClient(c.living().conn).ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: id, Kind: "hold"}}})
		return err == nil
	})
}

// TestLostForEver has one scheduler of three that keep the store killed, the one that
// leads, and replaced by a new one; then another one of the first three dies. What runs
// goes on all the while, and what is declared meanwhile runs.
func TestLostForEver(t *testing.T) {
	t.Parallel()
	const lease, tasks, workers = 15 * time.Second, 24, 3
	c := newQuorum(t, 3, workers, lease)
	c.apply("a", tasks)
	await(t, time.Minute, "all run", func() bool { return c.once(tasks) })

	// Load: tasks that change all the time, whoever of the schedulers lives.
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	changed := 0
	load.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			one, cancel := context.WithTimeout(ctx, 5*time.Second)
			r := &rotav1.ApplyTasksRequest{}
			for i := range 50 {
				r.Tasks = append(r.Tasks, &rotav1.TaskDefinition{Id: fmt.Sprintf("z%02d", i), Kind: "nobody's", Payload: fmt.Sprint(n)})
			}
			if _, err := rotav1.NewTasksClient(c.living().conn).ApplyTasks(one, r); err == nil {
				changed++
			}
			cancel()
		}
	})
	lost := c.leader()
	lost.proc.signal(syscall.SIGKILL)
	killed := time.Now()
	<-lost.proc.done
	c.insist("b00")
	await(t, 2*time.Minute, "what is declared after the leader's death runs", func() bool { return c.once(tasks + 1) })
	t.Logf("plans went on %v after the leader's death, with a lease of %v", time.Since(killed).Round(10*time.Millisecond), lease)

	members := rotav1.NewMembersClient(c.living().conn)
	await(t, 2*time.Minute, "the lost one is removed", func() bool {
		one, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := members.RemoveMember(one, &rotav1.RemoveMemberRequest{Name: lost.name})
		switch status.Code(err) {
		case codes.OK, codes.NotFound: // at the second time, if the first answer was lost
			return true
		case codes.FailedPrecondition, codes.Unavailable, codes.DeadlineExceeded:
			return false
		}
		t.Fatal(err)
		return false
	})
	with := []string{"new=" + ports.Addr(t)}
	for _, s := range c.scheds {
		if s != lost {
			for _, m := range strings.Split(s.keeps[2], ",") {
				if strings.HasPrefix(m, s.name+"=") {
					with = append(with, m)
				}
			}
		}
	}
	fresh := c.member("new", with, "--join")
	fresh.start()
	fresh.proc.find(t, `msg=ready`, 2*time.Minute)
	ready := func() (text string) {
		one, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r, err := members.ListMembers(one, &rotav1.ListMembersRequest{})
		if err != nil {
			return err.Error()
		}
		for _, m := range r.GetMembers() {
			text += " " + m.GetState()
		}
		return text
	}
	await(t, time.Minute, "three members", func() bool { s := ready(); return strings.Count(s, " member") == 2 && strings.Count(s, " leader") == 1 })

	// Now the new one counts: of the first three another one goes, and two are a quorum.
	var second *sched
	for _, s := range c.scheds {
		if s != lost && s != c.living() {
			second = s
		}
	}
	second.proc.signal(syscall.SIGKILL)
	<-second.proc.done
	c.insist("c00")
	await(t, 2*time.Minute, "what is declared after the second death runs", func() bool { return c.once(tasks + 2) })
	stop()
	load.Wait()
	if n := c.record.count(); n != tasks+2 {
		t.Errorf("%d runs of %d tasks: something that ran was disturbed", n, tasks+2)
	}
	if changed == 0 {
		t.Error("there was no load")
	}
	t.Logf("%d changes of 50 tasks meanwhile", changed)
	c.scheds = append(c.scheds, fresh)
	c.stop()
	c.record.check(t)
}
