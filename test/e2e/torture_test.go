//go:build linux

package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestTorture kills, stops and cuts off processes for a while: ten seconds, or
// ROTA_TORTURE. The history of owners must be that of a lock with a fencing token.
func TestTorture(t *testing.T) {
	t.Parallel()
	dur := 10 * time.Second
	if s := os.Getenv("ROTA_TORTURE"); s != "" {
		var err error
		if dur, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ROTA_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("the actions follow from ROTA_SEED=%d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	const tasks = 16
	c := newCluster(t, 3, 4, time.Second)
	c.apply("a", tasks)
	await(t, 20*time.Second, "all run", func() bool { return c.once(tasks) })
	// Chance may be kind for a while: then it goes on, to a bound.
	least := int(dur / time.Second)
	for until := time.Now().Add(dur); time.Now().Before(until) || c.record.moves() < least && time.Now().Before(until.Add(3*dur)); {
		c.hurt(chance)
	}
	for _, w := range c.workers {
		w.hold(false, false)
		w.again()
	}
	await(t, 20*time.Second, "all run again, each once", func() bool { return c.once(tasks) })
	c.stop()
	if moves := c.record.check(t); moves < least {
		t.Errorf("%d moves, want at least %d: the run is too weak to mean anything", moves, least)
	} else {
		t.Logf("%d runs, %d moves", c.record.count(), moves)
	}
}

// again starts a worker that has ended.
func (w *wrk) again() {
	select {
	case <-w.proc.done:
		w.start()
	default:
	}
}

// hurt does something bad for some time, and mends it.
func (c *cluster) hurt(chance *rand.Rand) {
	upTo := func(d time.Duration) time.Duration { return time.Duration(chance.Int64N(int64(d))) }
	w, s := c.workers[chance.IntN(len(c.workers))], c.scheds[chance.IntN(len(c.scheds))]
	switch chance.IntN(8) {
	case 0: // kill a worker
		w.kill(syscall.SIGKILL)
		w.proc.wait(c.t, 10*time.Second)
		time.Sleep(upTo(c.lease))
		w.start()
	case 1: // or its keeper
		w.proc.signal(syscall.SIGKILL)
		w.proc.wait(c.t, 10*time.Second)
		time.Sleep(upTo(c.lease))
		w.start()
	case 2: // stop one in order
		w.proc.signal(syscall.SIGTERM)
		w.proc.wait(c.t, 40*time.Second)
		time.Sleep(upTo(c.lease / 2))
		w.start()
	case 3: // freeze one: its keeper may kill it
		w.kill(syscall.SIGSTOP)
		time.Sleep(upTo(2 * c.lease))
		w.kill(syscall.SIGCONT)
		w.again()
	case 4: // cut one off, one way or both
		how := chance.IntN(3)
		w.hold(how != 1, how != 0)
		time.Sleep(upTo(2 * c.lease))
		w.hold(false, false)
		w.again()
	case 5: // cut its connections
		for _, p := range w.proxies {
			p.cut()
		}
	case 6: // kill a scheduler
		s.proc.signal(syscall.SIGKILL)
		s.proc.wait(c.t, 10*time.Second)
		time.Sleep(upTo(c.lease / 2))
		s.start()
		s.ready()
	case 7: // cut a scheduler off from etcd
		s.etcd.hold(true, true)
		time.Sleep(upTo(2 * c.lease))
		s.etcd.hold(false, false)
	}
	time.Sleep(upTo(500 * time.Millisecond))
}
