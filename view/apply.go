package view

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"
	"github.com/rota-project/rota/store/table"
)

func (d *Delta) empty() bool {
	return len(d.Tasks)+len(d.Grants)+len(d.Acks)+len(d.Sessions)+len(d.Nodes) == 0 &&
		len(d.Jobs)+len(d.JobWorkers)+len(d.OldWorkers)+len(d.Programs) == 0 && d.JobsReset == 0 && !d.Schedulers && !d.Sources && !d.Leader && !d.Cluster && !d.Kick
}

// byTable are events sorted by what they are about.
type byTable struct {
	tasks        []store.Event
	grants, acks map[string][]store.Event // by worker
	jobs, others []store.Event
}

func sorted(events []store.Event) (out byTable, err error) {
	out.grants, out.acks = map[string][]store.Event{}, map[string][]store.Event{}
	for _, e := range events {
		if store.IsJob(e.Key) {
			out.jobs = append(out.jobs, e)
			continue
		}
		switch prefix, _, _ := strings.Cut(e.Key, "/"); prefix + "/" {
		case store.TasksPrefix:
			out.tasks = append(out.tasks, e)
		case store.GrantsPrefix:
			err = byWorker(out.grants, store.GrantsPrefix, e)
		case store.AcksPrefix:
			err = byWorker(out.acks, store.AcksPrefix, e)
		default:
			out.others = append(out.others, e)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// take takes events in. Pages of one table go in together, so that a record that
// only changed its page is no change. With a revision, they are all up to there.
func (v *View) take(events []store.Event, rev int64) (*Delta, error) {
	in, err := sorted(events)
	if err != nil {
		return nil, err
	}
	d := &Delta{Jobs: in.jobs}
	for _, e := range in.others {
		err := v.takeSingle(d, e)
		if errors.Is(err, record.ErrMalformed) {
			// It is set aside: what was known stays, and nobody ends for it.
			v.log.Error("value cannot be read, set aside", "key", e.Key, "revision", e.Mod, "error", err)
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", e.Key, err)
		}
	}
	if d.Tasks, err = v.Tasks.Apply(in.tasks); err != nil {
		return nil, err
	}
	v.Tasks.Advance(rev)
	v.countTasks(d.Tasks)
	for worker, events := range in.grants {
		changes, err := v.grantsOf(worker).Apply(events)
		if err != nil {
			return nil, err
		}
		v.Grants[worker].Advance(rev)
		v.granted(d, worker, changes)
		v.drop(worker)
	}
	for worker, events := range in.acks {
		changes, err := v.acksOf(worker).Apply(events)
		if err != nil {
			return nil, err
		}
		v.Acks[worker].Advance(rev)
		v.acked(d, worker, changes)
		v.drop(worker)
	}
	return d, nil
}

// drop forgets the tables of a worker in which nothing is: workers come and go
// under ever new names.
func (v *View) drop(worker string) {
	if t := v.Grants[worker]; t != nil && t.Blank() {
		delete(v.Grants, worker)
		delete(v.single, worker)
		delete(v.counts.weights, worker)
	}
	if t := v.Acks[worker]; t != nil && t.Blank() {
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

func byWorker(m map[string][]store.Event, prefix string, e store.Event) error {
	worker, ok := store.NameIn(prefix, e.Key)
	if !ok {
		return malformedKey(e.Key)
	}
	m[worker] = append(m[worker], e)
	return nil
}

// takeSingle takes an event of a key that is not a page.
func (v *View) takeSingle(d *Delta, e store.Event) error {
	if e.Deleted {
		if _, ok := v.keys[e.Key]; !ok {
			return nil
		}
		delete(v.keys, e.Key)
	} else {
		if v.keys[e.Key] >= e.Mod {
			return nil
		}
		v.keys[e.Key] = e.Mod
	}
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
		{store.JobWorkersPrefix, func(d *Delta, name string, e store.Event) error {
			d.JobWorkers = append(d.JobWorkers, name)
			return takeInto(v.JobWorkers, name, e, &storepb.JobWorker{})
		}},
		{store.OldWorkersPrefix, func(d *Delta, id string, e store.Event) error {
			d.OldWorkers = append(d.OldWorkers, id)
			return takeInto(v.OldWorkers, id, e, &storepb.OldWorker{})
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
	return nil // a key of a newer version's kind: not ours to judge
}

func malformedKey(key string) error { return fmt.Errorf("key %s: %w", key, record.ErrMalformed) }

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
	// The leader writes its key with each transaction: only another epoch is news.
	epoch := e.Create
	if v.Leader != nil && v.Leader.Epoch == epoch {
		return nil
	}
	var m storepb.Leader
	err := record.Decode(e.Value, &m)
	if err != nil && !errors.Is(err, record.ErrMalformed) {
		return err
	}
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
	switch {
	case errors.Is(err, record.ErrMalformed) && old != nil && old.ID == e.Create:
		m = old.Session
	case errors.Is(err, record.ErrMalformed):
		// Somebody lives there, of whom nothing is known: it gets nothing, and what it
		// has is moved in order.
		m = &storepb.Session{Version: record.Version, Name: name, Leaving: true}
	case err != nil:
		return err
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
		one = []string{worker}
		v.single[worker] = one
	}
	if have := v.holders[i]; len(have) > 0 {
		one = append(slices.Clone(have), worker)
	}
	v.holders[i] = one
}

func (v *View) unhold(i rota.Instance, worker string) {
	have := v.holders[i]
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
	v.holders[i] = left
}
