package view_test

import (
	"context"
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
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"

	"pgregory.net/rapid"
)

// write stages and writes through v, as schedulers do, and tells v at once if
// told is set. It reports whether the conditions held.
func write(t *rapid.T, v *view.View, st store.Store, told bool, stage func() ([]table.Unit, error)) bool {
	var units []table.Unit
	var err error
	v.Read(func() { units, err = stage() })
	if err != nil {
		t.Fatal(err)
	}
	w := commit.Writer{Txn: st.Txn}
	if told {
		w.Done = v.Applied
	}
	done := true
	for r := range w.Write(context.Background(), units) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		done = done && r.OK
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
				write(t, by, under, rapid.Bool().Draw(t, "told"), func() ([]table.Unit, error) { return stage(by) })
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
								r.State = rapid.SampledFrom([]ownership.State{ownership.Starting, ownership.Backoff}).Draw(t, "state")
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
	instances, running, failing := 0, 0, 0
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
			r, ok := v.Tasks.Get(g.Instance.Task)
			if !ok || g.Instance.Index >= r.Replicas {
				continue
			}
			weights[w] += r.Weight
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
			if a, ok := v.Ack(owner, g.Instance); ok && !best.Revoked && a.Generation == best.Generation {
				switch a.State {
				case ownership.Running:
					running++
				case ownership.Backoff:
					failing++
				default:
				}
			}
		}
	}
	for w, acks := range v.Acks {
		if acks.Len() == 0 {
			t.Errorf("an empty table of acknowledgements is kept for %s", w)
		}
	}
	if v.Instances() != instances || v.Running() != running || v.Failing() != failing {
		t.Errorf("%d instances, %d of them run, %d fail; counted %d, %d and %d", v.Instances(), v.Running(), v.Failing(), instances, running, failing)
	}
	for _, w := range []string{"a", "b/c", "d"} {
		if d := v.Weight(w) - weights[w]; math.Abs(d) > 1e-9*weights[w] {
			t.Errorf("weight of %s: %v, counted %v", w, v.Weight(w), weights[w])
		}
	}
}
