package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/mailbox"
)

// What is over soon is told once, by its end; what goes on is told as running;
// and never is a begin told after its end.
func TestBeginWaitsForItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &link{Out: mailbox.New[*rotav1.FromJobWorker]()}
		a := &Agent{link: k, begun: map[key]*time.Timer{}}
		a.notify(runner.Status{ID: "short", Generation: 1, State: job.Running})
		a.notify(runner.Status{ID: "long", Generation: 2, State: job.Running})
		time.Sleep(beginDelay - 1)
		a.notify(runner.Status{ID: "short", Generation: 1, State: job.Succeeded})
		time.Sleep(time.Minute)
		a.notify(runner.Status{ID: "long", Generation: 2, State: job.Failed})
		time.Sleep(time.Minute)
		var told []string
		for _, m := range k.Out.Take() {
			told = append(told, m.GetReport().GetId()+" "+m.GetReport().GetState())
		}
		if want := []string{"short succeeded", "long running", "long failed"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		if len(a.begun) != 0 {
			t.Errorf("%d begins forgotten", len(a.begun))
		}
	})
}

// An order that comes to nothing is told until a scheduler has kept that, and
// never carried out when it is given again; what may run elsewhere waits for a
// lease that can be trusted.
func TestUnstarted(t *testing.T) {
	t.Parallel()
	var leased atomic.Int64 // the session whose lease is trusted
	a, err := New(Config{
		Name: "w", Incarnation: "i", Leased: func(session int64) bool { return session == leased.Load() }, Runner: runner.Config{Dir: t.TempDir(), Allow: runner.Allow{Any: true}},
		Connect: func(context.Context) (*grpc.ClientConn, error) { return nil, errors.New("nobody") },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Runner().Close(t.Context())
	k := &link{Out: mailbox.New[*rotav1.FromJobWorker](), Cut: func() {}}
	a.link = k
	order := func(generation uint64) *rotav1.JobStart {
		session := int64(7)
		if generation == 1 {
			session = 6
		}
		return &rotav1.JobStart{Id: "00000000-0000-7000-8000-000000000001", Generation: generation, Session: session, Spec: &rotav1.JobWorkSpec{Argv: []string{"true"}, Rerun: true}}
	}
	told := func(last string) (out []string) { // until last is told
		t.Helper()
		for {
			for _, m := range k.Out.Take() {
				out = append(out, fmt.Sprint(m.GetReport().GetGeneration(), " ", m.GetReport().GetState()))
			}
			if slices.Contains(out, last) {
				// A command that takes its time is told as running first.
				return slices.DeleteFunc(out, func(s string) bool { return s == "2 running" })
			}
			select {
			case <-k.Out.Signal():
			case <-t.Context().Done():
				return out
			}
		}
	}
	a.start(order(1))
	if got := told("1 refused"); !slices.Equal(got, []string{"1 refused"}) {
		t.Errorf("without a lease: %v", got)
	}
	leased.Store(7)
	a.start(order(1)) // by a scheduler that has not heard
	late := order(3)
	late.Session = 6 // it was on its way for as long as it takes to lose a lease and get another
	a.start(late)
	if got := told("3 refused"); !slices.Equal(got, []string{"3 refused"}) {
		t.Errorf("an order of an earlier session: %v", got)
	}
	a.kept(key{late.GetId(), 3})
	a.start(order(2))
	if got := told("2 succeeded"); !slices.Equal(got, []string{"2 succeeded"}) {
		t.Errorf("the order that was refused and the next: %v", got)
	}
	a.mu.Lock()
	held := len(a.unstarted)
	a.mu.Unlock()
	a.kept(key{order(1).GetId(), 1})
	if held != 1 || len(a.unstarted) != 0 {
		t.Errorf("%d held before it was kept, %d after", held, len(a.unstarted))
	}
	cut := false
	k.Cut = func() { cut = true }
	a.Fence()
	if !cut {
		t.Error("orders of a lease that has ended are still read")
	}
}

// What an agent is asked of and has never begun it never begins; of what it has it
// says how it is.
func TestAsked(t *testing.T) {
	t.Parallel()
	a, err := New(Config{
		Name: "w", Incarnation: "i", Runner: runner.Config{Dir: t.TempDir(), Allow: runner.Allow{Any: true}},
		Connect: func(context.Context) (*grpc.ClientConn, error) { return nil, errors.New("nobody") },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Runner().Close(t.Context())
	k := &link{Out: mailbox.New[*rotav1.FromJobWorker](), Cut: func() {}}
	a.link = k
	var told []*rotav1.FromJobWorker
	next := func() string {
		t.Helper()
		for {
			if told = append(told, k.Out.Take()...); len(told) > 0 {
				r := told[0].GetReport()
				told = told[1:]
				return fmt.Sprint(r.GetGeneration(), " ", r.GetState())
			}
			select {
			case <-k.Out.Signal():
			case <-t.Context().Done():
				return "nothing"
			}
		}
	}
	const id = "00000000-0000-7000-8000-000000000001"
	order := func(g uint64) {
		a.start(&rotav1.JobStart{Id: id, Generation: g, Spec: &rotav1.JobWorkSpec{Argv: []string{"sleep", "1000"}}})
	}
	a.asked(key{id, 1})
	order(1) // it comes late
	if got := next(); got != "1 refused" {
		t.Errorf("of one that was never begun: %s", got)
	}
	order(2)
	if got := next(); got != "2 running" {
		t.Errorf("the next: %s", got)
	}
	a.asked(key{id, 2})
	if got := next(); got != "2 running" {
		t.Errorf("of one that runs: %s", got)
	}
	if n := a.Runner().Running(); n != 1 {
		t.Errorf("%d run", n)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	a.Runner().Close(gone)
}
