package placement

import (
	"math"
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

// tied is an entry with all of its keys in one: the rank of the first three
// among those that there are, and the tie.
type tied struct {
	key uint64
	entry
}

// inOrderBySort sorts many that are of few sorts: one key does. It reports
// false, and does nothing, if the sorts are too many.
func (s *pass) inOrderBySort(list []entry) bool {
	p := s.p
	const most = 1 << 12
	sorts := map[[4]uint64]uint64{}
	all := make([]tied, len(list))
	var last [4]uint64
	var lastSort uint64
	for k, e := range list {
		t := &p.tasks[p.insts[e.inst].task]
		keys := s.keysOf(t, len(list))
		if k == 0 || keys != last {
			n, ok := sorts[keys]
			if !ok {
				if n = uint64(len(sorts)); n == most {
					return false
				}
				sorts[keys] = n
			}
			last, lastSort = keys, n
		}
		all[k] = tied{lastSort<<52 | t.tieOf(e.inst)>>12, e}
	}
	if len(sorts) > 1 {
		ranks := make([]uint64, len(sorts))
		keys := make([]ranked, 0, len(sorts))
		for k, n := range sorts {
			keys = append(keys, ranked{k, entry{inst: int32(n)}})
		}
		slices.SortFunc(keys, compareRanked)
		for r := range keys {
			ranks[keys[r].inst] = uint64(r)
		}
		for k := range all {
			all[k].key = ranks[all[k].key>>52]<<52 | all[k].key&(1<<52-1)
		}
	}
	all = radixTied(all)
	for k := range all {
		for j := k; j > 0 && (all[j].key < all[j-1].key || all[j].key == all[j-1].key && p.less(all[j].inst, all[j-1].inst)); j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	for k := range all {
		list[k] = all[k].entry
	}
	return true
}

// radixTied sorts by the upper bits of the key; the rest is for insertion.
func radixTied(a []tied) []tied {
	b := make([]tied, len(a))
	const width = 11
	var varies uint64
	for i := range a {
		varies |= a[i].key ^ a[0].key
	}
	var count [1 << width]int32
	for shift := 64 - 3*width; shift < 64; shift += width {
		if varies>>shift&(1<<width-1) == 0 {
			continue
		}
		clear(count[:])
		for i := range a {
			count[a[i].key>>shift&(1<<width-1)]++
		}
		sum := int32(0)
		for d, n := range count {
			count[d] = sum
			sum += n
		}
		for i := range a {
			d := a[i].key >> shift & (1<<width - 1)
			b[count[d]] = a[i]
			count[d]++
		}
		a, b = b, a
	}
	return a
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
