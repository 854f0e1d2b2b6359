package simtest_test

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota/internal/test/seeds"
	"github.com/rota-project/rota/scheduler/internal/simtest"
)

// TestSeeds runs many seeds: ROTA_SEEDS of them, from ROTA_SEED on. With a
// ROTA_SEED and no ROTA_SEEDS it runs that one and tells its whole history.
func TestSeeds(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var total simtest.Counts
	n := seeds.Each(t, 100, "seeds", func(t *testing.T, seed uint64, alone bool) {
		c := runSeed(t, seed, alone)
		mu.Lock()
		total.Add(c)
		mu.Unlock()
	})
	if os.Getenv("ROTA_SEEDS") != "" {
		fmt.Printf("%d seeds: %+v\n", n, total)
	}
	if n >= 50 {
		enough(t, total, n)
	}
}

// corpus are seeds that found faults of the product, and what each found. What a
// seed makes happen changes with the simulator: these are histories that were
// once worth telling, kept as more seeds to try, not the faults themselves, each
// of which has a test of its own where it was.
var corpus = []struct {
	seed  uint64
	found string
}{
	{161, "the end of a lease that came late hit the session that the worker had taken up elsewhere"},
	{225, "a fault of which nobody wrote down what it was"},
	{288, "a worker that returned was granted an instance of a task that was deleted meanwhile"},
	{2622, "a worker that returned was granted what the task had been before it changed"},
	{4640, "acknowledgements of one connection were written after those of the next: one that runs was starting for ever"},
	{4927, "the same: one that had stopped was asked to start again under its generation"},
	{21055, "an acknowledgement of unknown outcome landed after its successor was found to need no write"},
	{1722, "a new leader undid an overlapping move: it took either of two grants for the one that stays"},
	{16, "two replicas of a key were in the way of a third, which waited for ever"},
	{31937, "a late watch granted again what its reader had taken back itself, and a task ran twice"},
	{17407, "a worker that was lost twice was to be written twice in one transaction, again and again"},
	{24366, "what ran was unknown to the leader after its grants could not be read for a while"},
	{164, "a new leader gave away the tasks of a worker that was to be waited for"},
	{17697, "what was revoked when both workers of its move were lost was nobody's to a new leader"},
	{3199, "a worker whose session could be read only later was given nothing for as long as it lived"},
	{4547, "what was to move from one worker to another, both lost, was nobody's to a new leader"},
	{54749, "an apply that changed nothing in an old picture was told to be done, and was not"},
	{7365, "a session's value that somebody else wrote had a worker told that its lease had ended"},
	{103814, "an apply of unknown outcome landed after all tasks had been deleted, and its tasks were back"},
	{150917, "a deletion of unknown outcome landed after its task had been declared again, which changed nothing"},
	{84425, "what changed while its worker was away was nobody's to a new leader"},
}

// TestCorpus runs the seeds that found something.
func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, c := range corpus {
		t.Run(strconv.FormatUint(c.seed, 10), func(t *testing.T) {
			t.Parallel()
			t.Logf("it once found: %s", c.found)
			runSeed(t, c.seed, false)
		})
	}
}

// runSeed runs one seed in a bubble of its own.
func runSeed(t *testing.T, seed uint64, whole bool) (c simtest.Counts) {
	t.Helper()
	defer func() {
		if whole {
			return // with all goroutines
		}
		if p := recover(); p != nil {
			t.Errorf("seed %d: panic: %v", seed, p)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		var told string
		var err error
		if c, told, err = simtest.Run(seed, whole); err != nil {
			t.Error(err)
		}
		if told != "" {
			t.Log("the history\n" + told)
		}
	})
	return c
}

// enough fails a run that did too little to mean anything.
func enough(t *testing.T, c simtest.Counts, n int) {
	t.Helper()
	for _, x := range []struct {
		what      string
		have, min int
	}{
		{"starts of task functions", c.Starts, 40 * n},
		{"moves", c.Moves, 15 * n},
		{"restarts after errors", c.Restarts, n},
		{"grants", c.Grants, 40 * n},
		{"grants found again after a restart", c.Kept, n},
		{"terms of leaders", c.Epochs, 2 * n},
		{"sessions", c.Sessions, 5 * n},
		{"processes that fenced themselves", c.Fenced, n / 25},
		{"kills", c.Kills, 2 * n},
		{"orderly leaves", c.Leaves, n},
		{"cuts", c.Cuts, n / 2},
		{"partitions", c.Partitions, 2 * n},
		{"ends of schedulers", c.SchedulerStops, n},
		{"outages of the store", c.SchedulerOutages, 2 * n},
		{"tasks applied", c.Applied, 10 * n},
		{"tasks deleted", c.Deleted, n / 4},
		{"values of garbage", c.Garbage, n / 2},
		{"calls of unknown outcome", c.Unknown, n / 4},
	} {
		if x.have < x.min {
			t.Errorf("%s: %d, want at least %d: the run is too weak to mean anything", x.what, x.have, x.min)
		}
	}
}
