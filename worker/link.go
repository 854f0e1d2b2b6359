package worker

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// link is one connection to a scheduler. Its sender never blocks the loop.
type link struct {
	cancel  context.CancelFunc
	timeout *time.Timer

	// Owned by the loop.
	welcomed bool
	farewell bool
	pause    time.Duration // before the next connection

	mu     sync.Mutex
	queue  []*rotav1.FromWorker
	signal chan struct{}
}

func (k *link) send(m *rotav1.FromWorker) {
	k.mu.Lock()
	k.queue = append(k.queue, m)
	k.mu.Unlock()
	select {
	case k.signal <- struct{}{}:
	default:
	}
}

// pump sends what is queued until the connection ends.
func (k *link) pump(ctx context.Context, s Stream) {
	for {
		k.mu.Lock()
		q := k.queue
		k.queue = nil
		k.mu.Unlock()
		for _, m := range q {
			if s.Send(m) != nil {
				k.cancel()
				return
			}
		}
		select {
		case <-k.signal:
		case <-ctx.Done():
			return
		}
	}
}

// connect keeps a connection to some scheduler until ctx ends, and says why it
// has none: at once, and then now and again.
func (w *Worker) connect(ctx context.Context) {
	pause := time.Duration(0)
	var told time.Time
	for ctx.Err() == nil {
		if pause > 0 {
			// Jitter keeps workers of a scheduler that died from coming all at once.
			timer := time.NewTimer(pause/2 + rand.N(pause))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
		}
		welcomed, asked, err := w.connectOnce(ctx)
		if !welcomed && asked == 0 && ctx.Err() == nil && time.Since(told) >= tellEvery {
			told = time.Now()
			w.log().Warn("no scheduler takes this worker", "error", err)
		}
		switch {
		case asked > 0:
			pause = asked
		case welcomed:
			pause = firstPause
		default:
			pause = min(max(2*pause, firstPause), lastPause)
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
	k := &link{cancel: cancel, signal: make(chan struct{}, 1), timeout: time.AfterFunc(helloTimeout, cancel)}
	defer k.timeout.Stop()
	s, err := w.cfg.Connect(ctx, w.known.get())
	if err != nil {
		return false, 0, err
	}
	var pumping sync.WaitGroup
	pumping.Go(func() { k.pump(ctx, s) })
	w.inbox.do(func() { w.loop.attach(k) })
	for {
		var m *rotav1.ToWorker
		if m, err = s.Recv(); err != nil {
			w.log().Debug("connection ended", "error", err)
			break
		}
		w.inbox.do(func() { w.loop.receive(k, m) })
	}
	cancel()
	pumping.Wait()
	// The loop's fields are read where it owns them.
	done := make(chan struct{})
	w.inbox.do(func() {
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
