package pools

import (
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/fleet"
)

const (
	// weighEvery is how often what pools hold and what waits is weighed.
	weighEvery = 5 * time.Second
	// maxWeighed is how many tasks are weighed at once: of more, those that come first.
	maxWeighed = 5000
)

// demand is what the pools whose size follows the load are to hold.
type demand struct {
	at    time.Time
	want  map[string]int // by pool: how many workers what waits would take
	spare map[string]int // by pool: how many workers less would hold what it holds
}

// weigh looks at what waits and at what the pools hold, now and then.
func (l *loop) weigh(p *picture, now time.Time) {
	if now.Sub(l.demand.at) < weighEvery {
		return
	}
	l.demand = demand{at: now, want: map[string]int{}, spare: map[string]int{}}
	following := false
	for _, x := range p.pools {
		following = following || !x.Size.Fixed()
	}
	if !following {
		return
	}
	left, jobs := l.k.waiting(), l.k.queued()
	for n := range p.pools { // in the order of their preference
		x := &p.pools[n]
		if x.Size.Fixed() || x.record.GetDeleted() {
			continue
		}
		pending, have := 0, 0
		o := offer{pool: x.Name, worker: x.Template.Worker("")}
		var names []string
		for name, w := range p.workers {
			switch {
			case w.GetPool() != x.Name || w.GetLeavingUnixMs() != 0 || w.GetStoppingUnixMs() != 0:
			case w.alive && now.UnixMilli()-w.GetJoinedUnixMs() >= fleet.Settles.Milliseconds():
				have++
				l.k.learn(&o, name, w)
				names = append(names, name)
			default:
				pending++
			}
		}
		room := max(0, x.Size.To-have-pending)
		if m := memoryOf(x.state); m.Failures > 0 && m.RetryAt > moment(now) {
			room = 0 // another pool is asked
		}
		mine := left
		var others []queuedJob // that it does not run
		for _, j := range jobs {
			if o.runs(j.spec) == "" {
				mine = append(mine[:len(mine):len(mine)], taskOf(queuedPrefix+j.id, j.spec))
			} else {
				others = append(others, j)
			}
		}
		taken, still := needs(mine, o.model(mine), pending+room)
		left, jobs = apart(still, jobs, others)
		l.demand.want[x.Name] = taken
		if taken == 0 && have > x.Size.From {
			held := l.k.held(names)
			l.demand.spare[x.Name] = spare(held, o.model(held), have)
		}
	}
}

// waiting are the tasks of which instances are nowhere, each with as many replicas.
func (k *Control) waiting() (out []rota.Task) {
	v := k.cfg.View
	v.Read(func() {
		if v.Instances() <= v.Running() {
			return
		}
		for r := range v.Tasks.All() {
			if v.Suspects[r.ID] != nil {
				continue // it waits for something else
			}
			t := r.Task()
			nowhere := 0
			for n := range max(t.Replicas, 1) {
				if _, g := v.Owner(rota.Instance{Task: t.ID, Index: n}); g == nil {
					nowhere++
				}
			}
			if nowhere == 0 {
				continue
			}
			if t.Replicas = nowhere; len(out) == maxWeighed {
				return
			}
			out = append(out, t)
		}
	})
	return out
}

// queuedJob is a job that waits for a worker.
type queuedJob struct {
	id   string
	spec job.Spec
}

// queuedPrefix begins the name of the task that stands for a job; no task has such a
// name, which has a blank.
const queuedPrefix = "job:"

// queued are the jobs that wait for a worker, whichever it is.
func (k *Control) queued() (out []queuedJob) {
	if k.cfg.Queued == nil {
		return nil
	}
	k.cfg.Queued(maxWeighed, func(id string, s job.Spec) {
		if s.Worker == "" {
			out = append(out, queuedJob{id, s})
		}
	})
	return out
}

// apart parts what a pool has left into tasks and jobs; others are jobs that it was not
// asked to take.
func apart(left []rota.Task, all, others []queuedJob) (tasks []rota.Task, jobs []queuedJob) {
	waits := map[string]bool{}
	for _, t := range left {
		if t.Kind == jobKind {
			waits[t.ID] = true
		} else {
			tasks = append(tasks, t)
		}
	}
	for _, j := range others {
		waits[queuedPrefix+j.id] = true
	}
	for _, j := range all { // in their order
		if waits[queuedPrefix+j.id] {
			jobs = append(jobs, j)
		}
	}
	return tasks, jobs
}

// held are the tasks and jobs that workers hold.
func (k *Control) held(workers []string) []rota.Task {
	v := k.cfg.View
	tasks := map[string]rota.Task{}
	v.Read(func() {
		for _, name := range workers {
			grants := v.Grants[name]
			if grants == nil {
				continue
			}
			for g := range grants.All() {
				t, there := tasks[g.Instance.Task]
				if there {
					t.Replicas++
				} else if r, ok := v.Tasks.Get(g.Instance.Task); ok {
					t = r.Task()
					t.Replicas = 1
				} else {
					continue
				}
				tasks[t.ID] = t
			}
		}
	})
	out := make([]rota.Task, 0, len(tasks))
	for _, name := range workers {
		if k.cfg.Active != nil {
			k.cfg.Active(name, func(id string, s job.Spec) { out = append(out, taskOf(queuedPrefix+id, s)) })
		}
	}
	for t := range maps.Values(tasks) {
		out = append(out, t)
	}
	return out
}

// needs is how many workers like model, at most so many, take of tasks what such
// workers can take; left are the tasks that they do not take.
func needs(tasks []rota.Task, model rota.Worker, most int) (n int, left []rota.Task) {
	if len(tasks) == 0 || most <= 0 {
		return 0, tasks
	}
	least, left := placed(tasks, model, most)
	if least == total(tasks) {
		return 0, tasks
	}
	low, high := 1, most // the fewest that leave as little
	for low < high {
		half := (low + high) / 2
		if waits, _ := placed(tasks, model, half); waits == least {
			high = half
		} else {
			low = half + 1
		}
	}
	return low, left
}

func total(tasks []rota.Task) (n int) {
	for _, t := range tasks {
		n += max(t.Replicas, 1)
	}
	return n
}

// placed plans tasks on n workers like model, and answers how many instances wait, and
// their tasks.
func placed(tasks []rota.Task, model rota.Worker, n int) (waits int, left []rota.Task) {
	p, err := placement.New(placement.Options{})
	if err != nil {
		return total(tasks), tasks
	}
	for _, t := range tasks {
		if p.SetTask(t) != nil {
			continue
		}
	}
	for i := range n {
		w := model
		w.Name = fmt.Sprintf("model-%d", i)
		if p.SetWorker(w) != nil {
			return total(tasks), tasks
		}
	}
	without := map[string]int{}
	for _, w := range p.Plan().Waiting {
		without[w.Instance.Task]++
		waits++
	}
	for _, t := range tasks {
		if n := without[t.ID]; n > 0 {
			t.Replicas = n
			left = append(left, t)
		}
	}
	return waits, left
}

// spare is how many of have workers like model could go if the others hold all tasks
// with a part of their capacity free.
func spare(tasks []rota.Task, model rota.Worker, have int) int {
	if len(tasks) > maxWeighed {
		return 0
	}
	tight := model
	if model.Capacity != nil {
		tight.Capacity = map[string]float64{}
		for name, amount := range model.Capacity {
			tight.Capacity[name] = amount * (1 - fleet.Headroom)
		}
	}
	if model.MaxTasks > 0 {
		tight.MaxTasks = max(1, int(math.Floor(float64(model.MaxTasks)*(1-fleet.Headroom))))
	}
	if len(tasks) == 0 {
		return have
	}
	low, high := 1, have // the fewest that hold all
	for low < high {
		half := (low + high) / 2
		if waits, _ := placed(tasks, tight, half); waits == 0 {
			high = half
		} else {
			low = half + 1
		}
	}
	if waits, _ := placed(tasks, tight, low); waits > 0 {
		return 0
	}
	return have - low
}
