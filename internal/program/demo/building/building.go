// Package building holds the rules of the elevator example: how a car moves,
// who gets in and out, and which car is sent to a rider. It is pure, so that
// its promises can be tried: every rider who was let in arrives, and a car turns
// only at the end of its direction.
package building

import "slices"

// Rider wants to go from one floor to another. Called is when, in ticks of the
// building's clock.
type Rider struct {
	ID     int `json:"id"`
	From   int `json:"from"`
	To     int `json:"to"`
	Called int `json:"called"`
}

// Car is one elevator. Its zero value waits on floor 0.
type Car struct {
	Floor   int
	Dir     int     // 1 up, -1 down, 0 idle
	Waiting []Rider // sent to this car, not yet let in
	Aboard  []Rider
}

// Goal is the furthest floor that the car has to go to in its direction; its
// own floor if it is idle.
func (c *Car) Goal() int {
	goal := c.Floor
	for _, f := range c.stops() {
		if (f-goal)*c.Dir > 0 {
			goal = f
		}
	}
	return goal
}

// stops are the floors that somebody wants the car at.
func (c *Car) stops() []int {
	var s []int
	for _, r := range c.Waiting {
		s = append(s, r.From)
	}
	for _, r := range c.Aboard {
		s = append(s, r.To)
	}
	return s
}

// ahead reports whether there is work beyond the car's floor in direction dir.
func (c *Car) ahead(dir int) bool {
	return slices.ContainsFunc(c.stops(), func(f int) bool { return (f-c.Floor)*dir > 0 })
}

// Assign sends the car to a rider.
func (c *Car) Assign(r Rider) { c.Waiting = append(c.Waiting, r) }

// Step is one tick: doors, then one floor. It returns who got out and who got in.
func (c *Car) Step() (out, in []Rider) {
	c.Aboard = slices.DeleteFunc(c.Aboard, func(r Rider) bool {
		if r.To == c.Floor {
			out = append(out, r)
		}
		return r.To == c.Floor
	})
	c.Waiting = slices.DeleteFunc(c.Waiting, func(r Rider) bool {
		if r.From == c.Floor {
			in = append(in, r)
		}
		return r.From == c.Floor
	})
	c.Aboard = append(c.Aboard, in...)
	c.turn() // now, since whoever got in may want to go on
	c.Floor += c.Dir
	return out, in
}

// turn chooses the direction: on as long as there is work ahead.
func (c *Car) turn() {
	switch {
	case c.Dir != 0 && c.ahead(c.Dir):
	case c.ahead(1) && c.Dir >= 0:
		c.Dir = 1
	case c.ahead(-1):
		c.Dir = -1
	case c.ahead(1):
		c.Dir = 1
	default:
		c.Dir = 0
	}
}

// Empty reports whether the car has nothing to do.
func (c *Car) Empty() bool { return len(c.Waiting) == 0 && len(c.Aboard) == 0 }

// cost estimates how many ticks the car takes to reach the rider, and how full it is.
func (c *Car) cost(r Rider) int {
	load := len(c.Waiting) + len(c.Aboard)
	if c.Dir == 0 || (r.From-c.Floor)*c.Dir >= 0 {
		return abs(r.From-c.Floor) + load
	}
	return abs(c.Goal()-c.Floor) + abs(c.Goal()-r.From) + load
}

// Choose returns the index of the car to send to a rider: the one that is
// there first.
func Choose(cars []Car, r Rider) int {
	best := 0
	for i := range cars {
		if cars[i].cost(r) < cars[best].cost(r) {
			best = i
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }
