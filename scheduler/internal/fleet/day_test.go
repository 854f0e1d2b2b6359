package fleet

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// day is a pool under a load that changes: tasks of one core each, on workers of so many.
type day struct {
	picture Picture
	cores   int
	joining map[string]Time
	next    int
	starts  int
	stops   int
	last    Time // of the last change of size
	waited  time.Duration
}

const tick = 5 * time.Second

// step lets a tick pass in which load tasks are to run.
func (d *day) step(t *testing.T, load int) {
	t.Helper()
	p := &d.picture
	p.Now += tick
	alive, pending := 0, 0
	kept := p.Members[:0]
	for _, m := range p.Members {
		if m.Stopping != 0 {
			continue // it is gone by now
		}
		if at, ok := d.joining[m.Name]; ok && p.Now >= at {
			m.Alive, m.Joined = true, p.Now
			delete(d.joining, m.Name)
		}
		if m.Leaving == 0 && m.Alive {
			alive++
		} else if m.Leaving == 0 {
			pending++
		}
		kept = append(kept, m)
	}
	p.Members = kept
	over := max(0, load-alive*d.cores)
	if over > 0 {
		d.waited += tick
	}
	p.Want = min((over+d.cores-1)/d.cores, pending+max(0, p.To-alive-pending))
	tight := float64(d.cores) * (1 - Headroom)
	p.Spare = max(0, alive-int(math.Ceil(float64(load)/tight)))
	rest := load
	for n := range p.Members {
		m := &p.Members[n]
		m.Load = 0
		if m.Alive && m.Leaving == 0 {
			m.Load = min(rest, (load+alive-1)/alive)
			rest -= m.Load
		}
	}
	plan := Decide(*p)
	p.Memory = plan.Memory
	for _, a := range plan.Actions {
		switch a.Kind {
		case Start:
			d.next++
			name := fmt.Sprintf("w%06d", d.next)
			p.Members = append(p.Members, Member{Name: name, Asked: p.Now, Handle: name, Copies: []Copy{{Handle: name, Began: p.Now}}})
			d.joining[name] = p.Now + 40*time.Second
			d.starts++
			d.last = p.Now
		case Drain:
			d.stops++
			d.last = p.Now
			d.member(a.Member).Leaving = p.Now
		case Stop:
			d.member(a.Member).Stopping = p.Now
		case Adopt, Kill, Forget:
			t.Fatalf("%v %s", a.Kind, a.Member)
		}
	}
	if n := len(p.Members); n > p.To+1+d.stops {
		t.Fatalf("%d workers of at most %d", n, p.To)
	}
}

func (d *day) member(name string) *Member {
	for n := range d.picture.Members {
		if d.picture.Members[n].Name == name {
			return &d.picture.Members[n]
		}
	}
	return nil
}

func newDay(from, to int) *day {
	return &day{
		picture: Picture{Now: hour, From: from, To: to, IdleAfter: 10 * time.Minute, StartTimeout: 5 * time.Minute, Listed: true},
		cores:   8, joining: map[string]Time{},
	}
}

// TestStill: a load that stands still moves nothing, whatever it is, once the pool has
// come to rest.
func TestStill(t *testing.T) {
	t.Parallel()
	for load := 0; load < 250; load += 17 {
		d := newDay(1, 30)
		for range int(2 * time.Hour / tick) {
			d.step(t, load)
		}
		settled := d.last
		for range int(2 * time.Hour / tick) {
			d.step(t, load)
		}
		if d.last != settled {
			t.Errorf("load %d: the pool of %d workers still changes", load, len(d.picture.Members))
		}
	}
}

// TestDay: over a day and its night, with noise and bursts, what was taken away does not
// come back at once, and hardly anything waits longer than a worker takes to start.
func TestDay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, 1))
		d := newDay(1, 40)
		burst := 0
		for n := range int(24 * time.Hour / tick) {
			of := float64(n) * float64(tick) / float64(24*time.Hour)
			mean := 100 - 80*math.Cos(2*math.Pi*of)
			if random.IntN(2000) == 0 {
				burst = 60
			}
			load := int(mean + 4*random.NormFloat64())
			if burst > 0 {
				burst--
				load += 40
			}
			d.step(t, max(load, 0))
		}
		// Once up and once down for the day, and once for each of some nine bursts.
		if changes := d.starts + d.stops; changes > 120 {
			t.Errorf("seed %d: %d workers started, %d stopped in a day", seed, d.starts, d.stops)
		}
		if d.waited > 2*time.Hour {
			t.Errorf("seed %d: something waited for %v of the day", seed, d.waited)
		}
		t.Logf("seed %d: %d started, %d stopped, something waited for %v", seed, d.starts, d.stops, d.waited)
	}
}
