package agent

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/job"
	"github.com/rota-project/rota/job/runner"
)

// What is over soon is told once, by its end; what goes on is told as running;
// and never is a begin told after its end.
func TestBeginWaitsForItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &link{signal: make(chan struct{}, 1)}
		a := &Agent{link: k, begun: map[key]*time.Timer{}}
		a.notify(runner.Status{ID: "short", Generation: 1, State: job.Running})
		a.notify(runner.Status{ID: "long", Generation: 2, State: job.Running})
		time.Sleep(beginDelay - 1)
		a.notify(runner.Status{ID: "short", Generation: 1, State: job.Succeeded})
		time.Sleep(time.Minute)
		a.notify(runner.Status{ID: "long", Generation: 2, State: job.Failed})
		time.Sleep(time.Minute)
		var told []string
		for _, m := range k.queue {
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
