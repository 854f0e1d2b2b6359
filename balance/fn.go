package balance

import "sync/atomic"

// Fn is what the rules know and learn about one function. It lives as long as the function,
// across snapshots.
type Fn struct {
	name string
	hash uint64
	pkgs []string
	// pkgHash are the hashes of the packages, the largest first.
	pkgHash []uint64
	// ringAt are the places of the largest package on the ring, by two hashes.
	ringAt [2]uint64

	home atomic.Pointer[home]
	// last is where Smart had an instance started last.
	last atomic.Pointer[Worker]
	// mean is how long warm calls take on all workers, in nanoseconds, 0 before the first.
	mean atomic.Uint64
	_    [8]byte // the seats below share no cache line with what is only read
	warm warm
}

// home is the worker that pkg-aware holds a function to, as chosen in snap.
type home struct {
	snap *snapshot
	w    *Worker
}

// NewFn returns a function with this name and the packages that it needs, the largest
// first. Without packages, rules use its name instead.
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

// Name returns the name given to NewFn.
func (f *Fn) Name() string { return f.name }

// Packages returns the packages given to NewFn.
func (f *Fn) Packages() []string { return f.pkgs }

// affinity is the hash of the largest package.
func (f *Fn) affinity() uint64 {
	if len(f.pkgHash) > 0 {
		return f.pkgHash[0]
	}
	return f.hash
}
