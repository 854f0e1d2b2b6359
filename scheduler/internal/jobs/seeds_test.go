package jobs

import (
	"fmt"
	"os"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota/internal/test/seeds"
)

// TestSeeds has jobs live through histories of faults: the store's, of
// connections, of workers and schedulers that die. No job that was acknowledged
// is lost, none runs twice at once, and none goes back; a time of a schedule declares one job or none. ROTA_SEEDS and ROTA_SEED
// say how many and from which on, as `make seeds-jobs` sets them.
func TestSeeds(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var total simCounts
	n := seeds.Each(t, 60, "seeds-jobs", func(t *testing.T, seed uint64, alone bool) {
		synctest.Test(t, func(t *testing.T) {
			c, told, err := runSim(seed, alone)
			if err != nil {
				t.Error(err)
			}
			if told != "" {
				t.Log("the history\n" + told)
			}
			mu.Lock()
			defer mu.Unlock()
			sum, more := reflect.ValueOf(&total).Elem(), reflect.ValueOf(c)
			for i := range sum.NumField() {
				sum.Field(i).SetInt(sum.Field(i).Int() + more.Field(i).Int())
			}
		})
	})
	if os.Getenv("ROTA_SEEDS") != "" {
		fmt.Printf("%d seeds: %+v\n", n, total)
	}
	if n < 50 {
		return
	}
	per := float64(n)
	for _, x := range []struct {
		what  string
		have  int
		least float64 // for each seed
	}{
		{"jobs declared", total.Declared, 10},
		{"attempts", total.Begun, 12},
		{"attempts lost", total.Lost, 5},
		{"run again because they were lost", total.Reruns, 3},
		{"found again", total.Found, 0.1},
		{"refused by a worker", total.Refused, 2},
		{"fenced", total.Fenced, 0.2},
		{"never begun, as a worker has said", total.Never, 0.05},
		{"stops", total.Stops, 0.3},
		{"retries", total.Retries, 0.1},
		{"deletions", total.Deleted, 0.1},
		{"calls of unknown outcome", total.Unknown, 0.1},
		{"kills of workers", total.Kills, 1},
		{"ends of schedulers", total.Nodes, 1.5},
		{"connections held", total.Holds, 2},
		{"outages of the store", total.Outages, 1},
		{"tasks begun", total.Tasks, 3},
		{"times of schedules", total.Due, 10},
		{"jobs of schedules", total.Fired, 4},
		{"workers with all capacity taken", total.Full, 3},
	} {
		if float64(x.have) < x.least*per {
			t.Errorf("%s: %d in %d seeds: too weak to mean anything", x.what, x.have, n)
		}
	}
}
