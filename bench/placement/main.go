// Command placement measures the planner beside franz-go's cooperative-sticky
// assignor (Kafka's, in Go) and prints ours, theirs and the ratio in one table,
// on one core. With -svg it draws how the times grow with the tasks.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

func main() {
	runs := flag.Int("runs", 3, "take the best of so many runs")
	only := flag.String("only", "", "only the rows whose name has this in it")
	svg := flag.String("svg", "", "write the picture of growth to this file")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	if *svg != "" {
		if err := os.WriteFile(*svg, growth(*runs), 0o644); err != nil { //nolint:gosec // a picture is for all to see
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	fmt.Printf("%-46s %9s %12s %9s %12s %9s %7s %9s\n", "what", "ours", "bytes", "allocs", "franz-go", "allocs", "ratio", "bar")
	for _, c := range cases {
		if strings.Contains(c.what, *only) {
			print(c.what, c.bar, c.run(*runs))
		}
	}
	if what := "memory, 1,000,000 x 2,000"; strings.Contains(what, *only) {
		fmt.Printf("%-46s %9.0f bytes a task above its id%29s %9s\n", what, memory(), "", "150")
	}
}

// result is one row: the best run of ours and, where there is one, of theirs.
type result struct{ ours, theirs cost }

// cost is what one run took.
type cost struct {
	time   time.Duration
	bytes  uint64
	allocs uint64
}

// measure returns the cost of the fastest of n runs; prepare comes before each
// and is not counted. Time is the processor time of the process, so that a
// busy machine does not blur it; what the garbage collector does is in it.
func measure(n int, prepare func(), run func()) cost {
	var best cost
	for range n {
		if prepare != nil {
			prepare()
		}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := processor()
		run()
		took := processor() - start
		runtime.ReadMemStats(&after)
		if best.time == 0 || took < best.time {
			best = cost{took, after.TotalAlloc - before.TotalAlloc, after.Mallocs - before.Mallocs}
		}
	}
	debug.FreeOSMemory()
	return best
}

// processor is the processor time that the process has used.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func print(what, bar string, r result) {
	theirs, allocs, ratio := "-", "-", "-"
	if r.theirs.time > 0 {
		theirs, allocs = short(r.theirs.time), fmt.Sprint(r.theirs.allocs)
		ratio = fmt.Sprintf("%.1fx", float64(r.theirs.time)/float64(r.ours.time))
	}
	fmt.Printf("%-46s %9s %12d %9d %12s %9s %7s %9s\n", what, short(r.ours.time), r.ours.bytes, r.ours.allocs, theirs, allocs, ratio, bar)
}

func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.1f us", float64(d)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
