package jobs

import (
	"errors"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/store/memory"
)

// TestNothingIsSaidOfWhatIsNotWritten: what is asked twice at once, or asked of what is about to
// change, is answered by what the store has in the end. A worker that was told that the end of
// an attempt is kept, and it was not, would never say it again.
func TestNothingIsSaidOfWhatIsNotWritten(t *testing.T) {
	t.Parallel()
	spec := job.Spec{Argv: []string{"x"}, Rerun: true}
	lose := func(j job.Job, s job.Spec) (job.Job, error) {
		return j.Lose(j.Generation(), s, "fenced", time.Unix(9, 0))
	}
	end := func(j job.Job, s job.Spec) (job.Job, error) {
		return j.End(j.Generation(), s, job.Result{State: job.Succeeded}, time.Unix(9, 0))
	}
	for name, ask := range map[string]func(id string) *update{
		"a loss":        func(id string) *update { return &update{id: id, change: lose} },
		"an end":        func(id string) *update { return &update{id: id, change: end} },
		"a deletion":    func(id string) *update { return &update{id: id, remove: true} },
		"a declaration": func(string) *update { return &update{id: uuid.Of("new"), declare: &spec} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s := still(t)
			st := faulty.New(memory.New(), nil)
			st.Set(faulty.Down)
			c.cfg.Store = st
			id := uuid.Of("one")
			j, err := job.New(id, time.Unix(1, 0)).Place("w", "i1", s.ID, 9, time.Unix(2, 0))
			if err == nil && name == "a deletion" {
				j, err = end(j, spec)
			}
			if err != nil {
				t.Fatal(err)
			}
			c.set(id, &entry{spec: spec, specMod: 5, stateMod: 6, class: classOf(spec), job: j})
			first, second := ask(id), ask(id)
			for _, u := range []*update{first, second} {
				u.done = make(chan error, 1)
				c.asked = append(c.asked, u)
			}
			b := c.batch()
			b.takeAsked()
			if len(first.done)+len(second.done) > 0 {
				t.Fatal("somebody is answered before anything is written")
			}
			b.lookAgain(t.Context(), b.order, errors.New("lost"))
			if err := <-first.done; err == nil {
				t.Error("it is told to be done")
			}
			// The other one is asked anew, of what the picture has.
			b = c.batch()
			if b.takeAsked(); len(second.done) > 0 || len(b.order) != 1 {
				t.Errorf("the second: %d answered, %d to be written", len(second.done), len(b.order))
			}
		})
	}
}
