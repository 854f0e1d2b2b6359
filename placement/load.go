package placement

import "github.com/rota-project/rota"

// SetLoad reports the load that the instance was measured to be on the worker,
// in any unit that is the same for all: reports are scaled so that together
// they weigh what their tasks declare together. What was never reported is
// unknown and counts with its declared weight. A negative load or NaN makes it
// unknown again; a report from a worker that does not hold the instance is not
// kept.
func (p *Planner) SetLoad(i rota.Instance, worker string, load float64) {
	n := p.find(i)
	w, ok := p.byName[worker]
	if n == none || !ok || p.insts[n].worker != w {
		return
	}
	if !(load >= 0) {
		load = -1
	}
	if load >= 0 {
		load = toAmount(load).float() // as it is summed
	}
	if load == p.measured(n) {
		return
	}
	p.version++
	e := p.take(n)
	p.forgetLoad(n)
	p.report(n, load)
	p.put(e, w)
}

// measured returns the load reported of i, negative if unknown.
func (p *Planner) measured(i int32) float64 {
	if int(i) >= len(p.reported) {
		return -1
	}
	return p.reported[i]
}

// report keeps the load of an instance that is on no worker's sums.
func (p *Planner) report(i int32, load float64) {
	if load < 0 {
		return
	}
	for len(p.reported) < len(p.insts) {
		p.reported = append(p.reported, -1)
	}
	p.reported[i] = load
	p.reports++
}

func (p *Planner) forgetLoad(i int32) {
	if p.measured(i) >= 0 {
		p.reported[i] = -1
		p.reports--
	}
}

// blend is the part that measured load has in what an instance counts for.
func (o *Options) blend() float64 {
	if o.LoadBlend == 0 {
		return 0.5
	}
	return o.LoadBlend
}

// effective is what an instance counts for: its declared weight, or a blend of
// that with its measured load.
func (p *Planner) effective(i int32, weight float64) float64 {
	m := p.measured(i)
	if m < 0 {
		return weight
	}
	b := p.opt.blend()
	return (1-b)*weight + b*p.scale*m
}

// rate keeps a worker's level up to date after a change of its sums.
func (p *Planner) rate(w int32, k *worker) {
	if p.reports == 0 {
		p.level[w] = k.load.float() / k.strength
		return
	}
	b := p.opt.blend()
	p.level[w] = (k.load.float() - b*k.declared.float() + b*p.scale*k.measured.float()) / k.strength
}

// rescale finds what one of measured load is in declared weight, and rates all
// workers by it.
func (p *Planner) rescale() {
	if p.reports == 0 {
		if p.scale != 0 {
			p.scale = 0
			for _, w := range p.order {
				p.rate(w, &p.workers[w])
			}
		}
		return
	}
	var declared, measured amount
	for _, w := range p.order {
		declared = declared.plus(p.workers[w].declared)
		measured = measured.plus(p.workers[w].measured)
	}
	p.scale = 1
	if m := measured.float(); m > 0 {
		p.scale = declared.float() / m
	}
	for _, w := range p.order {
		p.rate(w, &p.workers[w])
	}
}
