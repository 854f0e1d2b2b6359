package building

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestEverybodyArrives runs buildings with riders that come at random.
func TestEverybodyArrives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		floors := rapid.IntRange(2, 12).Draw(t, "floors")
		cars := make([]Car, rapid.IntRange(1, 5).Draw(t, "cars"))
		calls := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 60).Draw(t, "calls") // ticks between riders
		type trip struct{ in, out int }
		trips := map[int]*trip{}
		id, wait := 0, 0
		for tick := range 10_000 {
			for id < len(calls) && wait >= calls[id] {
				from := rapid.IntRange(0, floors-1).Draw(t, "from")
				to := (from + rapid.IntRange(1, floors-1).Draw(t, "to")) % floors
				r := Rider{ID: id, From: from, To: to, Called: tick}
				cars[Choose(cars, r)].Assign(r)
				trips[id] = &trip{}
				id++
				wait = 0
			}
			wait++
			for i := range cars {
				before := cars[i]
				before.Waiting, before.Aboard = slices.Clone(before.Waiting), slices.Clone(before.Aboard)
				out, in := cars[i].Step()
				now := &cars[i]
				if abs(now.Floor-before.Floor) > 1 || now.Floor < 0 || now.Floor >= floors {
					t.Fatalf("car %d went from floor %d to %d", i, before.Floor, now.Floor)
				}
				if before.Dir != 0 && now.Dir == -before.Dir {
					for _, r := range out { // whoever got out here is no longer ahead
						before.Aboard = slices.DeleteFunc(before.Aboard, func(a Rider) bool { return a.ID == r.ID })
					}
					if before.ahead(before.Dir) {
						t.Fatalf("car %d turned on floor %d with work ahead: %+v", i, before.Floor, before)
					}
				}
				for _, r := range in {
					if r.From != before.Floor {
						t.Fatalf("rider %+v got in on floor %d", r, before.Floor)
					}
					trips[r.ID].in++
				}
				for _, r := range out {
					if r.To != before.Floor {
						t.Fatalf("rider %+v got out on floor %d", r, before.Floor)
					}
					trips[r.ID].out++
				}
			}
			if id == len(calls) && !slices.ContainsFunc(cars, func(c Car) bool { return !c.Empty() }) {
				break
			}
		}
		for id, trip := range trips {
			if trip.in != 1 || trip.out != 1 {
				t.Fatalf("rider %d got in %d times and out %d times", id, trip.in, trip.out)
			}
		}
	})
}

func TestGoesOnBeforeItTurns(t *testing.T) {
	t.Parallel()
	c := Car{Floor: 3, Dir: 1}
	c.Assign(Rider{ID: 1, From: 1, To: 0})
	c.Assign(Rider{ID: 2, From: 5, To: 7})
	var floors []int
	for !c.Empty() {
		c.Step()
		floors = append(floors, c.Floor)
	}
	if want := []int{4, 5, 6, 7, 6, 5, 4, 3, 2, 1, 0, 0}; !slices.Equal(floors, want) {
		t.Errorf("went %v, want %v", floors, want)
	}
}
