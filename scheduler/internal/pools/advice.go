package pools

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/fleet"
)

// offer is what another worker of a pool would be, and whether there is to be one.
type offer struct {
	pool   string
	worker rota.Worker
	// any, commands and slots are the jobs that its workers take, as one that lives says.
	// Without any of it nobody knows.
	known, any bool
	commands   []string
	slots      int
	helps      bool
	why        string // it helps or not, if its workers fit
}

// jobKind is the kind of the tasks that stand for jobs when they are weighed.
const jobKind = "rota:job"

// jobSlot is the capacity that stands for the number of jobs that a worker takes.
const jobSlot = "rota:job-slot"

// unknownSlots is how many jobs a worker is taken to run at once of which nobody knows.
const unknownSlots = 256

// offers are those of all pools, in the order in which they are asked to grow.
func (k *Control) offers() []offer {
	p := k.see()
	out := make([]offer, 0, len(p.pools))
	names := slices.Sorted(maps.Keys(p.workers))
	for n := range p.pools {
		x := &p.pools[n]
		o := offer{pool: x.Name, worker: x.Template.Worker("")}
		started, joined := 0, 0
		for _, name := range names {
			w := p.workers[name]
			if w.GetPool() != x.Name || w.GetLeavingUnixMs() != 0 || w.GetStoppingUnixMs() != 0 {
				continue
			}
			if started++; w.alive {
				joined++
				k.learn(&o, name, w)
			}
		}
		o.helps, o.why = k.prospect(x, started, joined)
		out = append(out, o)
	}
	return out
}

// learn takes what a living worker of a pool says that it can run.
func (k *Control) learn(o *offer, name string, w *worker) {
	if len(w.kinds) > 0 {
		o.worker.Kinds = w.kinds // its command may not run all that the template has
	}
	if k.cfg.Commands == nil {
		return
	}
	if commands, whatever, slots := k.cfg.Commands(name); slots > 0 {
		o.known, o.any, o.commands, o.slots = true, whatever, commands, slots
	}
}

// prospect says whether there will be another worker of a pool for what waits, and why.
func (k *Control) prospect(x *pool, started, joined int) (helps bool, why string) {
	m := memoryOf(x.state)
	switch now := time.Now(); {
	case x.record.GetDeleted():
		return false, "it is being deleted"
	case k.cfg.Engines[x.Engine] == nil:
		return false, fmt.Sprintf("its engine is %s, which the scheduler %s does not have (--engines)", x.Engine, k.cfg.Scheduler)
	case m.Failures > 0 && m.RetryAt > moment(now):
		return false, fmt.Sprintf("it fails, and tries again at %s: %s", time.Unix(0, int64(m.RetryAt)).UTC().Format("15:04:05 UTC"), text.Clip(m.Error, maxTold))
	case started > joined:
		return true, fmt.Sprintf("%d of its workers are starting", started-joined)
	case started < x.Size.From:
		return true, fmt.Sprintf("it has %d of %d workers, and starts the others", started, x.Size.From)
	case x.Size.Fixed():
		return false, fmt.Sprintf("its workers could run it, but it already has all of them: its size is %v", x.Size)
	case started >= x.Size.To:
		return false, fmt.Sprintf("its workers could run it, but it already has %d, the maximum (size.to)", started)
	}
	return true, fmt.Sprintf("it grows once work has waited for %v: it has %s, and may have %d", fleet.GrowAfter, text.Count(started, "worker", "workers"), x.Size.To)
}

// maxTold is how much of an error is told.
const maxTold = 300

// takes says what keeps a worker of the offer that is empty from a task; no Code: nothing.
func (o *offer) takes(t rota.Task) (placement.Obstacle, error) {
	p, err := placement.New(placement.Options{})
	if err != nil {
		return placement.Obstacle{}, err
	}
	w := o.worker
	w.Name = "model"
	t.Replicas = 1
	if err := cmp.Or(p.SetTask(t), p.SetWorker(w)); err != nil {
		return placement.Obstacle{}, err
	}
	for _, i := range p.Why(t.ID, 1).Instances {
		for _, model := range i.Workers {
			return model.Obstacle, nil
		}
	}
	return placement.Obstacle{}, nil
}

// AdviseTask says of each pool whether it would help a task that waits.
func (k *Control) AdviseTask(id string) (out []*rotav1.WhyPool) {
	var t rota.Task
	known := false
	k.cfg.View.Read(func() {
		if r, ok := k.cfg.View.Tasks.Get(id); ok {
			t, known = r.Task(), true
		}
	})
	if !known {
		return nil
	}
	for _, o := range k.offers() {
		out = append(out, o.advise(t))
	}
	return out
}

// AdviseJob says of each pool whether it would help a job that waits.
func (k *Control) AdviseJob(s job.Spec) (out []*rotav1.WhyPool) {
	for _, o := range k.offers() {
		switch why := o.runs(s); {
		case s.Worker != "":
			out = append(out, &rotav1.WhyPool{Pool: o.pool, Reason: "the job names its worker, " + text.Clip(s.Worker, text.Short)})
		case why != "":
			out = append(out, &rotav1.WhyPool{Pool: o.pool, Reason: why})
		default:
			out = append(out, o.forJobs().advise(taskOf("job", s)))
		}
	}
	return out
}

func (o *offer) advise(t rota.Task) *rotav1.WhyPool {
	obstacle, err := o.takes(t)
	switch {
	case err != nil:
		return &rotav1.WhyPool{Pool: o.pool, Reason: err.Error()}
	case obstacle.Code != "":
		return &rotav1.WhyPool{Pool: o.pool, Reason: obstacle.String()}
	}
	return &rotav1.WhyPool{Pool: o.pool, Helps: o.helps, Reason: o.why}
}

// runs says why workers of the offer do not run a job's command; empty: they do, or the
// job names the pool, and none of its workers lives that could tell.
func (o *offer) runs(s job.Spec) string {
	switch {
	case o.known && !o.any && !slices.Contains(o.commands, s.Argv[0]):
		return placement.Obstacle{Code: placement.LacksCommand, Name: text.Clip(s.Argv[0], text.Short)}.String()
	case !o.known && !o.named(s):
		return "none of its workers has said which commands it runs; a job that requires pool=" + o.pool + " is taken for one of them"
	}
	return ""
}

// named reports whether a job requires the label of the offer's pool.
func (o *offer) named(s job.Spec) bool {
	others := o.worker
	others.Labels = maps.Clone(others.Labels)
	delete(others.Labels, engine.PoolLabel)
	names := false
	for _, r := range s.Require {
		c, err := placement.ParseCondition(r)
		if err != nil || !c.Met(&o.worker) {
			return false
		}
		names = names || !c.Met(&others)
	}
	return names
}

// Named reports whether a job requires the label of a pool that could have a worker for it.
func (k *Control) Named(s job.Spec) bool {
	return len(s.Require) > 0 && slices.ContainsFunc(k.offers(), func(o offer) bool { return o.named(s) && o.runs(s) == "" })
}

// forJobs is the offer with a worker that takes what stands for jobs, too. They count
// as tasks where a worker has so many at the most.
func (o *offer) forJobs() *offer {
	x := *o
	slots := cmp.Or(o.slots, unknownSlots)
	if len(o.worker.Kinds) > 0 {
		x.worker.Kinds = append(slices.Clone(o.worker.Kinds), jobKind)
	}
	if o.worker.Capacity != nil {
		x.worker.Capacity = map[string]float64{jobSlot: float64(slots)}
		maps.Copy(x.worker.Capacity, o.worker.Capacity)
	} else if o.worker.MaxTasks == 0 { // nothing else is counted of it
		x.worker.MaxTasks = slots
	}
	return &x
}

// model is the offer's worker as one of what is weighed.
func (o *offer) model(tasks []rota.Task) rota.Worker {
	if slices.ContainsFunc(tasks, func(t rota.Task) bool { return t.Kind == jobKind }) {
		return o.forJobs().worker
	}
	return o.worker
}

// taskOf is a job as a task of the same needs.
func taskOf(id string, s job.Spec) rota.Task {
	t := rota.Task{ID: id, Kind: jobKind, Resources: map[string]float64{jobSlot: 1}, Rules: rota.Rules{Require: s.Require}}
	maps.Copy(t.Resources, s.Resources)
	return t
}
