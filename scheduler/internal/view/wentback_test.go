package view_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// replaced is a store in whose place another one comes.
type replaced struct {
	store.Store
	now atomic.Pointer[memory.Store]
}

func (r *replaced) Range(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	return r.now.Load().Range(ctx, prefix)
}

func (r *replaced) Get(ctx context.Context, key string) (store.KV, bool, int64, error) {
	return r.now.Load().Get(ctx, key)
}

func (r *replaced) Watch(ctx context.Context, prefix string, revision int64) <-chan store.Batch {
	return r.now.Load().Watch(ctx, prefix, revision)
}

// TestWentBack: a picture of a store that is behind what it has been is of no use,
// whether its watch goes on or begins anew. One that is merely another's, and ahead,
// is read.
func TestWentBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cut   bool // the watch ends
		ahead bool
		want  error
	}{
		"watch goes on": {want: store.ErrWentBack},
		"watch is cut":  {cut: true, want: store.ErrWentBack},
		"it was raised": {cut: true, ahead: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				was, old := memory.New(), memory.New()
				defer was.Close()
				defer old.Close()
				r := &replaced{}
				r.now.Store(was)
				write := func(st *memory.Store, n int) {
					for range n {
						must(t, st, store.Op{Key: store.KickKey})
					}
				}
				write(was, 10)
				write(old, 3)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				v := view.New(r, slog.New(slog.DiscardHandler))
				go func() { ended <- v.Run(ctx) }()
				time.Sleep(time.Second)
				if c.ahead {
					write(old, 20)
				}
				if r.now.Store(old); c.cut {
					was.Close()
				}
				time.Sleep(5 * time.Second)
				if c.want == nil {
					if age := time.Since(v.AsOf()); age > time.Second {
						t.Errorf("the picture is %v old", age)
					}
					cancel()
				}
				synctest.Wait()
				if err := <-ended; !errors.Is(err, c.want) {
					t.Errorf("Run ends with %v, want %v", err, c.want)
				}
				cancel()
			})
		})
	}
}
