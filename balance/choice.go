package balance

// choice is the worker that was found best among those looked at, with what was
// seen of it; no place is reserved yet. The zero value is none.
type choice struct {
	w     *Worker
	state uint64
	load  uint64
	skip  uint64 // what the worker's turn must leap not to lag too far behind
}

// reserve takes a place on the worker if it is still as it was seen.
func (ch *choice) reserve() bool {
	return ch.w.free(ch.state) && ch.w.reserveAt(ch.state, ch.skip)
}

// A rank orders workers by load in whole calls, then by turn, in one number, so that
// the best of some is found without a branch that the processor would guess wrong.
// From the bottom: 6 bits that say which worker, 34 bits of turn, 24 bits of load.
// Fractions of a call are left out because slowness is measured with noise, which
// must not decide instead of the turn.
const (
	rankWho  = 1<<6 - 1
	rankTurn = 1<<40 - 1
	rankLoad = 40
	noRank   = 1<<64 - 1
)

// rankBase is what the turns in ranks are relative to, because they wrap around:
// the state of any of the workers.
func rankBase(state uint64) uint64 { return state&^(1<<turnShift-1) + 1<<63 }

// rank is the rank of a worker of that load and state, to be or-ed with its number.
// Loads from 1<<24 calls on are one.
func rank(base, load, state uint64) uint64 {
	return (min(load, 1<<32-fullShare)+fullShare/2)&^(fullShare-1)<<(rankLoad-8) | (state-base)>>(turnShift-6)&^rankWho
}

// leap is what the turn of the best must move on by not to be more than lag behind
// that of the base.
func leap(best uint64) uint64 {
	if behind := int64(1<<33) - int64(best&rankTurn>>6); behind > lag {
		return uint64(behind-lag) << turnShift
	}
	return 0
}

// leastOf looks for the least loaded worker without reserving a place: of all
// if they are few, else of four at random, and of all if those are full.
func (n *snapshot) leastOf(c *Call, by measure) choice {
	if len(n.workers) > scanMost {
		return n.leastOfSome(c, by)
	}
	base := rankBase(n.workers[int(c.Rand&0xffff)*len(n.workers)>>16].state.Load())
	avoiding := c.avoiding()
	best, state := uint64(noRank), uint64(0)
	for i, w := range n.workers {
		if s := w.state.Load(); w.free(s) && (!avoiding || !c.avoids(w)) {
			if r := rank(base, w.loadBy(s, by), s) | uint64(i); r < best {
				best, state = r, s
			}
		}
	}
	if best == noRank {
		return choice{}
	}
	w := n.workers[best&rankWho]
	return choice{w, state, w.loadBy(state, by), leap(best)}
}

// leastOfSome looks at four of many at random, whose turns hardly matter.
func (n *snapshot) leastOfSome(c *Call, by measure) choice {
	best := choice{load: noRank}
	rnd, avoiding := c.Rand, c.avoiding()
	for range 4 {
		w := n.workers[(rnd&0xffff)*uint64(len(n.workers))>>16]
		rnd >>= 16
		if s := w.state.Load(); w.free(s) && (!avoiding || !c.avoids(w)) {
			if l := w.loadBy(s, by); l < best.load {
				best.w, best.state, best.load = w, s, l
			}
		}
	}
	if best.w == nil {
		return n.leastOfAll(c, by)
	}
	return best
}

// leastOfAll looks at all workers, from one at random.
func (n *snapshot) leastOfAll(c *Call, by measure) choice {
	best := choice{load: noRank}
	at := below(c.Rand, len(n.workers))
	for range n.workers {
		w := n.workers[at]
		if at++; at == len(n.workers) {
			at = 0
		}
		s := w.state.Load()
		if !w.free(s) || c.avoids(w) {
			continue
		}
		if l := w.loadBy(s, by); l < best.load {
			best = choice{w: w, state: s, load: l}
		}
	}
	return best
}
