package placement

import (
	"maps"
	"slices"
)

// Clone returns a planner of its own in the same state, for asking what if.
// What both only read is shared.
func (p *Planner) Clone() *Planner {
	c := *p
	c.tasks, c.insts, c.freed = slices.Clone(p.tasks), slices.Clone(p.insts), slices.Clone(p.freed)
	c.ids.slots = slices.Clone(p.ids.slots)
	c.blocks = maps.Clone(p.blocks)
	for n, free := range c.blocks {
		c.blocks[n] = slices.Clone(free)
	}
	c.nowhere, c.slots, c.order = slices.Clone(p.nowhere), slices.Clone(p.slots), slices.Clone(p.order)
	c.workers, c.level = slices.Clone(p.workers), slices.Clone(p.level)
	for i := range c.workers {
		c.workers[i].list = slices.Clone(p.workers[i].list)
		c.workers[i].room = slices.Clone(p.workers[i].room)
	}
	c.byName, c.strays, c.claims = maps.Clone(p.byName), maps.Clone(p.strays), maps.Clone(p.claims)
	c.groups, c.keys, c.gangs = p.groups.clone(), p.keys.clone(), p.gangs.clone()
	c.watch, c.followed, c.shyCount = maps.Clone(p.watch), maps.Clone(p.followed), maps.Clone(p.shyCount)
	c.shunned = maps.Clone(p.shunned)
	for x, list := range c.shunned {
		c.shunned[x] = slices.Clone(list)
	}
	c.groupCount = maps.Clone(p.groupCount)
	c.classes, c.classByHash = cloneEach(p.classes), maps.Clone(p.classByHash)
	for h, list := range c.classByHash {
		c.classByHash[h] = slices.Clone(list)
	}
	c.domains, c.domainBySign = cloneEach(p.domains), maps.Clone(p.domainBySign)
	for _, d := range c.domains {
		if d != nil {
			d.bits = slices.Clone(d.bits)
		}
	}
	c.demands, c.demandByHash = cloneEach(p.demands), maps.Clone(p.demandByHash)
	for h, list := range c.demandByHash {
		c.demandByHash[h] = slices.Clone(list)
	}
	c.resources, c.resourceByName = slices.Clone(p.resources), maps.Clone(p.resourceByName)
	c.reported = slices.Clone(p.reported)
	c.freeClasses, c.freeDomains, c.freeDemands = slices.Clone(p.freeClasses), slices.Clone(p.freeDomains), slices.Clone(p.freeDemands)
	c.suspects, c.left = slices.Clone(p.suspects), maps.Clone(p.left)
	c.scratch, c.last = pass{}, lastPlan{}
	return &c
}

func cloneEach[T any](list []*T) []*T {
	c := slices.Clone(list)
	for i, v := range c {
		if v != nil {
			w := *v
			c[i] = &w
		}
	}
	return c
}

func (n *names) clone() names {
	c := names{slices.Clone(n.all), maps.Clone(n.by), slices.Clone(n.free)}
	for i := range c.all {
		c.all[i].members = slices.Clone(c.all[i].members)
	}
	return c
}
