// Package split shares calls between two in an exact proportion, for canaries.
//
// The gateway asks it for each call of a function that is split. It must never draw lots:
// of any number of calls in a row the second gets its share, rounded down or up.
package split

import (
	"math"
	"sync/atomic"
)

// whole is all calls, in the unit of Share.
const whole = 1 << 32

// Share is the second's part of the calls.
type Share uint64

// Of makes a Share of a number from 0 to 1.
func Of(part float64) Share {
	return Share(math.Round(min(max(part, 0), 1) * whole))
}

// Counter counts calls. The zero value is ready for use.
type Counter struct{ sum atomic.Uint64 }

// Second says whether the next call is the second's.
func (c *Counter) Second(s Share) bool {
	now := c.sum.Add(uint64(s))
	return now/whole != (now-uint64(s))/whole
}

// Holds says whether the second has those whose evenly spread hash that is: always
// the same, and more of them as the share grows.
func (s Share) Holds(hash uint64) bool {
	hash ^= hash >> 32 // hashes may be even in some of their bits only
	hash *= 0x9e3779b97f4a7c15
	return hash>>32 < uint64(s)
}
