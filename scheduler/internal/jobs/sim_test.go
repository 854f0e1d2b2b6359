package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/schedule"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// simSettle is how long after the last fault, beside two leases, all jobs must
// have come to their end.
const simSettle = 10 * time.Minute

// simCounts says how much a simulation did.
type simCounts struct {
	Declared, Begun, Ended, Lost, Reruns, Found, Refused, Fenced, Stops, Retries, Deleted, Never, Unknown, Kills, Nodes, Holds, Outages, Tasks, Full, Due, Fired int
}

// sim is a cluster whose jobs are watched: schedulers behind a faulty store,
// workers whose processes and connections die.
type sim struct {
	lease time.Duration
	rates faulty.Rates
	store *memory.Store
	log   *slog.Logger
	wg    sync.WaitGroup

	mu      sync.Mutex
	chance  *rand.Rand
	seed    uint64
	starts  uint64
	calm    bool
	nodes   []*simNode
	hosts   []*simHost
	held    map[string]time.Time // worker or "jobs "+worker: no new connection before
	running map[string]simRun    // by job: who runs it now
	past    map[string]job.Job   // the last state of each job that the store had
	taken   map[simKey]bool      // what a worker has begun, or was about to
	jobs    map[string]*simJob
	plan    simPlan
	tasks   map[string]bool // that may be declared
	counts  simCounts
	lines   []string
	wrong   []string
	wrongAt int // lines until the first of these
}

type simRun struct {
	process    string
	generation rota.Generation
}

// simPlan is what the store has had of the schedule that each history has.
type simPlan struct {
	since    time.Time // it counts from here
	state    *storepb.JobScheduleState
	declared map[string]int64 // the revisions at which its jobs were declared, whatever became of them
}

// simJob is what was asked for.
type simJob struct {
	spec    job.Spec
	acked   bool // somebody was told that it is kept
	stop    bool // somebody was told that it will be stopped
	deleted bool // somebody may have deleted it
}

type simNode struct {
	name    string
	store   *faulty.Store
	sched   *scheduler.Scheduler
	service rotav1.TasksServer
	control *Control
}

func (s *sim) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, time.Now().Format("05.000000 ")+fmt.Sprintf(format, args...))
}

// Write makes it a place for the lines of a log.
func (s *sim) Write(p []byte) (int, error) {
	s.note("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// fail notes what must never be. s.mu is held.
func (s *sim) fail(format string, args ...any) {
	if len(s.wrong) == 0 {
		s.wrongAt = len(s.lines) + 1
	}
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	s.lines = append(s.lines, time.Now().Format("05.000000 ")+"WRONG: "+s.wrong[len(s.wrong)-1])
}

func (s *sim) intn(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chance.IntN(n)
}

// upTo is a time by chance.
func (s *sim) upTo(d time.Duration) time.Duration { return time.Duration(s.intn(int(d))) }

func (s *sim) isCalm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calm
}

// lastTold is how many lines of its history a seed tells that fails among others, up to
// what first went wrong: how goroutines take turns is not in the seed, so run again it may
// pass.
const lastTold = 300

// runSim runs the history of a seed, in a bubble of testing/synctest. The history
// is whole if that is asked for, and otherwise the end of what led to the first error.
func runSim(seed uint64, whole bool) (simCounts, string, error) {
	s := &sim{
		store: memory.New(), seed: seed, chance: rand.New(rand.NewPCG(seed, 1)), held: map[string]time.Time{}, running: map[string]simRun{},
		past: map[string]job.Job{}, taken: map[simKey]bool{}, jobs: map[string]*simJob{}, tasks: map[string]bool{},
		plan: simPlan{state: &storepb.JobScheduleState{}, declared: map[string]int64{}},
	}
	s.log = slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	s.lease = time.Duration(2+s.intn(4)) * time.Second
	bad := s.chance.Float64() * s.chance.Float64() * 0.1
	s.rates = faulty.Rates{
		Delay: 0.3 * s.chance.Float64(), Refuse: bad, Lose: bad, Late: bad, Compact: bad, Cut: bad,
		MaxDelay: 1 + s.upTo(s.lease/8), MaxLate: 1 + s.upTo(2*s.lease),
	}
	s.nodes, s.hosts = make([]*simNode, 1+s.intn(3)), make([]*simHost, 2+s.intn(4))
	watching, stopWatching := context.WithCancel(context.Background())
	s.wg.Go(func() { s.audit(watching) })
	s.story()
	s.end()
	stopWatching()
	s.wg.Wait()
	s.store.Close()
	s.mu.Lock() // a process that was fenced may have ended last
	defer s.mu.Unlock()
	var err error
	told := s.lines[max(0, s.wrongAt-lastTold):s.wrongAt]
	if len(s.wrong) > 0 {
		err = fmt.Errorf("seed %d: %s", seed, strings.Join(s.wrong, "\n"))
	}
	if whole {
		told = s.lines
	}
	return s.counts, strings.Join(told, "\n"), err
}

// story is what happens: faults for a while, then none.
func (s *sim) story() {
	for slot := range s.nodes {
		s.startNode(slot)
	}
	for slot := range s.hosts {
		s.startHost(slot)
	}
	s.schedule()
	for until := time.Now().Add(10*time.Second + s.upTo(20*time.Second)); time.Now().Before(until); {
		time.Sleep(s.upTo(300 * time.Millisecond))
		s.act()
	}
	s.note("no more faults")
	s.mu.Lock()
	s.calm = true
	clear(s.held)
	nodes := slices.Clone(s.nodes)
	s.mu.Unlock()
	for slot, n := range nodes {
		if n == nil {
			s.startNode(slot)
		} else {
			n.store.Set(faulty.Up)
		}
	}
	for slot := range s.hosts {
		if s.host(slot) == nil {
			s.startHost(slot)
		}
	}
	time.Sleep(s.rates.MaxLate) // the last writes that are on their way land
	s.mu.Lock()
	tasks, nodes := slices.Sorted(maps.Keys(s.tasks)), slices.Clone(s.nodes)
	s.mu.Unlock()
	for _, n := range nodes { // as a server does before it answers: it has read the store
		ctx, cancel := context.WithTimeout(context.Background(), s.lease)
		if err := n.sched.Ready(ctx); err != nil {
			s.note("%s has not read the store: %v", n.name, err)
		}
		cancel()
	}
	s.unschedule(nodes[0])
	for _, id := range tasks { // else they would keep jobs waiting
		s.forget(s.node(), id)
	}
	var problem string
	for until := time.Now().Add(2*s.lease + simSettle); ; time.Sleep(100 * time.Millisecond) {
		if problem = s.settled(); problem == "" {
			s.note("all is well")
			return
		}
		if time.Now().After(until) {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail("not within two leases and %v: %s", simSettle, problem)
}

// act does one thing by chance.
func (s *sim) act() {
	switch x := s.intn(100); {
	case x < 34:
		s.declare()
	case x < 45:
		s.task()
	case x < 55:
		s.steer()
	case x < 62:
		if h := s.host(s.intn(len(s.hosts))); h != nil {
			s.count(func(c *simCounts) { c.Kills++ })
			h.kill()
		}
	case x < 72:
		if slot := s.intn(len(s.hosts)); s.host(slot) == nil {
			s.startHost(slot)
		}
	case x < 84:
		s.hold()
	case x < 92:
		if n := s.node(); n != nil {
			s.count(func(c *simCounts) { c.Outages++ })
			n.store.Set([]faulty.State{faulty.Down, faulty.Hung}[s.intn(2)])
			for range 1 + s.intn(2) {
				time.Sleep(s.upTo(s.lease))
			}
			n.store.Set(faulty.Up)
		}
	default:
		slot := s.intn(len(s.nodes))
		s.mu.Lock()
		n := s.nodes[slot]
		s.mu.Unlock()
		if n != nil {
			s.count(func(c *simCounts) { c.Nodes++ })
			s.stopNode(slot, s.intn(2) == 0)
			time.Sleep(s.upTo(s.lease))
		}
		s.startNode(slot)
	}
}

func (s *sim) count(f func(*simCounts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.counts)
}

// hold cuts connections of a worker, and keeps new ones away for a while: its
// session's, its jobs', or both.
func (s *sim) hold() {
	h := s.host(s.intn(len(s.hosts)))
	if h == nil {
		return
	}
	s.count(func(c *simCounts) { c.Holds++ })
	until := time.Now().Add(s.upTo(2 * s.lease))
	which := s.intn(3)
	s.mu.Lock()
	if which != 1 {
		s.held[h.name] = until
	}
	if which != 0 {
		s.held["jobs "+h.name] = until
	}
	s.mu.Unlock()
	s.note("%s is held (%d) for %v", h.id, which, time.Until(until))
	h.cut(which != 1, which != 0)
}

// schedule has a job run again and again. It is written as the API does, but surely.
func (s *sim) schedule() {
	def := schedule.Schedule{
		Name: "plan", Cron: "@every 1s", CatchUp: time.Second + s.upTo(3*s.lease), Overlap: []string{schedule.Skip, schedule.Allow, schedule.Replace}[s.intn(3)],
		Job: job.Spec{Argv: []string{"x"}, Rerun: true, Grace: time.Second},
	}.Normalize()
	m := scheduleToStore(def)
	s.plan.since = time.Now()
	m.SinceUnixUs = micros(s.plan.since)
	value, err := record.Encode(m)
	if err == nil {
		_, _, err = s.store.Txn(context.Background(), nil, []store.Op{{Key: store.JobScheduleKey(def.Name), Value: value}})
	}
	if err != nil {
		panic(err) // a mistake in here
	}
}

// unschedule ends that.
func (s *sim) unschedule(n *simNode) {
	for range 100 {
		_, err := n.control.DeleteJobSchedule(context.Background(), &rotav1.DeleteJobScheduleRequest{Name: "plan"})
		if s.note("delete the schedule: %v", err); err == nil || status.Code(err) == codes.NotFound {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail("the schedule cannot be deleted")
}

// planned holds the schedule to its rules: each time that came is fired, skipped or missed,
// and that once; what is fired has a job, declared in the very transaction that says so.
// s.mu is held.
func (s *sim) planned(e store.Event) {
	if e.Deleted {
		return
	}
	if id, ok := store.NameIn(store.JobsPrefix, e.Key); ok {
		j, spec, err := decodeSpec(e.Value)
		switch {
		case err != nil:
			s.fail("job %s: %v", id, err)
		case j.Schedule == "":
		case s.plan.declared[id] != 0:
			s.fail("job %s of the schedule is declared twice", id)
		default:
			s.plan.declared[id] = e.Mod
			s.jobs[id] = &simJob{spec: spec, acked: true, stop: true}
		}
		return
	}
	if _, ok := store.NameIn(store.JobScheduleStatesPrefix, e.Key); !ok {
		return
	}
	was, now := s.plan.state, &storepb.JobScheduleState{}
	if err := record.Decode(e.Value, now); err != nil {
		s.fail("state of the schedule: %v", err)
		return
	}
	s.plan.state = now
	came := now.GetLastUnixUs()/1e6 - s.plan.since.Unix()
	counted := now.GetFired() + now.GetSkipped() + now.GetMissed()
	if now.GetLastUnixUs() <= was.GetLastUnixUs() || counted != came || now.GetFired() > was.GetFired()+1 {
		s.fail("the schedule's times: %d came, %d counted: %v after %v", came, counted, now, was)
	}
	s.counts.Due += int(counted - was.GetFired() - was.GetSkipped() - was.GetMissed())
	s.counts.Fired += int(now.GetFired() - was.GetFired())
}

// wholly says what the transactions of a schedule have not done at once. s.mu is held, and
// all events are in.
func (s *sim) wholly() string {
	if n := int64(len(s.plan.declared)); n != s.plan.state.GetFired() {
		return fmt.Sprintf("%d jobs of the schedule, and %d times fired", n, s.plan.state.GetFired())
	}
	return ""
}

// declare asks for a job.
func (s *sim) declare() {
	n := s.node()
	if n == nil {
		return
	}
	spec := job.Spec{
		Argv: []string{"x"}, Rerun: s.intn(2) == 0, Retries: s.intn(3), Backoff: 1 + s.upTo(time.Second), Grace: 1 + s.upTo(2*time.Second),
	}
	if s.intn(2) == 0 {
		spec.Resources = map[string]float64{"cpus": float64(1+s.intn(simCPUs*2)) / 2}
	}
	if s.intn(4) == 0 {
		spec.Worker = fmt.Sprintf("w%d", s.intn(len(s.hosts)))
	}
	id := uuid.New(time.Now())
	s.mu.Lock()
	s.jobs[id] = &simJob{spec: spec}
	s.mu.Unlock()
	s.tell(n, id)
}

// simCPUs is the capacity of each worker.
const simCPUs = 2

// task declares a task that takes of a worker's capacity, or deletes it.
func (s *sim) task() {
	n := s.node()
	if n == nil {
		return
	}
	id := fmt.Sprintf("t%d", s.intn(min(2*len(s.hosts), 10)))
	if s.intn(3) == 0 {
		s.forget(n, id)
		return
	}
	ctx, cancel := context.WithTimeout(auth.Inside(context.Background()), s.lease)
	defer cancel()
	s.mu.Lock()
	s.tasks[id] = true
	s.mu.Unlock()
	d := &rotav1.TaskDefinition{Id: id, Kind: "sim", Resources: map[string]float64{"cpus": taskCPUs(id)}}
	_, err := n.service.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{d}})
	s.note("task %s of %v at %s: %v", id, d.GetResources(), n.name, err)
}

// taskCPUs is what a task takes, by its id.
func taskCPUs(id string) float64 { return float64(1+int(id[1]-'0')%(2*simCPUs)) / 2 }

// forget deletes a task.
func (s *sim) forget(n *simNode, id string) {
	ctx, cancel := context.WithTimeout(auth.Inside(context.Background()), s.lease)
	defer cancel()
	_, err := n.service.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{id}})
	s.note("delete task %s at %s: %v", id, n.name, err)
}

// occupy notes that a process takes cpus, or, if they are negative, gives them back: it
// must never have more than there are, whatever runs on it.
func (s *sim) occupy(h *simHost, what string, cpus float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.dead.Err() != nil {
		return
	}
	if h.cpus += cpus; h.cpus > simCPUs {
		s.fail("%s runs %v cpus with %s, of %d", h.id, h.cpus, what, simCPUs)
	}
	if h.cpus == simCPUs {
		s.counts.Full++
	}
}

// tell declares a job; said again it is the same one.
func (s *sim) tell(n *simNode, id string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), s.lease)
	defer cancel()
	s.mu.Lock()
	j := s.jobs[id]
	s.mu.Unlock()
	_, err := n.control.Declare(ctx, id, j.spec)
	s.note("declare %s at %s: %v", id, n.name, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		j.acked = true
		s.counts.Declared++
	case errors.Is(err, rota.ErrNotFound):
		delete(s.jobs, id) // its worker was never heard of: surely not kept
	default:
		s.counts.Unknown++
	}
	return err == nil
}

// steer stops, retries or deletes a job.
func (s *sim) steer() {
	n := s.node()
	s.mu.Lock()
	ids := slices.Sorted(maps.Keys(s.jobs))
	s.mu.Unlock()
	if n == nil || len(ids) == 0 {
		return
	}
	id := ids[s.intn(len(ids))]
	s.mu.Lock()
	j := s.jobs[id]
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), s.lease)
	defer cancel()
	switch s.intn(4) {
	case 0, 1:
		_, err := n.control.StopJob(ctx, &rotav1.StopJobRequest{Id: id})
		s.note("stop %s: %v", id, err)
		if err == nil {
			s.mu.Lock()
			j.stop = true
			s.counts.Stops++
			s.mu.Unlock()
		}
	case 2:
		err := n.control.do(ctx, &update{id: id, change: func(j job.Job, _ job.Spec) (job.Job, error) {
			if j.State == job.Lost {
				return j, job.ErrState // it may go on where it is: that is for a person to judge
			}
			return j.Retry(time.Now())
		}})
		s.note("retry %s: %v", id, err)
		if err == nil {
			s.count(func(c *simCounts) { c.Retries++ })
		}
	case 3:
		if e, err := n.control.get(id); err != nil || !e.job.State.Done() || e.job.State == job.Lost {
			return
		}
		s.mu.Lock()
		j.deleted = true
		s.mu.Unlock()
		_, err := n.control.DeleteJob(ctx, &rotav1.DeleteJobRequest{Id: id})
		s.note("delete %s: %v", id, err)
		if err == nil || status.Code(err) == codes.NotFound {
			s.count(func(c *simCounts) { c.Deleted++ })
		}
	}
}

// settled says what is not as it should be once the faults are over.
func (s *sim) settled() string {
	s.mu.Lock()
	nodes := slices.Clone(s.nodes)
	var unsure []string
	for id, j := range s.jobs {
		if !j.acked && !j.deleted {
			unsure = append(unsure, id)
		}
	}
	s.mu.Unlock()
	for _, id := range unsure {
		if !s.tell(nodes[0], id) {
			return "job " + id + " cannot be declared"
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range nodes {
		n.control.mu.Lock()
		got := map[string]*entry{}
		maps.Copy(got, n.control.p.entries)
		n.control.mu.Unlock()
		for id, j := range s.jobs {
			e := got[id]
			switch {
			case e == nil && !j.deleted:
				return fmt.Sprintf("%s does not know job %s", n.name, id)
			case e == nil:
			case !e.job.State.Done():
				return fmt.Sprintf("at %s job %s is %s (%s)%s", n.name, id, e.job.State, e.job.Reason, waits(nodes, e))
			case e.job.State != s.past[id].State || e.job.Count != s.past[id].Count:
				return fmt.Sprintf("at %s job %s is %s, in the store %s", n.name, id, e.job.State, s.past[id].State)
			case e.job.State == job.Lost && s.never(e.job):
				return fmt.Sprintf("job %s is lost and its worker, which lives, has never begun it", id)
			case e.job.State == job.Lost && j.spec.Rerun && !e.job.StopAsked:
				return fmt.Sprintf("job %s is lost and was to run again", id)
			}
		}
	}
	if problem := s.wholly(); problem != "" {
		return problem
	}
	for id, r := range s.running {
		return fmt.Sprintf("job %s still runs on %s", id, r.process)
	}
	return ""
}

// waits says what keeps a job that is queued from each worker, by whoever leads.
func waits(nodes []*simNode, e *entry) string {
	var out strings.Builder
	for _, n := range nodes {
		c := n.control
		c.mu.Lock()
		if c.p.leading && e.job.State == job.Queued {
			x := c.explain(e, maxWhyWorkers)
			fmt.Fprintf(&out, "; %s leads, %d queued of its class: %s", n.name, len(c.p.queue[e.class]), x.why)
			for _, w := range x.rows {
				fmt.Fprintf(&out, ", %s: %s", w.Worker, w.Obstacle.Code)
			}
		}
		c.mu.Unlock()
	}
	return out.String()
}

// ordered notes that a process takes an order.
func (s *sim) ordered(k simKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[k] = true
}

// never reports whether the process that a job was last placed on lives, and has
// never taken the order. s.mu is held.
func (s *sim) never(j job.Job) bool {
	a, _ := j.Current()
	return !s.taken[simKey{j.ID, a.Generation}] && slices.ContainsFunc(s.hosts, func(h *simHost) bool {
		return h != nil && h.name == a.Worker && h.worker.Incarnation() == a.Incarnation
	})
}

func (s *sim) startNode(slot int) {
	s.mu.Lock()
	s.starts++
	n := &simNode{name: fmt.Sprintf("s%d", slot)}
	decide := faulty.Seeded(s.seed*1000+s.starts, s.rates)
	s.mu.Unlock()
	n.store = faulty.New(s.store, func(c faulty.Call) faulty.Fault {
		if s.isCalm() {
			return faulty.Fault{}
		}
		return decide(c)
	})
	sched, err := scheduler.New(scheduler.Config{Store: n.store, Name: n.name, GRPC: n.name, Lease: s.lease, Logger: s.log})
	if err != nil {
		panic(err) // a mistake in here
	}
	n.sched = sched
	n.control = New(Config{Node: kind.Node{Store: n.store, View: sched.View(), Capacity: sched.Capacity(), Scheduler: n.name, Logger: s.log.With("scheduler", n.name)}})
	n.service = sched.Service("sim")
	sched.Start()
	s.note("scheduler %s starts", n.name)
	s.mu.Lock()
	s.nodes[slot] = n
	s.mu.Unlock()
}

// stopNode ends a scheduler: in order, or as kill -9 does.
func (s *sim) stopNode(slot int, inOrder bool) {
	s.mu.Lock()
	n := s.nodes[slot]
	s.nodes[slot] = nil
	hosts := slices.Clone(s.hosts)
	s.mu.Unlock()
	s.note("scheduler %s ends, in order: %v", n.name, inOrder)
	if !inOrder {
		n.store.Set(faulty.Down) // for ever: what the process still does reaches nobody
		for _, h := range hosts {
			if h != nil {
				h.cutFrom(n)
			}
		}
	}
	s.wg.Go(func() {
		n.control.Close()
		if err := n.sched.Stop(context.Background()); err != nil {
			s.note("%s: %v", n.name, err)
		}
		if !inOrder {
			time.Sleep(s.rates.MaxLate) // a write on its way lands all the same
		}
		n.store.Close()
	})
}

// node picks a living scheduler; nil if there is none.
func (s *sim) node() *simNode {
	at := s.intn(1 << 10)
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.nodes {
		if n := s.nodes[(at+k)%len(s.nodes)]; n != nil {
			return n
		}
	}
	return nil
}

func (s *sim) host(slot int) *simHost {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hosts[slot]
}

// end stops everything.
func (s *sim) end() {
	s.mu.Lock()
	s.calm = true
	hosts := slices.Clone(s.hosts)
	s.mu.Unlock()
	for _, h := range hosts {
		if h != nil {
			h.kill()
		}
	}
	for slot := range s.nodes {
		s.mu.Lock()
		n := s.nodes[slot]
		s.mu.Unlock()
		if n != nil {
			n.store.Set(faulty.Up)
			s.stopNode(slot, true)
		}
	}
}

// cpus is what a job takes.
func (s *sim) cpus(id string) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs[id] == nil { // of the schedule, and just declared: it takes nothing
		return 0
	}
	return s.jobs[id].spec.Resources["cpus"]
}

// begin notes that a process runs a job now.
func (s *sim) begin(h *simHost, k simKey) {
	s.occupy(h, "job "+k.id, s.cpus(k.id))
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.running[k.id]; ok {
		s.fail("job %s runs twice: %d on %s, %d on %s", k.id, r.generation, r.process, k.generation, h.id)
	}
	s.running[k.id] = simRun{h.id, k.generation}
	s.counts.Begun++
}

func (s *sim) finish(h *simHost, k simKey) {
	s.occupy(h, "job "+k.id, -s.cpus(k.id))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[k.id] == (simRun{h.id, k.generation}) {
		delete(s.running, k.id)
	}
	s.counts.Ended++
}

// audit follows the store itself and holds each job to the rules.
func (s *sim) audit(ctx context.Context) {
	for b := range s.store.Watch(ctx, "job", 1) {
		if b.Err != nil && ctx.Err() == nil {
			s.mu.Lock()
			s.fail("the store cannot be followed: %v", b.Err)
			s.mu.Unlock()
		}
		for _, e := range b.Events {
			s.look(e)
		}
	}
}

func (s *sim) look(e store.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := store.NameIn(store.JobStatesPrefix, e.Key)
	if !ok {
		s.planned(e)
		return
	}
	was, known := s.past[id]
	if e.Deleted {
		if j := s.jobs[id]; j == nil || !j.deleted {
			s.fail("job %s is deleted and nobody asked for it", id)
		}
		delete(s.past, id)
		return
	}
	j, err := decodeState(e.Value, job.New(id, time.Time{}))
	if err != nil {
		s.fail("job %s: %v", id, err)
		return
	}
	now, _ := j.Current()
	s.lines = append(s.lines, time.Now().Format("05.000000 ")+fmt.Sprintf("store: %s is %s (%s), %d/%d of session %d is %s", id, j.State, j.Reason, now.Number, now.Generation, now.Session, now.State))
	for _, a := range j.Attempts {
		last := a.Placed
		for _, at := range []time.Time{a.Result.Started, a.Result.Ended, a.Finished} {
			if at.IsZero() {
				continue
			}
			if at.Before(last) || at.After(time.Now().Add(time.Second)) {
				s.fail("job %s: times of different clocks: placed %v, started %v, ended %v, finished %v", id, a.Placed, a.Result.Started, a.Result.Ended, a.Finished)
			}
			last = at
		}
	}
	if known {
		if problem := backwards(was, j, s.jobs[id] != nil && s.jobs[id].spec.Rerun); problem != "" {
			s.fail("job %s: %s: %+v after %+v", id, problem, j, was)
		}
		if was.State == job.Lost && j.Generation() == was.Generation() && j.State != job.Queued {
			s.counts.Found++
		}
	}
	if a, _ := j.Current(); a.State == job.Lost && (!known || was.Generation() != j.Generation() || !was.State.Done()) {
		s.counts.Lost++
		if j.State == job.Queued && a.Result.Error != "" {
			s.counts.Reruns++
		}
	}
	s.past[id] = j
}

// backwards says what is wrong with a step from one state of a job to the next.
func backwards(was, j job.Job, rerun bool) string {
	a, ok := was.Current()
	b, _ := j.Current()
	switch {
	case j.Count < was.Count, j.Generation() < was.Generation():
		return "an attempt is forgotten"
	case j.Count > was.Count+1:
		return "an attempt was never written"
	case j.Count == was.Count+1 && b.Generation <= a.Generation:
		return "a generation that is not greater"
	case j.Count == was.Count+1 && ok:
		// One write may end an attempt and place the next.
		if last := j.Attempts[len(j.Attempts)-2]; !last.State.Done() || last.State == job.Lost && was.State == job.Running && !rerun {
			return fmt.Sprintf("placed again after an attempt that is %s", last.State)
		}
		return ""
	case !ok:
		return ""
	}
	rank := map[job.State]int{job.Starting: 0, job.Running: 1, job.Lost: 2, job.Succeeded: 3, job.Failed: 3, job.Stopped: 3, job.TimedOut: 3}
	switch {
	case a.State == job.Lost && b.State == job.Running: // found again
	case rank[b.State] < rank[a.State], rank[a.State] == 3 && a.State != b.State:
		return fmt.Sprintf("its attempt goes back from %s to %s", a.State, b.State)
	}
	return ""
}
