package placement

// hash64 maps a string to 64 well-mixed bits, the same on every machine and in
// every process: ties are broken by it, so it must never be seeded.
func hash64(s string) uint64 {
	const k0, k1 = 0xa0761d6478bd642f, 0xe7037ed1a0b428db // any odd numbers
	h := uint64(len(s)) * k0
	for len(s) >= 8 {
		v := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		h = mix((h ^ v) * k1)
		s = s[8:]
	}
	var v uint64
	for i := range len(s) {
		v |= uint64(s[i]) << (8 * i)
	}
	return mix((h^v)*k1 + k0)
}

// combine folds v into h; the order of calls matters.
func combine(h, v uint64) uint64 { return mix(h*0x9e3779b97f4a7c15 + v) }

// mix is the finaliser of splitmix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// index finds tasks by id: an open-addressing table of numbers into tasks. It
// holds no strings of its own and costs four to eleven bytes a task.
type index struct {
	slots []int32 // 1 + the task's number, 0 is empty
	n     int
}

// find returns the slot that holds id, or the empty one where it would go.
func (x *index) find(tasks []task, id string, h uint64) (slot int, ok bool) {
	if len(x.slots) == 0 {
		return 0, false
	}
	mask := len(x.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		n := x.slots[i]
		if n == 0 {
			return i, false
		}
		if t := &tasks[n-1]; t.hash == h && t.id == id {
			return i, true
		}
	}
}

// grow makes room for n entries.
func (x *index) grow(tasks []task, n int) {
	size := 16
	for size*3 < n*4 {
		size *= 2
	}
	if size <= len(x.slots) {
		return
	}
	old := x.slots
	x.slots = make([]int32, size)
	for _, n := range old {
		if n != 0 {
			x.put(tasks[n-1].hash, n)
		}
	}
}

func (x *index) put(h uint64, n int32) {
	mask := len(x.slots) - 1
	i := int(h) & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = n
}

func (x *index) insert(tasks []task, n int32) {
	x.n++
	x.grow(tasks, x.n)
	x.put(tasks[n].hash, n+1)
}

// remove empties a slot and moves back those behind it that hashed before it,
// so that no tombstones gather.
func (x *index) remove(tasks []task, slot int) {
	mask := len(x.slots) - 1
	x.n--
	for i := (slot + 1) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		home := int(tasks[x.slots[i]-1].hash) & mask
		if (i-home)&mask >= (i-slot)&mask {
			x.slots[slot] = x.slots[i]
			slot = i
		}
	}
	x.slots[slot] = 0
}
