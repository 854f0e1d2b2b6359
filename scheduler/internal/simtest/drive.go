package simtest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/store/faulty"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// driver is who makes things happen.
type driver struct {
	*cluster
	audit  *audit
	chance *rand.Rand
	nextID int
	strays bool // somebody wrote nonsense over a session's key
}

func (d *driver) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.chance.Int64N(int64(most-least)))
}

func (d *driver) sleep(least, most time.Duration) { time.Sleep(d.between(least, most)) }

// act does one thing by chance.
func (d *driver) act() error {
	switch x := d.chance.IntN(100); {
	case x < 14:
		d.apply()
	case x < 18:
		d.delete()
	case x < 22:
		d.relist()
	case x < 34:
		return d.worker(func(p *proc) error {
			d.history.count(func(n *Counts) { n.Kills++ })
			d.kill(p, d.chance.IntN(2) == 0)
			return nil
		})
	case x < 40:
		return d.worker(func(p *proc) error {
			d.history.count(func(n *Counts) { n.Leaves++ })
			d.leave(p)
			return nil
		})
	case x < 54:
		return d.startMissing(1)
	case x < 62:
		return d.worker(func(p *proc) error {
			cut := d.net.cut(func(q *pipe) bool { return q.worker == p.name })
			d.history.count(func(n *Counts) { n.Cuts += cut })
			d.history.note("connections of %s are cut", p.name)
			return nil
		})
	case x < 74:
		return d.worker(func(p *proc) error {
			names := [][]string{{"up " + p.name}, {"down " + p.name}, {"up " + p.name, "down " + p.name}}[d.chance.IntN(3)]
			d.later("net", names, d.between(200*time.Millisecond, 2*d.lease))
			return nil
		})
	case x < 78:
		if n := d.node(d.chance.Uint64()); n != nil {
			d.later("net", []string{"node " + n.name}, d.between(200*time.Millisecond, 2*d.lease))
		}
	case x < 86:
		if n := d.node(d.chance.Uint64()); n != nil {
			d.outage([]*node{n})
		}
	case x < 88:
		d.mu.Lock()
		all := slices.DeleteFunc(slices.Clone(d.schedulers), func(n *node) bool { return n == nil })
		d.mu.Unlock()
		d.outage(all)
	case x < 93:
		if n := d.node(d.chance.Uint64()); n != nil {
			d.history.count(func(c *Counts) { c.SchedulerStops++ })
			d.stopScheduler(n, d.chance.IntN(3) == 0)
		}
	case x < 96:
		return d.startMissing(2)
	default:
		d.drain()
	}
	return nil
}

// worker calls f with a living worker, if there is one.
func (d *driver) worker(f func(*proc) error) error {
	d.mu.Lock()
	at := d.chance.IntN(len(d.workers))
	p := d.workers[at]
	if p != nil && p.leaving {
		p = nil
	}
	d.mu.Unlock()
	if p == nil {
		return nil
	}
	return f(p)
}

// startMissing starts what does not run: of workers (1) or of schedulers (2) one.
func (d *driver) startMissing(what int) error {
	d.mu.Lock()
	w := slices.Index(d.workers, nil)
	s := slices.Index(d.schedulers, nil)
	d.mu.Unlock()
	if what == 1 && w >= 0 {
		return d.startWorker(w)
	}
	if what == 2 && s >= 0 {
		return d.startScheduler(s)
	}
	return nil
}

// later holds something up for a time.
func (d *driver) later(_ string, names []string, dur time.Duration) {
	d.history.count(func(n *Counts) { n.Partitions++ })
	d.history.note("%v is held up for %v", names, dur)
	d.net.hold(true, names...)
	d.ends.Go(func() {
		select {
		case <-time.After(dur):
		case <-d.calmed:
		}
		d.net.hold(false, names...)
		d.history.note("%v goes on", names)
	})
}

// outage takes the store away from schedulers for a time.
func (d *driver) outage(nodes []*node) {
	state, dur := faulty.Down, d.between(100*time.Millisecond, 2*d.lease)
	if d.chance.IntN(2) == 0 {
		state = faulty.Hung
	}
	for _, n := range nodes {
		d.history.count(func(c *Counts) { c.SchedulerOutages++ })
		d.history.note("%s is cut off from the store for %v, state %d", n.name, dur, state)
		n.store.Set(state)
		d.ends.Go(func() {
			select {
			case <-time.After(dur):
			case <-d.calmed:
			case <-n.dead:
				return
			}
			select {
			case <-n.dead:
			default:
				n.store.Set(faulty.Up)
				d.history.note("%s has the store again", n.name)
			}
		})
	}
}

// task makes a task, or a change of one. Ids that begin with e are of tasks that
// are always exclusive, with a of those that are always available, with m of
// those that change.
func (d *driver) task(id string) rota.Task {
	t := rota.Task{
		ID: id, Mode: rota.Exclusive, Weight: float64(1 + d.chance.IntN(4)), Replicas: 1 + d.chance.IntN(8)/7,
		Payload: []byte{byte(d.chance.IntN(3))}, Priority: float64(d.chance.IntN(3)),
	}
	if d.chance.IntN(2) == 0 {
		t.Group = fmt.Sprintf("g%d", d.chance.IntN(3))
	}
	if d.chance.IntN(4) == 0 {
		t.Key = fmt.Sprintf("k%d", d.chance.IntN(3))
	}
	if id[0] == 'a' || id[0] == 'm' && d.chance.IntN(2) == 0 {
		t.Mode = rota.Available
	}
	return t.Normalize()
}

// apply declares tasks or changes some.
func (d *driver) apply() {
	var tasks []rota.Task
	d.mu.Lock()
	ids := slices.Sorted(maps.Keys(d.audit.desired))
	d.mu.Unlock()
	for range 1 + d.chance.IntN(4) {
		if len(ids) > 0 && (len(ids) > 30 || d.chance.IntN(2) == 0) {
			tasks = append(tasks, d.task(ids[d.chance.IntN(len(ids))]))
			continue
		}
		d.nextID++
		tasks = append(tasks, d.task(fmt.Sprintf("%c%d", "eeeaam"[d.chance.IntN(6)], d.nextID)))
	}
	slices.SortFunc(tasks, func(a, b rota.Task) int { return cmpString(a.ID, b.ID) })
	tasks = slices.CompactFunc(tasks, func(a, b rota.Task) bool { return a.ID == b.ID })
	_ = d.declare(tasks)
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// declare declares tasks through some scheduler, and writes down what that said.
func (d *driver) declare(tasks []rota.Task) error {
	n := d.node(d.chance.Uint64())
	if n == nil {
		return rota.ErrNotFound
	}
	d.mu.Lock()
	for _, t := range tasks {
		d.audit.desired[t.ID] = t
		d.audit.doubt(t.ID, n)
	}
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := n.api.ApplyTasks(auth.Inside(ctx), &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto(tasks)})
	d.history.note("apply of %v by %s: %v", ids(tasks), n.name, err)
	if err != nil {
		d.history.count(func(c *Counts) { c.Unknown++ })
		return err
	}
	d.mu.Lock()
	for _, t := range tasks {
		// A scheduler that finds a task as it is wanted writes nothing: what is on its way
		// from another one may still land.
		if delete(d.audit.unsure[t.ID], n); len(d.audit.unsure[t.ID]) == 0 || r.GetUnchanged() == 0 {
			delete(d.audit.unsure, t.ID)
		}
	}
	d.mu.Unlock()
	d.history.count(func(c *Counts) { c.Applied += len(tasks) })
	return nil
}

func ids(tasks []rota.Task) (out []string) {
	for _, t := range tasks {
		out = append(out, t.ID)
	}
	return out
}

// delete removes a task. One whose removal was not confirmed is declared again.
func (d *driver) delete() {
	d.mu.Lock()
	all := slices.Sorted(maps.Keys(d.audit.desired))
	d.mu.Unlock()
	n := d.node(d.chance.Uint64())
	if len(all) < 3 || n == nil {
		return
	}
	id := all[d.chance.IntN(len(all))]
	d.mu.Lock()
	d.audit.doubt(id, n)
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := n.api.DeleteTasks(auth.Inside(ctx), &rotav1.DeleteTasksRequest{Ids: []string{id}})
	d.history.note("delete of %s by %s: %v", id, n.name, err)
	if err != nil && status.Code(err) != codes.NotFound {
		d.history.count(func(c *Counts) { c.Unknown++ })
		return
	}
	if err != nil {
		return // this scheduler did not know of it, yet or any more
	}
	d.history.count(func(c *Counts) { c.Deleted++ })
	d.mu.Lock()
	delete(d.audit.desired, id)
	delete(d.audit.unsure, id)
	d.mu.Unlock()
}

// relist changes what the source gives.
func (d *driver) relist() {
	list := make([]rota.Task, 0, 8)
	for n := range 8 {
		if d.chance.IntN(4) > 0 {
			list = append(list, d.task(fmt.Sprintf("l%d", n)))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list, d.listErr = list, nil
	d.listed++
	if d.chance.IntN(4) == 0 {
		d.listErr = fmt.Errorf("by chance")
	}
}

// drain drains a worker, or ends that.
func (d *driver) drain() {
	n := d.node(d.chance.Uint64())
	if n == nil {
		return
	}
	name := fmt.Sprintf("w%d", d.chance.IntN(len(d.workers)))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var err error
	r := &rotav1.WorkerRequest{Name: name}
	switch d.chance.IntN(3) {
	case 0:
		_, err = n.api.DrainWorker(ctx, r)
	case 1:
		_, err = n.api.CordonWorker(ctx, r)
	default:
		_, err = n.api.UndrainWorker(ctx, r)
	}
	d.history.note("drain, cordon or undrain of %s: %v", name, err)
}
