package worker_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/worker"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		w, err := worker.New(worker.Config{Name: "w", Connect: f.connect})
		if err != nil {
			t.Fatal(err)
		}
		events, err := w.Watch()
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
