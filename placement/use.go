package placement

import (
	"maps"
	"slices"
)

// Use is what is taken of one worker's capacity, by resource, exact to a billionth.
// The zero value is nothing. Tasks, jobs and members of programs all take from the
// capacity by the rule of Use.Lacks and of the planner, which are one: see room.fits.
type Use struct{ taken map[string]amount }

// Add takes amounts, finite and not negative, in.
func (u *Use) Add(amounts map[string]float64) {
	for name, v := range amounts {
		if a := toAmount(v); a != (amount{}) {
			if u.taken == nil {
				u.taken = map[string]amount{}
			}
			u.taken[name] = u.taken[name].plus(a)
		}
	}
}

// Remove takes back what Add took in.
func (u *Use) Remove(amounts map[string]float64) {
	for name, v := range amounts {
		left := u.taken[name].minus(toAmount(v))
		if left == (amount{}) {
			delete(u.taken, name)
		} else {
			u.taken[name] = left
		}
	}
}

// Plus is u and v together.
func (u Use) Plus(v Use) Use {
	sum := Use{maps.Clone(u.taken)}
	for name, a := range v.taken {
		if sum.taken == nil {
			sum.taken = map[string]amount{}
		}
		sum.taken[name] = sum.taken[name].plus(a)
	}
	return sum
}

// Clone is a copy that Add and Remove of the other do not change.
func (u Use) Clone() Use { return Use{maps.Clone(u.taken)} }

// Empty reports whether nothing is taken.
func (u Use) Empty() bool { return len(u.taken) == 0 }

// Equal reports whether both take the same.
func (u Use) Equal(v Use) bool { return maps.Equal(u.taken, v.taken) }

// Of is what is taken of a resource.
func (u Use) Of(resource string) float64 { return u.taken[resource].float() }

// Lacks returns the obstacle of the first resource, by name, of which a worker of
// the capacity has too little left for the amounts, beside what is taken of it; ok is
// false if all fit. A nil capacity counts nothing.
func (u Use) Lacks(capacity, amounts map[string]float64) (o Obstacle, ok bool) {
	o = u.Ask(capacity, amounts, nil)
	return o, o.Code != ""
}

// Ask asks whether a worker of the capacity has enough left for the amounts, beside what
// is taken of it, resource by resource in order of name.
func (u Use) Ask(capacity, amounts map[string]float64, tell func(Finding)) (first Obstacle) {
	if len(amounts) == 0 || capacity == nil && tell == nil {
		return first
	}
	for _, name := range slices.Sorted(maps.Keys(amounts)) {
		r := room{used: u.taken[name], capacity: toAmount(capacity[name]), counted: capacity != nil}
		n, o := toAmount(amounts[name]), Obstacle{}
		if !r.fits(n) {
			o = r.lack(name, n)
		}
		if first.Code == "" {
			first = o
		}
		switch {
		case tell != nil:
			found(tell, o, r.finding(name, n))
		case o.Code != "":
			return o
		}
	}
	return first
}

// fits reports whether so much more goes into the room: the one rule by which
// anything is given a worker's capacity. What takes nothing goes into any.
func (r *room) fits(n amount) bool {
	return !r.counted || n == amount{} || !r.capacity.less(r.used.plus(n))
}

// finding is what there is of a resource, and what is needed.
func (r *room) finding(resource string, n amount) Finding {
	v := Finding{Rule: ByCapacity, Name: resource, Value: "not counted", Limit: amountText(n.float()) + " needed"}
	if r.counted {
		l := r.lack("", n)
		v.Value = amountText(l.Left) + " of " + amountText(l.Has) + " left"
	}
	return v
}

// lack is the obstacle of a room that is too small for n.
func (r *room) lack(resource string, n amount) Obstacle {
	o := Obstacle{Code: LacksResource, Name: resource, Need: n.float(), Has: r.capacity.float()}
	if r.used.less(r.capacity) {
		o.Left = r.capacity.minus(r.used).float()
	}
	return o
}

// Claim says what others than the planner's tasks take of a worker's capacity: jobs,
// and what was told to stop there and does not. It is in place of what was said
// before. Of a worker that is not known it is kept until that comes.
func (p *Planner) Claim(worker string, u Use) {
	old := p.claims[worker]
	if old.Equal(u) {
		return
	}
	p.version++
	if u.Empty() {
		delete(p.claims, worker)
	} else {
		if p.claims == nil {
			p.claims = map[string]Use{}
		}
		p.claims[worker] = u.Clone()
	}
	w, ok := p.byName[worker]
	if !ok {
		return
	}
	k := &p.workers[w]
	for r, name := range p.resources {
		k.room[r].used = k.room[r].used.minus(old.taken[name]).plus(u.taken[name])
	}
	if !k.gone && p.overfull(w) {
		k.dirty = true
	}
}
