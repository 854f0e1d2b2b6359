package worker

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/version"
	"github.com/rota-project/rota/ownership"
)

// flush sends what is due.
func (l *loop) flush() {
	if l.link == nil || !l.link.welcomed {
		return
	}
	now := l.w.now()
	if now >= l.nextRenew {
		if now-l.heard > l.ttl/2 {
			// Nothing came back for long: another scheduler may hear us.
			l.w.log().Warn("scheduler does not answer", "for", now-l.heard)
			l.link.cancel()
			l.detach(l.link)
			return
		}
		l.nextRenew = now + l.ttl/5
		l.seq++
		l.holder.Sent(l.seq, now)
		l.link.out.Put(&rotav1.FromWorker{Body: &rotav1.FromWorker_Renew{Renew: &rotav1.Renew{Seq: l.seq, Machine: l.w.machine()}}})
	}
	if now >= l.nextLoad {
		for items := range slices.Chunk(l.w.loads.take(), chunk) {
			l.nextLoad = now + loadEvery
			l.link.out.Put(&rotav1.FromWorker{Body: &rotav1.FromWorker_Load{Load: &rotav1.Load{Items: items}}})
		}
	}
	sendAcks(l.link, l.holder.Acks())
	if l.leaving && l.holder.Empty() && l.leaveAfter == nil && !l.link.farewell {
		l.link.farewell = true
		l.leaveBy = now + farewellTimeout
		l.link.out.Put(&rotav1.FromWorker{Body: &rotav1.FromWorker_Leave{Leave: &rotav1.Leave{Done: true}}})
	}
}

// chunk bounds the entries of one message: acknowledgements with ids and errors as
// long as they may be take 2.5 MB.
const chunk = 1000

func sendAcks(k *link, all []ownership.Ack) {
	for acks := range slices.Chunk(all, chunk) {
		k.out.Put(&rotav1.FromWorker{Body: &rotav1.FromWorker_Acks{Acks: &rotav1.Acks{Acks: wire(acks)}}})
	}
}

func wire(acks []ownership.Ack) []*rotav1.Ack {
	now := time.Now().UnixMilli()
	out := make([]*rotav1.Ack, len(acks))
	for n, a := range acks {
		out[n] = &rotav1.Ack{
			Task: a.Instance.Task, Index: int64(a.Instance.Index), Generation: uint64(a.Generation),
			State: string(a.State), Error: a.Error, Restarts: a.Restarts, SinceUnixMs: now,
		}
		if a.Exit.Known {
			code := int64(a.Exit.Status)
			out[n].ExitCode = &code
		}
	}
	return out
}

// attach takes a new connection and says hello on it, and what the worker holds:
// the newest with the hello, by which a scheduler sees that its store went back.
func (l *loop) attach(k *link) {
	now := l.w.now()
	l.link = k
	l.heard = now
	l.seq++
	l.holder.Disconnected()
	l.holder.Sent(l.seq, now)
	held := l.holder.Held(now)
	slices.SortFunc(held, func(a, b ownership.Ack) int { return cmp.Compare(b.Generation, a.Generation) })
	first := min(len(held), chunk)
	k.out.Put(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{
		Info: l.info(k), Session: l.session, Lease: l.lease, Held: wire(held[:first]), Seq: l.seq, Machine: l.w.machine(),
		Leaving: l.leaving,
	}}})
	sendAcks(k, held[first:])
}

func (l *loop) detach(k *link) {
	if l.link == k {
		l.link = nil
		l.holder.Disconnected()
		l.w.mu.Lock()
		l.w.all = false // nobody would say when it is over
		l.w.mu.Unlock()
	}
}

func (l *loop) info(k *link) *rotav1.WorkerInfo {
	w := l.w
	host, _ := os.Hostname()
	w.mu.Lock()
	defer w.mu.Unlock()
	return &rotav1.WorkerInfo{
		Name: w.cfg.Name, Incarnation: w.cfg.Incarnation, Pid: int64(os.Getpid()), Host: host, Zone: w.cfg.Zone,
		Labels: w.labels(), Kinds: slices.Sorted(maps.Keys(w.handlers)), AnyKind: w.fallback != nil,
		Capacity: w.cfg.Capacity, MaxTasks: int64(w.cfg.MaxTasks), Strength: w.cfg.Strength,
		RestartGraceMs: w.cfg.RestartGrace.Milliseconds(), Version: version.String(), Logs: k.pusher != nil,
	}
}

// receive is told everything that the scheduler says on k.
func (l *loop) receive(k *link, m *rotav1.ToWorker) {
	if l.link != k {
		return // said on a connection that was given up
	}
	now := l.w.now()
	l.heard = now
	switch b := m.GetBody().(type) {
	case *rotav1.ToWorker_Welcome:
		l.welcome(k, b.Welcome, now)
	case *rotav1.ToWorker_Refused:
		l.refused(k, b.Refused, now)
	case *rotav1.ToWorker_Renewed:
		l.act(l.holder.Renewed(b.Renewed.GetSeq(), time.Duration(b.Renewed.GetTtlMs())*time.Millisecond, now))
	case *rotav1.ToWorker_Grants:
		l.grants(b.Grants, now)
	case *rotav1.ToWorker_Cluster:
		l.cluster(b.Cluster)
	case *rotav1.ToWorker_Goodbye:
		l.left = l.left || b.Goodbye.GetLeft()
		l.detach(k)
		k.cancel()
	}
}

func (l *loop) welcome(k *link, m *rotav1.Welcome, now ownership.Time) {
	ttl := time.Duration(m.GetTtlMs()) * time.Millisecond
	if l.session != 0 && l.session != m.GetSession() {
		l.act(l.holder.SessionLost(now))
		l.watchLease() // before there is another
		l.hurry()
		l.sweep = true
	}
	if ttl != l.ttl {
		l.ttl = ttl
		l.holder.SetTrust(ownership.DefaultTrust(ttl))
	}
	if l.session != m.GetSession() {
		l.w.log().Info("session opened", "session", m.GetSession(), "lease", ttl)
	}
	l.session, l.lease = m.GetSession(), m.GetLease()
	l.w.session.Store(l.session)
	l.w.known.set(m.GetSchedulers())
	l.aliveSince, l.fullSince = -1, -1
	l.nextRenew = now + ttl/5
	k.welcomed = true
	k.timeout.Stop()
	l.act(l.holder.Renewed(m.GetSeq(), ttl, now))
	if l.leaving {
		k.out.Put(&rotav1.FromWorker{Body: &rotav1.FromWorker_Leave{Leave: &rotav1.Leave{}}})
	}
	l.w.mu.Lock()
	l.w.err, l.w.joined = nil, true
	if l.w.status == StatusNew {
		l.w.set(StatusRegistered)
	}
	l.w.mu.Unlock()
}

func (l *loop) refused(k *link, m *rotav1.Refused, now ownership.Time) {
	k.pause = time.Duration(m.GetRetryAfterMs()) * time.Millisecond
	switch m.GetCode() {
	case rotav1.Refused_CODE_SESSION_LOST:
		l.w.log().Warn("session lost", "reason", m.GetText())
		l.session, l.lease = 0, 0
		l.act(l.holder.SessionLost(now))
		l.hurry()
		l.sweep = true
		l.w.mu.Lock()
		if l.w.status != StatusLeaving {
			l.w.set(StatusNew)
		}
		l.w.mu.Unlock()
	case rotav1.Refused_CODE_NAME_ALIVE:
		l.wait(&l.aliveSince, l.w.cfg.NameWait, "the name", fmt.Errorf("worker %s: %w: %s", l.w.cfg.Name, rota.ErrNameAlive, m.GetText()), now)
	case rotav1.Refused_CODE_TOO_MANY_WORKERS:
		l.wait(&l.fullSince, l.w.cfg.RoomWait, "room", fmt.Errorf("worker %s: %w: %s", l.w.cfg.Name, rota.ErrTooManyWorkers, m.GetText()), now)
	case rotav1.Refused_CODE_INVALID:
		l.die(fmt.Errorf("worker %s: refused: %s", l.w.cfg.Name, m.GetText()), now)
	default:
		l.w.log().Warn("refused", "reason", m.GetText())
	}
	k.cancel()
	l.detach(k)
}

// wait goes on asking to be let in, at most for so long, if that is not negative;
// meanwhile Err says why it is not.
func (l *loop) wait(since *ownership.Time, most time.Duration, what string, why error, now ownership.Time) {
	if *since < 0 {
		*since = now
		l.w.log().Warn("waiting for "+what, "reason", why, "at_most", most)
	}
	l.w.mu.Lock()
	l.w.err = why
	l.w.mu.Unlock()
	if most >= 0 && now-*since > most {
		l.die(why, now)
	}
}

func (l *loop) grants(m *rotav1.Grants, now ownership.Time) {
	orders := make([]ownership.Order, 0, len(m.GetGrant()))
	keep := make(map[rota.Instance]bool, len(m.GetGrant()))
	for _, r := range m.GetRevoke() {
		i := rota.Instance{Task: r.GetTask(), Index: int(r.GetIndex())}
		keep[i] = true // Take says it with the generation
		l.act(l.holder.Take(i, rota.Generation(r.GetGeneration()), now))
		l.doubtful = append(l.doubtful, i)
	}
	for _, g := range m.GetGrant() {
		a, o := assignedOf(g)
		if old, ok := l.orders[o.Instance]; ok && old.Generation() >= o.Generation && l.holder.Holds(o.Instance) {
			keep[o.Instance] = true
			l.update(o.Instance, o.Generation, a.Task, now)
			continue
		}
		o.Anew = l.changes(o.Instance, a)
		a.load = &l.w.loads
		l.orders[o.Instance] = a
		keep[o.Instance] = true
		orders = append(orders, o)
	}
	if m.GetFull() {
		l.act(l.holder.Only(keep, now))
		l.sweep = true
	}
	l.act(l.holder.Give(orders, now))
	for _, u := range m.GetUpdate() {
		l.update(rota.Instance{Task: u.GetTask(), Index: int(u.GetIndex())}, rota.Generation(u.GetGeneration()), rota.Task{
			Group: u.GetGroup(), Key: u.GetKey(), Weight: u.GetWeight(), Priority: u.GetPriority(),
		}, now)
	}
	if l.leaving {
		l.sweep = true // nothing new was taken
	}
}

// changes reports whether a tells an instance that is held to run something else.
func (l *loop) changes(i rota.Instance, a Assigned) bool {
	old, ok := l.orders[i]
	return ok && (old.Task.Kind != a.Task.Kind || !bytes.Equal(old.Task.Payload, a.Task.Payload))
}

func (l *loop) cluster(m *rotav1.ClusterState) {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all != m.GetAllRunning() {
		w.all = m.GetAllRunning()
		w.wake()
	}
	if w.status != StatusLeaving {
		if m.GetBarrier() {
			w.set(StatusInBarrier)
		} else {
			w.set(StatusLeftBarrier)
		}
	}
}
