package service_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc"
)

// watcher is the receiving end of a watch, which reads when it is let.
type watcher[E any] struct {
	grpc.ServerStream
	ctx    context.Context
	events chan *E
}

func (w *watcher[E]) Context() context.Context { return w.ctx }

func (w *watcher[E]) Send(e *E) error {
	select {
	case w.events <- e:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply("a", "b")
		ctx, cancel := context.WithCancel(b.Context())
		w := &watcher[rotav1.TaskEvent]{ctx: ctx, events: make(chan *rotav1.TaskEvent)}
		ended := make(chan error, 2)
		go func() { ended <- b.svc.WatchTasks(&rotav1.WatchTasksRequest{}, w) }()
		workers := &watcher[rotav1.WorkerEvent]{ctx: ctx, events: make(chan *rotav1.WorkerEvent, 100)}
		go func() { ended <- b.svc.WatchWorkers(&rotav1.WatchWorkersRequest{}, workers) }()
		read := func() (out string) {
			synctest.Wait()
			for {
				select {
				case e := <-w.events:
					out += fmt.Sprintf("%s %s", e.GetType(), e.GetTask().GetId())
					for _, i := range e.GetTask().GetInstances() {
						out += " " + i.GetState()
					}
					out += "; "
					synctest.Wait()
				default:
					return out
				}
			}
		}
		// Who does not read hears, at most, one thing that was on its way before.
		wants := func(want string) {
			b.Helper()
			got := read()
			if before, ok := strings.CutSuffix(got, want); !ok || strings.Count(before, ";") > 1 {
				b.Errorf("it hears %q, want %q", got, want)
			}
		}
		wants("set a waiting; set b waiting; synced ; ")
		b.worker("w", false)
		b.grant("w", "a", 1, false, ownership.Running)
		wants("set a running; ")
		// One that does not read for long is told what is, once.
		for n := range 100 {
			_, err := b.svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "b", Weight: float64(n + 2)}}})
			if err != nil {
				b.Fatal(err)
			}
		}
		wants("set b waiting; ")
		// What a worker said goes with its lease.
		kvs, _, err := b.st.Range(ctx, store.AcksPrefix)
		if err != nil || len(kvs) != 1 {
			b.Fatal(len(kvs), err)
		}
		b.put(store.Op{Key: kvs[0].Key, Delete: true})
		wants("set a granted; ")
		if _, err := b.svc.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{"b"}}); err != nil {
			b.Fatal(err)
		}
		wants("deleted b; ")
		b.put(store.Op{Key: store.SessionKey("w"), Delete: true})
		wants("set a waiting; ")
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				b.Error(err)
			}
		}
		close(workers.events)
		var heard []string
		for e := range workers.events {
			heard = append(heard, e.GetType())
		}
		if len(heard) < 3 || heard[0] != "synced" || heard[1] != "set" || heard[len(heard)-1] != "deleted" {
			b.Errorf("of workers it hears %v", heard)
		}
	})
}
