package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/jobs"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// alone is the jobs of one scheduler, in a bubble, and its store, of whose calls becomes what
// decide says; nil: nothing.
func alone(t *testing.T, decide faulty.Decide, test func(t *testing.T, c *jobs.Control, st *faulty.Store, under *memory.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		under := memory.New()
		st := faulty.New(under, decide)
		sc, err := scheduler.New(scheduler.Config{Name: "s1", Store: st})
		if err != nil {
			t.Fatal(err)
		}
		c := jobs.New(jobs.Config{Node: kind.Node{Store: st, View: sc.View(), Capacity: sc.Capacity(), Scheduler: "s1", Logger: slog.New(slog.DiscardHandler)}})
		sc.Start()
		defer func() {
			st.Set(faulty.Up)
			c.Close()
			_ = sc.Stop(context.Background())
			st.Close()
			under.Close()
		}()
		if err := sc.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		test(t, c, st, under)
	})
}

// TestHungStore: while the store takes calls and answers none, everybody who runs, stops
// or deletes a job hears within 11 s that it may be done or not, however many ask before;
// said again when the store is back, with the same id, there is one job of it.
func TestHungStore(t *testing.T) {
	t.Parallel()
	alone(t, nil, func(t *testing.T, c *jobs.Control, st *faulty.Store, _ *memory.Store) {
		ctx := auth.Inside(t.Context())
		run := func(id string) error {
			_, err := c.RunJob(ctx, &rotav1.RunJobRequest{Id: id, Job: &rotav1.JobDefinition{Argv: []string{"true"}}})
			return err
		}
		known := uuid.New(time.Now())
		if err := run(known); err != nil {
			t.Fatal(err)
		}
		st.Set(faulty.Hung)
		var all sync.WaitGroup
		ask := func(what string, f func() error) {
			all.Go(func() {
				began := time.Now()
				err := f()
				took := time.Since(began)
				if !convert.IsStoreAway(err) || took > 11*time.Second {
					t.Errorf("%s: after %v: %v", what, took, err)
				}
			})
		}
		var ids []string
		for n := range 20 {
			id := uuid.New(time.Now())
			ids = append(ids, id)
			ask(fmt.Sprint("run ", n), func() error { return run(id) })
			time.Sleep(700 * time.Millisecond)
		}
		ask("stop", func() error {
			_, err := c.StopJob(ctx, &rotav1.StopJobRequest{Id: known})
			return err
		})
		all.Wait()
		st.Set(faulty.Up)
		time.Sleep(30 * time.Second)
		for _, id := range ids {
			if err := run(id); err != nil {
				t.Errorf("said again: %v", err)
			}
		}
		list, err := c.ListJobs(ctx, &rotav1.ListJobsRequest{PageSize: 1000})
		if err != nil || len(list.GetJobs()) != len(ids)+1 {
			t.Errorf("%d jobs, %v, want %d", len(list.GetJobs()), err, len(ids)+1)
		}
	})
}

// TestSaidAgainWithoutItsWorker: a job that was kept is no error when it is said again,
// though the worker that it names is not known any more; another id is refused.
func TestSaidAgainWithoutItsWorker(t *testing.T) {
	t.Parallel()
	alone(t, nil, func(t *testing.T, c *jobs.Control, st *faulty.Store, under *memory.Store) {
		spec := job.Spec{Argv: []string{"true"}, Worker: "w"}
		if _, err := c.Declare(t.Context(), uuid.New(time.Now()), spec); !errors.Is(err, rota.ErrNotFound) {
			t.Errorf("a worker that never was: %v", err)
		}
		value, err := record.Encode(&storepb.Node{Version: record.Version, Name: "w", Cordoned: true})
		if err != nil {
			t.Fatal(err)
		}
		put := func(op store.Op) {
			if _, _, err := under.Txn(t.Context(), nil, []store.Op{op}); err != nil {
				t.Fatal(err)
			}
		}
		put(store.Op{Key: store.NodeKey("w"), Value: value})
		time.Sleep(time.Second)
		id := uuid.New(time.Now())
		if _, err := c.Declare(t.Context(), id, spec); err != nil {
			t.Fatal(err)
		}
		put(store.Op{Key: store.NodeKey("w"), Delete: true})
		time.Sleep(time.Second)
		if j, err := c.Declare(t.Context(), id, spec); err != nil || j.ID != id {
			t.Errorf("said again: %v, %v", j, err)
		}
		if _, err := c.Declare(t.Context(), uuid.New(time.Now()), spec); !errors.Is(err, rota.ErrNotFound) {
			t.Errorf("another: %v", err)
		}
		st.Set(faulty.Down)
		if _, err := c.Declare(t.Context(), uuid.New(time.Now()), spec); status.Code(err) == codes.NotFound || errors.Is(err, rota.ErrNotFound) {
			t.Errorf("without the store nobody knows: %v", err)
		}
	})
}

// TestLateDeclaration: a declaration whose outcome is unknown is said again, done, and its job
// deleted. When the first one lands after that, the job does not come back.
func TestLateDeclaration(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	late := func(c faulty.Call) (f faulty.Fault) {
		if c.Kind == faulty.Txn && strings.HasPrefix(c.Key, store.JobsPrefix) && calls.Add(1) == 1 {
			f.Late = time.Minute
		}
		return f
	}
	alone(t, late, func(t *testing.T, c *jobs.Control, _ *faulty.Store, under *memory.Store) {
		ctx := auth.Inside(t.Context())
		id := uuid.New(time.Now())
		if _, err := c.RunJob(ctx, &rotav1.RunJobRequest{Id: id, Job: &rotav1.JobDefinition{Argv: []string{"true"}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.StopJob(ctx, &rotav1.StopJobRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.DeleteJob(ctx, &rotav1.DeleteJobRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if _, found, _, err := under.Get(ctx, store.JobKey(id)); found || err != nil || calls.Load() < 3 {
			t.Errorf("the job is back: %v, %v, after %d transactions", found, err, calls.Load())
		}
	})
}
