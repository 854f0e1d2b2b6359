package worker

import (
	"context"
	"sync"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/mailbox"
)

// link is one connection to a scheduler. Its sender never blocks the loop.
type link struct {
	cancel  context.CancelFunc
	timeout *time.Timer
	pusher  Pusher // nil: nothing can be read here

	// Owned by the loop.
	welcomed bool
	farewell bool
	pause    time.Duration // before the next connection

	out *mailbox.Box[*rotav1.FromWorker]
}

// connect keeps a connection to some scheduler until ctx ends, and says why it
// has none: at once, and then now and again.
func (w *Worker) connect(ctx context.Context) {
	pause := backoff.Backoff{First: firstPause, Most: lastPause, Jitter: true}
	var told time.Time
	for ctx.Err() == nil {
		welcomed, asked, err := w.connectOnce(ctx)
		if !welcomed && asked == 0 && ctx.Err() == nil && time.Since(told) >= tellEvery {
			told = time.Now()
			w.log().Warn("no scheduler accepts this worker", "error", err)
		}
		if welcomed {
			pause.Reset()
		}
		if asked > 0 {
			_ = backoff.Sleep(ctx, backoff.Jitter(asked)) // the loop asks ctx
		} else {
			_ = pause.Wait(ctx)
		}
	}
}

const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
	tellEvery  = 10 * time.Second
)

// connectOnce serves one connection to its end, whose reason it answers. It
// reports whether there was a session, and a pause that the scheduler asked for.
func (w *Worker) connectOnce(parent context.Context) (welcomed bool, pause time.Duration, err error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	k := &link{cancel: cancel, out: mailbox.Bounded[*rotav1.FromWorker](cancel), timeout: time.AfterFunc(helloTimeout, cancel)}
	defer k.timeout.Stop()
	s, err := w.cfg.Connect(ctx, w.known.get())
	if err != nil {
		return false, 0, err
	}
	k.pusher, _ = s.(Pusher)
	var pumping sync.WaitGroup
	pumping.Go(func() {
		if k.out.Pump(ctx, nil, s.Send) != nil {
			cancel()
		}
	})
	w.inbox.Put(func() { w.loop.attach(k) })
	for {
		var m *rotav1.ToWorker
		if m, err = s.Recv(); err != nil {
			w.log().Debug("connection ended", "error", err)
			break
		}
		if read := m.GetRead(); read != nil {
			if k.pusher != nil {
				pumping.Go(func() { w.pushLog(ctx, k.pusher, read) })
			}
			continue // none of the loop's business
		}
		w.inbox.Put(func() { w.loop.receive(k, m) })
	}
	cancel()
	pumping.Wait()
	// The loop's fields are read where it owns them.
	done := make(chan struct{})
	w.inbox.Put(func() {
		w.loop.detach(k)
		welcomed, pause = k.welcomed, k.pause
		close(done)
	})
	select {
	case <-done:
	case <-parent.Done():
		return false, 0, err
	}
	return welcomed, pause, err
}
