// Command program measures messages of programs beside core NATS (embedded
// server, nats.go) and one plain grpc-go stream, in one run over loopback TCP on
// two cores, and prints ours, theirs and the ratios.
//
// Ours go task → relay → scheduler function, as on a cluster; NATS's go
// publisher → server → subscriber; gRPC's have no relay between.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
)

func main() {
	runs := flag.Int("runs", 3, "take the best of so many runs")
	only := flag.Bool("gang", false, "measure only how a gang starts")
	scale := flag.Float64("scale", 1, "multiply the number of messages")
	flag.Parse()
	runtime.GOMAXPROCS(2)
	measure := all
	if *only {
		measure = func(int, float64) error { return nil }
	}
	err := measure(*runs, *scale)
	if err == nil {
		err = gangs(*runs)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "program:", err)
		os.Exit(1)
	}
}

func all(runs int, scale float64) error {
	fmt.Printf("%-34s %12s %8s\n", "one way", "M msg/s", "allocs")
	for _, size := range []int{16, 1024} {
		for _, tasks := range []int{1, 100} {
			n := int(scale * float64(map[int]int{16: 3_000_000, 1024: 600_000}[size]))
			ours := 0.0
			for _, s := range []struct {
				name string
				run  func(size, tasks, n int) (time.Duration, error)
				part int // of n, for the slower ones
			}{
				{"rota, channels", rotaChannels(true), 1},
				{"rota, conn", rotaConn(true), 1},
				{"core NATS", natsOneWay, 2},
				{"one grpc-go stream", grpcOneWay, 4},
			} {
				rate, allocs, err := best(runs, size, tasks, n/s.part, s.run)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				note := ""
				if ours == 0 {
					ours = rate
				} else {
					note = fmt.Sprintf("   rota's channels: %.1f times that", ours/rate)
				}
				fmt.Printf("%4d bytes, %3d tasks, %-18s %6.2f %8.2f%s\n", size, tasks, s.name, rate/1e6, allocs, note)
			}
		}
	}
	for _, tasks := range []int{1, 100} {
		for name, run := range map[string]func(size, tasks, n int) (time.Duration, error){"channels": rotaChannels(false), "conn": rotaConn(false)} {
			rate, allocs, err := best(runs, 16, tasks, int(scale*5_000_000), run)
			if err != nil {
				return err
			}
			fmt.Printf("  16 bytes, %3d tasks, one process, %-9s %5.2f %8.2f\n", tasks, name, rate/1e6, allocs)
		}
	}
	fmt.Printf("\n%-34s %12s %12s\n", "round trip, 16 bytes", "p50", "p99")
	for _, s := range []struct {
		name string
		run  func(n int) ([]time.Duration, error)
	}{{"rota, conn", rotaRoundTrip}, {"rota, request", rotaRequest}, {"core NATS", natsRoundTrip}, {"one grpc-go stream, no relay", grpcRoundTrip}} {
		took, err := s.run(max(2000, int(scale*20_000)))
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		slices.Sort(took)
		fmt.Printf("%-34s %12s %12s\n", s.name, took[len(took)/2], took[len(took)*99/100])
	}
	return nil
}

func gangs(runs int) error {
	for _, tasks := range []int{100, 1000} {
		least := time.Duration(0)
		for range runs {
			took, err := gang(tasks, 10)
			if err != nil {
				return fmt.Errorf("gang: %w", err)
			}
			if least == 0 || took < least {
				least = took
			}
		}
		fmt.Printf("\n%d tasks on 10 workers, embedded etcd, from Run to the last that runs: %s\n", tasks, least.Round(time.Millisecond))
	}
	return nil
}

// best returns the rate of the fastest run, and its allocations a message.
func best(runs, size, tasks, n int, run func(size, tasks, n int) (time.Duration, error)) (rate, allocs float64, err error) {
	n -= n % tasks
	for range runs {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		took, err := run(size, tasks, n)
		if err != nil {
			return 0, 0, err
		}
		runtime.ReadMemStats(&after)
		if r := float64(n) / took.Seconds(); r > rate {
			rate, allocs = r, float64(after.Mallocs-before.Mallocs)/float64(n)
		}
	}
	return rate, allocs, nil
}
