package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/worker"
)

// TestMuchIsSaidInParts: a worker that holds much, with ids and errors as long as
// there are, says all of it again in messages that a scheduler takes, and what is
// newest with its hello.
func TestMuchIsSaidInParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const many = 2500
		f := newFake(t)
		for i := range many {
			id := fmt.Sprintf("%04d%s", i, strings.Repeat("x", rota.MaxIDLen-4))
			f.full = append(f.full, grant(id, uint64(1+(i*7)%many), rota.Exclusive, ""))
		}
		start(t, f, worker.Config{}, map[string]worker.TaskFunc{"k": func(context.Context, worker.Assigned) error {
			return errors.New(strings.Repeat("y", 4<<10))
		}})
		pass(time.Second)
		f.set(func() { clear(f.acks) })
		f.cut()
		pass(time.Second)
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.hellos) != 2 || len(f.acks) != many {
			t.Fatalf("%d hellos, %d of %d said again", len(f.hellos), len(f.acks), many)
		}
		held := f.hellos[1].GetHeld()
		if len(held) == 0 || len(held) == many {
			t.Fatalf("%d with the hello", len(held))
		}
		for _, a := range held {
			if a.GetGeneration() <= uint64(many-len(held)) {
				t.Errorf("generation %d is with the hello, newer ones are not", a.GetGeneration())
			}
			if a.GetError() == "" {
				t.Error("no error")
			}
		}
		if n := proto.Size(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: f.hellos[1]}}); n > bound.MaxMessage {
			t.Errorf("a hello of %d bytes", n)
		}
	})
}
