package simtest

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store/memory"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// settleTime is how long after the last fault, beside a lease, all must be well.
const settleTime = 6 * time.Second

// lastTold is how many lines of its history a seed tells that fails among others, up to
// what first went wrong: how goroutines take turns is not in the seed, so run again it may
// pass.
const lastTold = 400

// Run runs the history of a seed in a bubble of testing/synctest. It returns how
// much was done, the history, and an error that says what went wrong. The history
// is whole and has the lines of the logs, if whole is set. Otherwise it is the end
// of what led to an error, without those lines.
func Run(seed uint64, whole bool) (Counts, string, error) {
	calmed := make(chan struct{})
	c := &cluster{seed: seed, history: newHistory(), net: newNetwork(calmed), store: memory.New(), calmed: calmed}
	c.log = slog.New(slog.DiscardHandler)
	if whole {
		c.log = slog.New(slog.NewTextHandler(c.history, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		}))
	}
	chance := c.rng("driver")
	c.lease = time.Duration(2+chance.IntN(4)) * time.Second
	bad := chance.Float64() * chance.Float64() * 0.1
	c.rates = faulty.Rates{
		Delay: 0.3 * chance.Float64(), Refuse: bad, Lose: bad, Late: bad, Compact: bad, Cut: bad,
		MaxDelay: time.Duration(1 + chance.Int64N(int64(c.lease/8))), MaxLate: time.Duration(1 + chance.Int64N(int64(2*c.lease))),
	}
	if chance.IntN(4) == 0 {
		c.store.KeepHistory(20)
	}
	c.schedulers = make([]*node, 1+chance.IntN(3))
	c.workers = make([]*proc, 2+chance.IntN(5))
	d := &driver{cluster: c, chance: chance, audit: newAudit(c)}
	d.relist()
	c.history.note("seed %d: %d schedulers, %d workers, lease %v, faults %+v", seed, len(c.schedulers), len(c.workers), c.lease, c.rates)
	if err := d.story(); err != nil {
		c.history.fail("%v", err)
	}
	d.end()
	var told string
	var err error
	if len(c.history.wrong) > 0 {
		err = fmt.Errorf("seed %d:\n%s", seed, strings.Join(c.history.wrong, "\n"))
	}
	if whole || err != nil {
		told = c.history.tell(whole)
	}
	return c.history.counts, told, err
}

// story is what happens: faults for a while, then none.
func (d *driver) story() error {
	for slot := range d.schedulers {
		if err := d.startScheduler(slot); err != nil {
			return err
		}
	}
	for slot := range d.workers {
		if err := d.startWorker(slot); err != nil {
			return err
		}
	}
	for range 3 {
		d.apply()
	}
	hand := d.rng("bad hand")
	bad := hand.IntN(2) == 0
	for until := time.Now().Add(d.between(10*time.Second, 40*time.Second)); time.Now().Before(until); {
		pause := 500 * time.Millisecond
		if d.chance.IntN(5) == 0 {
			pause = d.lease // long enough for something to end
		}
		d.sleep(0, pause)
		if bad && hand.IntN(8) == 0 {
			d.garbage(hand)
		}
		if err := d.act(); err != nil {
			return err
		}
	}
	return d.settle()
}

// settle ends all faults and waits until everything is as it should be.
func (d *driver) settle() error {
	d.history.note("no more faults")
	d.mu.Lock()
	d.calm = true
	d.listErr = nil
	close(d.calmed)
	d.mu.Unlock()
	d.net.heal()
	d.mu.Lock()
	nodes := slices.Clone(d.schedulers)
	d.mu.Unlock()
	for _, n := range nodes {
		if n != nil {
			n.store.Set(faulty.Up)
		}
	}
	time.Sleep(d.rates.MaxLate) // the last writes that are on their way land
	if d.node(0) == nil {
		if err := d.startScheduler(0); err != nil {
			return err
		}
	}
	if err := d.awaitOr(d.lease+settleTime, "calls are answered again", d.confirm); err != nil {
		return err
	}
	for living := 0; living < 2; {
		living = 0
		d.mu.Lock()
		for _, p := range d.workers {
			if p != nil && !p.leaving {
				living++
			}
		}
		free := slices.Index(d.workers, nil)
		d.mu.Unlock()
		switch {
		case living >= 2:
		case free >= 0:
			if err := d.startWorker(free); err != nil {
				return err
			}
		default:
			time.Sleep(50 * time.Millisecond) // somebody still leaves
		}
	}
	most := d.lease + settleTime
	if d.strays {
		most += 6 * d.lease // how long one lasts of which no scheduler that is left knows whose it was
	}
	return d.awaitOr(most, "every task runs once, where the store has it", d.converged)
}

// awaitOr waits until problem is empty.
func (d *driver) awaitOr(most time.Duration, what string, problem func() string) error {
	for until := time.Now().Add(most); ; time.Sleep(50 * time.Millisecond) {
		p := problem()
		if p == "" {
			d.history.note("%s", what)
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("not within %v: %s: %s", most, what, p)
		}
	}
}

// confirm says again what was not confirmed, and ends all drains.
func (d *driver) confirm() string {
	d.mu.Lock()
	var again []rota.Task
	for _, id := range slices.Sorted(maps.Keys(d.audit.unsure)) {
		again = append(again, d.audit.desired[id])
	}
	d.mu.Unlock()
	if len(again) > 0 {
		if err := d.declare(again); err != nil {
			return err.Error()
		}
	}
	n := d.node(0)
	fresh, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := n.sched.View().Wait(fresh, d.store.Revision()); err != nil {
		return err.Error() // it answers from a picture of the past
	}
	for slot := range d.workers {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := n.api.UndrainWorker(ctx, &rotav1.WorkerRequest{Name: fmt.Sprintf("w%d", slot)})
		cancel()
		if err != nil && status.Code(err) != codes.NotFound {
			return err.Error()
		}
	}
	return ""
}

// converged says what is not as it should be.
func (d *driver) converged() string {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	living := map[string]string{} // name to process
	d.mu.Lock()
	for _, p := range d.workers {
		if p != nil && !p.leaving {
			living[p.name] = p.id
		}
	}
	want := maps.Clone(d.audit.desired)
	for _, t := range d.list {
		want[t.ID] = t
	}
	d.mu.Unlock()
	runs := d.history.runs()
	v := d.audit.view
	total := 0
	v.Read(func() {
		if v.Leader == nil {
			bad("nobody leads")
		}
		for t := range v.Tasks.All() {
			w, ok := want[t.ID]
			switch {
			case !ok:
				bad("task %s is declared", t.ID)
			case !w.Equal(t.Task()):
				bad("task %s is not as it was declared", t.ID)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(want)) {
			if _, ok := v.Tasks.Get(id); !ok {
				bad("task %s is not declared", id)
			}
			for n := range want[id].Replicas {
				total++
				i := rota.Instance{Task: id, Index: n}
				if len(runs[i]) != 1 {
					bad("%s runs %d times", i, len(runs[i]))
					continue
				}
				r := runs[i][0]
				delete(runs, i)
				if !r.knows(want[id]) {
					bad("%s runs on %s as %+v, declared is %+v", i, r.process, r.declared(), want[id])
				}
				g, ok := v.Grant(r.worker, i)
				switch {
				case living[r.worker] != r.process:
					bad("%s runs on %s, which is dead", i, r.process)
				case !ok || g.Revoked || len(v.Holders(i)) != 1:
					bad("%s runs on %s, granted to %v", i, r.process, v.Holders(i))
				case v.Sessions[r.worker] == nil || v.Sessions[r.worker].ID != g.Session:
					bad("%s runs under session %d", i, g.Session)
				default:
					if a, ok := v.Ack(r.worker, i); !ok || a.State != ownership.Running || a.Generation != g.Generation {
						bad("%s runs on %s, which has not said so", i, r.process)
					}
				}
			}
		}
	})
	for i := range runs {
		bad("%s runs and should not", i)
	}
	d.mu.Lock()
	nodes := slices.Clone(d.schedulers)
	d.mu.Unlock()
	for _, n := range nodes {
		if n == nil {
			continue
		}
		s, err := n.api.GetStatus(context.Background(), &rotav1.GetStatusRequest{})
		if err != nil || s.GetLeader() == "" || int(s.GetTasks().GetDeclared()) != len(want) || int(s.GetTasks().GetRunning()) != total ||
			s.GetTasks().GetWaiting() != 0 || int(s.GetWorkers().GetReady()) != len(living) {
			bad("status of %s, want %d tasks, %d running, %d workers: %v %v", n.name, len(want), total, len(living), s, err)
		}
	}
	for name, id := range living {
		d.mu.Lock()
		p := d.workers[name[1]-'0']
		d.mu.Unlock()
		if p != nil && !p.w.AllRunning() {
			bad("%s was not told that all runs", id)
		}
	}
	slices.Sort(problems)
	if len(problems) > 5 {
		problems = append(problems[:5], fmt.Sprintf("and %d more", len(problems)-5))
	}
	return strings.Join(problems, "; ")
}

// knows reports whether what runs was told all of t that workers are told.
func (r run) knows(t rota.Task) bool {
	told := r.declared()
	return told.Kind == t.Kind && told.Group == t.Group && told.Key == t.Key && told.Weight == t.Weight &&
		told.Priority == t.Priority && told.Mode == t.Mode && string(told.Payload) == string(t.Payload)
}

// end stops everything, in order.
func (d *driver) end() {
	d.mu.Lock()
	if !d.calm {
		d.calm = true
		close(d.calmed)
	}
	procs := slices.Clone(d.workers)
	d.mu.Unlock()
	d.net.heal()
	for _, p := range procs {
		if p != nil && !p.leaving {
			d.leave(p)
		}
	}
	time.Sleep(2 * time.Second)
	d.mu.Lock()
	nodes := slices.Clone(d.schedulers)
	d.mu.Unlock()
	for _, n := range nodes {
		if n != nil {
			n.store.Set(faulty.Up)
			d.stopScheduler(n, true)
		}
	}
	d.ends.Wait()
	d.net.close()
	d.audit.close()
	d.store.Close()
}
