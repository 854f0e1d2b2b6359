package placement

import "math"

// tree finds the worker of the least level among a set, ties to the first by
// name: a tournament whose root is the winner. A change costs the depth.
type tree struct {
	slots   []int32   // the set, by name
	at      []int32   // by worker slot: its leaf, or none
	level   []float64 // by leaf; +Inf keeps a worker out of the game
	win     []int32   // by node: the leaf that wins below it
	size    int       // leaves, a power of two
	seen    int       // how much of the pass's log is in
	sign    float64   // 1: the least level wins; -1: the greatest
	held    []int32   // leaves out of the game for the time
	heldFor int32     // the task for which they are
}

// build fills the tree anew with the workers of set that keep says yes to.
func (t *tree) build(set []int32, slots int, sign float64, level []float64, keep func(int32) bool) {
	t.slots, t.sign, t.held, t.heldFor = t.slots[:0], sign, t.held[:0], none
	if len(t.at) < slots {
		t.at = make([]int32, slots)
	}
	for i := range t.at {
		t.at[i] = none
	}
	for _, w := range set {
		if keep == nil || keep(w) {
			t.at[w] = int32(len(t.slots))
			t.slots = append(t.slots, w)
		}
	}
	t.size = 1
	for t.size < len(t.slots) {
		t.size *= 2
	}
	if cap(t.win) < 2*t.size {
		t.win, t.level = make([]int32, 2*t.size), make([]float64, t.size)
	}
	t.win, t.level = t.win[:2*t.size], t.level[:t.size]
	for i := range t.level {
		t.level[i] = math.Inf(1)
		if i < len(t.slots) {
			t.level[i] = sign * level[t.slots[i]]
		}
		t.win[t.size+i] = int32(i)
	}
	for i := t.size - 1; i > 0; i-- {
		t.win[i] = t.better(t.win[2*i], t.win[2*i+1])
	}
}

func (t *tree) better(l, r int32) int32 {
	if t.level[r] < t.level[l] {
		return r
	}
	return l
}

// set gives a leaf a level and lets the tournament run again above it.
func (t *tree) set(leaf int32, level float64) {
	if t.level[leaf] == level {
		return
	}
	t.level[leaf] = level
	for i := (t.size + int(leaf)) / 2; i > 0; i /= 2 {
		t.win[i] = t.better(t.win[2*i], t.win[2*i+1])
	}
}

// best returns the winner's slot and leaf, or none if nobody plays.
func (t *tree) best() (w, leaf int32) {
	leaf = t.win[1]
	if math.IsInf(t.level[leaf], 1) {
		return none, none
	}
	return t.slots[leaf], leaf
}

// hold takes a leaf out of the game until restore.
func (t *tree) hold(leaf int32) {
	t.held = append(t.held, leaf)
	t.set(leaf, math.Inf(1))
}

// restore lets those that were held play again.
func (t *tree) restore(level []float64) {
	for _, leaf := range t.held {
		t.set(leaf, t.sign*level[t.slots[leaf]])
	}
	t.held = t.held[:0]
}

// drop takes a worker out for good.
func (t *tree) drop(w int32) {
	if leaf := t.at[w]; leaf != none {
		t.set(leaf, math.Inf(1))
	}
}
