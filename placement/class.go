package placement

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/rota-project/rota"
)

// domain is the set of workers that a kind, required labels and a pin leave: a
// bit for each worker slot, kept up to date as workers change. Tasks share it.
type domain struct {
	kind    string
	require []Condition
	pinned  string
	sign    string // the canonical text of the three
	hash    uint64
	refs    int
	bits    []uint64
	n       int // workers in it that are not gone
}

func (d *domain) has(w int32) bool { return d.bits[w>>6]>>(uint(w)&63)&1 != 0 }

func (d *domain) set(w int32, in bool) {
	for int(w>>6) >= len(d.bits) {
		d.bits = append(d.bits, 0)
	}
	if d.has(w) == in {
		return
	}
	d.bits[w>>6] ^= 1 << (uint(w) & 63)
	if in {
		d.n++
	} else {
		d.n--
	}
}

// admits reports whether the rules leave the worker.
func (d *domain) admits(w *rota.Worker) bool {
	return d.pins(w).Code == "" && d.knows(w).Code == "" &&
		!slices.ContainsFunc(d.require, func(c Condition) bool { return meets(c, w).Code != "" })
}

// pins is in the way of workers other than the one named.
func (d *domain) pins(w *rota.Worker) Obstacle {
	return AskPin(d.pinned, w, nil)
}

// knows is in the way of workers that do not run the kind.
func (d *domain) knows(w *rota.Worker) (o Obstacle) {
	if (w.Kinds != nil || rota.IsProgramKind(d.kind)) && !slices.Contains(w.Kinds, d.kind) {
		o = Obstacle{Code: LacksKind, Name: d.kind}
	}
	return o
}

// meets is in the way of workers that do not meet the condition.
func meets(c Condition, w *rota.Worker) (o Obstacle) {
	if !c.Met(w) {
		o = Obstacle{Code: FailsLabel, Name: c.String()}
	}
	return o
}

// class is what tasks with the same kind and rules share.
type class struct {
	kind     string
	rules    rota.Rules // a copy of its own
	hash     uint64
	refs     int
	domain   int32
	gang     int32
	prefer   []preference
	affinity []affinity
	shy      bool // it keeps away from something, and that from it
	// complex classes look at where other instances are, or weigh workers one
	// by one, so each placement of theirs walks all workers.
	complex bool
}

type preference struct {
	when   Condition
	weight float64
}

// demand is a set of resource amounts that tasks share.
type demand struct {
	amounts []need // by resource number
	hash    uint64
	refs    int
}

type need struct {
	resource int32
	amount   amount
}

func emptyRules(r *rota.Rules) bool {
	return r.Require == nil && r.Prefer == nil && r.Affinity == nil && r.Spread == nil &&
		r.Gang == "" && r.Pinned == "" && !r.Preempt
}

func hashRules(kind string, r *rota.Rules) uint64 {
	h := hash64(kind)
	if emptyRules(r) {
		return h
	}
	for _, s := range r.Require {
		h = combine(h, hash64(s))
	}
	for _, p := range r.Prefer {
		h = combine(combine(h, hash64(p.Label)), math.Float64bits(p.Weight))
	}
	for _, a := range r.Affinity {
		h = combine(combine(h, hash64(a.Task)), hash64(a.Group))
		h = combine(h, math.Float64bits(a.Weight)<<2|bit(a.Anti)<<1|bit(a.Required))
	}
	if s := r.Spread; s != nil {
		h = combine(h, hash64(s.Label)<<1|bit(s.ByGroup))
		var shares uint64 // a sum, since maps have no order
		for k, v := range s.Shares {
			shares += combine(hash64(k), math.Float64bits(v))
		}
		h = combine(h, shares)
	}
	return combine(combine(h, hash64(r.Gang)), hash64(r.Pinned)<<1|bit(r.Preempt))
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func sameRules(a, b *rota.Rules) bool {
	if emptyRules(a) || emptyRules(b) {
		return emptyRules(a) && emptyRules(b)
	}
	if (a.Spread == nil) != (b.Spread == nil) {
		return false
	}
	if a.Spread != nil && (a.Spread.Label != b.Spread.Label || a.Spread.ByGroup != b.Spread.ByGroup ||
		!maps.Equal(a.Spread.Shares, b.Spread.Shares)) {
		return false
	}
	return a.Gang == b.Gang && a.Pinned == b.Pinned && a.Preempt == b.Preempt &&
		slices.Equal(a.Require, b.Require) && slices.Equal(a.Prefer, b.Prefer) && slices.Equal(a.Affinity, b.Affinity)
}

// classOf returns the number of the class of kind and rules, and makes it if
// there is none. The caller counts the reference.
func (p *Planner) classOf(kind string, r *rota.Rules) (int32, error) {
	if p.lastClass >= 0 {
		if c := p.classes[p.lastClass]; c != nil && c.kind == kind && sameRules(&c.rules, r) {
			return p.lastClass, nil
		}
	}
	h := hashRules(kind, r)
	for _, n := range p.classByHash[h] {
		if c := p.classes[n]; c.kind == kind && sameRules(&c.rules, r) {
			p.lastClass = n
			return n, nil
		}
	}
	c := &class{kind: kind, rules: cloneRules(r), hash: h}
	d := &domain{kind: kind, pinned: r.Pinned}
	for _, s := range r.Require {
		cond, err := ParseCondition(s)
		if err != nil {
			return 0, err
		}
		d.require = append(d.require, cond)
	}
	if err := contradiction(d.require); err != nil {
		return 0, err
	}
	for _, s := range r.Prefer {
		cond, err := ParseCondition(s.Label)
		if err != nil {
			if field := new(rota.FieldError); errors.As(err, &field) {
				field.Field = "prefer"
			}
			return 0, err
		}
		c.prefer = append(c.prefer, preference{cond, s.Weight})
	}
	c.complex = len(c.prefer) > 0 || len(r.Affinity) > 0 || r.Spread != nil || r.Gang != ""
	c.gang = p.gangs.get(r.Gang)
	p.gangs.ref(c.gang)
	c.domain = p.domainOf(d)
	p.domains[c.domain].refs++
	n := int32(len(p.classes))
	if k := len(p.freeClasses); k > 0 {
		n, p.freeClasses = p.freeClasses[k-1], p.freeClasses[:k-1]
		p.classes[n] = c
	} else {
		p.classes = append(p.classes, c)
	}
	p.enlist(n, c)
	p.classByHash[h] = append(p.classByHash[h], n)
	p.lastClass = n
	return n, nil
}

func cloneRules(r *rota.Rules) rota.Rules {
	c := *r
	c.Require, c.Prefer, c.Affinity = slices.Clone(r.Require), slices.Clone(r.Prefer), slices.Clone(r.Affinity)
	if r.Spread != nil {
		s := *r.Spread
		s.Shares = maps.Clone(s.Shares)
		c.Spread = &s
	}
	return c
}

// contradiction finds conditions that no worker can meet together.
func contradiction(conds []Condition) error {
	for i, a := range conds {
		for _, b := range conds[:i] {
			if a.label != b.label {
				continue
			}
			if never(a, b) || never(b, a) {
				return &rota.FieldError{Field: "require", Value: b.String() + ", " + a.String(), Want: "conditions that one worker can meet together"}
			}
		}
	}
	return nil
}

func never(a, b Condition) bool {
	switch {
	case a.op == opMissing:
		return b.op != opMissing && b.op != opNotIn
	case a.op == opIn && b.op == opIn:
		return !slices.ContainsFunc(a.values, func(v string) bool { return slices.Contains(b.values, v) })
	case a.op == opIn && b.op == opNotIn:
		return !slices.ContainsFunc(a.values, func(v string) bool { return !slices.Contains(b.values, v) })
	case a.op == opGreater || a.op == opAtLeast:
		strict := a.op == opGreater || b.op == opLess
		return (b.op == opLess || b.op == opAtMost) && (a.number > b.number || strict && a.number == b.number)
	}
	return false
}

// domainOf returns the number of d or of its equal.
func (p *Planner) domainOf(d *domain) int32 {
	var b strings.Builder
	b.WriteString(d.kind)
	b.WriteByte(0)
	b.WriteString(d.pinned)
	for _, c := range d.require {
		b.WriteByte(0)
		b.WriteString(c.String())
	}
	d.sign = b.String()
	if n, ok := p.domainBySign[d.sign]; ok {
		return n
	}
	d.hash = hash64(d.sign)
	d.bits = make([]uint64, (len(p.workers)+63)/64)
	for n := range p.workers {
		if w := &p.workers[n]; w.known && !w.gone {
			d.set(int32(n), d.admits(&w.spec))
		}
	}
	n := int32(len(p.domains))
	if k := len(p.freeDomains); k > 0 {
		n, p.freeDomains = p.freeDomains[k-1], p.freeDomains[:k-1]
		p.domains[n] = d
	} else {
		p.domains = append(p.domains, d)
	}
	p.domainBySign[d.sign] = n
	return n
}

// demandOf returns the number of the demand, or -1 for none. The caller counts
// the reference.
func (p *Planner) demandOf(resources map[string]float64) int32 {
	if len(resources) == 0 {
		return -1
	}
	var buf [8]need
	needs := buf[:0]
	for name, v := range resources {
		n, ok := p.resourceByName[name]
		if !ok {
			n = int32(len(p.resources))
			p.resources = append(p.resources, name)
			p.resourceByName[name] = n
			for i := range p.workers {
				r := p.workers[i].roomFor(name)
				r.used = p.claims[p.workers[i].name].taken[name]
				p.workers[i].room = append(p.workers[i].room, r)
			}
		}
		if a := toAmount(v); a != (amount{}) {
			needs = append(needs, need{n, a})
		}
	}
	if len(needs) == 0 {
		return -1
	}
	slices.SortFunc(needs, func(a, b need) int { return int(a.resource - b.resource) })
	h := uint64(len(needs))
	for _, n := range needs {
		h = combine(combine(h, hash64(p.resources[n.resource])), n.amount.lo^n.amount.hi<<1)
	}
	for _, n := range p.demandByHash[h] {
		if slices.Equal(p.demands[n].amounts, needs) {
			return n
		}
	}
	d := &demand{amounts: slices.Clone(needs), hash: h}
	n := int32(len(p.demands))
	if k := len(p.freeDemands); k > 0 {
		n, p.freeDemands = p.freeDemands[k-1], p.freeDemands[:k-1]
		p.demands[n] = d
	} else {
		p.demands = append(p.demands, d)
	}
	p.demandByHash[h] = append(p.demandByHash[h], n)
	return n
}

// leaveClass lets go of a class, and forgets it with the last task that has it.
func (p *Planner) leaveClass(n int32) {
	c := p.classes[n]
	if c.refs--; c.refs > 0 {
		return
	}
	p.dismiss(n, c)
	p.gangs.unref(c.gang)
	p.classes[n] = nil
	p.freeClasses = append(p.freeClasses, n)
	forget(p.classByHash, c.hash, n)
	p.lastClass = none
	d := p.domains[c.domain]
	if d.refs--; d.refs == 0 {
		delete(p.domainBySign, d.sign)
		p.domains[c.domain] = nil
		p.freeDomains = append(p.freeDomains, c.domain)
	}
}

// leaveDemand does the same for a demand.
func (p *Planner) leaveDemand(n int32) {
	if n == none {
		return
	}
	d := p.demands[n]
	if d.refs--; d.refs == 0 {
		p.demands[n] = nil
		p.freeDemands = append(p.freeDemands, n)
		forget(p.demandByHash, d.hash, n)
	}
}

func forget(by map[uint64][]int32, hash uint64, n int32) {
	list := by[hash]
	k := slices.Index(list, n)
	if list = slices.Delete(list, k, k+1); len(list) == 0 {
		delete(by, hash)
	} else {
		by[hash] = list
	}
}

// sole returns the only domain, or none if there are more.
func (p *Planner) sole() int32 {
	if len(p.domainBySign) == 1 {
		for n, d := range p.domains {
			if d != nil {
				return int32(n)
			}
		}
	}
	return none
}
