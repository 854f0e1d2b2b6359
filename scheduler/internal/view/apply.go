package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

func (d *Delta) empty() bool {
	return len(d.Events) == 0 && !d.Current()
}

// Current reports whether there is something of how things are, not only of what happened.
func (d *Delta) Current() bool {
	return len(d.Tasks)+len(d.Grants)+len(d.Acks)+len(d.Sessions)+len(d.Nodes) > 0 ||
		len(d.Records)+len(d.Takers)+len(d.OldWorkers)+len(d.Programs) > 0 || d.Reset != 0 ||
		d.Schedulers || d.Sources || d.Leader || d.Cluster || d.Suspects || d.Pools || d.Kick || d.Unread
}

// byTable are events sorted by what they are about.
type byTable struct {
	tasks        []store.Event
	grants, acks map[string][]store.Event // by worker
	records      map[*Kind][]store.Event
	others       []store.Event
	log          []store.Event // of what happened
}

func (v *View) sorted(events []store.Event) (out byTable) {
	out.grants, out.acks = map[string][]store.Event{}, map[string][]store.Event{}
	for _, e := range events {
		if store.IsEvent(e.Key) {
			out.log = append(out.log, e)
		} else if strings.HasPrefix(e.Key, store.TasksPrefix) {
			out.tasks = append(out.tasks, e)
		} else if worker, ok := store.NameIn(store.GrantsPrefix, e.Key); ok {
			out.grants[worker] = append(out.grants[worker], e)
		} else if worker, ok := store.NameIn(store.AcksPrefix, e.Key); ok {
			out.acks[worker] = append(out.acks[worker], e)
		} else if k := v.kindOf(e.Key); k != nil {
			if out.records == nil {
				out.records = map[*Kind][]store.Event{}
			}
			out.records[k] = append(out.records[k], e)
		} else {
			out.others = append(out.others, e)
		}
	}
	return out
}

// take takes events in. Pages of one table go in together, so that a record that
// only changed its page is no change. With a revision, they are all up to there.
func (v *View) take(events []store.Event, rev int64) *Delta {
	in := v.sorted(events)
	d := &Delta{Records: in.records, Events: in.log}
	for _, e := range in.others {
		if !v.isNews(e) {
			continue
		}
		var unread []table.Unread
		err := v.takeSingle(d, e)
		if err == nil && !e.Deleted && e.Lease == 0 && v.GoesWithLease(e.Key) {
			err = ErrUnbound
		}
		if err != nil {
			unread = []table.Unread{{Key: e.Key, Revision: e.Mod, Err: err}}
		}
		v.setAside(d, e.Key, unread)
	}
	d.Tasks = v.Tasks.Apply(in.tasks)
	v.Tasks.Advance(rev)
	v.setAside(d, v.Tasks.Prefix(), v.Tasks.Unread())
	v.countTasks(d.Tasks)
	for worker, events := range in.grants {
		changes := v.grantsOf(worker).Apply(events)
		v.Grants[worker].Advance(rev)
		v.granted(d, worker, changes)
		v.drop(worker, rev)
	}
	for worker, events := range in.acks {
		changes := v.acksOf(worker).Apply(events)
		v.Acks[worker].Advance(rev)
		v.acked(d, worker, changes)
		v.drop(worker, rev)
	}
	return d
}

// drop forgets the tables of a worker in which nothing is: workers come and go
// under ever new names. The picture is whole up to rev, or to where it was.
func (v *View) drop(worker string, rev int64) {
	rev = max(rev, v.revision)
	if t := v.Grants[worker]; t != nil && t.Blank(rev) {
		delete(v.Grants, worker)
		delete(v.single, worker)
		delete(v.counts.weights, worker)
	}
	if t := v.Acks[worker]; t != nil && t.Blank(rev) {
		delete(v.Acks, worker)
	}
}

func (v *View) grantsOf(worker string) *Grants {
	t := v.Grants[worker]
	if t == nil {
		t = record.NewGrants(worker)
		t.Advance(v.revision)
		v.Grants[worker] = t
	}
	return t
}

func (v *View) acksOf(worker string) *Acks {
	t := v.Acks[worker]
	if t == nil {
		t = record.NewAcks(worker)
		t.Advance(v.revision)
		v.Acks[worker] = t
	}
	return t
}

// granted notes changes of a worker's grants.
func (v *View) granted(d *Delta, worker string, changes []table.Change[record.Grant]) {
	v.setAside(d, v.Grants[worker].Prefix(), v.Grants[worker].Unread())
	if len(changes) == 0 {
		return
	}
	if d.Grants == nil {
		d.Grants = map[string][]table.Change[record.Grant]{}
	}
	d.Grants[worker] = changes
	for _, c := range changes {
		v.countGrant(worker, c)
		switch {
		case c.Old == nil:
			v.hold(c.New.Instance, worker)
		case c.New == nil:
			v.unhold(c.Old.Instance, worker)
		}
	}
}

// acked notes changes of a worker's acknowledgements.
func (v *View) acked(d *Delta, worker string, changes []table.Change[record.Ack]) {
	v.setAside(d, v.Acks[worker].Prefix(), v.Acks[worker].Unread())
	if len(changes) == 0 {
		return
	}
	if d.Acks == nil {
		d.Acks = map[string][]table.Change[record.Ack]{}
	}
	d.Acks[worker] = changes
	for _, c := range changes {
		v.countAck(worker, c)
	}
}

// isNews notes the revision of an event of a key that is not a page, and reports
// whether it was not known before.
func (v *View) isNews(e store.Event) bool {
	have, known := v.keys[e.Key]
	switch {
	case e.Deleted:
		delete(v.keys, e.Key)
		return known
	case have >= e.Mod:
		return false
	}
	v.keys[e.Key] = e.Mod
	return true
}

// takeSingle takes an event of a key that is not a page. With an error, what was
// known of the key stays as it was.
func (v *View) takeSingle(d *Delta, e store.Event) error {
	switch e.Key {
	case store.LeaderKey:
		return v.takeLeader(d, e)
	case store.ClusterKey:
		d.Cluster = true
		now := &storepb.Cluster{}
		if !e.Deleted {
			if err := record.Decode(e.Value, now); err != nil {
				return err
			}
		}
		v.Cluster = now
		return nil
	case store.SuspectsKey:
		return v.takeSuspects(d, e)
	case store.EnginesKey:
		d.Pools = true
		now := &storepb.Engines{}
		if !e.Deleted {
			if err := record.Decode(e.Value, now); err != nil {
				return err
			}
		}
		v.Engines = now
		return nil
	case store.KickKey:
		d.Kick = true
		return nil
	case store.JoinKey:
		return nil
	}
	for _, p := range []struct {
		prefix string
		take   func(*Delta, string, store.Event) error
	}{
		{store.SessionsPrefix, v.takeSession},
		{store.NodesPrefix, func(d *Delta, name string, e store.Event) error {
			d.Nodes = append(d.Nodes, name)
			return takeInto(v.Nodes, name, e, &storepb.Node{})
		}},
		{store.SchedulersPrefix, func(d *Delta, name string, e store.Event) error {
			d.Schedulers = true
			return takeInto(v.Schedulers, name, e, &storepb.Scheduler{})
		}},
		{store.ProgramsPrefix, func(d *Delta, name string, e store.Event) error {
			d.Programs = append(d.Programs, name)
			if p := v.Programs[name]; p != nil && e.Deleted {
				d.Ended = append(d.Ended, p)
			}
			return takeInto(v.Programs, name, e, &storepb.Program{})
		}},
		{store.OldWorkersPrefix, func(d *Delta, id string, e store.Event) error {
			d.OldWorkers = append(d.OldWorkers, id)
			return takeInto(v.OldWorkers, id, e, &storepb.OldWorker{})
		}},
		{store.SignInsPrefix, func(_ *Delta, hash string, e store.Event) error {
			return takeInto(v.SignIns, hash, e, &storepb.SignIn{})
		}},
		{store.PoolsPrefix, func(d *Delta, name string, e store.Event) error {
			d.Pools = true
			return takeInto(v.Pools, name, e, &storepb.Pool{})
		}},
		{store.PoolStatesPrefix, func(d *Delta, name string, e store.Event) error {
			d.Pools = true
			return takeInto(v.PoolStates, name, e, &storepb.PoolState{})
		}},
		{store.PoolWorkersPrefix, func(d *Delta, name string, e store.Event) error {
			d.Pools = true
			return takeInto(v.PoolWorkers, name, e, &storepb.PoolWorker{})
		}},
		{store.SourcesPrefix, func(d *Delta, name string, e store.Event) error {
			d.Sources = true
			return takeInto(v.Sources, name, e, &storepb.Source{})
		}},
	} {
		if name, ok := store.NameIn(p.prefix, e.Key); ok {
			return p.take(d, name, e)
		}
	}
	if k, name := v.TakerIn(e.Key); k != nil {
		if d.Takers == nil {
			d.Takers = map[*Kind][]string{}
		}
		d.Takers[k] = append(d.Takers[k], name)
		return takeInto(v.Takers[k], name, e, k.Taker())
	}
	if strings.HasPrefix(e.Key, store.GrantsPrefix) || strings.HasPrefix(e.Key, store.AcksPrefix) {
		return fmt.Errorf("%w: the key names no worker", record.ErrMalformed)
	}
	return nil // a key of a newer version's kind: not ours to judge
}

func (v *View) takeSuspects(d *Delta, e store.Event) error {
	d.Suspects = true // whoever writes the key next has to know of this, too
	m := &storepb.Suspects{}
	if !e.Deleted {
		if err := record.Decode(e.Value, m); err != nil {
			return err
		}
	}
	v.Suspects = make(map[string]*storepb.Suspect, len(m.GetSuspects()))
	for _, s := range m.GetSuspects() {
		v.Suspects[s.GetTask()] = s
	}
	return nil
}

func takeInto[M record.Versioned](m map[string]M, name string, e store.Event, value M) error {
	if e.Deleted {
		delete(m, name)
		return nil
	}
	if err := record.Decode(e.Value, value); err != nil {
		return err
	}
	m[name] = value
	return nil
}

func (v *View) takeLeader(d *Delta, e store.Event) error {
	if e.Deleted {
		v.Leader = nil
		d.Leader = true
		return nil
	}
	if e.Lease == 0 {
		// Somebody else wrote it: whoever leads could die, and it would stay.
		v.Leader, d.Leader = nil, true
		return fmt.Errorf("%w: the leader's key has no lease", record.ErrMalformed)
	}
	// The leader writes its key with each transaction: only another epoch is news.
	epoch := e.Create
	if v.Leader != nil && v.Leader.Epoch == epoch {
		return nil
	}
	var m storepb.Leader
	err := record.Decode(e.Value, &m)
	v.Leader = &Leader{Name: m.GetName(), Epoch: epoch} // whatever its name, somebody has the key
	d.Leader = true
	return err
}

func (v *View) takeSession(d *Delta, name string, e store.Event) error {
	old := v.Sessions[name]
	if e.Deleted {
		delete(v.Sessions, name)
		d.Sessions = append(d.Sessions, SessionChange{name, old, nil})
		return nil
	}
	m := &storepb.Session{}
	err := record.Decode(e.Value, m)
	same := old != nil && old.ID == e.Create
	had := same && old.GetLease() != 0 // what somebody else wrote before need not name one
	if names := store.LeaseID(m.GetLease()); err == nil && (names != 0 && names != e.Lease || had && store.LeaseID(old.GetLease()) != e.Lease) {
		// A session has one lease from its beginning to its end.
		err = fmt.Errorf("%w: it is not bound to the lease of the session", record.ErrMalformed)
	}
	switch {
	case err != nil && same:
		m = old.Session
	case err != nil:
		// Somebody lives there, of whom nothing is known: it gets nothing, and what it
		// has is moved in order.
		m = &storepb.Session{Version: record.Version, Name: name, Leaving: true}
	}
	s := &Session{ID: e.Create, Mod: e.Mod, Session: m}
	v.Sessions[name] = s
	if old != nil && old.ID != s.ID {
		// It ended and began anew within one batch: both are news.
		d.Sessions = append(d.Sessions, SessionChange{name, old, nil})
		old = nil
	}
	d.Sessions = append(d.Sessions, SessionChange{name, old, s})
	return err
}

func (v *View) hold(i rota.Instance, worker string) {
	one := v.single[worker]
	if one == nil {
		one = &[]string{worker}
		v.single[worker] = one
	}
	if have := v.Holders(i); len(have) > 0 {
		more := append(slices.Clone(have), worker)
		one = &more
	}
	v.holders[i] = one
}

func (v *View) unhold(i rota.Instance, worker string) {
	have := v.Holders(i)
	if len(have) <= 1 {
		delete(v.holders, i)
		return
	}
	left := slices.DeleteFunc(slices.Clone(have), func(w string) bool { return w == worker })
	if len(left) == 1 {
		delete(v.holders, i)
		v.hold(i, left[0])
		return
	}
	v.holders[i] = &left
}
