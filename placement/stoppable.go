package placement

// Verdict answers whether workers may be stopped now.
type Verdict struct {
	OK      bool
	Reasons []string // what speaks against it, for people; empty if OK
	Moves   int      // running instances that would have to move
}

// Stoppable asks whether the named workers may all be stopped now: whether
// the brake would hold the rest, what they run fits elsewhere, and the budgets
// of groups and zones allow so many at once. It tries on a clone.
func (p *Planner) Stoppable(names ...string) Verdict {
	var v Verdict
	c := p.Clone()
	groups, zones := map[int32]int{}, map[string]int{}
	s := &p.scratch
	s.begin(p)
	ready := len(s.ready)
	seen := map[string]bool{}
	for _, name := range names {
		n, ok := p.byName[name]
		if !ok || p.workers[n].gone {
			v.Reasons = append(v.Reasons, text(unknownWorker, name))
			continue
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		k := &p.workers[n]
		if k.ready() {
			ready--
		}
		v.Moves += len(k.list)
		for _, e := range k.list {
			if g := p.tasks[p.insts[e.inst].task].group; g != none {
				groups[g]++
			}
		}
		if k.spec.Zone != "" {
			zones[k.spec.Zone] += len(k.list)
		}
		c.RemoveWorker(name)
	}
	if ready < p.opt.MinWorkers {
		v.Reasons = append(v.Reasons, text(tooFewLeft, plural(ready, "worker"), p.opt.MinWorkers))
	}
	for _, e := range p.nowhere {
		if g := p.tasks[p.insts[e.inst].task].group; g != none && groups[g] > 0 {
			groups[g]++
		}
	}
	for _, g := range sortedBy(groups, func(g int32) string { return p.groups.all[g].name }) {
		if limit := p.opt.GroupBudget.limit(p.groups.all[g].size); groups[g] > limit {
			v.Reasons = append(v.Reasons, text(overBudget, "group", p.groups.all[g].name, groups[g], limit))
		}
	}
	for _, z := range sortedBy(zones, func(z string) string { return z }) {
		if limit := p.opt.ZoneBudget.limit(s.zoneSize(z)); zones[z] > limit {
			v.Reasons = append(v.Reasons, text(overBudget, "zone", z, zones[z], limit))
		}
	}
	before := len(p.Plan().Waiting)
	c.opt.MinWorkers = 0
	if after := c.Plan().Waiting; len(after) > before {
		w := after[len(after)-1]
		v.Reasons = append(v.Reasons, text(noOtherTakesIt, plural(len(after)-before, "instance"), w.Instance, w.Reason))
	}
	v.OK = len(v.Reasons) == 0
	return v
}
