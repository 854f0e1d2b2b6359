package worker_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/worker"
)

func TestWatchUntilDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		w, err := worker.New(worker.Config{Name: "w", Connect: f.connect})
		if err != nil {
			t.Fatal(err)
		}
		events, err := w.WatchUntilDone()
		if err != nil {
			t.Fatal(err)
		}
		w.Start()
		synctest.Wait()
		if !f.hellos[0].GetInfo().GetAnyKind() {
			t.Error("it does not offer every kind")
		}
		f.grants(give(grant("a", 1, rota.Exclusive, "p"), grant("b", 1, rota.Exclusive, "p")))
		for range 2 {
			e := <-events
			if !e.Given || string(e.Task.Payload) != "p" {
				t.Errorf("event %+v", e)
			}
			e.Done() // says nothing of a given one
		}
		other := grant("of-a-program", 1, rota.Exclusive, "p")
		other.Task.Kind = rota.ProgramKind + "f"
		f.grants(give(other)) // whatever a scheduler says, it is not run here
		synctest.Wait()
		f.wants("of-a-program", "backoff")
		f.grants(revoke("a", 1))
		e := <-events
		if e.Given || e.ID() != "a" {
			t.Errorf("event %+v", e)
		}
		synctest.Wait()
		f.wants("a", "stopping")
		e.Done()
		e.Done()
		synctest.Wait()
		f.wants("a", "stopped")
		f.wants("b", "running")
		// Given and taken before the receiver looked: it hears nothing of it.
		f.grants(give(grant("c", 2, rota.Exclusive, "")))
		f.grants(revoke("c", 2))
		f.wants("c", "stopped")
		done := make(chan error, 1)
		go func() { done <- w.Stop(context.Background()) }()
		for e := range events { // closed at the end
			if e.Given || e.ID() != "b" {
				t.Errorf("event %+v", e)
			}
			e.Done()
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestWatchWithoutDone: who only receives what is given and taken, as users of the
// old escheduler do, takes part in full: moves, an orderly end, the end of a lease.
func TestWatchWithoutDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		w, err := worker.New(worker.Config{Name: "w", Connect: f.connect, Exit: func(int) { t.Error("it ends the process") }})
		if err != nil {
			t.Fatal(err)
		}
		events, err := w.Watch()
		if err != nil {
			t.Fatal(err)
		}
		w.Start()
		synctest.Wait()
		var mu sync.Mutex
		given, taken := map[string]int{}, map[string]int{}
		received := make(chan struct{})
		go func() {
			defer close(received)
			for e := range events {
				mu.Lock()
				if e.Given {
					given[e.ID()]++
				} else {
					taken[e.ID()]++
				}
				mu.Unlock()
			}
		}()
		f.grants(give(grant("a", 1, rota.Exclusive, ""), grant("b", 1, rota.Exclusive, "")))
		f.wants("b", "running")
		f.grants(revoke("a", 1))
		f.wants("a", "stopped")
		f.set(func() { f.mute = true })
		pass(2 * ttl)
		if got := w.Tasks(); len(got) != 0 {
			t.Errorf("after the lease %v runs", got)
		}
		f.set(func() { f.mute, f.full = false, []*rotav1.GrantItem{grant("b", 2, rota.Exclusive, "")} })
		pass(2 * ttl)
		f.wants("b", "running")
		if err := w.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		<-received
		if given["a"] != 1 || given["b"] < 2 || !maps.Equal(given, taken) {
			t.Errorf("given %v, taken %v: want all that was given taken", given, taken)
		}
	})
}

// TestWatchIsNotReceived: whoever does not receive what is taken outlives the lease.
// The channel is closed all the same.
func TestWatchIsNotReceived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		w, err := worker.New(worker.Config{Name: "w", Connect: f.connect, Exit: func(int) {}})
		if err != nil {
			t.Fatal(err)
		}
		events, err := w.Watch()
		if err != nil {
			t.Fatal(err)
		}
		w.Start()
		synctest.Wait()
		f.grants(give(grant("a", 1, rota.Exclusive, "")))
		<-events
		f.set(func() { f.mute = true })
		pass(2 * ttl)
		if err := w.Err(); !errors.Is(err, worker.ErrOutlived) || w.Status() != worker.StatusDead {
			t.Errorf("%s: %v", w.Status(), err)
		}
		if e, open := <-events; open {
			t.Errorf("after the end: %+v", e)
		}
	})
}
