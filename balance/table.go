package balance

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"
	"strconv"

	"golang.org/x/crypto/blake2b"
)

// newTable is a Maglev lookup table (Eisenbud et al., NSDI '16), weighted: each
// worker fills slots in an order of its own, in turns by weight. A hash finds
// its worker with one read; a change of members moves little more than it must.
// The size is a power of two, so each worker's odd stride visits every slot.
func newTable(members []Member) []uint16 {
	n := len(members)
	if n == 0 {
		return nil
	}
	size := 1 << bits.Len(uint(max(64*n, 1024)-1))
	mask := uint64(size - 1)
	const free = 1<<16 - 1
	table := make([]uint16, size)
	for i := range table {
		table[i] = free
	}
	most := 1
	for _, m := range members {
		most = max(most, m.Weight)
	}
	at, stride, turns := make([]uint64, n), make([]uint64, n), make([]float64, n)
	for i, m := range members {
		at[i], stride[i] = m.Worker.hash&mask, mix(m.Worker.hash+1)|1
	}
	for filled := 0; filled < size; {
		for i, m := range members {
			turns[i] += float64(max(m.Weight, 1)) / float64(most)
			for turns[i] >= 1 && filled < size {
				turns[i]--
				for table[at[i]] != free {
					at[i] = (at[i] + stride[i]) & mask
				}
				table[at[i]] = uint16(i)
				filled++
			}
		}
	}
	return table
}

func (n *snapshot) hashed(h uint64) *Worker {
	return n.workers[n.table[h&uint64(len(n.table)-1)]]
}

// aliasSlot is one slot of Vose's alias method: a random worker by weight in
// constant time.
type aliasSlot struct {
	cut         uint32 // below it self, else other
	self, other uint16
}

func newAlias(members []Member) []aliasSlot {
	n := len(members)
	total := 0.0
	for _, m := range members {
		total += float64(max(m.Weight, 0))
	}
	if total == 0 {
		return nil
	}
	slots := make([]aliasSlot, n)
	part := make([]float64, n)
	var small, large []int
	for i, m := range members {
		part[i] = float64(max(m.Weight, 0)) * float64(n) / total
		slots[i] = aliasSlot{cut: 1<<32 - 1, self: uint16(i), other: uint16(i)}
		if part[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		slots[s].cut = uint32(part[s] * (1<<32 - 1))
		slots[s].other = uint16(l)
		if part[l] -= 1 - part[s]; part[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, i := range small { // rounding left them: only one of weight 0 must be kept out
		if members[i].Weight <= 0 {
			heavy := slices.IndexFunc(members, func(m Member) bool { return m.Weight > 0 })
			slots[i] = aliasSlot{cut: 0, self: uint16(heavy), other: uint16(heavy)}
		}
	}
	return slots
}

// ring is the consistent hashing ring of olscheduler (lafikl/consistent: ten
// points a worker, BLAKE2b-512 of the worker's URL and the number of the
// point, the first eight bytes as a little-endian number), so that whoever
// comes from there finds each function on the worker that has its packages.
type ring []ringPoint

type ringPoint struct {
	at uint64
	w  *Worker
}

const ringPoints = 10

func ringHash(s string) uint64 {
	sum := blake2b.Sum512([]byte(s))
	return binary.LittleEndian.Uint64(sum[:])
}

func newRing(workers []*Worker) ring {
	r := make(ring, 0, len(workers)*ringPoints)
	for _, w := range workers {
		for i := range ringPoints {
			r = append(r, ringPoint{ringHash(w.name + strconv.Itoa(i)), w})
		}
	}
	slices.SortFunc(r, func(a, b ringPoint) int { return cmp.Compare(a.at, b.at) })
	return r
}

// open returns the first worker at or after the hash that takes calls.
func (r ring) open(h uint64) *Worker {
	from := sort.Search(len(r), func(i int) bool { return r[i].at >= h })
	for i := range r {
		if w := r[(from+i)%len(r)].w; !w.Closed() {
			return w
		}
	}
	return nil
}
