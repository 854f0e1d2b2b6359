package placement

import (
	"math"
	"math/bits"
	"slices"
	"strings"
)

// ranked is an instance with what decides when it is its turn, most important
// first: priority, how few workers may take it, group (in bulk, so that a
// group's instances go round the workers), weight, hash.
type ranked struct {
	keys [4]uint64
	entry
}

const bulk = 1 << 12 // from so many on, sorting by digits pays

// descending maps a float to bits that order the other way round.
func descending(v float64) uint64 {
	b := math.Float64bits(v + 0) // -0 is 0
	if b>>63 != 0 {
		return b
	}
	return ^b &^ (1 << 63)
}

// inOrder sorts the entries in place into the order of their turns.
func (s *pass) inOrder(list []entry) {
	if len(list) < 2 {
		return
	}
	if len(list) >= bulk && s.inOrderBySort(list) {
		return
	}
	p := s.p
	all := make([]ranked, len(list))
	for k, e := range list {
		t := &p.tasks[p.insts[e.inst].task]
		all[k] = ranked{s.keysOf(t, len(list)), e}
		all[k].keys[3] = t.tieOf(e.inst)
	}
	if len(all) >= bulk {
		all = radix(all)
	} else {
		slices.SortFunc(all, compareRanked)
	}
	for k := range all {
		for j := k; j > 0 && all[j].keys == all[j-1].keys && p.less(all[j].inst, all[j-1].inst); j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	for k := range all {
		list[k] = all[k].entry
	}
}

// keysOf returns all keys of a task's instances but the last.
func (s *pass) keysOf(t *task, of int) (keys [4]uint64) {
	keys[0] = descending(t.priority)
	keys[1] = uint64(s.domainRank(s.p.classes[t.class].domain)) << 32
	if of >= bulk && t.group != none {
		keys[1] |= s.p.groups.all[t.group].hash >> 32
	}
	keys[2] = descending(t.weight)
	return keys
}

// inOrderBySort sorts many that are of few sorts: those of each sort by their
// ties alone. It reports false, and does nothing, if the sorts are too many.
func (s *pass) inOrderBySort(list []entry) bool {
	const most = 1 << 12
	number := map[[4]uint64]uint16{} // of each sort, as they come
	var sorts []ranked
	of := make([]uint16, len(list))
	var last [4]uint64
	for k, e := range list {
		keys := s.keysOf(&s.p.tasks[s.p.insts[e.inst].task], len(list))
		if k > 0 && keys == last {
			of[k] = of[k-1]
			continue
		}
		n, ok := number[keys]
		if !ok {
			if n = uint16(len(sorts)); n == most {
				return false
			}
			number[keys] = n
			sorts = append(sorts, ranked{keys, entry{inst: int32(n)}})
		}
		of[k], last = n, keys
	}
	sorted := make([]entry, len(list))
	if len(sorts) == 1 {
		s.inOrderByTie(list, sorted)
		copy(list, sorted)
		return true
	}
	slices.SortFunc(sorts, compareRanked)
	ends := make([]int, len(sorts))
	for _, n := range of {
		ends[n]++
	}
	sum := 0
	for _, r := range sorts {
		sum, ends[r.inst] = sum+ends[r.inst], sum
	}
	for k, e := range list {
		n := of[k]
		sorted[ends[n]] = e
		ends[n]++
	}
	from := 0
	for _, r := range sorts {
		to := ends[r.inst]
		s.inOrderByTie(sorted[from:to], list[from:to])
		from = to
	}
	return true
}

// inOrderByTie sorts entries of one sort into another slice: by the first bits
// of their ties into buckets of a few, which are then sorted one by one.
func (s *pass) inOrderByTie(list, sorted []entry) {
	const few = 8
	width := bits.Len(uint(len(list) / few))
	shift := 32 - width
	ends := make([]int32, 1<<width)
	for _, e := range list {
		ends[e.tie>>shift]++
	}
	sum := int32(0)
	for b, n := range ends {
		ends[b] = sum
		sum += n
	}
	for _, e := range list {
		b := e.tie >> shift
		sorted[ends[b]] = e
		ends[b]++
	}
	from := int32(0)
	for _, to := range ends {
		slices.SortFunc(sorted[from:to], s.p.compareTies)
		from = to
	}
}

// compareTies orders equal instances as less does.
func (p *Planner) compareTies(a, b entry) int {
	switch x, y := a.tie>>1, b.tie>>1; { // the lowest bit is for plain
	case x < y:
		return -1
	case x > y:
		return 1
	case a.inst == b.inst:
		return 0
	case p.less(a.inst, b.inst):
		return -1
	}
	return 1
}

func compareRanked(a, b ranked) int {
	for k := range a.keys {
		if a.keys[k] != b.keys[k] {
			if a.keys[k] < b.keys[k] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// radix sorts by digits of eleven bits, the least first, and skips digits that
// all share. Of the hash only the high half is sorted so; the rest by insertion.
func radix(a []ranked) []ranked {
	b := make([]ranked, len(a))
	var varies [4]uint64
	for i := range a {
		for k := range varies {
			varies[k] |= a[i].keys[k] ^ a[0].keys[k]
		}
	}
	const width = 11
	var count [1 << width]int32
	for k := 3; k >= 0; k-- {
		from := 0
		if k == 3 {
			from = 64 - 3*width
		}
		for shift := from; shift < 64; shift += width {
			if varies[k]>>shift&(1<<width-1) == 0 {
				continue
			}
			clear(count[:])
			for i := range a {
				count[a[i].keys[k]>>shift&(1<<width-1)]++
			}
			sum := int32(0)
			for d, n := range count {
				count[d] = sum
				sum += n
			}
			for i := range a {
				d := a[i].keys[k] >> shift & (1<<width - 1)
				b[count[d]] = a[i]
				count[d]++
			}
			a, b = b, a
		}
	}
	for i := range a {
		for j := i; j > 0 && compareRanked(a[j], a[j-1]) < 0; j-- {
			a[j], a[j-1] = a[j-1], a[j]
		}
	}
	return a
}

// domainRank orders domains by how few workers they have.
func (s *pass) domainRank(d int32) uint32 {
	if s.sole != none {
		return 0
	}
	if len(s.ranks) == 0 {
		var by []int32
		for i, d := range s.p.domains {
			if d != nil {
				by = append(by, int32(i))
			}
		}
		slices.SortFunc(by, func(a, b int32) int {
			x, y := s.p.domains[a], s.p.domains[b]
			switch {
			case x.n != y.n:
				return x.n - y.n
			case x.hash < y.hash:
				return -1
			case x.hash > y.hash:
				return 1
			}
			return 0
		})
		s.ranks = make([]uint32, len(s.p.domains))
		for r, i := range by {
			s.ranks[i] = uint32(r)
		}
	}
	return s.ranks[d]
}

// sortDomains puts domains into an order that does not depend on their numbers.
func (s *pass) sortDomains(list []int32) {
	slices.SortFunc(list, func(a, b int32) int { return int(s.domainRank(a)) - int(s.domainRank(b)) })
}

// sortedBy returns the keys of m by their names.
func sortedBy[K comparable, V any](m map[K]V, name func(K) string) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int { return strings.Compare(name(a), name(b)) })
	return keys
}
