package view_test

import (
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/test/filled"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

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

// TestEveryFieldOfAWorker: what a worker says of itself and what is kept of it is all
// that placement knows of it, but for the ramp, which is the leader's.
func TestEveryFieldOfAWorker(t *testing.T) {
	t.Parallel()
	var want rota.Worker
	n := 0
	filled.Fill(reflect.ValueOf(&want).Elem(), &n)
	want.Ramp = 0
	s := &view.Session{Session: &storepb.Session{
		Name: want.Name, Zone: want.Zone, Labels: want.Labels, Kinds: want.Kinds, Capacity: want.Capacity, MaxTasks: int64(want.MaxTasks), Strength: want.Strength,
	}}
	if got := s.Placeable(&storepb.Node{Cordoned: true, Draining: true}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
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
