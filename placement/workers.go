package placement

import (
	"math"
	"slices"
	"strings"

	"github.com/rota-project/rota"
)

// SetWorker adds a worker or changes it.
func (p *Planner) SetWorker(w rota.Worker) error {
	if err := w.Validate(); err != nil {
		return err
	}
	p.version++
	n, ok := p.byName[w.Name]
	if !ok {
		n = int32(len(p.workers))
		if k := len(p.slots); k > 0 {
			n, p.slots = p.slots[k-1], p.slots[:k-1]
		} else {
			p.workers = append(p.workers, worker{})
			p.level = append(p.level, 0)
		}
		p.workers[n] = worker{name: strings.Clone(w.Name), hash: hash64(w.Name), room: make([]room, len(p.resources))}
		for r, name := range p.resources {
			p.workers[n].room[r].used = p.claims[w.Name].taken[name]
		}
		p.byName[p.workers[n].name] = n
		at, _ := slices.BinarySearchFunc(p.order, w.Name, func(k int32, name string) int { return strings.Compare(p.workers[k].name, name) })
		p.order = slices.Insert(p.order, at, n)
	}
	k := &p.workers[n]
	if k.gone { // what it held is nowhere; it comes back with empty hands
		for len(k.list) > 0 {
			p.assign(k.list[len(k.list)-1].inst, none)
			if _, ok := p.byName[w.Name]; !ok {
				return p.SetWorker(w) // that emptied it, and its slot is free again
			}
		}
	}
	k.spec = cloneWorker(w)
	k.known, k.gone, k.dirty = true, false, true
	k.open, k.drains = !w.Cordoned && !w.Draining, w.Draining
	k.max = int32(min(w.MaxTasks, math.MaxInt32))
	if k.max == 0 {
		k.max = math.MaxInt32
	}
	k.strength = w.Strength
	if k.strength == 0 {
		k.strength = 1
	}
	if w.Ramp > 0 {
		k.strength *= w.Ramp
	}
	p.rate(n, k)
	for r, name := range p.resources {
		used := k.room[r].used
		k.room[r] = k.roomFor(name)
		k.room[r].used = used
	}
	for _, d := range p.domains {
		if d != nil {
			d.set(n, d.admits(&k.spec))
		}
	}
	return nil
}

func cloneWorker(w rota.Worker) rota.Worker {
	labels, capacity := w.Labels, w.Capacity
	w.Kinds = slices.Clone(w.Kinds)
	w.Labels = make(map[string]string, len(labels))
	for k, v := range labels {
		w.Labels[k] = v
	}
	if capacity != nil {
		w.Capacity = make(map[string]float64, len(capacity))
		for k, v := range capacity {
			w.Capacity[k] = v
		}
	}
	return w
}

// RemoveWorker says that the worker is gone. The next plan places what it held
// elsewhere. An unknown name changes nothing.
func (p *Planner) RemoveWorker(name string) {
	n, ok := p.byName[name]
	if !ok || p.workers[n].gone {
		return
	}
	p.version++
	p.workers[n].gone, p.workers[n].open = true, false
	for _, d := range p.domains {
		if d != nil {
			d.set(n, false)
		}
	}
	for i, s := range p.strays {
		if s.worker == name {
			delete(p.strays, i)
		}
	}
	p.release(n)
}

// release frees the slot of a worker that is gone and empty.
func (p *Planner) release(n int32) {
	k := &p.workers[n]
	if !k.gone || len(k.list) > 0 {
		return
	}
	at := slices.Index(p.order, n)
	p.order = slices.Delete(p.order, at, at+1)
	delete(p.byName, k.name)
	*k = worker{}
	p.slots = append(p.slots, n)
}
