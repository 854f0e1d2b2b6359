package sessions_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/sessions"
)

// change declares tasks anew, and leaves their grants as they are.
func (b *bench) change(tasks ...rota.Task) {
	b.t.Helper()
	var set []record.Task
	for _, t := range tasks {
		set = append(set, record.NewTask(t, ""))
	}
	var units []table.Unit
	var err error
	b.v.Read(func() { units, err = b.v.Tasks.Stage(set, nil) })
	if err != nil {
		b.t.Fatal(err)
	}
	for _, u := range units {
		b.put(u.Ops...)
	}
}

// told is what a worker that hears all of c knows of a task: by grants, and by
// updates of those.
func (c *client) told(task string) (gen uint64, as rota.Task, updates int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.heard {
		for _, g := range m.GetGrants().GetGrant() {
			if s := g.GetTask(); s.GetId() == task {
				gen, as = g.GetGeneration(), rota.Task{Group: s.GetGroup(), Key: s.GetKey(), Weight: s.GetWeight(), Priority: s.GetPriority()}
			}
		}
		for _, u := range m.GetGrants().GetUpdate() {
			if u.GetTask() == task && u.GetGeneration() == gen {
				as = rota.Task{Group: u.GetGroup(), Key: u.GetKey(), Weight: u.GetWeight(), Priority: u.GetPriority()}
				updates++
			}
		}
	}
	return gen, as, updates
}

// TestChangesAreTold: a worker that has a task is told what is declared of it,
// whatever has changed in whatever order, under the grant that it has; nobody else is.
func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			bubble(t, sessions.Config{}, func(b *bench) {
				chance := rand.New(rand.NewPCG(seed, 7))
				c, w := b.join(info("w"), 0)
				other, _ := b.join(info("other"), 0)
				a := rota.Task{ID: "a", Weight: 1}
				b.declare("w", w.GetSession(), 3, nil, a)
				for range 30 {
					switch chance.IntN(8) {
					case 0:
						a.Group = fmt.Sprint("g", chance.IntN(2))
					case 1:
						a.Key = fmt.Sprint("k", chance.IntN(2))
					case 2:
						a.Weight = float64(1 + chance.IntN(2))
					case 3:
						a.Priority = float64(chance.IntN(2))
					case 4:
						a.Rules.Prefer = []rota.Preference{{Label: "x", Weight: float64(1 + chance.IntN(9))}}
					case 5: // for a moment it is something else: the leader has not acted yet
						was := a.Payload
						a.Payload, a.Key = []byte("other"), fmt.Sprint("k", chance.IntN(9))
						b.change(a)
						a.Payload = was
					case 6: // it comes back to another connection
						c.stop()
						synctest.Wait()
						c, _ = b.join(info("w"), w.GetSession(), ack("a", 3, ownership.Running))
						a.Weight++
					case 7:
						a.Replicas = 1 + chance.IntN(3)
					}
					b.change(a)
				}
				gen, as, _ := c.told("a")
				want := rota.Task{Group: a.Group, Key: a.Key, Weight: a.Weight, Priority: a.Priority}
				if gen != 3 || !as.Equal(want) {
					t.Errorf("told is generation %d, %+v; declared is %+v", gen, as, want)
				}
				if m, n := last(other, (*rotav1.ToWorker).GetGrants); n != 1 || len(m.GetUpdate()) > 0 {
					t.Errorf("one that has nothing was told %v", m)
				}
			})
		})
	}
}

// TestNoUpdate: of what the leader is about to replace or to take, and of what the
// worker has stopped, nothing is said.
func TestNoUpdate(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		c, w := b.join(info("w"), 0)
		b.declare("w", w.GetSession(), 10, nil, rota.Task{ID: "stopped"}, rota.Task{ID: "changed"})
		b.declare("w", w.GetSession()+1, 11, nil, rota.Task{ID: "old"}, rota.Task{ID: "free", Mode: rota.Available})
		c.say(acks(ack("stopped", 10, ownership.Stopped)))
		b.change(
			rota.Task{ID: "stopped", Key: "k"}, rota.Task{ID: "changed", Key: "k", Payload: []byte("p")},
			rota.Task{ID: "old", Key: "k"}, rota.Task{ID: "free", Key: "k", Mode: rota.Available},
		)
		for task, want := range map[string]int{"stopped": 0, "changed": 0, "old": 0, "free": 1} {
			if _, _, n := c.told(task); n != want {
				t.Errorf("%s: %d updates, want %d", task, n, want)
			}
		}
	})
}
