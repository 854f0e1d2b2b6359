package balance

import "sync/atomic"

// Fn is what the rules know and learn of one function. It lives as long as the
// function does, across snapshots.
type Fn struct {
	name string
	hash uint64
	pkgs []string
	// pkgHash are the hashes of the packages, the largest first.
	pkgHash []uint64
	// ringAt are the places of the largest package on the ring, by two hashes.
	ringAt [2]uint64
	home   atomic.Pointer[home]
	warm   warm
}

// home is the worker that pkg-aware holds a function to, as chosen in snap.
type home struct {
	snap *snapshot
	w    *Worker
}

// NewFn returns a function of that name which needs the packages, the largest
// first. Without packages it goes by its own name.
func NewFn(name string, pkgs []string) *Fn {
	f := &Fn{name: name, hash: HashString(name), pkgs: pkgs}
	for _, p := range pkgs {
		f.pkgHash = append(f.pkgHash, HashString(p))
	}
	by := name
	if len(pkgs) > 0 {
		by = pkgs[0]
	}
	f.ringAt = [2]uint64{ringHash(by), ringHash(by + "#2")}
	return f
}

// Name is the name given to NewFn.
func (f *Fn) Name() string { return f.name }

// Packages are those given to NewFn.
func (f *Fn) Packages() []string { return f.pkgs }

// affinity is the hash of the largest package.
func (f *Fn) affinity() uint64 {
	if len(f.pkgHash) > 0 {
		return f.pkgHash[0]
	}
	return f.hash
}

// warm remembers where a function finished lately: one entry for each instance
// that stands idle, as far as the gateway can know.
type warm struct {
	slots [warmSlots]atomic.Pointer[Worker]
	at    [warmSlots]atomic.Int64
}

const (
	// warmSlots bounds how many idle instances of a function are remembered.
	warmSlots = 32
	// warmLooks bounds how many of them are compared.
	warmLooks = 8
)

// WarmFor is the time in nanoseconds for which an instance is believed to be
// kept alive after its last call.
const WarmFor = 60e9

func (m *warm) push(w *Worker, now int64) {
	from := int(w.hash)
	for i := range warmSlots {
		j := (from + i) % warmSlots & (warmSlots - 1)
		if m.slots[j].Load() == nil && m.slots[j].CompareAndSwap(nil, w) {
			m.at[j].Store(now)
			return
		}
	}
	// So many idle instances are known that one more is not worth a place.
}

// idle finds the least loaded worker of some with an idle instance. It returns
// the entry to take, or -1.
func (m *warm) idle(n *snapshot, c *Call) (entry int, w *Worker, state uint64) {
	entry = -1
	best := ^uint64(0)
	looks := 0
	for i := range warmSlots {
		j := (int(c.Rand) + i) & (warmSlots - 1)
		x := m.slots[j].Load()
		if x == nil {
			continue
		}
		if c.Now-m.at[j].Load() > WarmFor || !n.has(x) {
			m.slots[j].CompareAndSwap(x, nil)
			continue
		}
		s := x.state.Load()
		if !x.free(s) || c.avoids(x) {
			continue
		}
		if l := x.load(s); l < best {
			entry, w, state, best = j, x, s, l
		}
		if looks++; looks == warmLooks || best <= fullShare {
			break
		}
	}
	return entry, w, state
}

// take removes the entry if it is still w's and reserves a place on w.
func (m *warm) take(entry int, w *Worker, state uint64) bool {
	return m.slots[entry].CompareAndSwap(w, nil) && (w.reserveAt(state) || w.reserve())
}
