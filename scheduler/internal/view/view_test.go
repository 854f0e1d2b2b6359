package view_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"

	"google.golang.org/protobuf/proto"
)

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
			if r := (commit.Writer{Txn: mem.Txn, Done: v.Applied}).Together(ctx, units...); !r.OK {
				t.Fatal(r.Err)
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

// TestSetAside: a value of a key of its own that cannot be read ends nobody: what was
// known stays, what comes after it is seen, and so is a value in its place.
func TestSetAside(t *testing.T) {
	t.Parallel()
	good := map[string]proto.Message{
		store.LeaderKey:         &storepb.Leader{Version: 1, Name: "s"},
		store.ClusterKey:        &storepb.Cluster{Version: 1, Started: true},
		store.SessionKey("w"):   &storepb.Session{Version: 1, Name: "w", Incarnation: "1"},
		store.NodeKey("w"):      &storepb.Node{Version: 1, Name: "w", Cordoned: true},
		store.SchedulerKey("s"): &storepb.Scheduler{Version: 1, Name: "s"},
		store.SourceKey("l"):    &storepb.Source{Version: 1, Name: "l", Tasks: 3},
		store.ProgramKey("p"):   &storepb.Program{Version: 1, Name: "p"},
		store.JobWorkerKey("w"): &storepb.JobWorker{Version: 1, Name: "w"},
	}
	for key, m := range good {
		for _, bad := range [][]byte{nil, {0xff}, []byte("\x08\x01\x12\xff"), []byte("\x08\x63")} {
			for _, known := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%x/%v", key, bad, known), func(t *testing.T) {
					t.Parallel()
					bubble(t, nil, func(t *testing.T, v *view.View, st *faulty.Store, _ *memory.Store) {
						if known {
							must(t, st, store.Op{Key: key, Value: encode(t, m)})
						}
						must(t, st, store.Op{Key: key, Value: bad})
						last := must(t, st, store.Op{Key: store.NodeKey("other"), Value: encode(t, &storepb.Node{Version: 1, Name: "other"})})
						synctest.Wait()
						v.Read(func() {
							if v.Nodes["other"] == nil {
								t.Error("what comes after it is not seen")
							}
							if v.Mod(key) == 0 {
								t.Error("the key is taken for absent")
							}
							if key == store.SessionKey("w") {
								if s := v.Sessions["w"]; s == nil || s.GetLeaving() == known || s.Mod != last-1 {
									t.Errorf("the session is %+v", s)
								}
							}
							if key == store.NodeKey("w") && v.Nodes["w"].GetCordoned() != known {
								t.Errorf("the node is %v", v.Nodes["w"])
							}
							if key == store.ClusterKey && v.Cluster.GetStarted() != known {
								t.Errorf("the cluster is %v", v.Cluster)
							}
						})
						must(t, st, store.Op{Key: key, Value: encode(t, m)})
						synctest.Wait()
						if v.Read(func() {
							if key == store.SourceKey("l") && v.Sources["l"].GetTasks() != 3 {
								t.Error("a value in its place is not seen")
							}
						}); v.Revision() != last+1 {
							t.Errorf("the picture is at %d, want %d", v.Revision(), last+1)
						}
					})
				})
			}
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

func leaseOf(t *testing.T, st store.Store) store.LeaseID {
	t.Helper()
	lease, _, err := st.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

// TestSessionComesBack: who first sees a session as somebody else has written it, with no
// lease, takes what its scheduler writes in its place.
func TestSessionComesBack(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]*storepb.Session{
		"names no lease": {Version: 1, Name: "w"}, "names another": {Version: 1, Name: "w", Lease: 4711},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, nil, func(t *testing.T, v *view.View, st *faulty.Store, _ *memory.Store) {
				key, lease := store.SessionKey("w"), leaseOf(t, st)
				must(t, st, store.Op{Key: key, Value: encode(t, bad)})
				synctest.Wait()
				v.Read(func() {
					if len(v.Unread()) != 1 {
						t.Errorf("unread %v", v.Unread())
					}
				})
				must(t, st, store.Op{Key: key, Lease: lease, Value: encode(t, &storepb.Session{Version: 1, Name: "w", Incarnation: "1", Lease: int64(lease)})})
				synctest.Wait()
				v.Read(func() {
					if s := v.Sessions["w"]; len(v.Unread()) != 0 || s.GetIncarnation() != "1" {
						t.Errorf("session %v, unread %v", s, v.Unread())
					}
				})
			})
		})
	}
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
		lease := leaseOf(t, st)
		put := func(name string) {
			must(t, st, store.Op{Key: store.LeaderKey, Lease: lease, Value: encode(t, &storepb.Leader{Version: 1, Name: name})})
		}
		put("a")
		put("a")
		must(t, st, store.Op{Key: store.LeaderKey, Delete: true})
		put("b")
		synctest.Wait()
		// One without a lease is nobody's.
		must(t, st, store.Op{Key: store.LeaderKey, Value: encode(t, &storepb.Leader{Version: 1, Name: "stray"})})
		synctest.Wait()
		v.Read(func() {
			if v.Leader != nil || len(v.Unread()) != 1 {
				t.Errorf("leader %v, unread %v", v.Leader, v.Unread())
			}
		})
		put("b")
		synctest.Wait()
		v.Read(func() {
			if v.Leader == nil || len(v.Unread()) != 0 {
				t.Errorf("leader %v, unread %v", v.Leader, v.Unread())
			}
		})
		terms = terms[:max(0, len(terms)-2)]
		if s := strings.Join(terms, ""); s != "a-b" && s != "ab" && s != "b" {
			t.Errorf("terms %q", s)
		}
		if rev := must(t, st, store.Op{Key: store.KickKey}); v.Wait(t.Context(), rev) != nil || v.Mod(store.KickKey) != rev {
			t.Errorf("the kick is of %d, want %d", v.Mod(store.KickKey), rev)
		}
	})
}
