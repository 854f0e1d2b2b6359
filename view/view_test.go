package view_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/faulty"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"
	"github.com/rota-project/rota/store/table"
	"github.com/rota-project/rota/view"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test on a fake clock with a view of a store with faults.
func bubble(t *testing.T, decide faulty.Decide, test func(t *testing.T, v *view.View, st *faulty.Store, under *memory.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		under := memory.New()
		st := faulty.New(under, decide)
		v := view.New(st, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- v.Run(ctx) }()
		synctest.Wait()
		test(t, v, st, under)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		st.Close()
		under.Close()
	})
}

func encode(t interface{ Fatal(args ...any) }, m proto.Message) []byte {
	b, err := record.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// must does a transaction without conditions.
func must(t interface{ Fatal(args ...any) }, st store.Store, ops ...store.Op) int64 {
	ok, rev, err := st.Txn(context.Background(), nil, ops)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return rev
}

func grantOf(task string, gen int64) record.Grant {
	return record.Grant{Grant: ownership.Grant{Instance: rota.Instance{Task: task}, Generation: rota.Generation(gen), Session: 1}}
}

func ackOf(task string, gen int64) record.Ack {
	return record.Ack{
		Ack: ownership.Ack{Instance: rota.Instance{Task: task}, Generation: rota.Generation(gen), State: ownership.Running}, Load: -1,
	}
}

// commit stages and writes through v, as schedulers do, and tells v at once if
// told is set. It reports whether the conditions held.
func commit(t *rapid.T, v *view.View, st store.Store, told bool, stage func() ([]table.Unit, error)) bool {
	var units []table.Unit
	var err error
	v.Read(func() { units, err = stage() })
	if err != nil {
		t.Fatal(err)
	}
	done := true
	for _, packed := range table.Pack(units, 0) {
		conds, ops := table.Join(packed)
		ok, rev, err := st.Txn(context.Background(), conds, ops)
		if err != nil {
			t.Fatal(err)
		}
		done = done && ok
		if ok && told {
			if err := v.Applied(packed, rev); err != nil {
				t.Fatal(err)
			}
		}
	}
	return done
}

// picture is a View written out, to be compared.
func picture(v *view.View) map[string]string {
	out := map[string]string{}
	for t := range v.Tasks.All() {
		out["task "+t.ID] = fmt.Sprintf("%v %s", t.Weight, t.Source)
	}
	for w, g := range v.Grants {
		for r := range g.All() {
			out["grant "+w+" "+record.InstanceKey(r.Instance)] = fmt.Sprint(r.Generation)
		}
	}
	for w, a := range v.Acks {
		for r := range a.All() {
			out["ack "+w+" "+record.InstanceKey(r.Instance)] = fmt.Sprint(r.Generation, r.State)
		}
	}
	for n, s := range v.Sessions {
		out["session "+n] = fmt.Sprint(s.ID, s.Mod, s.GetIncarnation())
	}
	for n, m := range v.Nodes {
		out["node "+n] = fmt.Sprint(m.GetDraining())
	}
	for n := range v.Schedulers {
		out["scheduler "+n] = ""
	}
	for n, m := range v.Sources {
		out["source "+n] = m.GetError()
	}
	if v.Leader != nil {
		out["leader"] = fmt.Sprint(v.Leader.Name, v.Leader.Epoch)
	}
	out["cluster"] = fmt.Sprint(v.Cluster.GetStarted())
	return out
}

// replay follows a View by its deltas alone.
type replay map[string]string

func (r replay) set(key, value string, there bool) {
	if there {
		r[key] = value
	} else {
		delete(r, key)
	}
}

func (r replay) take(t *rapid.T, v *view.View, d *view.Delta) {
	old := func(key, value string, there bool) {
		if have, ok := r[key]; ok != there || there && have != value {
			t.Fatalf("%s was %q (%v), and the delta says %q (%v)", key, have, ok, value, there)
		}
	}
	for _, c := range d.Tasks {
		write := func(x *record.Task) (string, bool) {
			if x == nil {
				return "", false
			}
			return fmt.Sprintf("%v %s", x.Weight, x.Source), true
		}
		value, there := write(c.Old)
		old("task "+c.Key, value, there)
		value, there = write(c.New)
		r.set("task "+c.Key, value, there)
	}
	for w, list := range d.Grants {
		for _, c := range list {
			if c.Old != nil {
				old("grant "+w+" "+c.Key, fmt.Sprint(c.Old.Generation), true)
			}
			if c.New != nil {
				r["grant "+w+" "+c.Key] = fmt.Sprint(c.New.Generation)
			} else {
				delete(r, "grant "+w+" "+c.Key)
			}
		}
	}
	for w, list := range d.Acks {
		for _, c := range list {
			if c.New != nil {
				r["ack "+w+" "+c.Key] = fmt.Sprint(c.New.Generation, c.New.State)
			} else {
				delete(r, "ack "+w+" "+c.Key)
			}
		}
	}
	for _, c := range d.Sessions {
		if c.Old != nil {
			old("session "+c.Name, fmt.Sprint(c.Old.ID, c.Old.Mod, c.Old.GetIncarnation()), true)
		} else {
			old("session "+c.Name, "", false)
		}
		if c.New != nil {
			r["session "+c.Name] = fmt.Sprint(c.New.ID, c.New.Mod, c.New.GetIncarnation())
		} else {
			delete(r, "session "+c.Name)
		}
	}
	for _, n := range d.Nodes {
		m, ok := v.Nodes[n]
		r.set("node "+n, fmt.Sprint(m.GetDraining()), ok)
	}
	if d.Schedulers {
		maps.DeleteFunc(r, func(k, _ string) bool { return strings.HasPrefix(k, "scheduler ") })
		for n := range v.Schedulers {
			r["scheduler "+n] = ""
		}
	}
	if d.Sources {
		maps.DeleteFunc(r, func(k, _ string) bool { return strings.HasPrefix(k, "source ") })
		for n, m := range v.Sources {
			r["source "+n] = m.GetError()
		}
	}
	if d.Leader {
		delete(r, "leader")
		if v.Leader != nil {
			r["leader"] = fmt.Sprint(v.Leader.Name, v.Leader.Epoch)
		}
	}
	if d.Cluster {
		r["cluster"] = fmt.Sprint(v.Cluster.GetStarted())
	}
}

// TestTwin: whatever is written by whom, told of or not, watched, cut off or
// compacted: the view is what a listing says, its deltas lead there, and the
// index of holders is that of the grants.
func TestTwin(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var cut string
	decide := func(c faulty.Call) (f faulty.Fault) {
		mu.Lock()
		defer mu.Unlock()
		if c.Kind == faulty.Batch {
			f.Compact, f.Refuse = cut == "compact", cut == "refuse"
			cut = ""
		}
		return f
	}
	bubble(t, decide, func(t *testing.T, v *view.View, st *faulty.Store, under *memory.Store) {
		gen := int64(0)                                         // of one store: no two workers have a grant of one generation
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { // without the Deadline that a bubble forbids
			names := []string{"a", "b/c", "d"}
			name := func() string { return rapid.SampledFrom(names).Draw(t, "name") }
			got := replay{}
			sub := v.Subscribe(func() { maps.Copy(got, picture(v)) }, func(d *view.Delta) { got.take(t, v, d) })
			defer sub.Close()
			other := view.New(under, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(context.Background())
			defer func() { cancel(); synctest.Wait() }()
			go func() { _ = other.Run(ctx) }()
			synctest.Wait()

			single := func(key string, value func() []byte) {
				if rapid.Bool().Draw(t, "delete") {
					must(t, under, store.Op{Key: key, Delete: true})
				} else {
					must(t, under, store.Op{Key: key, Value: value()})
				}
			}
			records := func(stage func(v *view.View) ([]table.Unit, error)) {
				by := v
				if rapid.Bool().Draw(t, "other") {
					by = other
				}
				commit(t, by, under, rapid.Bool().Draw(t, "told"), func() ([]table.Unit, error) { return stage(by) })
			}
			some := func() (ids []string) {
				for n := range rapid.IntRange(0, 400).Draw(t, "records") {
					ids = append(ids, fmt.Sprintf("t%03d", (n*7)%400))
				}
				return ids
			}
			t.Repeat(map[string]func(*rapid.T){
				"": func(*rapid.T) {},
				"tasks": func(t *rapid.T) {
					ids, weight := some(), rapid.Float64Range(1, 3).Draw(t, "weight")
					records(func(v *view.View) ([]table.Unit, error) {
						if rapid.Bool().Draw(t, "remove") {
							return v.Tasks.Stage(nil, ids)
						}
						var set []record.Task
						replicas := rapid.IntRange(1, 2).Draw(t, "replicas")
						for _, id := range ids {
							set = append(set, record.NewTask(rota.Task{ID: id, Weight: weight, Replicas: replicas, Payload: make([]byte, 300)}, ""))
						}
						return v.Tasks.Stage(set, nil)
					})
				},
				"grants": func(t *rapid.T) {
					ids, w := some(), name()
					gen++
					records(func(v *view.View) ([]table.Unit, error) {
						g := v.Grants[w]
						if g == nil {
							g = record.NewGrants(w)
						}
						if rapid.Bool().Draw(t, "remove") {
							return g.Stage(nil, ids)
						}
						var set []record.Grant
						revoked, index := rapid.Bool().Draw(t, "revoked"), rapid.IntRange(0, 1).Draw(t, "index")
						for n, id := range ids {
							r := grantOf(id, gen)
							r.Revoked, r.Instance.Index = revoked && n%3 == 0, index
							set = append(set, r)
						}
						return g.Stage(set, nil)
					})
				},
				"acks": func(t *rapid.T) {
					ids, w := some(), name()
					records(func(v *view.View) ([]table.Unit, error) {
						a := v.Acks[w]
						if a == nil {
							a = record.NewAcks(w)
						}
						if rapid.Bool().Draw(t, "remove") {
							return a.Stage(nil, ids)
						}
						var set []record.Ack
						index, old := rapid.IntRange(0, 1).Draw(t, "index"), rapid.IntRange(0, 2).Draw(t, "old")
						for n, id := range ids {
							r := ackOf(id, gen-min(gen, int64(old)))
							if r.Instance.Index = index; n%3 == 0 {
								r.State = ownership.Starting
							}
							set = append(set, r)
						}
						return a.Stage(set, nil)
					})
				},
				"session": func(*rapid.T) {
					n := name()
					single(store.SessionKey(n), func() []byte { return encode(t, &storepb.Session{Version: 1, Name: n, Incarnation: "i"}) })
				},
				"node": func(*rapid.T) {
					n := name()
					single(store.NodeKey(n), func() []byte { return encode(t, &storepb.Node{Version: 1, Name: n, Draining: true}) })
				},
				"scheduler": func(*rapid.T) {
					single(store.SchedulerKey(name()), func() []byte { return encode(t, &storepb.Scheduler{Version: 1}) })
				},
				"source": func(*rapid.T) {
					single(store.SourceKey(name()), func() []byte { return encode(t, &storepb.Source{Version: 1, Error: "e"}) })
				},
				"leader": func(*rapid.T) {
					single(store.LeaderKey, func() []byte { return encode(t, &storepb.Leader{Version: 1, Name: "l"}) })
				},
				"cluster": func(*rapid.T) {
					single(store.ClusterKey, func() []byte { return encode(t, &storepb.Cluster{Version: 1, Started: true}) })
				},
				"strange": func(*rapid.T) { single("newer/thing", func() []byte { return []byte("x") }) },
				"cut": func(t *rapid.T) {
					mu.Lock()
					cut = rapid.SampledFrom([]string{"compact", "refuse"}).Draw(t, "how")
					mu.Unlock()
				},
				"outage": func(*rapid.T) { st.Set(faulty.Down) },
				"settle": func(t *rapid.T) {
					st.Set(faulty.Up)
					time.Sleep(time.Minute)
					synctest.Wait()
					compare(t, v, st, got)
				},
			})
			st.Set(faulty.Up)
			time.Sleep(time.Minute)
			synctest.Wait()
			compare(t, v, st, got)
		})
	})
}

// compare holds a view to a fresh one.
func compare(t *rapid.T, v *view.View, st store.Store, got replay) {
	fresh := view.New(st, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _ = fresh.Run(ctx) }()
	synctest.Wait()
	cancel()
	synctest.Wait()
	want := picture(fresh)
	v.Read(func() {
		if have := picture(v); !maps.Equal(have, want) {
			t.Fatalf("view:\n%v\nstore:\n%v", have, want)
		}
		holders := map[rota.Instance][]string{}
		for w, g := range v.Grants {
			for r := range g.All() {
				holders[r.Instance] = append(holders[r.Instance], w)
			}
		}
		counted(t, v)
		for n := range 400 {
			i := rota.Instance{Task: fmt.Sprintf("t%03d", n)}
			if h := slices.Sorted(slices.Values(v.Holders(i))); !slices.Equal(h, slices.Sorted(slices.Values(holders[i]))) {
				t.Fatalf("holders of %s: %v, want %v", i, h, holders[i])
			}
		}
	})
	if !maps.Equal(map[string]string(got), want) {
		t.Fatalf("deltas lead to:\n%v\nstore:\n%v", got, want)
	}
}

// counted compares what the view counts with a count; the view stands still.
func counted(t *rapid.T, v *view.View) {
	instances, running := 0, 0
	weights := map[string]float64{}
	for r := range v.Tasks.All() {
		instances += r.Replicas
	}
	seen := map[rota.Instance]bool{}
	for w, grants := range v.Grants {
		if grants.Len() == 0 {
			t.Errorf("an empty table of grants is kept for %s", w)
		}
		for g := range grants.All() {
			if r, ok := v.Tasks.Get(g.Instance.Task); ok && g.Instance.Index < r.Replicas {
				weights[w] += r.Weight
			}
			if seen[g.Instance] {
				continue
			}
			seen[g.Instance] = true
			owner, best := "", &record.Grant{}
			for _, h := range v.Holders(g.Instance) {
				if o, _ := v.Grant(h, g.Instance); owner == "" || best.Revoked && !o.Revoked || best.Revoked == o.Revoked && o.Generation > best.Generation {
					owner, best = h, o
				}
			}
			if a, ok := v.Ack(owner, g.Instance); ok && !best.Revoked && a.Generation == best.Generation && a.State == ownership.Running {
				running++
			}
		}
	}
	for w, acks := range v.Acks {
		if acks.Len() == 0 {
			t.Errorf("an empty table of acknowledgements is kept for %s", w)
		}
	}
	if v.Instances() != instances || v.Running() != running {
		t.Errorf("%d instances, %d of them run; counted %d and %d", v.Instances(), v.Running(), instances, running)
	}
	for _, w := range []string{"a", "b/c", "d"} {
		if d := v.Weight(w) - weights[w]; math.Abs(d) > 1e-9*weights[w] {
			t.Errorf("weight of %s: %v, counted %v", w, v.Weight(w), weights[w])
		}
	}
}

// TestReadWhileWriting: what the owner has written while everything was listed
// anew does not vanish for an instant, for its subscribers would act on that.
func TestReadWhileWriting(t *testing.T) {
	t.Parallel()
	var listed, goOn chan struct{}
	var mu sync.Mutex
	cut := false
	under := &slowRange{listed: func() {
		mu.Lock()
		l, g := listed, goOn
		mu.Unlock()
		if l != nil {
			close(l)
			<-g
		}
	}}
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		defer mem.Close()
		under.Store = mem
		st := faulty.New(under, func(c faulty.Call) (f faulty.Fault) {
			mu.Lock()
			defer mu.Unlock()
			f.Compact = c.Kind == faulty.Batch && cut
			cut = cut && !f.Compact
			return f
		})
		defer st.Close()
		v := view.New(st, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- v.Run(ctx) }()
		synctest.Wait()
		write := func(g *view.Grants, set []record.Grant, del []string) {
			units, err := g.Stage(set, del)
			if err != nil {
				t.Fatal(err)
			}
			conds, ops := table.Join(units)
			ok, rev, err := mem.Txn(ctx, conds, ops)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if err := v.Applied(units, rev); err != nil {
				t.Fatal(err)
			}
		}
		write(record.NewGrants("w"), []record.Grant{grantOf("old", 1)}, nil)
		synctest.Wait()
		var seen []string
		sub := v.Subscribe(nil, func(d *view.Delta) {
			for _, c := range d.Grants["w"] {
				seen = append(seen, fmt.Sprintf("%s %v>%v", c.Key, c.Old != nil, c.New != nil))
			}
		})
		defer sub.Close()
		mu.Lock()
		listed, goOn, cut = make(chan struct{}), make(chan struct{}), true
		l, g := listed, goOn
		mu.Unlock()
		must(t, mem, store.Op{Key: store.KickKey}) // the batch that is lost
		<-l
		var mine *view.Grants
		v.Read(func() { mine = v.Grants["w"] })
		write(mine, []record.Grant{grantOf("new", 2)}, []string{"old"})
		mu.Lock()
		listed = nil
		mu.Unlock()
		close(g)
		synctest.Wait()
		if want := []string{"new false>true", "old true>false"}; !slices.Equal(seen, want) {
			t.Errorf("subscribers saw %v, want %v", seen, want)
		}
		if h := v.Holders(rota.Instance{Task: "new"}); !slices.Equal(h, []string{"w"}) || v.Holders(rota.Instance{Task: "old"}) != nil {
			t.Errorf("holders %v", h)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// slowRange calls listed between reading everything and answering.
type slowRange struct {
	*memory.Store
	listed func()
}

func (s *slowRange) Range(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	kvs, rev, err := s.Store.Range(ctx, prefix)
	s.listed()
	return kvs, rev, err
}

// TestUnreadable: what this version cannot read ends Run with an error that
// names the key, found in a listing and in a watch.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	newer := func(m proto.Message) []byte { return encode(t, m) }
	for name, c := range map[string]struct {
		op   store.Op
		want error
		text string
	}{
		"newer task":    {store.Op{Key: store.TasksPrefix, Value: newer(&storepb.TaskPage{Version: 2})}, rota.ErrNewerVersion, "tasks/"},
		"newer session": {store.Op{Key: store.SessionKey("w"), Value: newer(&storepb.Session{Version: 9})}, rota.ErrNewerVersion, "sessions/w"},
		"newer leader":  {store.Op{Key: store.LeaderKey, Value: newer(&storepb.Leader{Version: 9})}, rota.ErrNewerVersion, "leader"},
		"garbage node":  {store.Op{Key: store.NodeKey("w"), Value: []byte{0xff}}, record.ErrMalformed, "nodes/w"},
		"empty cluster": {store.Op{Key: store.ClusterKey}, record.ErrMalformed, "cluster"},
		"garbage page":  {store.Op{Key: store.WorkerGrants("w"), Value: []byte{0xff}}, record.ErrMalformed, "grants/w/"},
		"grant key":     {store.Op{Key: "grants/%zz/", Value: newer(&storepb.GrantPage{Version: 1})}, record.ErrMalformed, "grants/%zz/"},
		"ack key":       {store.Op{Key: "acks//", Value: newer(&storepb.AckPage{Version: 1})}, record.ErrMalformed, "acks//"},
		"misplaced": {
			store.Op{Key: store.WorkerGrants("w") + "m", Value: newer(&storepb.GrantPage{Version: 1, Grants: []*storepb.Grant{{Task: "a"}}})},
			table.ErrCorrupt, "grants/w/",
		},
	} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", name, before), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					st := memory.New()
					defer st.Close()
					if before {
						must(t, st, c.op)
					}
					v := view.New(st, slog.New(slog.DiscardHandler))
					ended := make(chan error, 1)
					go func() { ended <- v.Run(t.Context()) }()
					synctest.Wait()
					if !before {
						must(t, st, c.op)
					}
					if err := <-ended; !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
						t.Errorf("Run ends with %v", err)
					}
				})
			})
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	bubble(t, nil, func(t *testing.T, v *view.View, st *faulty.Store, _ *memory.Store) {
		st.Set(faulty.Hung)
		done := make(chan error, 1)
		at := v.Revision()
		go func() { done <- v.Wait(t.Context(), at+1) }()
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() { gaveUp <- v.Wait(ctx, at+100) }()
		if err := v.Wait(t.Context(), at); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(done) != 0 {
			t.Error("it waited for nothing")
		}
		st.Set(faulty.Up)
		must(t, st, store.Op{Key: store.KickKey})
		if err := <-done; err != nil || v.Revision() < at+1 {
			t.Errorf("%v at revision %d", err, v.Revision())
		}
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("gave up with %v", err)
		}
	})
}

// TestSubscribe: nothing is missed and nothing comes twice between the first
// look and the deltas, while others write.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	bubble(t, nil, func(t *testing.T, v *view.View, st *faulty.Store, _ *memory.Store) {
		const n = 300
		written := make(chan struct{})
		go func() {
			defer close(written)
			for i := range n {
				name := fmt.Sprintf("w%d", i)
				must(t, st, store.Op{Key: store.SessionKey(name), Value: encode(t, &storepb.Session{Version: 1, Name: name})})
			}
		}()
		type log struct{ first, then int }
		logs := make([]log, 20)
		for i := range logs {
			defer v.Subscribe(func() { logs[i].first = len(v.Sessions) }, func(d *view.Delta) { logs[i].then += len(d.Sessions) }).Close()
			must(t, st, store.Op{Key: store.KickKey})
		}
		<-written
		synctest.Wait()
		for i, l := range logs {
			if l.first+l.then != n {
				t.Errorf("subscriber %d: %d at first and %d later, want %d", i, l.first, l.then, n)
			}
		}
		calls := 0
		sub := v.Subscribe(nil, func(*view.Delta) { calls++ })
		sub.Close()
		sub.Close()
		must(t, st, store.Op{Key: store.KickKey})
		synctest.Wait()
		if calls != 0 {
			t.Error("told after Close")
		}
	})
}

// TestLeader: the leader's key is written all the time; only another term is news.
func TestLeader(t *testing.T) {
	t.Parallel()
	bubble(t, nil, func(t *testing.T, v *view.View, st *faulty.Store, _ *memory.Store) {
		var terms []string
		defer v.Subscribe(nil, func(d *view.Delta) {
			if d.Leader && v.Leader == nil {
				terms = append(terms, "-")
			} else if d.Leader {
				terms = append(terms, v.Leader.Name)
			}
		}).Close()
		put := func(name string) {
			must(t, st, store.Op{Key: store.LeaderKey, Value: encode(t, &storepb.Leader{Version: 1, Name: name})})
		}
		put("a")
		put("a")
		must(t, st, store.Op{Key: store.LeaderKey, Delete: true})
		put("b")
		synctest.Wait()
		if s := strings.Join(terms, ""); s != "a-b" && s != "ab" && s != "b" {
			t.Errorf("terms %q", s)
		}
		if rev := must(t, st, store.Op{Key: store.KickKey}); v.Wait(t.Context(), rev) != nil || v.Mod(store.KickKey) != rev {
			t.Errorf("the kick is of %d, want %d", v.Mod(store.KickKey), rev)
		}
	})
}

func TestPlaceable(t *testing.T) {
	t.Parallel()
	s := &view.Session{Session: &storepb.Session{Name: "w", Zone: "z", Kinds: []string{"k"}, MaxTasks: 3, Strength: 2}}
	w := s.Placeable(&storepb.Node{Cordoned: true})
	if w.Name != "w" || w.Zone != "z" || !slices.Equal(w.Kinds, []string{"k"}) || w.MaxTasks != 3 || !w.Cordoned || w.Draining {
		t.Errorf("%+v", w)
	}
	s.Kinds = nil
	if w := s.Placeable(nil); w.Kinds == nil || len(w.Kinds) != 0 {
		t.Error("one without kinds takes any")
	}
	s.AnyKind = true
	if w := s.Placeable(nil); w.Kinds != nil {
		t.Error("one for any kind does not take any")
	}
}

// TestAwaited: how long a worker is awaited, and what placement sees of it.
func TestAwaited(t *testing.T) {
	t.Parallel()
	bubble(t, nil, func(t *testing.T, v *view.View, st *faulty.Store, _ *memory.Store) {
		now := time.Now()
		last := &storepb.Session{Name: "w", AnyKind: true, RestartGraceMs: 60_000}
		for _, c := range []struct {
			node *storepb.Node
			want time.Duration
		}{
			{&storepb.Node{Version: 1, Last: last}, time.Minute}, // nobody saw when
			{&storepb.Node{Version: 1, Last: last, LostUnixMs: now.Add(-20 * time.Second).UnixMilli()}, 40 * time.Second},
			{&storepb.Node{Version: 1, Last: last, LostUnixMs: now.Add(-2 * time.Minute).UnixMilli()}, 0},
			{&storepb.Node{Version: 1, Last: last, LostUnixMs: now.Add(time.Hour).UnixMilli()}, time.Minute}, // another's clock
			{&storepb.Node{Version: 1, Last: &storepb.Session{RestartGraceMs: -1}}, 0},
			{&storepb.Node{Version: 1, LostUnixMs: now.UnixMilli()}, 0},
		} {
			must(t, st, store.Op{Key: store.NodeKey("w"), Value: encode(t, c.node)})
			synctest.Wait()
			v.Read(func() {
				if left := v.Grace("w", now); left != c.want {
					t.Errorf("%v: %v left, want %v", c.node, left, c.want)
				}
				if left := v.Grace("x", now); left != 0 {
					t.Errorf("one that nobody knows is awaited for %v", left)
				}
			})
		}
		must(t, st, store.Op{Key: store.NodeKey("w"), Value: encode(t, &storepb.Node{Version: 1, Last: last})})
		synctest.Wait()
		v.Read(func() {
			if w, ok := v.Placeable("w", true); !ok || w.Name != "w" || !w.Cordoned {
				t.Errorf("awaited: %+v, %v", w, ok)
			}
			if w, ok := v.Placeable("w", false); ok {
				t.Errorf("not awaited: %+v", w)
			}
		})
		must(t, st, store.Op{Key: store.SessionKey("w"), Value: encode(t, &storepb.Session{Version: 1, Name: "w", AnyKind: true})})
		synctest.Wait()
		v.Read(func() {
			if w, ok := v.Placeable("w", true); !ok || w.Cordoned || v.Grace("w", now) != 0 {
				t.Errorf("it lives: %+v, %v", w, ok)
			}
		})
		must(t, st, store.Op{Key: store.SessionKey("w"), Value: encode(t, &storepb.Session{Version: 1, Name: "w", Leaving: true})})
		synctest.Wait()
		v.Read(func() {
			if _, ok := v.Placeable("w", true); ok {
				t.Error("it leaves, and is placed on")
			}
		})
	})
}
